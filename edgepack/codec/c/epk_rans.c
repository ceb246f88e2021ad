/* Coder `rans`: quantized weights, each a symbol of one of a few distributions that are learnt while decoding.
 *
 * A running mean magnitude of the value's row and one of its column choose the distribution, so that rows and columns
 * of different spread don't pay for each other. Two interleaved 32-bit states; distributions sum to 2^16 and are drawn
 * up anew from their counts now and then, so that a value costs one look-up.
 */
#include "epk_internal.h"

#define LEVELS 32          /* distributions */
#define TOTAL 65536u
#define SEEN 16u           /* what one observation adds to a count */
#define FIRST_PAUSE 16u    /* values until a distribution is first drawn up anew; the pause grows by half each time */
#define LAST_PAUSE 2048u
#define RATE 6
#define COUNTS_MAX (1u << 22)

enum { FLAG_BASE = 32 };

typedef struct distribution {
    uint32_t counts[257], start[258];
    uint8_t symbol_at[256]; /* the symbol at the start of each 1/256 */
    uint32_t pause, left;
} distribution;

typedef struct rans {
    uint32_t symbols, centre, mask, line, mean, density;
    distribution *levels;
    uint16_t *columns; /* running mean magnitudes, 2^-6 */
    uint32_t state[2];
    const uint8_t *in, *end;
} rans;

static void draw_up(const rans *m, distribution *d) {
    uint64_t total = 0, scale, sum = 0;
    uint32_t s, slot = 0;
    for (s = 0; s < m->symbols; s++) total += d->counts[s];
    if (total > COUNTS_MAX)
        for (total = 0, s = 0; s < m->symbols; s++) total += d->counts[s] = (d->counts[s] + 1) / 2;
    scale = ((uint64_t)(TOTAL - m->symbols) << 32) / total;
    for (s = 0; s < m->symbols; s++) {
        d->start[s] = (uint32_t)(sum * scale >> 32) + s;
        sum += d->counts[s];
    }
    d->start[m->symbols] = TOTAL;
    for (s = 0; slot < 256; slot++) {
        while (d->start[s + 1] <= slot << 8) s++;
        d->symbol_at[slot] = (uint8_t)s;
    }
    d->pause += d->pause / 2;
    if (d->pause > LAST_PAUSE) d->pause = LAST_PAUSE;
    d->left = d->pause;
}

/* First guess: zeros as often as in the whole tensor, magnitudes geometric with the level's mean. */
static void guess(const rans *m, distribution *d, uint32_t mean) {
    uint32_t half = m->symbols / 2, k, ratio, share;
    uint32_t nonzero_mean = (uint32_t)((uint64_t)mean * 4096 / m->density);
    if (nonzero_mean < 288) nonzero_mean = 288;
    ratio = 65536 - 65536 * 256 / nonzero_mean;
    share = (uint32_t)((uint64_t)m->density * 512 * (65536 - ratio) >> 16);
    d->counts[half] = (4096 - m->density) * 1024 / 1024 + 1;
    for (k = 1; k <= half; k++) {
        d->counts[half - k] = d->counts[half + k] = share / 1024 + 1;
        share = (uint32_t)((uint64_t)share * ratio >> 16);
    }
    d->pause = FIRST_PAUSE;
    draw_up(m, d);
}

static uint32_t level_of(const rans *m, uint32_t in_row, uint32_t in_column) {
    int level = epk_log4(in_row + 1) + epk_log4(in_column + 1) - epk_log4(m->mean / 4 + 1);
    return (uint32_t)epk_clamp(level - 8, 0, 2 * LEVELS - 1) / 2;
}

static uint32_t next_symbol(rans *m, distribution *d, int which) {
    uint32_t state = m->state[which], slot = state & (TOTAL - 1), symbol = d->symbol_at[slot >> 8];
    while (d->start[symbol + 1] <= slot) symbol++;
    state = (d->start[symbol + 1] - d->start[symbol]) * (state >> 16) + slot - d->start[symbol];
    if (state < TOTAL) {
        uint32_t low = m->in < m->end ? *m->in++ : 0u, high = m->in < m->end ? *m->in++ : 0u;
        state = state << 16 | high << 8 | low;
    }
    m->state[which] = state;
    return symbol;
}

static void learn(const rans *m, distribution *d, uint32_t symbol) {
    d->counts[symbol] += SEEN;
    if (--d->left == 0) draw_up(m, d);
}

static int read_params(rans *m, epk_job *job, size_t *count) {
    epk_reader *reader = &job->params;
    int kind = job->segment->kind;
    uint32_t level, i;
    m->mask = kind == EPK_I4 || kind == EPK_U4 ? 15 : 255;
    *count = job->segment->size_bytes * (m->mask == 15 ? 2 : 1);
    m->symbols = epk_byte(reader) * 2 + 1;
    m->density = (epk_byte(reader) & 31u) * 128 + 64;
    level = epk_byte(reader) & 63u;
    m->mean = (4 + (level & 3u)) << (level >> 2) >> 2;
    m->line = epk_varint(reader);
    m->centre = epk_byte(reader);
    if (m->line == 0 || m->line > *count) m->line = (uint32_t)*count;
    if (reader->is_short || m->symbols < 3 || m->symbols > 257 || *count >> 32) return EPK_DAMAGED;
    m->levels = epk_take(&job->arena, LEVELS, sizeof *m->levels);
    m->columns = epk_take(&job->arena, m->line, sizeof *m->columns);
    if (!m->levels || !m->columns) return EPK_NO_SPACE;
    for (i = 0; i < LEVELS; i++) {
        uint32_t at = i * 2 + 9;
        guess(m, &m->levels[i], (4 + (at & 3u)) << (at >> 2));
    }
    for (i = 0; i < m->line; i++) m->columns[i] = (uint16_t)(m->mean / 4);
    return EPK_OK;
}

/* The running mean after a value: it moves by 2^-rate of the way. */
static uint32_t moved(uint32_t mean, uint32_t size, int rate) {
    return mean - (mean >> rate) + ((size << 6) >> rate);
}

static uint32_t size_of(const rans *m, uint32_t symbol) {
    uint32_t half = m->symbols / 2;
    return symbol < half ? half - symbol : symbol - half;
}

static void put(const rans *m, uint8_t *out, size_t index, uint32_t symbol) {
    uint32_t code = (symbol - m->symbols / 2 + m->centre) & m->mask;
    if (m->mask == 255) out[index] = (uint8_t)code;
    else out[index >> 1] |= (uint8_t)(code << (index & 1 ? 4 : 0));
}

static int decode(rans *m, epk_job *job, size_t count) {
    uint32_t in_row = m->mean / 4, column = 0, rows = 0;
    int row_rate = 2, column_rate = 2;
    size_t i;
    m->in = job->in;
    m->end = job->in + job->in_size;
    for (i = 0; i < 2; i++) {
        uint32_t byte;
        for (byte = 0; byte < 4; byte++) m->state[i] |= (m->in < m->end ? *m->in++ : 0u) << (8 * byte);
    }
    if (m->mask == 15) memset(job->out, 0, job->segment->size_bytes);
    for (i = 0; i < count; i++) {
        distribution *d = &m->levels[level_of(m, in_row, m->columns[column])];
        uint32_t symbol = next_symbol(m, d, (int)(i & 1)), size = size_of(m, symbol);
        learn(m, d, symbol);
        put(m, job->out, i, symbol);
        in_row = moved(in_row, size, row_rate);
        m->columns[column] = (uint16_t)moved(m->columns[column], size, column_rate);
        if (row_rate < RATE && column >> row_rate) row_rate++;
        if (++column == m->line) {
            column = 0;
            in_row = m->mean / 4;
            row_rate = 2;
            if (column_rate < RATE && ++rows >> column_rate) column_rate++;
        }
    }
    return m->in == m->end ? EPK_OK : EPK_DAMAGED;
}

#ifdef EPK_ENCODER
#include <stdlib.h>

typedef struct choice {
    uint16_t start, width;
} choice;

static uint32_t symbol_in(const rans *m, const uint8_t *data, size_t index) {
    uint32_t code = m->mask == 255 ? data[index] : data[index >> 1] >> (index & 1 ? 4 : 0) & 15u, half = m->symbols / 2;
    uint32_t value = (code - m->centre) & m->mask; /* 0 … mask: the upper half is negative */
    return value > m->mask / 2 ? value + half - m->mask - 1 : value + half;
}

static int choose(rans *m, const uint8_t *data, size_t count, choice *choices) {
    uint32_t in_row = m->mean / 4, column = 0, rows = 0;
    int row_rate = 2, column_rate = 2;
    size_t i;
    for (i = 0; i < count; i++) {
        distribution *d = &m->levels[level_of(m, in_row, m->columns[column])];
        uint32_t symbol = symbol_in(m, data, i), size = size_of(m, symbol);
        if (symbol >= m->symbols) return EPK_DAMAGED;
        choices[i].start = (uint16_t)d->start[symbol];
        choices[i].width = (uint16_t)(d->start[symbol + 1] - d->start[symbol]);
        learn(m, d, symbol);
        in_row = moved(in_row, size, row_rate);
        m->columns[column] = (uint16_t)moved(m->columns[column], size, column_rate);
        if (row_rate < RATE && column >> row_rate) row_rate++;
        if (++column == m->line) {
            column = 0;
            in_row = m->mean / 4;
            row_rate = 2;
            if (column_rate < RATE && ++rows >> column_rate) column_rate++;
        }
    }
    return EPK_OK;
}

static int write_backwards(rans *m, epk_job *job, const choice *choices, size_t count) {
    uint8_t *at = job->payload + job->payload_size;
    size_t i;
    m->state[0] = m->state[1] = TOTAL;
    for (i = count; i-- > 0;) {
        uint32_t state = m->state[i & 1], width = choices[i].width;
        if (at - job->payload < 16) return EPK_NO_SPACE;
        if (state >= (uint64_t)width << 16) {
            *--at = (uint8_t)(state >> 8);
            *--at = (uint8_t)state;
            state >>= 16;
        }
        m->state[i & 1] = (state / width << 16) + state % width + choices[i].start;
    }
    for (i = 2; i-- > 0;) {
        int byte;
        for (byte = 3; byte >= 0; byte--) *--at = (uint8_t)(m->state[i] >> (8 * byte));
    }
    job->payload_size = (size_t)(job->payload + job->payload_size - at);
    memmove(job->payload, at, job->payload_size);
    return EPK_OK;
}

static int encode(rans *m, epk_job *job, size_t count) {
    choice *choices = malloc(count * sizeof *choices);
    int status = choices ? choose(m, job->out, count, choices) : EPK_NO_SPACE;
    if (status == EPK_OK) status = write_backwards(m, job, choices, count);
    free(choices);
    return status;
}
#endif

int epk_code_rans(epk_job *job) {
    rans m;
    size_t count;
    int status;
    memset(&m, 0, sizeof m);
    if ((status = read_params(&m, job, &count)) != EPK_OK) return status;
#ifdef EPK_ENCODER
    if (job->payload) return encode(&m, job, count);
#endif
    return decode(&m, job, count);
}
