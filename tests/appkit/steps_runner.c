/* Steps for a test on another machine or with sanitizers: commands with numbers and bytes on standard input, results on standard output. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgepack_postprocess.h"
#include "edgepack_preprocess.h"
#include "edgepack_sha256.h"

static void *taken(size_t size) {
    void *data = malloc(size ? size : 1);
    if (!data || fread(data, 1, size, stdin) != size) exit(3);
    return data;
}

static void give(void *data, size_t size) {
    fwrite(data, 1, size, stdout);
    free(data);
}

static int number(void) {
    int value;
    if (scanf("%d", &value) != 1) exit(3);
    return value;
}

static float real(void) {
    float value;
    if (scanf("%f", &value) != 1) exit(3);
    return value;
}

static void resize(void) {
    int height = number(), width = number(), channels = number(), filter = number(), rows = number(), columns = number();
    size_t size = (size_t)rows * (size_t)columns * (size_t)channels;
    uint8_t *in, *out = malloc(size);
    getchar();
    in = taken((size_t)height * (size_t)width * (size_t)channels);
    if (epp_resize(in, height, width, channels, (epp_filter)filter, rows, columns, out) != EPP_OK) exit(4);
    free(in);
    give(out, size);
}

static void gray(void) {
    size_t pixels = (size_t)number();
    uint8_t *in, *out = malloc(pixels);
    getchar();
    in = taken(3 * pixels);
    epp_grayscale(in, pixels, out);
    free(in);
    give(out, pixels);
}

/* Pixels to codes: divided, normalized with two numbers, quantized. */
static void codes(void) {
    size_t count = (size_t)number();
    float divide = real(), mean = real(), std = real(), scale = real();
    int zero_point = number();
    uint8_t *in;
    float *values = malloc(count * sizeof(float));
    int8_t *out = malloc(count);
    getchar();
    in = taken(count);
    epp_to_values(in, count, values);
    epp_divide(values, count, divide);
    epp_normalize(values, count, 1, &mean, &std);
    if (epp_quantize_i8(values, count, scale, zero_point, out) != EPP_OK) exit(4);
    free(in);
    free(values);
    give(out, count);
}

static void shares(int is_softmax) {
    size_t count = (size_t)number();
    float *values;
    getchar();
    values = taken(count * sizeof(float));
    if (is_softmax) {
        epp_softmax(values, count);
    } else {
        epp_sigmoid(values, count);
    }
    give(values, count * sizeof(float));
}

static void sha256(void) {
    size_t size = (size_t)number();
    char *hex = malloc(65);
    void *data;
    getchar();
    data = taken(size);
    epp_sha256_hex(data, size, hex);
    free(data);
    give(hex, 64);
}

int main(void) {
    char command[16];
    while (scanf("%15s", command) == 1) {
        if (!strcmp(command, "resize")) resize();
        else if (!strcmp(command, "gray")) gray();
        else if (!strcmp(command, "codes")) codes();
        else if (!strcmp(command, "softmax")) shares(1);
        else if (!strcmp(command, "sigmoid")) shares(0);
        else if (!strcmp(command, "sha256")) sha256();
        else return 2;
    }
    return 0;
}
