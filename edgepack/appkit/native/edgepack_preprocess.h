/* From an image or an array to a model's input: the steps of a bundle's `preprocess`, with the same bytes as its preprocess.py.
 *
 * C99 without dependencies. Compile without contraction of a * b + c (GCC, Clang: -ffp-contract=off) and without -ffast-math.
 * Images are uint8, row after row, the channels of a pixel side by side (height, width, channels), without padding.
 * Functions that can fail return EPP_OK or a negative number, for which epp_error has a sentence. Nothing is kept between calls.
 */
#ifndef EDGEPACK_PREPROCESS_H
#define EDGEPACK_PREPROCESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EPP_OK = 0,
    EPP_BAD_SIZE = -1,    /* a side is below 1 or above EPP_SIDE_MAX, or a crop is larger than its image */
    EPP_BAD_OPTION = -2,  /* an option that no recipe can have */
    EPP_OUT_OF_MEMORY = -3,
    EPP_NOT_A_NUMBER = -4 /* a NaN, which no integer code stands for */
};

enum { EPP_SIDE_MAX = 1 << 16, EPP_CHANNELS_MAX = 64 };

typedef enum { EPP_NEAREST = 0, EPP_BILINEAR = 1, EPP_BICUBIC = 2, EPP_LANCZOS = 3 } epp_filter;

/* Where a crop lies in its image, in pixels. */
typedef struct {
    int top, left, height, width;
} epp_crop;

/* A sentence for one of the codes above. */
const char *epp_error(int code);

/* Op `grayscale`: ITU-R 601 luma of `pixels` RGB pixels. */
void epp_grayscale(const uint8_t *rgb, size_t pixels, uint8_t *gray);

/* Op `center_crop` with `fraction`: the middle square whose side is fraction x the short side, halves rounded to even. */
int epp_center_square(int height, int width, double fraction, epp_crop *crop);

/* Op `center_crop` with `size`: the middle crop_height x crop_width pixels. */
int epp_center_size(int height, int width, int crop_height, int crop_width, epp_crop *crop);

/* Copies the pixels of a crop to `out` (crop.height, crop.width, channels). */
int epp_cut(const uint8_t *image, int height, int width, int channels, epp_crop crop, uint8_t *out);

/* Op `resize` with mode `short_side`: the size that makes the short side `side` pixels. */
int epp_short_side(int height, int width, int side, int *out_height, int *out_width);

/* Op `resize`: scales to out_height x out_width as Pillow does with 8-bit images: the width, rounded, then the height; each channel for itself. */
int epp_resize(const uint8_t *image, int height, int width, int channels, epp_filter filter, int out_height,
               int out_width, uint8_t *out);

/* uint8 to float32, exactly. */
void epp_to_values(const uint8_t *in, size_t count, float *out);

/* Op `to_float`: divides each value. */
void epp_divide(float *values, size_t count, float divide);

/* Op `normalize`: (x - mean[c]) / std[c], where c is the place on the last axis, which has `channels` values. */
void epp_normalize(float *values, size_t count, size_t channels, const float *mean, const float *std);

/* Op `layout`: (height, width, channels) to (channels, height, width). */
void epp_channels_first(const float *in, size_t height, size_t width, size_t channels, float *out);

/* The way back: (channels, height, width) to (height, width, channels). */
void epp_channels_last(const float *in, size_t height, size_t width, size_t channels, float *out);

/* Codes of an integer input: clamp(round(x / scale) + zero_point), halves rounded away from zero. EPP_NOT_A_NUMBER for a NaN. */
int epp_quantize_i8(const float *values, size_t count, float scale, int32_t zero_point, int8_t *codes);
int epp_quantize_u8(const float *values, size_t count, float scale, int32_t zero_point, uint8_t *codes);
int epp_quantize_i16(const float *values, size_t count, float scale, int32_t zero_point, int16_t *codes);

#ifdef __cplusplus
}
#endif
#endif
