/* The part of ONNX Runtime's C API that this project calls.
 *
 * ONNX Runtime (https://github.com/microsoft/onnxruntime, include/onnxruntime/core/session/onnxruntime_c_api.h) is
 * Copyright (c) Microsoft Corporation, MIT License. This is no copy of that header but a table with the same binary layout: OrtApi is a
 * list of function pointers that only ever grows at its end, and the functions here have kept their places since version 1.7.
 * Where the real header is found, it is used instead of this file.
 */
#ifndef ONNXRUNTIME_C_API_DECLARED
#define ONNXRUNTIME_C_API_DECLARED

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef _WIN32
#define ORT_API_CALL __stdcall
#else
#define ORT_API_CALL
#endif

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;

typedef enum OrtLoggingLevel { ORT_LOGGING_LEVEL_ERROR = 3 } OrtLoggingLevel;
typedef enum OrtAllocatorType { OrtDeviceAllocator = 0 } OrtAllocatorType;
typedef enum OrtMemType { OrtMemTypeDefault = 0 } OrtMemType;
typedef enum ONNXTensorElementDataType {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16 = 5
} ONNXTensorElementDataType;

#define ORT_UNUSED(first, last) void* unused_##first[(last) - (first) + 1];

typedef struct OrtApi {
    ORT_UNUSED(0, 1)
    const char*(ORT_API_CALL* GetErrorMessage)(const OrtStatus* status); /* 2 */
    OrtStatus*(ORT_API_CALL* CreateEnv)(OrtLoggingLevel level, const char* name, OrtEnv** out); /* 3 */
    ORT_UNUSED(4, 5)
    OrtStatus*(ORT_API_CALL* DisableTelemetryEvents)(const OrtEnv* env); /* 6 */
    ORT_UNUSED(7, 7)
    OrtStatus*(ORT_API_CALL* CreateSessionFromArray)(const OrtEnv* env, const void* model, size_t size,
                                                     const OrtSessionOptions* options, OrtSession** out); /* 8 */
    OrtStatus*(ORT_API_CALL* Run)(OrtSession* session, const OrtRunOptions* options, const char* const* input_names,
                                  const OrtValue* const* inputs, size_t input_count, const char* const* output_names,
                                  size_t output_count, OrtValue** outputs); /* 9 */
    OrtStatus*(ORT_API_CALL* CreateSessionOptions)(OrtSessionOptions** out); /* 10 */
    ORT_UNUSED(11, 23)
    OrtStatus*(ORT_API_CALL* SetIntraOpNumThreads)(OrtSessionOptions* options, int threads); /* 24 */
    OrtStatus*(ORT_API_CALL* SetInterOpNumThreads)(OrtSessionOptions* options, int threads); /* 25 */
    ORT_UNUSED(26, 30)
    OrtStatus*(ORT_API_CALL* SessionGetOutputCount)(const OrtSession* session, size_t* out); /* 31 */
    ORT_UNUSED(32, 35)
    OrtStatus*(ORT_API_CALL* SessionGetInputName)(const OrtSession* session, size_t index, OrtAllocator* allocator,
                                                  char** out); /* 36 */
    OrtStatus*(ORT_API_CALL* SessionGetOutputName)(const OrtSession* session, size_t index, OrtAllocator* allocator,
                                                   char** out); /* 37 */
    ORT_UNUSED(38, 48)
    OrtStatus*(ORT_API_CALL* CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo* info, void* data, size_t size,
                                                             const int64_t* shape, size_t dimensions,
                                                             ONNXTensorElementDataType type, OrtValue** out); /* 49 */
    ORT_UNUSED(50, 50)
    OrtStatus*(ORT_API_CALL* GetTensorMutableData)(OrtValue* value, void** out); /* 51 */
    ORT_UNUSED(52, 59)
    OrtStatus*(ORT_API_CALL* GetTensorElementType)(const OrtTensorTypeAndShapeInfo* info,
                                                   ONNXTensorElementDataType* out); /* 60 */
    ORT_UNUSED(61, 63)
    OrtStatus*(ORT_API_CALL* GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo* info, size_t* out); /* 64 */
    OrtStatus*(ORT_API_CALL* GetTensorTypeAndShape)(const OrtValue* value, OrtTensorTypeAndShapeInfo** out); /* 65 */
    ORT_UNUSED(66, 68)
    OrtStatus*(ORT_API_CALL* CreateCpuMemoryInfo)(OrtAllocatorType type, OrtMemType memory, OrtMemoryInfo** out); /* 69 */
    ORT_UNUSED(70, 75)
    OrtStatus*(ORT_API_CALL* AllocatorFree)(OrtAllocator* allocator, void* memory); /* 76 */
    ORT_UNUSED(77, 77)
    OrtStatus*(ORT_API_CALL* GetAllocatorWithDefaultOptions)(OrtAllocator** out); /* 78 */
    ORT_UNUSED(79, 91)
    void(ORT_API_CALL* ReleaseEnv)(OrtEnv*); /* 92 */
    void(ORT_API_CALL* ReleaseStatus)(OrtStatus*);
    void(ORT_API_CALL* ReleaseMemoryInfo)(OrtMemoryInfo*);
    void(ORT_API_CALL* ReleaseSession)(OrtSession*);
    void(ORT_API_CALL* ReleaseValue)(OrtValue*); /* 96 */
    ORT_UNUSED(97, 98)
    void(ORT_API_CALL* ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*); /* 99 */
    void(ORT_API_CALL* ReleaseSessionOptions)(OrtSessionOptions*); /* 100 */
    ORT_UNUSED(101, 129)
    OrtStatus*(ORT_API_CALL* AddSessionConfigEntry)(OrtSessionOptions* options, const char* key, const char* value); /* 130 */
} OrtApi;

#undef ORT_UNUSED

typedef struct OrtApiBase {
    const OrtApi*(ORT_API_CALL* GetApi)(uint32_t version);
    const char*(ORT_API_CALL* GetVersionString)(void);
} OrtApiBase;

const OrtApiBase* ORT_API_CALL OrtGetApiBase(void);

#ifdef __cplusplus
}
#endif
#endif
