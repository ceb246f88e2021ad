/* Hostile segments for the decoder in C; an input is what tests/fuzz/fuzz_codec.py says. Every buffer has exactly its size, so that
 * a sanitizer sees each byte that is read or written beside it. */
#include "edgepack_decoder.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES 7
#define KINDS 9

static uint8_t *copy_of(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
    return copy;
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint64_t *work;
    size_t params_size, base_size, payload_size;
    uint8_t *params, *base, *payload, *out;
    epk_segment segment;
    if (size < HEAD_BYTES) return 0;
    if (!work && !(work = calloc(1, EPK_WORK_SIZE))) abort();
    segment.kind = data[1] % KINDS;
    segment.size_bytes = (data[2] | (size_t)data[3] << 8) & 0x1fff;
    params_size = least(data[4], size - HEAD_BYTES);
    base_size = least(data[5] | (size_t)data[6] << 8, size - HEAD_BYTES - params_size);
    payload_size = size - HEAD_BYTES - params_size - base_size;
    params = copy_of(data + HEAD_BYTES, params_size);
    base = copy_of(data + HEAD_BYTES + params_size, base_size);
    payload = copy_of(data + size - payload_size, payload_size);
    out = malloc(segment.size_bytes ? segment.size_bytes : 1);
    if (!out) abort();
    (void)epk_decode_segment(data[0], params, params_size, payload, payload_size, &segment, base_size ? base : NULL,
                             base_size, out, work, EPK_WORK_SIZE);
    free(params);
    free(base);
    free(payload);
    free(out);
    return 0;
}
