/* Coder `wide`: elements of two or four bytes (biases, scales, floats), each as: same as the one before? bucket, sign, rest.
 *
 * The bucket is an integer's number of bits or a float's exponent. With a base the difference to the base's element
 * is coded like an integer.
 */
#include "epk_internal.h"

#define BUCKET_CONTEXTS 5
#define MODELLED 3 /* upper bits of the rest that are predicted from the bucket */
#define BUCKETS 256

enum { FLAG_BASE = 1 };

typedef struct wide {
    epk_mixer mixer;
    int width, is_float;   /* bytes of an element */
    uint32_t tree_bits, line, sign_bit;
    size_t count;
    const uint8_t *base;
    uint8_t *data;
    uint32_t *bucket[BUCKET_CONTEXTS], *top[2], *sign[2], *same[2], low[2][32];
} wide;

typedef struct parts {
    uint32_t bucket, sign, rest, rest_bits;
} parts;

static uint32_t element(const uint8_t *data, size_t index, int width) {
    uint32_t value = 0;
    int i;
    for (i = width; i-- > 0;) value = value << 8 | data[index * (size_t)width + (size_t)i];
    return value;
}

static uint32_t bits_of(uint32_t value) {
    uint32_t bits = 0;
    for (; value; value >>= 1) bits++;
    return bits;
}

static parts split(const wide *m, uint32_t value, int is_float) {
    parts p;
    p.sign = (value & m->sign_bit) != 0;
    if (is_float) {
        p.rest_bits = m->width == 2 ? 10 : 23;
        p.bucket = (value & (m->sign_bit - 1)) >> p.rest_bits;
        p.rest = value & ((1u << p.rest_bits) - 1);
        return p;
    }
    if (p.sign) value = (0u - value) & (m->sign_bit | (m->sign_bit - 1));
    p.bucket = bits_of(value);
    p.rest_bits = p.bucket ? p.bucket - 1 : 0;
    p.rest = value & (uint32_t)(((uint64_t)1 << p.rest_bits) - 1);
    return p;
}

static uint32_t join(const wide *m, const parts *p, int is_float) {
    uint32_t value;
    if (is_float) return (p->sign ? m->sign_bit : 0) | p->bucket << p->rest_bits | p->rest;
    value = p->bucket ? (uint32_t)1 << p->rest_bits | p->rest : 0;
    return (p->sign ? 0u - value : value) & (m->sign_bit | (m->sign_bit - 1));
}

static int mix(wide *m, uint32_t **slots, int count, int first, int second, uint32_t bit) {
    int i;
    m->mixer.inputs = count;
    for (i = 0; i < count; i++) m->mixer.slots[i] = slots[i];
    return epk_mix_bit(&m->mixer, first, second, (int)bit);
}

enum { SET_SAME = 0, SET_SIGN, SET_TOP, SET_BUCKET = SET_TOP + 8, SET_BEFORE = SET_BUCKET + BUCKETS, SETS = SET_BEFORE + 33 };

static uint32_t code_bucket(wide *m, const uint32_t *at, uint32_t before, uint32_t known) {
    uint32_t node = 1;
    int bit_at, i;
    for (bit_at = (int)m->tree_bits - 1; bit_at >= 0; bit_at--) {
        uint32_t *slots[BUCKET_CONTEXTS];
        for (i = 0; i < BUCKET_CONTEXTS; i++) slots[i] = m->bucket[i] + at[i] * BUCKETS + node;
        node = node * 2 + (uint32_t)mix(m, slots, BUCKET_CONTEXTS, SET_BUCKET + (int)node,
                                        SET_BEFORE + (int)(before > 32 ? 32 : before), known >> bit_at & 1u);
    }
    return node - (1u << m->tree_bits);
}

static uint32_t code_low_bit(wide *m, uint32_t at, uint32_t bit) {
    uint32_t *slot = &m->low[0][at], one = *slot >> 16;
    bit = (uint32_t)epk_arith_bit(&m->mixer.arith, one < 16 ? 16 : one > 65520 ? 65520 : one, (int)bit);
    *slot = epk_counter_next(m->mixer.tables, *slot, (int)bit, 1000);
    return bit;
}

static void code_rest(wide *m, parts *p, uint32_t known) {
    uint32_t node = 1, at = p->rest_bits, bit;
    p->rest = 0;
    while (at-- > 0) {
        if (node < 1u << MODELLED) {
            uint32_t *slots[2];
            slots[0] = m->top[0] + p->bucket * 8 + node;
            slots[1] = m->top[1] + node;
            bit = (uint32_t)mix(m, slots, 2, SET_TOP + (int)node, SET_BEFORE, known >> at & 1u);
            node = node * 2 + bit;
        } else {
            bit = code_low_bit(m, at, known >> at & 1u);
        }
        p->rest |= bit << at;
    }
}

/* `history`: of the last four elements, which were the same as the one before. */
static uint32_t code_element(wide *m, const parts *before, const parts *before2, const parts *above, const parts *base,
                             uint32_t known, int is_float) {
    parts p = split(m, known, is_float), got = p;
    uint32_t at[BUCKET_CONTEXTS], *slots[2];
    at[0] = 0;
    at[1] = before->bucket;
    at[2] = (before->bucket + before2->bucket + 1) / 2;
    at[3] = above->bucket;
    at[4] = base->bucket;
    got.bucket = code_bucket(m, at, before->bucket, p.bucket);
    if (!is_float) {
        if (got.bucket > (uint32_t)m->width * 8) got.bucket = 0; /* damaged */
        got.rest_bits = got.bucket ? got.bucket - 1 : 0;
    }
    got.sign = 0;
    if (got.bucket || is_float) {
        slots[0] = m->sign[0] + before->sign * 2 + before2->sign;
        slots[1] = m->sign[1] + above->sign * 2 + base->sign;
        got.sign = (uint32_t)mix(m, slots, 2, SET_SIGN, SET_BEFORE + 1, p.sign);
    }
    code_rest(m, &got, p.rest);
    return join(m, &got, is_float);
}

static int code_same(wide *m, uint32_t history, uint32_t at_line_start, int known) {
    uint32_t *slots[2];
    slots[0] = m->same[0] + (history & 15u);
    slots[1] = m->same[1] + (at_line_start * 2 + (history & 1u));
    return mix(m, slots, 2, SET_SAME, SET_BEFORE + 2, (uint32_t)known);
}

static int prepare(wide *m, epk_job *job) {
    uint32_t flags = epk_byte(&job->params);
    int i, kind = job->segment->kind;
    uint32_t k;
    epk_tables *tables = epk_take(&job->arena, 1, sizeof *tables);
    m->line = epk_varint(&job->params);
    m->width = kind == EPK_I16 || kind == EPK_F16 ? 2 : 4;
    m->is_float = kind == EPK_F16 || kind == EPK_F32;
    m->sign_bit = m->width == 2 ? 0x8000u : 0x80000000u;
    m->count = job->segment->size_bytes / (size_t)m->width;
    m->data = job->out;
    m->base = flags & FLAG_BASE ? job->base : NULL;
    if (m->base) m->is_float = 0;
    m->tree_bits = m->is_float ? (m->width == 2 ? 5 : 8) : m->width == 2 ? 5 : 6;
    if (job->params.is_short || job->segment->size_bytes % (size_t)m->width) return EPK_DAMAGED;
    if (flags & FLAG_BASE && !job->base) return EPK_DAMAGED;
    m->mixer.tables = tables;
    m->mixer.rate_lowest = 2;
    m->mixer.limit = 255;
    m->mixer.weights = epk_take(&job->arena, SETS * EPK_INPUTS_MAX, 4);
    m->mixer.uses = epk_take(&job->arena, SETS, 2);
    for (i = 0; i < BUCKET_CONTEXTS; i++) m->bucket[i] = epk_take(&job->arena, BUCKETS * BUCKETS, 4);
    m->top[0] = epk_take(&job->arena, BUCKETS * 8, 4);
    m->top[1] = epk_take(&job->arena, 8 + 4 + 4 + 16 + 4, 4);
    if (!tables || !m->mixer.weights || !m->mixer.uses || !m->bucket[BUCKET_CONTEXTS - 1] || !m->top[0] || !m->top[1])
        return EPK_NO_SPACE;
    m->sign[0] = m->top[1] + 8;
    m->sign[1] = m->sign[0] + 4;
    m->same[0] = m->sign[1] + 4;
    m->same[1] = m->same[0] + 16;
    epk_make_tables(tables);
    epk_mixer_start(&m->mixer, SETS, 65536 * 3 / 10);
    for (i = 0; i < BUCKET_CONTEXTS; i++)
        for (k = 0; k < BUCKETS * BUCKETS; k++) m->bucket[i][k] = EPK_COUNTER(32768, 0);
    for (k = 0; k < BUCKETS * 8; k++) m->top[0][k] = EPK_COUNTER(32768, 0);
    for (k = 0; k < 36; k++) m->top[1][k] = EPK_COUNTER(32768, 0);
    for (k = 0; k < 32; k++) m->low[0][k] = EPK_COUNTER(32768, 0);
    return EPK_OK;
}

int epk_code_wide(epk_job *job) {
    wide m;
    parts before = {0, 0, 0, 0}, before2 = {0, 0, 0, 0}, above, base;
    uint32_t history = 0, last = 0, mask;
    size_t i;
    int status;
    memset(&m, 0, sizeof m);
    if ((status = prepare(&m, job)) != EPK_OK) return status;
    epk_job_arith(job, &m.mixer.arith);
    mask = m.sign_bit | (m.sign_bit - 1);
    for (i = 0; i < m.count; i++) {
        uint32_t reference = m.base ? element(m.base, i, m.width) : 0, value = 0;
        int is_same;
        if (EPK_IS_ENCODING(job)) value = (element(m.data, i, m.width) - reference) & mask;
        is_same = code_same(&m, history, m.line && i % m.line == 0, i > 0 && value == last);
        memset(&above, 0, sizeof above);
        if (m.line && i >= m.line) {
            size_t up = i - m.line;
            above = split(&m, (element(m.data, up, m.width) - (m.base ? element(m.base, up, m.width) : 0)) & mask, m.is_float);
        }
        base = split(&m, reference, 0);
        if (is_same) value = last;
        else value = code_element(&m, &before, &before2, &above, &base, value, m.is_float);
        if (!EPK_IS_ENCODING(job)) {
            uint32_t whole = (value + reference) & mask;
            int k;
            for (k = 0; k < m.width; k++) m.data[i * (size_t)m.width + (size_t)k] = (uint8_t)(whole >> (8 * k));
        }
        before2 = before;
        before = split(&m, value, m.is_float);
        last = value;
        history = history << 1 | (uint32_t)is_same;
    }
    return epk_job_done(job, &m.mixer.arith);
}
