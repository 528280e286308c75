/* exp, log and what is made of them, for vectors. The bounds are tested, see tests/native_engine/test_native_functions.py.

   The logarithm's coefficients are those of fdlibm (Sun Microsystems, 1993). Those of exp in float make the largest error
   over |r| <= log(2) / 2 least: 3.7e-9 of exp(r); found by Lawson's iteration, with one rounded after the other. */
#ifndef RECURRAY_FUNCTIONS_H
#define RECURRAY_FUNCTIONS_H

#include "vector.h"

#if DOUBLE
#define SHIFT 52
#define BIAS 1023
#define ROUNDING 6755399441055744.0 /* 1.5 * 2^52: adding it rounds to a whole number, which is in the low bits */
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#define LOG2_E 1.4426950408889634
#define EXP_MOST 710.0    /* exp is infinite from here */
#define EXP_LEAST (-750.0) /* and 0 from here */
#define FAINT (-708.396)
#define WHOLE 40.0         /* exp(-WHOLE) is nothing beside 1 */
#define SMALLEST 2.2250738585072014e-308
#define HALF_ROOT 0x3fe6a09e00000000ll /* about sqrt(1/2) */
#else
#define SHIFT 23
#define BIAS 127
#define ROUNDING 12582912.0f
#define LN2_HIGH 6.9314575195e-01f
#define LN2_LOW 1.4286067653e-06f
#define LOG2_E 1.44269504f
#define EXP_MOST 89.0f
#define EXP_LEAST (-104.0f)
#define FAINT (-87.3365f)
#define WHOLE 18.0f
#define SMALLEST 1.17549435e-38f
#define HALF_ROOT 0x3f3504f3
#endif

INLINE Vector magnitude(Vector x) { return (Vector)(bits(x) & ~bits(all((real)-0.0))); }

/* 2^n for whole n from -BIAS, which gives 0, to BIAS. */
INLINE Vector power_of_two(Integers n) { return (Vector)((n + BIAS) << SHIFT); }

typedef struct { Vector less_one; Integers n; } Reduced; /* exp(x) = 2^n (1 + less_one) */

INLINE Reduced reduced(Vector x) {
    Vector rounded = x * LOG2_E + ROUNDING, n = rounded - ROUNDING;
    Vector r = x - n * LN2_HIGH - n * LN2_LOW;
#if DOUBLE
    Vector p = r * 1.6059043836821613e-10 + 2.08767569878681e-09; /* Taylor: 1/13!, 1/12!, ... */
    p = p * r + 2.505210838544172e-08;
    p = p * r + 2.755731922398589e-07;
    p = p * r + 2.7557319223985893e-06;
    p = p * r + 2.48015873015873e-05;
    p = p * r + 1.984126984126984e-04;
    p = p * r + 1.388888888888889e-03;
    p = p * r + 8.333333333333333e-03;
    p = p * r + 4.1666666666666664e-02;
    p = p * r + 1.6666666666666666e-01;
    p = p * r + 0.5;
#else
    Vector p = r * 1.3863408e-03f + 8.367609e-03f;
    p = p * r + 4.1667245e-02f;
    p = p * r + 1.6666533e-01f;
    p = p * r + 0.5f;
#endif
    return (Reduced){r + r * r * p, bits(rounded) - bits(all(ROUNDING))};
}

INLINE Vector exp_of(Vector x) {
    x = chosen(x > EXP_MOST, all(EXP_MOST), chosen(x < EXP_LEAST, all(EXP_LEAST), x)); /* NaN stays */
    Reduced e = reduced(x);
    Integers half = e.n >> 1; /* in two steps, as 2^n alone may be out of range */
    return (e.less_one + (real)1) * power_of_two(half) * power_of_two(e.n - half);
}

/* exp(x) - 1 for |x| up to WHOLE or so. */
INLINE Vector exp_less_one(Vector x) {
    Reduced e = reduced(x);
    Vector scale = power_of_two(e.n);
    return e.less_one * scale + (scale - (real)1);
}

INLINE Vector expm1_of(Vector x) {
    Vector inside = chosen(x > WHOLE, all(WHOLE), chosen(x < -WHOLE, all(-WHOLE), x));
    return chosen(x > WHOLE, exp_of(x), exp_less_one(inside));
}

/* (exp(2|x|) - 1) / (exp(2|x|) + 1), with the sign of x. */
INLINE Vector tanh_of(Vector x) {
    Vector twice = magnitude(x);
    twice = twice + twice;
    Vector e = exp_less_one(chosen(twice > WHOLE + 4, all(WHOLE + 4), twice));
    return (Vector)(bits(e / (e + (real)2)) | (bits(x) & bits(all((real)-0.0))));
}

/* 0 from FAINT downwards: it would be subnormal, which is slow. */
INLINE Vector logistic_of(Vector x) {
    Reduced e = reduced(-chosen(x < FAINT, all(FAINT), chosen(x > -FAINT, all(-FAINT), x)));
    Vector scale = power_of_two(e.n);
    return chosen(x < FAINT, all(0), all(1)) / ((e.less_one * scale + scale) + (real)1); /* so there is one division */
}

INLINE Vector log_of(Vector x) {
    Integers subnormal = x < SMALLEST;
    const real up = (real)((i64)1 << SHIFT);
    Vector scaled = chosen(subnormal, x * up, x);
    Integers high = bits(scaled) - HALF_ROOT, k = high >> SHIFT;
    Vector f = (Vector)(bits(scaled) - (k << SHIFT)) - (real)1; /* x = 2^k (1 + f) */
    Integers exponent = k - (subnormal & SHIFT);
    Vector n = __builtin_convertvector(exponent, Vector);
    Vector s = f / ((real)2 + f), z = s * s, half_square = (real)0.5 * f * f;
#if DOUBLE
    Vector r = z * 1.479819860511658591e-01 + 1.531383769920937332e-01;
    r = r * z + 1.818357216161805012e-01;
    r = r * z + 2.222219843214978396e-01;
    r = r * z + 2.857142874366239149e-01;
    r = r * z + 3.999999999940941908e-01;
    r = r * z + 6.666666666666735130e-01;
#else
    Vector r = z * 2.4279078841e-01f + 2.8498786688e-01f;
    r = r * z + 4.0000972152e-01f;
    r = r * z + 6.6666662693e-01f;
#endif
    Vector result = n * LN2_HIGH - ((half_square - (s * (half_square + z * r) + n * LN2_LOW)) - f);
    const Vector infinity = all((real)__builtin_inf()), nothing = all((real)__builtin_nan(""));
    result = chosen(x == infinity, x, result);
    result = chosen(x == (real)0, -infinity, result);
    return chosen((x < (real)0) | (x != x), nothing, result);
}

/* log(1 + x), with what the rounding of 1 + x has lost added. */
INLINE Vector log1p_of(Vector x) {
    Vector whole = x + (real)1, lost = (x - (whole - (real)1)) / whole;
    const Vector infinity = all((real)__builtin_inf());
    Integers exact = (whole == (real)0) | (whole == infinity);
    Vector result = log_of(whole) + chosen(exact, all(0), lost);
    return chosen(x == (real)0, x, result);
}

INLINE Vector sqrt_of(Vector x) {
    Vector result;
    for (int k = 0; k < LANES; k++) result[k] = DOUBLE ? __builtin_sqrt(x[k]) : __builtin_sqrtf(x[k]);
    return result;
}

/* Of a NaN and a number, NaN. */
INLINE Vector maximum_of(Vector a, Vector b) { return chosen((a > b) | (a != a), a, b); }
INLINE Vector minimum_of(Vector a, Vector b) { return chosen((a < b) | (a != a), a, b); }

#endif
