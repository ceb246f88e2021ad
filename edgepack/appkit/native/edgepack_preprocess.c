#include "edgepack_preprocess.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float arithmetic must be that of float and double (32-bit x86: compile with -msse2 -mfpmath=sse)"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* Weights of red, green and blue in 1/65536, as Pillow has them. */
enum { RED = 19595, GREEN = 38470, BLUE = 7471, HALF = 0x8000 };

const char *epp_error(int code) {
    switch (code) {
        case EPP_OK: return "no error";
        case EPP_BAD_SIZE: return "a side of the image is too small or too large for this step";
        case EPP_BAD_OPTION: return "a step has an option that it can't have";
        case EPP_OUT_OF_MEMORY: return "not enough memory";
        case EPP_NOT_A_NUMBER: return "the input holds NaN, which no integer code stands for";
        default: return "unknown error";
    }
}

void epp_grayscale(const uint8_t *rgb, size_t pixels, uint8_t *gray) {
    for (size_t i = 0; i < pixels; i++) {
        uint32_t luma = (uint32_t)rgb[3 * i] * RED + (uint32_t)rgb[3 * i + 1] * GREEN + (uint32_t)rgb[3 * i + 2] * BLUE;
        gray[i] = (uint8_t)((luma + HALF) >> 16);
    }
}

/* To the nearest integer, halves to the even one, whatever the rounding mode; x is not negative. */
static double round_half_even(double x) {
    double whole = floor(x), rest = x - whole;
    if (rest > 0.5 || (rest == 0.5 && fmod(whole, 2.0) != 0.0)) whole += 1.0;
    return whole;
}

int epp_center_square(int height, int width, double fraction, epp_crop *crop) {
    int side, least = height < width ? height : width;
    if (!(fraction > 0.0 && fraction <= 1.0)) return EPP_BAD_OPTION;
    if (least < 1 || height > EPP_SIDE_MAX || width > EPP_SIDE_MAX) return EPP_BAD_SIZE;
    side = (int)round_half_even(fraction * least);
    if (side < 1) side = 1;
    return epp_center_size(height, width, side, side, crop);
}

int epp_center_size(int height, int width, int crop_height, int crop_width, epp_crop *crop) {
    if (crop_height < 1 || crop_width < 1 || crop_height > height || crop_width > width) return EPP_BAD_SIZE;
    crop->top = (height - crop_height) / 2;
    crop->left = (width - crop_width) / 2;
    crop->height = crop_height;
    crop->width = crop_width;
    return EPP_OK;
}

int epp_cut(const uint8_t *image, int height, int width, int channels, epp_crop crop, uint8_t *out) {
    size_t row = (size_t)crop.width * (size_t)channels;
    if (crop.top < 0 || crop.left < 0 || crop.height < 1 || crop.width < 1 || crop.top + crop.height > height ||
        crop.left + crop.width > width) {
        return EPP_BAD_SIZE;
    }
    for (int y = 0; y < crop.height; y++) {
        size_t start = ((size_t)(crop.top + y) * (size_t)width + (size_t)crop.left) * (size_t)channels;
        memcpy(out + (size_t)y * row, image + start, row);
    }
    return EPP_OK;
}

int epp_short_side(int height, int width, int side, int *out_height, int *out_width) {
    int64_t longer;
    if (height < 1 || width < 1 || height > EPP_SIDE_MAX || width > EPP_SIDE_MAX || side < 1) return EPP_BAD_SIZE;
    longer = height <= width ? (int64_t)side * width / height : (int64_t)side * height / width;
    if (longer > EPP_SIDE_MAX) return EPP_BAD_SIZE;
    *out_height = height <= width ? side : (int)longer;
    *out_width = height <= width ? (int)longer : side;
    return EPP_OK;
}

void epp_to_values(const uint8_t *in, size_t count, float *out) {
    for (size_t i = 0; i < count; i++) out[i] = (float)in[i];
}

void epp_divide(float *values, size_t count, float divide) {
    for (size_t i = 0; i < count; i++) values[i] = values[i] / divide;
}

void epp_normalize(float *values, size_t count, size_t channels, const float *mean, const float *std) {
    for (size_t i = 0; i < count; i++) {
        float centered = values[i] - mean[i % channels];
        values[i] = centered / std[i % channels];
    }
}

void epp_channels_first(const float *in, size_t height, size_t width, size_t channels, float *out) {
    size_t pixels = height * width;
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        for (size_t channel = 0; channel < channels; channel++) {
            out[channel * pixels + pixel] = in[pixel * channels + channel];
        }
    }
}

void epp_channels_last(const float *in, size_t height, size_t width, size_t channels, float *out) {
    size_t pixels = height * width;
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        for (size_t channel = 0; channel < channels; channel++) {
            out[pixel * channels + channel] = in[channel * pixels + pixel];
        }
    }
}

/* The code of one value, between `lowest` and `highest`. The division and the rounding are in float, the sum in double. */
static double code_of(float value, float scale, int32_t zero_point, double lowest, double highest) {
    float scaled = value / scale;
    float whole = truncf(scaled);
    double code;
    if (fabsf(scaled - whole) >= 0.5f) whole += scaled < 0.0f ? -1.0f : 1.0f;
    code = (double)whole + (double)zero_point;
    return code < lowest ? lowest : code > highest ? highest : code;
}

#define DEFINE_QUANTIZE(name, type, lowest, highest)                                                       \
    int name(const float *values, size_t count, float scale, int32_t zero_point, type *codes) {            \
        for (size_t i = 0; i < count; i++) {                                                               \
            if (isnan(values[i])) return EPP_NOT_A_NUMBER;                                                 \
            codes[i] = (type)code_of(values[i], scale, zero_point, lowest, highest);                       \
        }                                                                                                  \
        return EPP_OK;                                                                                     \
    }

DEFINE_QUANTIZE(epp_quantize_i8, int8_t, -128.0, 127.0)
DEFINE_QUANTIZE(epp_quantize_u8, uint8_t, 0.0, 255.0)
DEFINE_QUANTIZE(epp_quantize_i16, int16_t, -32768.0, 32767.0)
