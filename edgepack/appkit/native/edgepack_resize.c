/* Scaling of 8-bit images, byte for byte what two calls of Pillow's Image.resize give, first to the new width, then to the new height
 * (measured against Pillow 11, 12 and 13; its src/libImaging/Resample.c and Geometry.c say how). In one call Pillow 13 may go the other way.
 *
 * bilinear, bicubic and lanczos: one pass along the rows, rounded to 8 bits, then one along the columns. The weights of an
 * output pixel are computed in double, divided by their sum and rounded to 1/2^22; sums are integers. nearest: the source place of an
 * output pixel is a running sum in double.
 */
#include "edgepack_preprocess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

enum { WEIGHT_BITS = 22 };
static const double PI = 3.14159265358979323846;

/* For each output place: the first input place, how many are weighed, and their weights, `stride` numbers apart. */
typedef struct {
    int stride;
    int *first;
    int *count;
    int32_t *weights;
} epp_weights;

/* One line of pixels, or many lines side by side: steps in bytes. */
typedef struct {
    int lines, channels;
    size_t in_line, in_place, out_line, out_place;
} epp_lines;

static double bilinear(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic with a = -0.5. */
static double bicubic(double x) {
    x = fabs(x);
    if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
    return 0.0;
}

static double sinc(double x) {
    if (x == 0.0) return 1.0;
    x = x * PI;
    return sin(x) / x;
}

static double lanczos(double x) {
    return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
}

static double weight_at(epp_filter filter, double x) {
    switch (filter) {
        case EPP_BILINEAR: return bilinear(x);
        case EPP_BICUBIC: return bicubic(x);
        default: return lanczos(x);
    }
}

static int32_t fixed_point(double weight) {
    double scaled = weight * (double)(1 << WEIGHT_BITS);
    return (int32_t)(weight < 0.0 ? scaled - 0.5 : scaled + 0.5);
}

/* The weights of output place `place`; `scratch` holds `stride` numbers. */
static void weigh(epp_filter filter, int in_size, double scale, double support, int place, double *scratch,
                  epp_weights *weights) {
    double widened = scale < 1.0 ? 1.0 : scale, narrowed = 1.0 / widened;
    double center = (place + 0.5) * scale, sum = 0.0;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    int32_t *out = weights->weights + (size_t)place * (size_t)weights->stride;
    if (first < 0) first = 0;
    if (end > in_size) end = in_size;
    for (int i = 0; i < end - first; i++) {
        scratch[i] = weight_at(filter, (i + first - center + 0.5) * narrowed);
        sum += scratch[i];
    }
    for (int i = 0; i < end - first; i++) {
        out[i] = fixed_point(sum != 0.0 ? scratch[i] / sum : scratch[i]);
    }
    weights->first[place] = first;
    weights->count[place] = end - first;
}

static void free_weights(epp_weights *weights) {
    free(weights->first);
    free(weights->count);
    free(weights->weights);
}

static int make_weights(epp_filter filter, int in_size, int out_size, epp_weights *weights) {
    double scale = (double)in_size / out_size;
    double support = (double)filter * (scale < 1.0 ? 1.0 : scale); /* 1, 2 or 3 pixels: the filters' numbers */
    double *scratch;
    weights->stride = (int)ceil(support) * 2 + 1;
    weights->first = malloc((size_t)out_size * sizeof(int));
    weights->count = malloc((size_t)out_size * sizeof(int));
    weights->weights = malloc((size_t)out_size * (size_t)weights->stride * sizeof(int32_t));
    scratch = malloc((size_t)weights->stride * sizeof(double));
    if (!weights->first || !weights->count || !weights->weights || !scratch) {
        free_weights(weights);
        free(scratch);
        return EPP_OUT_OF_MEMORY;
    }
    for (int place = 0; place < out_size; place++) {
        weigh(filter, in_size, scale, support, place, scratch, weights);
    }
    free(scratch);
    return EPP_OK;
}

static uint8_t to_8_bits(int32_t sum) {
    if (sum < 0) return 0;
    sum >>= WEIGHT_BITS;
    return sum > 255 ? 255 : (uint8_t)sum;
}

/* Scales every line by the weights. */
static void scale_lines(const uint8_t *in, uint8_t *out, const epp_weights *weights, int out_size, epp_lines lines) {
    for (int line = 0; line < lines.lines; line++) {
        for (int place = 0; place < out_size; place++) {
            const int32_t *weight = weights->weights + (size_t)place * (size_t)weights->stride;
            const uint8_t *from =
                in + (size_t)line * lines.in_line + (size_t)weights->first[place] * lines.in_place;
            uint8_t *to = out + (size_t)line * lines.out_line + (size_t)place * lines.out_place;
            for (int channel = 0; channel < lines.channels; channel++) {
                int32_t sum = 1 << (WEIGHT_BITS - 1);
                for (int i = 0; i < weights->count[place]; i++) {
                    sum += from[(size_t)i * lines.in_place + (size_t)channel] * weight[i];
                }
                to[channel] = to_8_bits(sum);
            }
        }
    }
}

static int resize_rows(const uint8_t *in, int height, int width, int channels, epp_filter filter, int out_width,
                       uint8_t *out) {
    size_t pixel = (size_t)channels;
    epp_lines lines = {height, channels, (size_t)width * pixel, pixel, (size_t)out_width * pixel, pixel};
    epp_weights weights;
    int status = make_weights(filter, width, out_width, &weights);
    if (status != EPP_OK) return status;
    scale_lines(in, out, &weights, out_width, lines);
    free_weights(&weights);
    return EPP_OK;
}

static int resize_columns(const uint8_t *in, int height, int width, int channels, epp_filter filter, int out_height,
                          uint8_t *out) {
    size_t pixel = (size_t)channels, row = (size_t)width * pixel;
    epp_lines lines = {width, channels, pixel, row, pixel, row};
    epp_weights weights;
    int status = make_weights(filter, height, out_height, &weights);
    if (status != EPP_OK) return status;
    scale_lines(in, out, &weights, out_height, lines);
    free_weights(&weights);
    return EPP_OK;
}

/* The source place of each output place; one that lies outside is -1. */
static void nearest_places(int in_size, int out_size, int *places) {
    double step = (double)in_size / out_size, place = step * 0.5;
    for (int i = 0; i < out_size; i++) {
        places[i] = place < in_size ? (int)place : -1;
        place += step;
    }
}

static int resize_nearest(const uint8_t *in, int height, int width, int channels, int out_height, int out_width,
                          uint8_t *out) {
    size_t pixel = (size_t)channels;
    int *places = malloc(((size_t)out_height + (size_t)out_width) * sizeof(int)), *columns = places + out_height;
    if (!places) return EPP_OUT_OF_MEMORY;
    nearest_places(height, out_height, places);
    nearest_places(width, out_width, columns);
    memset(out, 0, (size_t)out_height * (size_t)out_width * pixel);
    for (int y = 0; y < out_height; y++) {
        for (int x = 0; x < out_width; x++) {
            size_t to = ((size_t)y * (size_t)out_width + (size_t)x) * pixel;
            if (places[y] < 0 || columns[x] < 0) continue;
            memcpy(out + to, in + ((size_t)places[y] * (size_t)width + (size_t)columns[x]) * pixel, pixel);
        }
    }
    free(places);
    return EPP_OK;
}

static int is_side(int side) { return side >= 1 && side <= EPP_SIDE_MAX; }

int epp_resize(const uint8_t *image, int height, int width, int channels, epp_filter filter, int out_height,
               int out_width, uint8_t *out) {
    uint8_t *between;
    int status;
    if (!is_side(height) || !is_side(width) || !is_side(out_height) || !is_side(out_width)) return EPP_BAD_SIZE;
    if (channels < 1 || channels > EPP_CHANNELS_MAX || (int)filter < EPP_NEAREST || filter > EPP_LANCZOS) {
        return EPP_BAD_OPTION;
    }
    if (height == out_height && width == out_width) {
        memcpy(out, image, (size_t)height * (size_t)width * (size_t)channels);
        return EPP_OK;
    }
    if (filter == EPP_NEAREST) return resize_nearest(image, height, width, channels, out_height, out_width, out);
    if (height == out_height) return resize_rows(image, height, width, channels, filter, out_width, out);
    if (width == out_width) return resize_columns(image, height, width, channels, filter, out_height, out);
    between = malloc((size_t)height * (size_t)out_width * (size_t)channels);
    if (!between) return EPP_OUT_OF_MEMORY;
    status = resize_rows(image, height, width, channels, filter, out_width, between);
    if (status == EPP_OK) {
        status = resize_columns(between, height, out_width, channels, filter, out_height, out);
    }
    free(between);
    return status;
}
