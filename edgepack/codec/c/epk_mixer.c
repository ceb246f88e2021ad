/* Tables and the mixing of predictions. The two sets of a bit are never the same: coders take them from different ranges. */
#include "epk_internal.h"

void epk_make_tables(epk_tables *tables) {
    uint64_t power = (uint64_t)1 << 31; /* 2^31 * exp(-x / 256) */
    int x, i;
    for (x = 0; x <= EPK_STRETCH_MAX; x++) {
        uint32_t one = (uint32_t)(((uint64_t)1 << 47) / (((uint64_t)1 << 31) + power));
        if (one > 65535) one = 65535;
        tables->squash[EPK_STRETCH_MAX + x] = (uint16_t)one;
        tables->squash[EPK_STRETCH_MAX - x] = (uint16_t)(65536 - one);
        power = power * 4278222819u >> 32; /* 2^32 * exp(-1 / 256) */
    }
    for (x = -EPK_STRETCH_MAX, i = 0; i < 4096; i++) {
        while (x < EPK_STRETCH_MAX && tables->squash[EPK_STRETCH_MAX + x] < 16 * i + 8) x++;
        tables->stretch[i] = (int16_t)x;
    }
    for (i = 0; i < 1024; i++) {
        tables->step[i] = (uint16_t)(65536 / (2 * i + 3));
        tables->trust[i] = (uint16_t)(256 * (i + 1) / (i + 3));
    }
}

void epk_mixer_start(epk_mixer *mixer, int sets, int32_t weight) {
    int i;
    for (i = 0; i < sets * EPK_INPUTS_MAX; i++) mixer->weights[i] = weight;
    memset(mixer->uses, 0, (size_t)sets * sizeof *mixer->uses);
}

/* What one set of weights makes of the inputs, and what it learns by. */
typedef struct opinion {
    int32_t *weights;
    int32_t stretched, scaled_error;
} opinion;

static void weigh(opinion *one, opinion *other, const int32_t *inputs, int count) {
    int64_t sum = 0, other_sum = 0;
    int i;
    for (i = 0; i < count; i++) {
        sum += (int64_t)one->weights[i] * inputs[i];
        other_sum += (int64_t)other->weights[i] * inputs[i];
    }
    one->stretched = epk_clamp(epk_shift_right_64(sum, 16), -EPK_STRETCH_MAX, EPK_STRETCH_MAX);
    other->stretched = epk_clamp(epk_shift_right_64(other_sum, 16), -EPK_STRETCH_MAX, EPK_STRETCH_MAX);
}

#define RATE_FIRST 48
#define WEIGHT_MAX (1 << 22)

/* The rate falls with the use of the set. */
static void scale_error(epk_mixer *mixer, opinion *one, int set, int bit) {
    int32_t error = (bit ? 65535 : 0) - (int32_t)mixer->tables->squash[EPK_STRETCH_MAX + one->stretched];
    uint32_t uses = mixer->uses[set];
    one->scaled_error = error * (mixer->rate_lowest + RATE_FIRST * 16 / (16 + (int32_t)(uses >> 6)));
    if (uses < 65535) mixer->uses[set] = (uint16_t)(uses + 1);
}

static int32_t learnt(int32_t weight, int32_t input, int32_t scaled_error) {
    int64_t change = epk_shift_right_64((int64_t)input * scaled_error + (1 << 19), 20);
    return epk_clamp(weight + change, -WEIGHT_MAX, WEIGHT_MAX);
}

/* The counter that tells what the state of input `i`'s counter has meant so far. */
static uint32_t *meaning(const epk_mixer *mixer, int i, uint32_t counter) {
    uint32_t seen = counter & 1023u, step = seen < 4 ? seen : (uint32_t)epk_log4(seen) / 2;
    uint32_t p = (uint32_t)(mixer->tables->stretch[counter >> 20] + EPK_STRETCH_MAX) * 64 / (2 * EPK_STRETCH_MAX + 1);
    return mixer->maps + i * EPK_MAP + (step < 15 ? step : 15) * 64 + p;
}

void epk_mixer_start_maps(epk_mixer *mixer, int inputs) {
    int i;
    for (i = 0; i < inputs * EPK_MAP; i++) {
        int at = (i % 64 * 2 + 1) * (2 * EPK_STRETCH_MAX + 1) / 128; /* the middle of its probabilities */
        mixer->maps[i] = EPK_COUNTER(mixer->tables->squash[at], 20);
    }
}

int epk_mix_bit(epk_mixer *mixer, int first, int second, int bit) {
    const epk_tables *tables = mixer->tables;
    int32_t inputs[EPK_INPUTS_MAX];
    uint32_t *maps[EPK_INPUTS_MAX];
    opinion one = {mixer->weights + first * EPK_INPUTS_MAX, 0, 0}, other = {mixer->weights + second * EPK_INPUTS_MAX, 0, 0};
    uint32_t p;
    int count = mixer->inputs, i;
    for (i = 0; i < count; i++) {
        uint32_t counter = *mixer->slots[i];
        if (mixer->maps) {
            maps[i] = meaning(mixer, i, counter);
            inputs[i] = tables->stretch[*maps[i] >> 20];
            continue;
        }
        inputs[i] = epk_shift_right(tables->stretch[counter >> 20] * (int32_t)tables->trust[counter & 1023u], 8);
    }
    inputs[count++] = 256;
    weigh(&one, &other, inputs, count);
    p = tables->squash[EPK_STRETCH_MAX + epk_shift_right(one.stretched + other.stretched, 1)];
    bit = epk_arith_bit(&mixer->arith, p < 4 ? 4 : p > 65532 ? 65532 : p, bit);
    scale_error(mixer, &one, first, bit);
    scale_error(mixer, &other, second, bit);
    for (i = 0; i < count; i++) {
        one.weights[i] = learnt(one.weights[i], inputs[i], one.scaled_error);
        other.weights[i] = learnt(other.weights[i], inputs[i], other.scaled_error);
    }
    for (i = 0; mixer->maps && i < mixer->inputs; i++) *maps[i] = epk_counter_next(tables, *maps[i], bit, 1000);
    for (i = 0; i < mixer->inputs; i++)
        *mixer->slots[i] = epk_counter_next(tables, *mixer->slots[i], bit, mixer->limit);
    return bit;
}
