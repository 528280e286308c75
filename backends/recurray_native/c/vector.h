/* Vectors of the compiler's own (GCC and Clang have them for every processor), so that one source serves all.

   A level is compiled with -DLEVEL=name, -DVECTOR_BYTES=n, -DROWS=r -DVECTORS=v (the register tile of the products: r rows of
   v vectors), and -DDOUBLE=0 or 1. */
#ifndef RECURRAY_VECTOR_H
#define RECURRAY_VECTOR_H

#include "engine.h"

#define JOINED_(a, b, c) a##_##b##_##c
#define JOINED(a, b, c) JOINED_(a, b, c)

#if DOUBLE
typedef double real;
typedef int64_t integer;
#define LEVEL_NAME(name) JOINED(name, LEVEL, double)
#else
typedef float real;
typedef int32_t integer;
#define LEVEL_NAME(name) JOINED(name, LEVEL, float)
#endif

typedef real Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef integer Integers __attribute__((vector_size(VECTOR_BYTES)));
typedef real Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

enum {
    LANES = VECTOR_BYTES / sizeof(real),
    PANEL = VECTORS * LANES, /* columns of a register tile */
    BLOCK = 64,              /* units that are dealt with together; whole panels on every level */
};

#define INLINE static inline __attribute__((always_inline))

INLINE Vector load(const real *p) { return *(const Unaligned *)p; }
INLINE void store(real *p, Vector v) { *(Unaligned *)p = v; }
INLINE Vector all(real number) { return number - (Vector){0}; }
INLINE Integers bits(Vector v) { return (Integers)v; }
INLINE Vector chosen(Integers where, Vector a, Vector b) {
    Vector result;
    for (int k = 0; k < LANES; k++) result[k] = where[k] ? a[k] : b[k]; /* of which compilers make one instruction */
    return result;
}

INLINE i64 rounded_up(i64 n, i64 to) { return (n + to - 1) / to * to; }
INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 most(i64 a, i64 b) { return a > b ? a : b; }

typedef struct { i64 first, last; } Range;

/* Part `part` of 0 .. n cut into `parts`, in whole multiples of `unit`. */
INLINE Range part_of(i64 n, i64 unit, i64 part, i64 parts) {
    i64 count = (n + unit - 1) / unit;
    return (Range){least(count * part / parts * unit, n), least(count * (part + 1) / parts * unit, n)};
}

#endif
