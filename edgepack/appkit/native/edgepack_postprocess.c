#include "edgepack_postprocess.h"

#include <float.h>
#include <math.h>

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float arithmetic must be that of float and double (32-bit x86: compile with -msse2 -mfpmath=sse)"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define DEFINE_DEQUANTIZE(name, type)                                                                     \
    void name(const type *codes, size_t count, float scale, int32_t zero_point, float *values) {          \
        for (size_t i = 0; i < count; i++) values[i] = scale * (float)((int32_t)codes[i] - zero_point);   \
    }

DEFINE_DEQUANTIZE(epp_dequantize_i8, int8_t)
DEFINE_DEQUANTIZE(epp_dequantize_u8, uint8_t)
DEFINE_DEQUANTIZE(epp_dequantize_i16, int16_t)

/* e^x for x <= 0, the same bits on every machine: x = n ln 2 + r, a polynomial in r, times 2^n. 0 where x < -708, NaN of NaN. */
static double exp_not_positive(double x) {
    /* 1/k! for k = 13 down to 0 */
    static const double factorial[] = {6227020800.0, 479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0,
                                       720.0,        120.0,       24.0,       6.0,       2.0,      1.0,     1.0};
    double n, high, low, r, p;
    if (x < -708.0) return 0.0;
    if (isnan(x)) return x;
    n = floor(x * 1.4426950408889634 + 0.5);
    high = n * 6.93147180369123816490e-01;
    low = n * 1.90821492927058770002e-10;
    r = (x - high) - low;
    p = 1.0 / factorial[0];
    for (int k = 1; k < 14; k++) {
        double product = p * r;
        p = product + 1.0 / factorial[k];
    }
    return ldexp(p, (int)n);
}

void epp_softmax(float *values, size_t count) {
    double largest, sum = 0.0;
    if (count == 0) return;
    largest = values[0];
    for (size_t i = 1; i < count; i++) {
        if (values[i] > largest || isnan(values[i])) largest = values[i]; /* one NaN makes all shares NaN */
    }
    for (size_t i = 0; i < count; i++) sum += exp_not_positive(values[i] - largest);
    for (size_t i = 0; i < count; i++) values[i] = (float)(exp_not_positive(values[i] - largest) / sum);
}

void epp_sigmoid(float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double x = values[i], small = exp_not_positive(-fabs(x)), whole = 1.0 + small;
        values[i] = (float)((x >= 0.0 ? 1.0 : small) / whole);
    }
}

size_t epp_top_k(const float *scores, size_t count, size_t k, double threshold, epp_score *best) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        size_t place = found;
        if (!((double)scores[i] >= threshold) || k == 0) continue;
        while (place > 0 && best[place - 1].score < scores[i]) place--;
        if (place == k) continue;
        if (found < k) found++;
        for (size_t j = found - 1; j > place; j--) best[j] = best[j - 1];
        best[place].index = i;
        best[place].score = scores[i];
    }
    return found;
}
