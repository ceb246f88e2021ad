/* Hostile wire files for the unpacker in C; an input is what tests/fuzz/fuzz_wire.py says. */
#include "edgepack_wire.h"

#include <stdlib.h>
#include <string.h>

#define OUTPUT_BYTES_MAX (1 << 20)

static uint8_t *copy_of(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint64_t *work;
    size_t base_size, wire_size;
    uint8_t *base, *wire, *out, digest[32];
    int64_t out_size;
    if (size < 2) return 0;
    if (!work && !(work = calloc(1, EPK_UNPACK_WORK_SIZE))) abort();
    base_size = data[0] | (size_t)data[1] << 8;
    if (base_size > size - 2) base_size = size - 2;
    wire_size = size - 2 - base_size;
    base = copy_of(data + 2, base_size);
    wire = copy_of(data + 2 + base_size, wire_size);
    (void)epk_needs_base(wire, wire_size, digest);
    out_size = epk_output_size(wire, wire_size);
    if (out_size >= 0 && out_size <= OUTPUT_BYTES_MAX) {
        out = malloc(out_size ? (size_t)out_size : 1);
        if (!out) abort();
        (void)epk_unpack_in(wire, wire_size, base_size ? base : NULL, base_size, out, (size_t)out_size, work,
                            EPK_UNPACK_WORK_SIZE);
        free(out);
    }
    free(base);
    free(wire);
    return 0;
}
