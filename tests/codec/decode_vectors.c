/* Decodes vectors.bin (written by test_c_decoder.py) with the decoder alone, as an app would compile it, and compares.
 * With a second argument it then decodes so many damaged copies of each vector: any answer is right, a crash is not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgepack_decoder.h"

static uint32_t state = 12345;
static uint32_t random_number(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static uint32_t number(FILE *file) {
    uint8_t b[4];
    if (fread(b, 1, 4, file) != 4) exit(3);
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Exactly as large as the data, so that a sanitizer sees every step beyond. */
static uint8_t *blob(FILE *file, uint32_t *size) {
    uint8_t *data;
    *size = number(file);
    data = malloc(*size ? *size : 1);
    if (!data || fread(data, 1, *size, file) != *size) exit(3);
    return data;
}

static uint8_t *damaged(const uint8_t *data, uint32_t size, uint32_t kept) {
    uint8_t *copy = malloc(kept ? kept : 1);
    uint32_t i;
    (void)size;
    if (!copy) exit(3);
    memcpy(copy, data, kept);
    for (i = 0; kept && i < 1 + random_number() % 4; i++) copy[random_number() % kept] = (uint8_t)random_number();
    return copy;
}

int main(int argc, char **argv) {
    FILE *file = fopen(argv[1], "rb");
    uint32_t count, i, rounds = argc > 2 ? (uint32_t)atoi(argv[2]) : 0, wrong = 0;
    void *work = malloc(EPK_WORK_SIZE);
    if (!file || !work) return 3;
    count = number(file);
    for (i = 0; i < count; i++) {
        uint32_t params_size, in_size, base_size, size, coder = number(file), kind = number(file), round;
        uint8_t *params = blob(file, &params_size), *in = blob(file, &in_size), *base = blob(file, &base_size);
        uint8_t *wanted = blob(file, &size), *out = malloc(size ? size : 1);
        epk_segment segment;
        if (!out) return 3;
        segment.size_bytes = size;
        segment.kind = (int)kind;
        memset(work, 0xa5, EPK_WORK_SIZE); /* whatever it held */
        if (epk_decode_segment((int)coder, params, params_size, in, in_size, &segment, base_size ? base : NULL, base_size,
                               out, work, EPK_WORK_SIZE) != EPK_OK || memcmp(out, wanted, size)) {
            printf("vector %u differs\n", (unsigned)i);
            wrong++;
        }
        for (round = 0; round < rounds; round++) {
            uint32_t params_kept = random_number() % 3 ? params_size : random_number() % (params_size + 1);
            uint32_t in_kept = random_number() % 3 ? in_size : random_number() % (in_size + 1);
            uint8_t *bad_params = damaged(params, params_size, params_kept), *bad_in = damaged(in, in_size, in_kept);
            segment.kind = random_number() % 8 ? (int)kind : (int)(random_number() % 10);
            epk_decode_segment(random_number() % 8 ? (int)coder : (int)(random_number() % 7), bad_params, params_kept, bad_in,
                               in_kept, &segment, base_size ? base : NULL, base_size, out, work, EPK_WORK_SIZE);
            free(bad_params);
            free(bad_in);
        }
        free(params), free(in), free(base), free(wanted), free(out);
    }
    fclose(file);
    free(work);
    printf("%u vectors, %u differ\n", (unsigned)count, (unsigned)wrong);
    return wrong != 0;
}
