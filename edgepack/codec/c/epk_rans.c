/* Coder `rans`: quantized weights, each a symbol of one of a few distributions that are learnt while decoding.
 *
 * A running mean magnitude of the value's row and one of its column choose the distribution, so that rows and columns
 * of different spread don't pay for each other. Two interleaved 32-bit states; distributions sum to 2^16 and are drawn
 * up anew from their counts now and then, so that a value costs one look-up.
 */
#include "epk_internal.h"

#define LEVELS 64 /* of mean magnitudes, in quarter octaves; times shares of nonzeros: 1, 2, 4 or 8 */
#define TOTAL 65536u
#define SEEN 16u           /* what one observation adds to a count */
#define FIRST_PAUSE 16u    /* values until a distribution is first drawn up anew; the pause grows by half each time */
#define LAST_PAUSE 2048u
#define RATE 6
#define COUNTS_MAX (1u << 22)

enum { GRAIN_PREDICTS = 32 };

typedef struct distribution {
    uint32_t counts[129], start[130];
    uint8_t symbol_at[256]; /* the symbol at the start of each 1/256 */
    uint32_t pause, left;
} distribution;

/* Running means over a row or a column: of nonzero magnitudes (2^-6) and of how many there are (2^-14). */
typedef struct running {
    uint16_t size, filled;
} running;

typedef struct rans {
    uint32_t symbols, centre, mask, line, size, filled; /* size, filled: of the whole tensor */
    distribution *levels;
    uint32_t size_step, shares; /* quarter octaves, and shares of nonzeros, that a distribution serves; 2^… and how many */
    running *columns;
    uint32_t left, up; /* not 0: samples of images, coded as differences to what the ones so far back predict */
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

/* First guess: zeros as the level has them, magnitudes geometric with the level's mean. */
static void guess(const rans *m, distribution *d, uint32_t size, uint32_t filled) {
    uint32_t k, ratio, share;
    if (size < 72) size = 72;
    ratio = 65536 - 65536 * 64 / size;
    share = (uint32_t)((uint64_t)filled * 128 * (65536 - ratio) >> 16);
    d->counts[0] = (16384 - filled) / 4 + 1;
    for (k = 1; k < m->symbols; k++) {
        d->counts[k] = share / 512 + 1;
        share = (uint32_t)((uint64_t)share * ratio >> 16);
    }
    d->pause = FIRST_PAUSE;
    draw_up(m, d);
}

static distribution *distribution_for(const rans *m, const running *row, const running *column) {
    uint32_t filled = (uint32_t)row->filled * column->filled / m->filled;
    int size = epk_log4((uint32_t)row->size + 1);
    if (!m->up) size += epk_log4((uint32_t)column->size + 1) - epk_log4(m->size + 1);
    uint32_t share = filled >= 16384 ? m->shares - 1 : filled * m->shares >> 14;
    return &m->levels[share * (LEVELS >> m->size_step) + ((uint32_t)epk_clamp(size, 0, LEVELS - 1) >> m->size_step)];
}

static uint32_t refilled(rans *m, uint32_t state) {
    uint32_t low, high;
    if (state >= TOTAL) return state;
    low = m->in < m->end ? *m->in++ : 0u;
    high = m->in < m->end ? *m->in++ : 0u;
    return state << 16 | high << 8 | low;
}

/* The next value: its magnitude by the distribution, its sign as it is. */
static int next_value(rans *m, const distribution *d, int which, uint32_t *size) {
    uint32_t state = m->state[which], slot = state & (TOTAL - 1), symbol = d->symbol_at[slot >> 8], sign = 0;
    while (d->start[symbol + 1] <= slot) symbol++;
    state = refilled(m, (d->start[symbol + 1] - d->start[symbol]) * (state >> 16) + slot - d->start[symbol]);
    if (symbol) {
        sign = state & 1u;
        state = refilled(m, state >> 1);
    }
    m->state[which] = state;
    *size = symbol;
    return sign ? -(int)symbol : (int)symbol;
}

static void learn(const rans *m, distribution *d, uint32_t symbol) {
    d->counts[symbol] += SEEN;
    if (--d->left == 0) draw_up(m, d);
}

/* A byte as a sample in 0 … 255, in the order of what it means. */
static int sample(const rans *m, const uint8_t *data, size_t index) {
    return (int)((data[index] - m->centre - 128u) & 255u);
}

/* The median of left, up and left + up - up-left; `edges` is told how far those lie apart. */
static int predicted(const rans *m, const uint8_t *data, size_t index, uint32_t *edges) {
    int left = index >= m->left ? sample(m, data, index - m->left) : 128;
    int up = index >= m->up ? sample(m, data, index - m->up) : left;
    int corner = index >= (size_t)m->left + m->up ? sample(m, data, index - m->left - m->up) : up;
    int low = left < up ? left : up, high = left < up ? up : left;
    *edges = (uint32_t)((left < corner ? corner - left : left - corner) + (up < corner ? corner - up : up - corner));
    return corner >= high ? low : corner <= low ? high : left + up - corner;
}

static running start_of(const rans *m) {
    running start;
    start.size = (uint16_t)m->size;
    start.filled = (uint16_t)m->filled;
    return start;
}

static int read_params(rans *m, epk_job *job, size_t *count) {
    epk_reader *reader = &job->params;
    int kind = job->segment->kind;
    uint32_t level, i, density, grain, levels;
    m->mask = kind == EPK_I4 || kind == EPK_U4 ? 15 : 255;
    *count = job->segment->size_bytes * (m->mask == 15 ? 2 : 1);
    m->symbols = epk_byte(reader) + 1;
    density = (epk_byte(reader) & 31u) * 512 + 256;
    level = epk_byte(reader) & 63u;
    grain = epk_byte(reader);
    m->size_step = (grain & 7u) < 6 ? grain & 7u : 6;
    m->shares = 1u << (grain >> 3 & 3u);
    levels = m->shares * (LEVELS >> m->size_step);
    m->filled = density;
    m->size = (uint32_t)epk_clamp(((int64_t)(4 + (level & 3u)) << (level >> 2) >> 4) * 16384 / density, 64, 128 * 64);
    m->line = epk_varint(reader);
    m->centre = epk_byte(reader);
    if (grain & GRAIN_PREDICTS) {
        m->left = epk_varint(reader);
        m->up = epk_varint(reader);
        if (m->left == 0 || m->up == 0 || m->mask == 15) return EPK_DAMAGED;
    }
    if (m->line == 0 || m->line > *count) m->line = (uint32_t)*count;
    if (reader->is_short || m->symbols < 2 || m->symbols > 129 || *count >> 32) return EPK_DAMAGED;
    m->levels = epk_take(&job->arena, levels, sizeof *m->levels);
    m->columns = epk_take(&job->arena, m->line, sizeof *m->columns);
    if (!m->levels || !m->columns) return EPK_NO_SPACE;
    for (i = 0; i < levels; i++) {
        uint32_t per_share = LEVELS >> m->size_step, at = ((i % per_share * 2 + 1) << m->size_step) / 2;
        uint32_t size = m->size_step == 6 ? m->size : (4 + (at & 3u)) << (at >> 2) >> 2;
        guess(m, &m->levels[i], size, m->shares == 1 ? m->filled : (i / per_share * 2 + 1) * 8192 / m->shares);
    }
    for (i = 0; i < m->line; i++) m->columns[i] = start_of(m);
    return EPK_OK;
}

/* Means move by 2^-rate of the way. */
static void move(running *mean, uint32_t size, int rate) {
    uint32_t filled = mean->filled, mean_size = mean->size;
    mean->filled = (uint16_t)(filled - (filled >> rate) + (size ? 16384u >> rate : 0u));
    if (size) mean->size = (uint16_t)(mean_size - (mean_size >> rate) + ((size << 6) >> rate));
}

static void put(const rans *m, uint8_t *out, size_t index, int value) {
    uint32_t code = ((uint32_t)value + m->centre) & m->mask;
    if (m->mask == 255) out[index] = (uint8_t)code;
    else out[index >> 1] |= (uint8_t)(code << (index & 1 ? 4 : 0));
}

/* Where the next value lies: its row and column, or the edges around it, choose the distribution. */
typedef struct place {
    running row;
    uint32_t column, rows;
    int row_rate, column_rate, prediction;
} place;

static distribution *look(const rans *m, const uint8_t *data, size_t index, place *at) {
    uint32_t edges;
    at->prediction = 0;
    if (!m->up) return distribution_for(m, &at->row, &m->columns[at->column]);
    at->prediction = predicted(m, data, index, &edges);
    at->row.size = (uint16_t)(edges * 32 + 32);
    return distribution_for(m, &at->row, &at->row);
}

static void advance(const rans *m, place *at, uint32_t size) {
    if (m->up) return;
    move(&at->row, size, at->row_rate);
    move(&m->columns[at->column], size, at->column_rate);
    if (at->row_rate < RATE && at->column >> at->row_rate) at->row_rate++;
    if (++at->column < m->line) return;
    at->column = 0;
    at->row = start_of(m);
    at->row_rate = 2;
    if (at->column_rate < RATE && ++at->rows >> at->column_rate) at->column_rate++;
}

static place first_place(const rans *m) {
    place at = {{0, 0}, 0, 0, 2, 2, 0};
    at.row = start_of(m);
    return at;
}

static int decode(rans *m, epk_job *job, size_t count) {
    place at = first_place(m);
    size_t i;
    m->in = job->in;
    m->end = job->in + job->in_size;
    for (i = 0; i < 2; i++) {
        uint32_t byte;
        for (byte = 0; byte < 4; byte++) m->state[i] |= (m->in < m->end ? *m->in++ : 0u) << (8 * byte);
    }
    if (m->mask == 15) memset(job->out, 0, job->segment->size_bytes);
    for (i = 0; i < count; i++) {
        distribution *d = look(m, job->out, i, &at);
        uint32_t size;
        int value = next_value(m, d, (int)(i & 1), &size);
        put(m, job->out, i, m->up ? value + at.prediction + 128 : value);
        learn(m, d, size);
        advance(m, &at, size);
    }
    return m->in == m->end ? EPK_OK : EPK_DAMAGED;
}

#ifdef EPK_ENCODER
#include <stdlib.h>

typedef struct choice {
    uint16_t start, width, sign; /* sign: 2 for none */
} choice;

static int value_in(const rans *m, const uint8_t *data, size_t index) {
    uint32_t code = m->mask == 255 ? data[index] : data[index >> 1] >> (index & 1 ? 4 : 0) & 15u;
    uint32_t value = (code - m->centre) & m->mask; /* the upper half is negative */
    return value > m->mask / 2 ? (int)value - (int)m->mask - 1 : (int)value;
}

static int choose(rans *m, const uint8_t *data, size_t count, choice *choices) {
    place at = first_place(m);
    size_t i;
    for (i = 0; i < count; i++) {
        distribution *d = look(m, data, i, &at);
        int value = m->up ? (int)((uint32_t)(sample(m, data, i) - at.prediction + 128) & 255u) - 128 : value_in(m, data, i);
        uint32_t size = (uint32_t)(value < 0 ? -value : value);
        if (size >= m->symbols) return EPK_DAMAGED;
        choices[i].start = (uint16_t)d->start[size];
        choices[i].width = (uint16_t)(d->start[size + 1] - d->start[size]);
        choices[i].sign = size == 0 ? 2 : value < 0;
        learn(m, d, size);
        advance(m, &at, size);
    }
    return EPK_OK;
}

/* The state with room for a symbol of this width. */
static uint32_t emptied(uint32_t state, uint32_t width, uint8_t **at) {
    if (state < (uint64_t)width << 16) return state;
    *--*at = (uint8_t)(state >> 8);
    *--*at = (uint8_t)state;
    return state >> 16;
}

static int write_backwards(rans *m, epk_job *job, const choice *choices, size_t count) {
    uint8_t *at = job->payload + job->payload_size;
    size_t i;
    m->state[0] = m->state[1] = TOTAL;
    for (i = count; i-- > 0;) {
        uint32_t state = m->state[i & 1], width = choices[i].width;
        if (at - job->payload < 16) return EPK_NO_SPACE;
        if (choices[i].sign < 2) state = emptied(state, 1u << 15, &at) << 1 | choices[i].sign;
        state = emptied(state, width, &at);
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
