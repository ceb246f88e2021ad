/* Shared by the decoder's files (and the encoder's, which are compiled with EPK_ENCODER). */
#ifndef EPK_INTERNAL_H
#define EPK_INTERNAL_H

#include <string.h>

#include "edgepack_decoder.h"

/* ---- arithmetic that C leaves open: shifts of negative numbers round down ---- */

static inline int32_t epk_shift_right(int32_t value, int bits) {
    return value < 0 ? ~(~value >> bits) : value >> bits;
}

static inline int64_t epk_shift_right_64(int64_t value, int bits) {
    return value < 0 ? ~(~value >> bits) : value >> bits;
}

static inline int32_t epk_clamp(int64_t value, int32_t lowest, int32_t highest) {
    return value < lowest ? lowest : value > highest ? highest : (int32_t)value;
}

/* ---- tables ---- */

#define EPK_STRETCH_MAX 3071 /* stretched probabilities are ln(p / (1 - p)) * 256, within ±12 * 256 */

typedef struct epk_tables {
    uint16_t squash[2 * EPK_STRETCH_MAX + 1]; /* from a stretched probability to one of 2^-16 */
    int16_t stretch[4096];                    /* from the upper 12 bits of a probability */
    uint16_t step[1024];                      /* how far a counter moves after n observations, 2^-15 */
    uint16_t trust[1024];                     /* how much a counter of n observations is believed, 2^-8 */
} epk_tables;

void epk_make_tables(epk_tables *tables);

/* Logarithm in quarter octaves, rounded down: 4 * log2(value), 0 for 0 and 1. */
static inline int epk_log4(uint32_t value) {
    int top = 0;
    uint32_t rest = value;
    if (value < 2) return 0;
    if (rest >> 16) { top += 16; rest >>= 16; }
    if (rest >> 8) { top += 8; rest >>= 8; }
    if (rest >> 4) { top += 4; rest >>= 4; }
    if (rest >> 2) { top += 2; rest >>= 2; }
    top += (int)(rest >> 1);
    return 4 * top + (int)(top >= 2 ? (value >> (top - 2)) & 3u : (value << (2 - top)) & 3u);
}

/* ---- the workspace, handed out from its start ---- */

typedef struct epk_arena {
    uint8_t *at;
    size_t left;
} epk_arena;

static inline void *epk_take(epk_arena *arena, size_t count, size_t size) {
    size_t wanted = (count * size + 7) & ~(size_t)7;
    void *taken = arena->at;
    if (count > arena->left / size || wanted > arena->left) return NULL;
    arena->at += wanted;
    arena->left -= wanted;
    return taken;
}

/* ---- the parameters of a segment ---- */

typedef struct epk_reader {
    const uint8_t *at, *end;
    int is_short;
} epk_reader;

static inline uint32_t epk_byte(epk_reader *reader) {
    if (reader->at < reader->end) return *reader->at++;
    reader->is_short = 1;
    return 0;
}

/* Seven bits a byte, the lowest first; at most 32 bits. */
static inline uint32_t epk_varint(epk_reader *reader) {
    uint32_t value = 0;
    int shift;
    for (shift = 0; shift < 35; shift += 7) {
        uint32_t byte = epk_byte(reader);
        value |= (byte & 127u) << shift;
        if (byte < 128) return value;
    }
    reader->is_short = 1;
    return 0;
}

/* ---- binary arithmetic coder: 32-bit interval, probabilities of 2^-16, no carry ---- */

typedef struct epk_arith {
    uint32_t low, high, code;
    const uint8_t *in, *end;
#ifdef EPK_ENCODER
    uint8_t *out, *out_end;
    int is_encoding, is_full;
#endif
} epk_arith;

static inline void epk_arith_start(epk_arith *coder, const uint8_t *in, size_t size) {
    int i;
    memset(coder, 0, sizeof *coder);
    coder->high = 0xffffffffu;
    coder->in = in;
    coder->end = in + size;
    for (i = 0; i < 4; i++) coder->code = coder->code << 8 | (coder->in < coder->end ? *coder->in++ : 0u);
}

/* `one`: probability of a 1, in 1 … 65535. Past its end the stream is zeros. */
static inline int epk_arith_bit(epk_arith *coder, uint32_t one, int bit) {
    uint32_t middle = coder->low + (uint32_t)(((uint64_t)(coder->high - coder->low) * one) >> 16);
#ifdef EPK_ENCODER
    if (!coder->is_encoding)
#endif
        bit = coder->code <= middle;
    if (bit) coder->high = middle;
    else coder->low = middle + 1;
    while (((coder->low ^ coder->high) >> 24) == 0) {
#ifdef EPK_ENCODER
        if (coder->is_encoding) {
            if (coder->out < coder->out_end) *coder->out++ = (uint8_t)(coder->high >> 24);
            else coder->is_full = 1;
        } else
#endif
            coder->code = coder->code << 8 | (coder->in < coder->end ? *coder->in++ : 0u);
        coder->low <<= 8;
        coder->high = coder->high << 8 | 255u;
    }
    return bit;
}

/* ---- counters: a probability (22 bits) and how often it was seen (10 bits) ---- */

#define EPK_COUNTER(probability_16, seen) ((uint32_t)(probability_16) << 16 | (uint32_t)(seen))

static inline uint32_t epk_counter_next(const epk_tables *tables, uint32_t counter, int bit, uint32_t limit) {
    uint32_t seen = counter & 1023u, p = counter >> 10, step = tables->step[seen];
    if (bit) p += ((4194303u - p) >> 6) * step >> 9;
    else p -= (p >> 6) * step >> 9;
    return p << 10 | (seen < limit ? seen + 1 : seen);
}

/* ---- mixing of predictions ---- */

#define EPK_INPUTS_MAX 16

typedef struct epk_mixer {
    epk_arith arith;
    const epk_tables *tables;
    uint32_t *slots[EPK_INPUTS_MAX]; /* the counters that predict the next bit */
    int inputs;                      /* how many of them */
    int32_t *weights;                /* EPK_INPUTS_MAX a set */
    uint16_t *uses;                  /* of each set */
    uint32_t limit;                  /* of the counters */
    int32_t rate_lowest;             /* of learning the weights */
    uint32_t *maps;                  /* NULL, or EPK_MAP counters an input: what a counter's state has meant so far */
} epk_mixer;

#define EPK_MAP (16 * 64) /* states: how often seen, in 16 steps, and the stretched probability, in 64 */

void epk_mixer_start(epk_mixer *mixer, int sets, int32_t weight);
void epk_mixer_start_maps(epk_mixer *mixer, int inputs);

/* Codes one bit: the mean of what the weight sets `first` and `second` make of the slots. */
int epk_mix_bit(epk_mixer *mixer, int first, int second, int bit);

/* ---- coders ---- */

typedef struct epk_job {
    epk_reader params;
    const uint8_t *in;
    size_t in_size;
    const epk_segment *segment;
    const uint8_t *base; /* NULL, or at least size_bytes bytes (kind bytes: base_size bytes) */
    size_t base_size;
    uint8_t *out;
    epk_arena arena;
#ifdef EPK_ENCODER
    uint8_t *payload; /* not NULL: encode `out` to it */
    size_t payload_size;
#endif
} epk_job;

int epk_code_rans(epk_job *job);
int epk_code_weights(epk_job *job, int is_mixing);
int epk_code_wide(epk_job *job);
int epk_code_bytes(epk_job *job);

int epk_run(int coder, epk_job *job);
void epk_job_arith(epk_job *job, epk_arith *arith);
int epk_job_done(epk_job *job, epk_arith *arith);

#ifdef EPK_ENCODER
#define EPK_IS_ENCODING(job) ((job)->payload != NULL)
#else
#define EPK_IS_ENCODING(job) 0
#endif

#endif
