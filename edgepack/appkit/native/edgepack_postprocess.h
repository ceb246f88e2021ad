/* From a model's output to scores: the steps of a bundle's `postprocess`, with the same bytes as its postprocess.py.
 *
 * C99 without dependencies; the same rules of compiling as edgepack_preprocess.h. exp is computed here, as every libm has its own.
 */
#ifndef EDGEPACK_POSTPROCESS_H
#define EDGEPACK_POSTPROCESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One of the best scores and its place in the output. */
typedef struct {
    size_t index;
    float score;
} epp_score;

/* Op `dequantize`: scale x (code - zero_point). */
void epp_dequantize_i8(const int8_t *codes, size_t count, float scale, int32_t zero_point, float *values);
void epp_dequantize_u8(const uint8_t *codes, size_t count, float scale, int32_t zero_point, float *values);
void epp_dequantize_i16(const int16_t *codes, size_t count, float scale, int32_t zero_point, float *values);

/* Op `softmax`, in place, over `count` values. */
void epp_softmax(float *values, size_t count);

/* Op `sigmoid`, in place. */
void epp_sigmoid(float *values, size_t count);

/* Op `top_k`: the up to `k` largest scores that are not below `threshold`, largest first, equal ones by index.
 * `best` has room for `k`; returns how many there are. */
size_t epp_top_k(const float *scores, size_t count, size_t k, double threshold, epp_score *best);

#ifdef __cplusplus
}
#endif
#endif
