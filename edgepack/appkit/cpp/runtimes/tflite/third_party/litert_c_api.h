/* The part of LiteRT's C API that this project calls.
 *
 * LiteRT (https://github.com/google-ai-edge/LiteRT, litert/c/) is Copyright Google LLC, Apache License 2.0. These are declarations of the
 * functions that libLiteRt exports, written for this project: versions from 2.3 on, older ones have other parameters.
 */
#ifndef LITERT_C_API_DECLARED
#define LITERT_C_API_DECLARED

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct LiteRtEnvironmentT* LiteRtEnvironment;
typedef struct LiteRtModelT* LiteRtModel;
typedef struct LiteRtOptionsT* LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT* LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT* LiteRtCompiledModel;
typedef struct LiteRtSignatureT* LiteRtSignature;
typedef struct LiteRtTensorT* LiteRtTensor;
typedef struct LiteRtTensorBufferT* LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT* LiteRtTensorBufferRequirements;
typedef int LiteRtStatus; /* 0: done */

enum { LITERT_ON_CPU = 1, LITERT_LOCK_TO_READ = 0, LITERT_LOCK_TO_WRITE = 1, LITERT_RANK_MAX = 8 };

typedef struct {
    int element_type;
    struct {
        unsigned int rank : 7;
        unsigned int has_strides : 1;
        int32_t dimensions[LITERT_RANK_MAX];
        uint32_t strides[LITERT_RANK_MAX];
    } layout;
} LiteRtRankedTensorType;

LiteRtStatus LiteRtCreateEnvironment(int option_count, const void* options, LiteRtEnvironment* out);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);

/* The bytes must stay where they are as long as the model. */
LiteRtStatus LiteRtCreateModelFromBuffer(LiteRtEnvironment environment, const void* data, size_t size, LiteRtModel* out);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel model, size_t index, LiteRtSignature* out);
void LiteRtDestroyModel(LiteRtModel model);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature signature, size_t* out);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor* out);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor* out);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType* out);

LiteRtStatus LiteRtCreateOptions(LiteRtOptions* out);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int accelerators);
/* The CPU's options are called "xnnpack" and are TOML text; the options own them then. */
LiteRtStatus LiteRtCreateOpaqueOptions(const char* name, void* payload, void (*free_payload)(void*),
                                       LiteRtOpaqueOptions* out);
LiteRtStatus LiteRtAddOpaqueOptions(LiteRtOptions options, LiteRtOpaqueOptions added);
void LiteRtDestroyOptions(LiteRtOptions options);

LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options,
                                       LiteRtCompiledModel* out);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(LiteRtCompiledModel model, size_t signature, size_t index,
                                                           LiteRtTensorBufferRequirements* out);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(LiteRtCompiledModel model, size_t signature, size_t index,
                                                            LiteRtTensorBufferRequirements* out);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel model, size_t signature, size_t input_count,
                                    LiteRtTensorBuffer* inputs, size_t output_count, LiteRtTensorBuffer* outputs);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel model);

LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(LiteRtEnvironment environment,
                                                             const LiteRtRankedTensorType* type,
                                                             LiteRtTensorBufferRequirements requirements,
                                                             LiteRtTensorBuffer* out);
LiteRtStatus LiteRtGetTensorBufferPackedSize(LiteRtTensorBuffer buffer, size_t* out);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void** memory, int mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);

#ifdef __cplusplus
}
#endif
#endif
