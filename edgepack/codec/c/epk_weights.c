/* Coders `adaptive` and `mix`: quantized weights, line by line, each predicted from those before it.
 *
 * A value is coded as: zero? sign, magnitude - 1 from its highest bit down. Each of these bits is predicted by
 * counters in several contexts (running densities and magnitudes of its row and column, its neighbours, its place),
 * which `mix` mixes, while `adaptive` takes one of them.
 */
#include "epk_internal.h"

#define LEVELS 64 /* of epk_log4 */
#define ZERO_CONTEXTS 13
#define SIGN_CONTEXTS 9
#define TREE_CONTEXTS 13
#define UPPER_BITS 3   /* of a magnitude, which all contexts predict; */
#define LOWER_CONTEXTS 5 /* the bits below have little to learn from: so many do */
#define CHANGES_PRIOR 12 /* changes of a base that the first guess of their share counts for */
#define SEEN_PRIOR 18 /* how much the first guess of a magnitude's bit is believed */

enum { FLAG_TRANSPOSED = 1, FLAG_INNER = 2, FLAG_GROUP = 4, FLAG_PALETTE = 8, FLAG_CENTRE = 16, FLAG_BASE = 32 };

static const uint32_t ZERO_SIZES[ZERO_CONTEXTS] = {1, 64, 64, 64, 256, 64, 1024, 2048, 64, 64, 256, 1024, 512};
static const uint32_t SIGN_SIZES[SIGN_CONTEXTS] = {1, 9, 9, 81, 27, 96, 27, 9, 27};
static const uint32_t TREE_SIZES[TREE_CONTEXTS] = {1, 64, 64, 64, 64, 64, 64, 1024, 1024, 256, 64, 512, 64};

/* What is known of a column: of its values so far. */
typedef struct column {
    uint32_t count, nonzero, sum, signs;
} column;

typedef struct model {
    epk_mixer mixer;
    int is_mixing;
    /* the view */
    uint32_t flags, line, lines, stride, inner, group, bits, mask;
    size_t count;
    int16_t value_of[256]; /* from a code to what it means: an integer around 0 */
    uint8_t code_of[512];  /* and back, from 256 + value */
    uint32_t mean, density, largest; /* of magnitudes, 2^-8; of nonzeros, 2^-12; the largest magnitude that fits */
    uint32_t few_in_row, few_in_column; /* how many values the first guesses count for */
    const uint8_t *base;
    uint8_t *out;
    /* the predictions */
    uint32_t *zero[ZERO_CONTEXTS], *sign[SIGN_CONTEXTS], *tree[TREE_CONTEXTS];
    column *columns;
} model;

/* The neighbourhood of the value to be coded. */
typedef struct around {
    int left, left2, up, up2, up_left, up_right, in, in2; /* values; in: one kernel position before */
    uint32_t density, row_density, column_density;        /* 2^-12 */
    uint32_t mean, row_mean, column_mean;                 /* of nonzero magnitudes, 2^-8 */
    uint32_t near, near2, all;                            /* mean magnitudes around, and expected, 2^-8 */
    uint32_t place, has_largest, smallest, base_sign, kernel;
    uint32_t base_level; /* of the mean magnitude of the base's line, in eighth octaves */
} around;

static uint32_t code_at(const model *m, const uint8_t *data, size_t index) {
    if (m->mask == 255) return data[index];
    return ((uint32_t)data[index >> 1] >> (index & 1 ? 4 : 0)) & 15u;
}

static size_t index_of(const model *m, uint32_t row, uint32_t at) {
    return m->flags & FLAG_TRANSPOSED ? (size_t)at * m->stride + row : (size_t)row * m->line + at;
}

static int value_at(const model *m, size_t index) {
    uint32_t code = code_at(m, m->out, index);
    if (m->base) code = (code - code_at(m, m->base, index)) & m->mask;
    return m->value_of[code];
}

/* ---- parameters ---- */

static int read_palette(model *m, epk_reader *reader) {
    uint32_t count = epk_byte(reader) + 1, centre = epk_byte(reader), i;
    if (count > 128 || count > m->mask + 1 || centre >= count) return EPK_DAMAGED;
    for (i = 0; i < count; i++) {
        uint32_t code = epk_byte(reader) & m->mask;
        m->value_of[code] = (int16_t)((int)i - (int)centre);
        m->code_of[256 + (int)i - (int)centre] = (uint8_t)code;
    }
    for (i = count - centre; i < 256; i++) m->code_of[256 + i] = m->code_of[255 + count - centre];
    for (i = centre + 1; i <= 256; i++) m->code_of[256 - i] = m->code_of[256 - centre];
    return EPK_OK;
}

static void number_codes(model *m, uint32_t centre) {
    int half = m->mask == 255 ? 128 : 8, value;
    for (value = -256; value < 256; value++) {
        uint32_t code = (uint32_t)(value + (int)centre) & m->mask;
        m->code_of[256 + value] = (uint8_t)code;
        if (value >= -half && value < half) m->value_of[code] = (int16_t)value;
    }
}

static int read_params(model *m, epk_job *job) {
    epk_reader *reader = &job->params;
    int kind = job->segment->kind;
    uint32_t second, level, cols, centre = kind == EPK_U8 ? 128 : kind == EPK_U4 ? 8 : 0;
    m->mask = kind == EPK_I4 || kind == EPK_U4 ? 15 : 255;
    m->count = job->segment->size_bytes * (m->mask == 15 ? 2 : 1);
    m->flags = epk_byte(reader);
    second = epk_byte(reader);
    m->bits = second & 7u;
    m->density = (second >> 3) * 128 + 64;
    level = epk_byte(reader) & 63u;
    m->mean = (4 + (level & 3u)) << (level >> 2) >> 2;
    cols = epk_varint(reader);
    if (cols == 0 || cols > m->count) cols = (uint32_t)m->count;
    m->inner = m->flags & FLAG_INNER ? epk_varint(reader) : 0;
    m->group = m->flags & FLAG_GROUP ? epk_varint(reader) : 0;
    if (m->flags & FLAG_CENTRE) centre = epk_byte(reader);
    if (m->flags & FLAG_BASE) centre = 0;
    number_codes(m, centre);
    m->base = m->flags & FLAG_BASE ? job->base : NULL;
    if (m->flags & FLAG_PALETTE && read_palette(m, reader) != EPK_OK) return EPK_DAMAGED;
    if (m->inner >> 30 || m->group >> 30) return EPK_DAMAGED;
    if (reader->is_short || m->count >> 32 || (m->flags & FLAG_BASE && (!job->base || m->flags & FLAG_PALETTE)))
        return EPK_DAMAGED;
    /* The largest magnitude is told by its number of bits; the odd ones lie one below. */
    m->largest = (1u << m->bits) - 1;
    /* Changes of a base are few, and about as many everywhere. */
    m->few_in_row = m->base ? CHANGES_PRIOR * 4096 / m->density : 4;
    m->few_in_column = m->base ? m->few_in_row : 2;
    m->line = cols;
    m->stride = 1;
    m->lines = (uint32_t)((m->count + cols - 1) / cols);
    if (m->flags & FLAG_TRANSPOSED) {
        if (m->count % cols) return EPK_DAMAGED;
        m->stride = cols;
        m->line = m->lines;
        m->lines = cols;
    }
    return EPK_OK;
}

/* ---- first guesses ---- */

/* A magnitude's bit of weight 2^at where the mean magnitude is `mean`: the half of a geometric distribution. */
static uint32_t first_guess(const epk_tables *tables, uint32_t mean, int at) {
    int64_t stretched = -(((int64_t)65536 << at) / (mean ? mean : 1));
    uint32_t one = tables->squash[EPK_STRETCH_MAX + epk_clamp(stretched, -EPK_STRETCH_MAX, EPK_STRETCH_MAX)];
    return EPK_COUNTER(one < 64 ? 64 : one, SEEN_PRIOR);
}

static void guess_tree(model *m, uint32_t *nodes, uint32_t mean) {
    uint32_t node, next = 1;
    int at = (int)m->bits - 1;
    for (node = 1; at >= 0; at--) {
        uint32_t guess = first_guess(m->mixer.tables, mean, at);
        for (next *= 2; node < next; node++) nodes[node] = guess;
    }
}

static uint32_t mean_of_level(uint32_t level) {
    uint32_t mean = (4 + (level & 3u)) << (level >> 2) >> 2;
    return mean + (mean >> 3);
}

static int make_tables(model *m, epk_job *job) {
    uint32_t i, k, size = 1u << m->bits;
    uint32_t nonzero_mean = m->mean * 4096 / m->density;
    for (k = 0; k < ZERO_CONTEXTS; k++) {
        if (!(m->zero[k] = epk_take(&job->arena, ZERO_SIZES[k], 4))) return EPK_NO_SPACE;
        for (i = 0; i < ZERO_SIZES[k]; i++) m->zero[k][i] = EPK_COUNTER((4096 - m->density) * 15 + 2048, 4);
    }
    for (k = 0; k < SIGN_CONTEXTS; k++) {
        if (!(m->sign[k] = epk_take(&job->arena, SIGN_SIZES[k], 4))) return EPK_NO_SPACE;
        for (i = 0; i < SIGN_SIZES[k]; i++) m->sign[k][i] = EPK_COUNTER(32768, 0);
    }
    for (k = 0; k < TREE_CONTEXTS; k++) {
        if (!(m->tree[k] = epk_take(&job->arena, (size_t)TREE_SIZES[k] * size, 4))) return EPK_NO_SPACE;
        for (i = 0; i < TREE_SIZES[k]; i++) {
            uint32_t mean = nonzero_mean;
            if ((k >= 1 && k <= 3) || k == 5 || k == 6) mean = mean_of_level(i);
            if (k == 7 || k == 11) mean = mean_of_level(i % 32 * 2);
            guess_tree(m, m->tree[k] + i * size, mean);
        }
    }
    m->columns = epk_take(&job->arena, m->line, sizeof *m->columns);
    if (!m->columns) return EPK_NO_SPACE;
    memset(m->columns, 0, m->line * sizeof *m->columns);
    return EPK_OK;
}

/* ---- contexts ---- */

static uint32_t magnitude(int value) { return (uint32_t)(value < 0 ? -value : value); }
static uint32_t sign_of(int value) { return value < 0 ? 0u : value == 0 ? 1u : 2u; }
static uint32_t at_most(uint32_t value, uint32_t highest) { return value < highest ? value : highest; }

/* 0 … 15, in half octaves. */
static uint32_t size_level(int value) { return at_most((uint32_t)epk_log4(magnitude(value) * 4 + 1) / 2, 15); }

/* Densities finely near 0 and near 1. */
static uint32_t density_level(uint32_t density) {
    return density < 2048 ? at_most((uint32_t)epk_log4(density + 1) * 3 / 4, 31)
                          : 63 - at_most((uint32_t)epk_log4(4097 - density) * 3 / 4, 31);
}

static void zero_contexts(const model *m, const around *a, uint32_t *at) {
    uint32_t near = (uint32_t)epk_log4(a->near + 16), near2 = (uint32_t)epk_log4(a->near2 + 16);
    uint32_t around6 = (a->left != 0) | (uint32_t)(a->left2 != 0) << 1 | (uint32_t)(a->up != 0) << 2 |
                       (uint32_t)(a->up2 != 0) << 3 | (uint32_t)(a->up_left != 0) << 4 |
                       (uint32_t)(a->up_right != 0) << 5;
    uint32_t inner2 = (a->in != 0) | (uint32_t)(a->in2 != 0) << 1;
    uint32_t level = density_level(a->density);
    at[0] = 0;
    at[1] = density_level(a->row_density);
    at[2] = density_level(a->column_density);
    at[3] = level;
    at[4] = around6 | inner2 << 6;
    at[5] = near;
    at[6] = m->base ? a->base_level / 2 * 32 + density_level(a->row_density) / 2 : level / 2 * 32 + near / 2;
    at[7] = a->kernel * 64 + density_level(a->column_density);
    at[8] = near2;
    at[9] = (uint32_t)epk_log4(a->all);
    at[10] = m->base ? a->base_level : at_most(a->place, 127) | a->has_largest << 7;
    at[11] = (level / 4 * 16 + at_most(magnitude(a->left), 3) * 4 + at_most(magnitude(a->up), 3)) * 4 + inner2;
    at[12] = (uint32_t)epk_log4(a->smallest * 256) * 8 + (around6 & 7u);
}

static void sign_contexts(const around *a, uint32_t signs, uint32_t *at) {
    uint32_t left = sign_of(a->left), up = sign_of(a->up), in = sign_of(a->in);
    at[0] = 0;
    at[1] = left * 3 + up;
    at[2] = in * 3 + left;
    at[3] = signs % 81;
    at[4] = up * 9 + sign_of(a->up2) * 3 + left;
    at[5] = a->kernel * 3 + in;
    at[6] = left * 9 + sign_of(a->left2) * 3 + in;
    at[7] = a->base_sign * 3 + left;
    at[8] = in * 9 + sign_of(a->in2) * 3 + up;
}

static void tree_contexts(const model *m, const around *a, uint32_t *at) {
    uint32_t near = (uint32_t)epk_log4(a->near + 16), level = (uint32_t)epk_log4(a->mean);
    at[0] = 0;
    at[1] = (uint32_t)epk_log4(a->row_mean);
    at[2] = (uint32_t)epk_log4(a->column_mean);
    at[3] = level;
    at[4] = at_most(a->smallest, 63);
    at[5] = near;
    at[6] = (uint32_t)epk_log4(a->near2 + 16);
    at[7] = near / 2 * 32 + level / 2;
    at[8] = a->kernel * 32 + at[2] / 2;
    at[9] = size_level(a->left) * 16 + size_level(a->up);
    at[10] = m->base ? a->base_level : a->has_largest * 32 + at_most(a->place, 31);
    at[11] = size_level(a->in) * 32 + level / 2;
    at[12] = (uint32_t)epk_log4(a->all);
}

static int code_bit(model *m, int first, int second, int bit) {
    epk_mixer *mixer = &m->mixer;
    uint32_t *slot = mixer->slots[0], one;
    if (m->is_mixing) return epk_mix_bit(mixer, first, second, bit);
    one = *slot >> 16;
    bit = epk_arith_bit(&mixer->arith, one < 16 ? 16 : one > 65520 ? 65520 : one, bit);
    *slot = epk_counter_next(mixer->tables, *slot, bit, mixer->limit);
    return bit;
}

/* What changes of a base are predicted by: the more predict, the more is to be learned, and there is little to learn from. */
static const uint8_t ZERO_ON_BASE[4] = {1, 2, 6, 10}, SIGN_ON_BASE[2] = {0, 7}, TREE_ON_BASE[4] = {0, 1, 2, 10};

/* `chosen`: with a base only `chosen_count` of the contexts are mixed. */
static void use(model *m, uint32_t *const *tables, const uint32_t *at, int count, int only, const uint8_t *chosen,
                int chosen_count) {
    int i;
    m->mixer.inputs = m->base ? chosen_count : count;
    for (i = 0; i < m->mixer.inputs; i++) {
        int context = m->base ? chosen[i] : i;
        m->mixer.slots[i] = tables[context] + at[context];
    }
    if (!m->is_mixing) m->mixer.slots[0] = tables[only] + at[only];
}

enum { SET_ZERO = 0, SET_SIGN = 1, SET_NODES = 2, SET_LEVELS = 44, SETS = SET_LEVELS + 10 * 16 };

static uint32_t code_magnitude(model *m, const around *a, int level_set, uint32_t known) {
    uint32_t at[TREE_CONTEXTS], node = 1, size = 1u << m->bits;
    int bit_at, i;
    if (m->bits == 0) return 1;
    tree_contexts(m, a, at);
    for (i = 0; i < TREE_CONTEXTS; i++) at[i] *= size;
    for (bit_at = (int)m->bits - 1; bit_at >= 0; bit_at--) {
        uint32_t *slots[TREE_CONTEXTS];
        for (i = 0; i < TREE_CONTEXTS; i++) slots[i] = m->tree[i] + node;
        use(m, slots, at, (int)m->bits - bit_at > UPPER_BITS ? LOWER_CONTEXTS : TREE_CONTEXTS, 3, TREE_ON_BASE, 4);
        node = node * 2 + (uint32_t)code_bit(m, SET_NODES + (node < 32 ? (int)node : 32 + bit_at),
                                             SET_LEVELS + (2 + bit_at) * 16 + level_set,
                                             (int)((known - 1) >> bit_at & 1u));
    }
    return node - size + 1;
}

/* Codes one value; `known` is what an encoder codes. */
static int code_value(model *m, const around *a, column *col, int known) {
    uint32_t zero_at[ZERO_CONTEXTS], sign_at[SIGN_CONTEXTS], size;
    int level_set = (int)at_most((uint32_t)epk_log4(a->all) / 4, 15), is_positive;
    zero_contexts(m, a, zero_at);
    use(m, m->zero, zero_at, ZERO_CONTEXTS, 6, ZERO_ON_BASE, 4);
    if (code_bit(m, SET_ZERO, SET_LEVELS + level_set, known == 0)) return 0;
    sign_contexts(a, col->signs, sign_at);
    use(m, m->sign, sign_at, SIGN_CONTEXTS, m->base ? 7 : 1, SIGN_ON_BASE, 2);
    is_positive = code_bit(m, SET_SIGN, SET_LEVELS + 16 + (int)(sign_of(a->up) * 3 + sign_of(a->left)), known > 0);
    size = code_magnitude(m, a, level_set, magnitude(known));
    return is_positive ? (int)size : -(int)size;
}

/* ---- what is around ---- */

typedef struct row {
    uint32_t sum, nonzero, expected_sum, expected_nonzero, largest, smallest;
} row;

/* (sum + few * usual) / (expected + few * usual): how far a row lies from what its columns let expect, 2^-12. */
static uint32_t factor(uint32_t sum, uint32_t expected, uint32_t usual, uint32_t count) {
    uint64_t few = (uint64_t)usual * count;
    uint64_t ratio = (((uint64_t)sum + few) << 12) / ((uint64_t)expected + few);
    return ratio < 1 << 16 ? (uint32_t)ratio : 1 << 16;
}

static uint32_t column_mean(const model *m, const column *col) {
    uint32_t few = m->few_in_column;
    return (uint32_t)(((uint64_t)col->sum * 256 + (uint64_t)m->mean * few) / (col->count + few));
}

static void look_at_lines(const model *m, const row *line, const column *col, around *a) {
    uint32_t column_all = column_mean(m, col), few = m->few_in_column;
    uint32_t row_factor = factor(line->sum * 256, line->expected_sum, m->mean, 4), filled;
    a->column_density = (uint32_t)((col->nonzero * 4096 + m->density * few) / (col->count + few));
    filled = factor(line->nonzero * 4096, line->expected_nonzero, m->density, m->few_in_row);
    a->density = at_most((uint32_t)((uint64_t)filled * a->column_density >> 12), 4095);
    a->row_density = at_most((uint32_t)((uint64_t)filled * m->density >> 12), 4095);
    a->all = (uint32_t)((uint64_t)row_factor * column_all >> 12);
    a->mean = at_most((uint32_t)(((uint64_t)a->all << 12) / (a->density + 1)), 65535);
    a->row_mean = at_most((uint32_t)(((uint64_t)row_factor * m->mean) / (a->row_density + 1)), 65535);
    a->column_mean = at_most((uint32_t)(((uint64_t)column_all << 12) / (a->column_density + 1)), 65535);
    a->all = at_most(a->all, 65535);
}

static int base_value(const model *m, size_t index) {
    int code = (int)code_at(m, m->base, index), size = (int)m->mask + 1;
    return code >= size / 2 ? code - size : code;
}

static uint32_t base_level(const model *m, uint32_t r) {
    uint64_t sum = 0;
    uint32_t c;
    for (c = 0; c < m->line && index_of(m, r, c) < m->count; c++) sum += magnitude(base_value(m, index_of(m, r, c)));
    sum = c ? sum * 16 / c : 0;
    sum = (uint32_t)epk_log4((uint32_t)(sum * sum));
    return at_most(sum > 32 ? (uint32_t)sum - 32 : 0, 63);
}

static void look_at_neighbours(const model *m, uint32_t r, uint32_t c, size_t index, around *a) {
    size_t up = m->flags & FLAG_TRANSPOSED ? 1 : m->line, left = m->flags & FLAG_TRANSPOSED ? m->stride : 1;
    a->up_left = r > 0 && c > 0 ? a->up : 0;
    a->up = r > 0 ? (c > 0 ? a->up_right : value_at(m, index - up)) : 0;
    a->up_right = r > 0 && c + 1 < m->line ? value_at(m, index - up + left) : 0;
    a->up2 = r > 1 ? value_at(m, index - 2 * up) : 0;
    a->in = m->inner && c >= m->inner ? value_at(m, index - m->inner * left) : 0;
    a->in2 = m->inner && c >= 2 * m->inner ? value_at(m, index - 2 * m->inner * left) : 0;
    a->kernel = m->inner ? at_most(c / m->inner, 31) : 0;
    a->near = (2 * magnitude(a->left) + magnitude(a->left2) + 2 * magnitude(a->up) + magnitude(a->up2)) * 43;
    a->near2 = (magnitude(a->left) + magnitude(a->up) + magnitude(a->in) + magnitude(a->up_left) +
                magnitude(a->up_right)) * 51;
    a->base_sign = sign_of(m->base ? base_value(m, index) : 0);
}

static void learn_value(model *m, row *line, column *col, around *a, int value) {
    uint32_t size = magnitude(value);
    line->sum += size;
    line->nonzero += size != 0;
    line->expected_sum += column_mean(m, col);
    line->expected_nonzero += a->column_density;
    if (size > line->largest) line->largest = size;
    if (size && size < line->smallest) line->smallest = size;
    col->sum += size;
    col->nonzero += size != 0;
    if (++col->count >= 1020) {
        col->count /= 2;
        col->sum /= 2;
        col->nonzero /= 2;
    }
    col->signs = (col->signs * 3 + sign_of(value)) % 81;
    a->left2 = a->left;
    a->left = value;
    if (line->sum >> 20 || line->expected_sum >> 30 || line->expected_nonzero >> 30) {
        line->sum /= 2;
        line->nonzero /= 2;
        line->expected_sum /= 2;
        line->expected_nonzero /= 2;
    }
}

static void put_value(model *m, size_t index, int value) {
    uint32_t code = m->code_of[256 + value];
    if (m->base) code = (code + code_at(m, m->base, index)) & m->mask;
    if (m->mask == 255) m->out[index] = (uint8_t)code;
    else m->out[index >> 1] |= (uint8_t)(code << (index & 1 ? 4 : 0));
}

static void code_line(model *m, uint32_t r, int is_encoding) {
    row line = {0, 0, 0, 0, 0, 128};
    around a;
    uint32_t c, in_group = 0;
    memset(&a, 0, sizeof a);
    a.base_level = m->base ? base_level(m, r) : 0;
    for (c = 0; c < m->line; c++) {
        size_t index = index_of(m, r, c);
        int value;
        if (index >= m->count) return; /* the last line may be shorter */
        if (m->group && in_group == m->group) {
            in_group = 0;
            line.largest = 0;
        }
        look_at_neighbours(m, r, c, index, &a);
        look_at_lines(m, &line, &m->columns[c], &a);
        a.has_largest = line.largest >= m->largest;
        a.place = m->group ? m->group - 1 - in_group : m->line - 1 - c;
        a.smallest = line.smallest;
        value = code_value(m, &a, &m->columns[c], is_encoding ? value_at(m, index) : 0);
        if (!is_encoding) put_value(m, index, value);
        learn_value(m, &line, &m->columns[c], &a, value);
        in_group++;
    }
}

int epk_code_weights(epk_job *job, int is_mixing) {
    model m;
    epk_tables *tables = epk_take(&job->arena, 1, sizeof *tables);
    uint32_t r;
    int status;
    memset(&m, 0, sizeof m);
    m.out = job->out;
    m.is_mixing = is_mixing;
    m.mixer.weights = epk_take(&job->arena, SETS * EPK_INPUTS_MAX, 4);
    m.mixer.uses = epk_take(&job->arena, SETS, 2);
    m.mixer.tables = tables;
    if (!tables || !m.mixer.weights || !m.mixer.uses) return EPK_NO_SPACE;
    epk_make_tables(tables);
    if ((status = read_params(&m, job)) != EPK_OK || (status = make_tables(&m, job)) != EPK_OK) return status;
    m.mixer.limit = is_mixing || m.base ? 1000 : 127;
    m.mixer.rate_lowest = m.base ? 1 : 2;
    epk_mixer_start(&m.mixer, SETS, 65536 * (m.base ? 27 : 9) / 100);
    epk_job_arith(job, &m.mixer.arith);
    if (!EPK_IS_ENCODING(job)) memset(m.out, 0, job->segment->size_bytes);
    for (r = 0; r < m.lines; r++) code_line(&m, r, EPK_IS_ENCODING(job));
    return epk_job_done(job, &m.mixer.arith);
}
