/* Tensors that follow from ones that were written before. */
#include "epk_wire_internal.h"

/* NumPy's transpose: axis i of the result is axis axes[i] of the input. Each byte is XORed with `flip`. */
void epk_permute(const epk_operation *one, const uint8_t *in, uint8_t *out) {
    uint64_t stride[EPK_DIMENSIONS_MAX], step[EPK_DIMENSIONS_MAX], size[EPK_DIMENSIONS_MAX], at[EPK_DIMENSIONS_MAX] = {0};
    uint64_t offset = 0, done = 0;
    const uint8_t flip = (uint8_t)one->flip;
    int last = one->dimensions - 1, i;
    unsigned byte;
    stride[last] = one->element;
    for (i = last; i > 0; i--) stride[i - 1] = stride[i] * one->shape[i];
    for (i = 0; i <= last; i++) {
        step[i] = stride[one->axes[i]];
        size[i] = one->shape[one->axes[i]];
    }
    while (done < one->size) {
        uint64_t from = offset, k;
        for (k = 0; k < size[last]; k++, from += step[last])
            for (byte = 0; byte < one->element; byte++) out[done++] = in[from + byte] ^ flip;
        for (i = last - 1; i >= 0; i--) {
            offset += step[i];
            if (++at[i] < size[i]) break;
            offset -= step[i] * size[i];
            at[i] = 0;
        }
    }
}

static uint32_t load(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* The product of two normal float32 numbers, rounded to nearest, ties to even. Answers 0, which is no product, where it isn't normal. */
static uint32_t times(uint32_t a, uint32_t b) {
    int32_t exponent = (int32_t)(a >> 23 & 255) + (int32_t)(b >> 23 & 255) - 127;
    uint64_t product = (uint64_t)((a & 0x7fffff) | 0x800000) * ((b & 0x7fffff) | 0x800000);
    int shift = product >> 47 ? 24 : 23;
    uint64_t rest = product & (((uint64_t)1 << shift) - 1), half = (uint64_t)1 << (shift - 1);
    uint32_t mantissa = (uint32_t)(product >> shift);
    exponent += shift - 23;
    if (rest > half || (rest == half && (mantissa & 1))) mantissa++;
    if (mantissa >> 24) {
        mantissa >>= 1;
        exponent++;
    }
    if (exponent < 1 || exponent > 254) return 0;
    return ((a ^ b) & 0x80000000u) | (uint32_t)exponent << 23 | (mantissa & 0x7fffff);
}

static int is_normal(uint32_t value) {
    return (value >> 23 & 255) != 0 && (value >> 23 & 255) != 255;
}

int epk_multiply(const uint8_t *in, const uint8_t factor[4], uint64_t count, uint8_t *out) {
    uint32_t by = load(factor);
    uint64_t i;
    if (!is_normal(by)) return EPK_DAMAGED;
    for (i = 0; i < count; i++, in += 4, out += 4) {
        uint32_t value = load(in), product = is_normal(value) ? times(value, by) : 0;
        if (product == 0) return EPK_DAMAGED;
        out[0] = (uint8_t)product;
        out[1] = (uint8_t)(product >> 8);
        out[2] = (uint8_t)(product >> 16);
        out[3] = (uint8_t)(product >> 24);
    }
    return EPK_OK;
}
