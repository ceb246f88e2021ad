/* Reads a wire file's header and the operations of its table. */
#include "epk_wire_internal.h"

unsigned epk_cursor_byte(epk_cursor *cursor) {
    if (cursor->at < cursor->end) return *cursor->at++;
    cursor->is_bad = 1;
    return 0;
}

/* At most 63 bits, in the shortest form. */
uint64_t epk_cursor_number(epk_cursor *cursor) {
    uint64_t value = 0;
    int shift;
    for (shift = 0; shift < 63; shift += 7) {
        unsigned byte = epk_cursor_byte(cursor);
        value |= (uint64_t)(byte & 127u) << shift;
        if (byte < 128) {
            if (byte == 0 && shift) cursor->is_bad = 1;
            return value;
        }
    }
    cursor->is_bad = 1;
    return 0;
}

static uint64_t positive(epk_cursor *cursor) {
    uint64_t value = epk_cursor_number(cursor);
    if (value == 0) cursor->is_bad = 1;
    return value;
}

static int64_t either_sign(epk_cursor *cursor) {
    uint64_t value = epk_cursor_number(cursor);
    return value & 1 ? -(int64_t)(value >> 1) - 1 : (int64_t)(value >> 1);
}

const uint8_t *epk_cursor_bytes(epk_cursor *cursor, uint64_t size) {
    const uint8_t *at = cursor->at;
    if (size > (uint64_t)(cursor->end - cursor->at)) {
        cursor->is_bad = 1;
        return at;
    }
    cursor->at += size;
    return at;
}

static void coded(epk_cursor *cursor, epk_operation *one) {
    uint64_t coder = epk_cursor_number(cursor);
    uint64_t params_size = epk_cursor_number(cursor);
    if (coder > 255 || params_size > EPK_PARAMS_MAX) cursor->is_bad = 1;
    one->coder = (int)(coder & 255);
    one->params_size = cursor->is_bad ? 0 : (size_t)params_size;
    one->params = epk_cursor_bytes(cursor, one->params_size);
    one->payload_size = epk_cursor_number(cursor);
}

static void kind(epk_cursor *cursor, epk_operation *one) {
    one->kind = (int)epk_cursor_byte(cursor);
    if (one->kind > EPK_F32) cursor->is_bad = 1;
}

static void group(epk_cursor *cursor, epk_operation *one) {
    one->group = (int)epk_cursor_byte(cursor);
    if (one->group >= EPK_GROUPS_MAX) cursor->is_bad = 1;
}

static void take(epk_cursor *cursor, epk_operation *one, int is_other) {
    int64_t difference;
    group(cursor, one);
    one->size = positive(cursor);
    one->base_size = one->size;
    if (!is_other) return;
    difference = either_sign(cursor);
    if (one->size > EPK_OUTPUT_MAX || difference > (int64_t)EPK_OUTPUT_MAX || difference < -(int64_t)one->size)
        cursor->is_bad = 1;
    else one->base_size = (uint64_t)((int64_t)one->size + difference);
}

static void copy(epk_cursor *cursor, epk_operation *one) {
    unsigned seen = 0;
    int i;
    one->element = epk_cursor_byte(cursor);
    one->dimensions = (int)epk_cursor_byte(cursor);
    if ((one->element != 1 && one->element != 2 && one->element != 4 && one->element != 8) || one->dimensions < 1 ||
        one->dimensions > EPK_DIMENSIONS_MAX) {
        cursor->is_bad = 1;
        return;
    }
    one->size = one->element;
    for (i = 0; i < one->dimensions; i++) {
        one->shape[i] = positive(cursor);
        if (cursor->is_bad || one->shape[i] > EPK_OUTPUT_MAX / one->size) {
            cursor->is_bad = 1;
            return;
        }
        one->size *= one->shape[i];
    }
    for (i = 0; i < one->dimensions; i++) {
        one->axes[i] = (uint8_t)epk_cursor_byte(cursor);
        if (one->axes[i] < one->dimensions) seen |= 1u << one->axes[i];
    }
    if (seen != (1u << one->dimensions) - 1) cursor->is_bad = 1;
    one->flip = (int)epk_cursor_byte(cursor);
    one->distance = positive(cursor);
}

static void product(epk_cursor *cursor, epk_operation *one) {
    const uint8_t *factor;
    one->count = positive(cursor);
    one->distance = positive(cursor);
    factor = epk_cursor_bytes(cursor, 4);
    if (cursor->is_bad || one->count > EPK_OUTPUT_MAX) cursor->is_bad = 1;
    else memcpy(one->factor, factor, 4);
    one->size = 4 * (one->count & (EPK_OUTPUT_MAX * 2 - 1));
}

static void chunk(epk_cursor *cursor, epk_operation *one) {
    group(cursor, one);
    kind(cursor, one);
    one->on_base = (int)epk_cursor_byte(cursor);
    if (one->on_base > 1) cursor->is_bad = 1;
    one->size = positive(cursor);
    coded(cursor, one);
}

static void listing(epk_cursor *cursor, epk_operation *one) {
    one->entry = epk_cursor_number(cursor);
    one->count = positive(cursor);
    one->size = positive(cursor);
}

static void tensor(epk_cursor *cursor, epk_operation *one) {
    kind(cursor, one);
    one->size = positive(cursor);
    one->on_base = one->code == EPK_TENSOR_ON_BASE;
    coded(cursor, one);
}

int epk_read_operation(epk_cursor *cursor, epk_operation *one) {
    memset(one, 0, sizeof *one);
    one->code = (int)epk_cursor_byte(cursor);
    switch (one->code) {
    case EPK_END: return cursor->is_bad || cursor->at != cursor->end ? EPK_DAMAGED : 0;
    case EPK_ENTRY:
        one->count = positive(cursor);
        if (one->count > EPK_NAME_MAX) cursor->is_bad = 1;
        break;
    case EPK_TAIL: break;
    case EPK_TAKE: take(cursor, one, 0); break;
    case EPK_TAKE_OTHER: take(cursor, one, 1); break;
    case EPK_TENSOR:
    case EPK_TENSOR_ON_BASE: tensor(cursor, one); break;
    case EPK_COPY: copy(cursor, one); break;
    case EPK_FROM_BASE: one->size = positive(cursor); break;
    case EPK_FILL:
        one->flip = (int)epk_cursor_byte(cursor);
        one->size = positive(cursor);
        break;
    case EPK_DIGEST:
        one->entry = epk_cursor_number(cursor);
        one->size = 64;
        break;
    case EPK_LISTING: listing(cursor, one); break;
    case EPK_PRODUCT: product(cursor, one); break;
    case EPK_CHUNK: chunk(cursor, one); break;
    case EPK_SEEK: one->by = either_sign(cursor); break;
    default: return EPK_DAMAGED;
    }
    return cursor->is_bad ? EPK_DAMAGED : 1;
}

int epk_read_header(epk_cursor *cursor, uint64_t wire_size, epk_header *header) {
    const uint8_t *magic = epk_cursor_bytes(cursor, 4);
    unsigned version, flags;
    uint64_t most = EPK_FREE_MAX;
    if (cursor->is_bad || memcmp(magic, "EPKZ", 4) != 0) return EPK_NOT_A_WIRE_FILE;
    version = epk_cursor_byte(cursor);
    flags = epk_cursor_byte(cursor);
    if (cursor->is_bad || version != 1) return EPK_NOT_A_WIRE_FILE;
    memset(header, 0, sizeof *header);
    header->is_archive = flags & 1;
    header->is_delta = flags >> 1 & 1;
    header->output_size = epk_cursor_number(cursor);
    header->output_digest = epk_cursor_bytes(cursor, 32);
    if (header->is_delta) {
        header->base_size = epk_cursor_number(cursor);
        header->base_digest = epk_cursor_bytes(cursor, 32);
    }
    if (header->base_size < EPK_OUTPUT_MAX && 2 * header->base_size > most) most = 2 * header->base_size;
    if (wire_size < EPK_OUTPUT_MAX && EPK_EXPANSION_MAX * wire_size > most) most = EPK_EXPANSION_MAX * wire_size;
    if (cursor->is_bad || flags > 3 || header->output_size > EPK_OUTPUT_MAX || header->output_size > most) return EPK_DAMAGED;
    return EPK_OK;
}
