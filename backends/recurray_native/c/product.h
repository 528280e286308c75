/* Products of rows with a packed matrix. */
#ifndef RECURRAY_PRODUCT_H
#define RECURRAY_PRODUCT_H

#include <string.h>

#include "vector.h"
#include "micro.h"

enum { DEPTH = 512 }; /* of the inner dimension at a time: a panel of that many rows stays in the second-level cache */

/* A matrix (k, n) in panels of PANEL columns one after the other; a panel is k rows, padded with zeros to whole
   vectors. Or, where it is used too seldom to be worth packing, as it stands, or its transpose as that stands. */
typedef struct {
    i64 k, n;
    real *panels;
    const real *standing;   /* (k, n), n whole vectors; else null */
    const real *transposed; /* (n, k); else null */
} Matrix;

/* A panel's columns from some row on. */
typedef struct {
    const real *at;
    i64 row; /* from one row to the next */
} Columns;

INLINE i64 packed_size(i64 k, i64 n) { return k * rounded_up(n, LANES); }
INLINE i64 panel_width(const Matrix *b, i64 column) { return least(PANEL, rounded_up(b->n - column, LANES)); }
INLINE real *panel_at(const Matrix *b, i64 column) { return b->panels + column * b->k; }
INLINE Columns columns_at(const Matrix *b, i64 column, i64 first) {
    if (b->standing) return (Columns){b->standing + first * b->n + column, b->n};
    const i64 width = panel_width(b, column);
    return (Columns){panel_at(b, column) + first * width, width};
}

/* The halves of two vectors, interleaved. */
#if VECTOR_BYTES / (4 + 4 * DOUBLE) == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VECTOR_BYTES / (4 + 4 * DOUBLE) == 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif VECTOR_BYTES / (4 + 4 * DOUBLE) == 4
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#else
#define LOW 0, 2
#define HIGH 1, 3
#endif

#if __has_builtin(__builtin_shufflevector)
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else /* gcc before 12 */
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (Integers){__VA_ARGS__})
#endif

/* LANES x LANES numbers turned over: in each round vectors are interleaved. */
INLINE void transpose(Vector v[LANES]) {
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) {
        Vector next[LANES];
#pragma GCC unroll 16
        for (int j = 0; j < LANES / 2; j++) {
            next[2 * j] = SHUFFLED(v[j], v[j + LANES / 2], LOW);
            next[2 * j + 1] = SHUFFLED(v[j], v[j + LANES / 2], HIGH);
        }
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++) v[j] = next[j];
    }
}

/* Pack the columns `columns` (whole panels) of a matrix whose transpose (n, k) is at `source`. */
static void pack_transposed(const Matrix *b, Range columns, const real *source) {
    for (i64 column = columns.first; column < columns.last; column += PANEL) {
        i64 width = panel_width(b, column);
        real *panel = panel_at(b, column);
        for (i64 u = 0; u < width; u += LANES) {
            i64 units = least(LANES, b->n - column - u);
            const real *from = source + (column + u) * b->k;
            i64 j = 0;
            for (; j + LANES <= b->k; j += LANES) {
                Vector v[LANES];
                for (i64 r = 0; r < LANES; r++) v[r] = r < units ? load(from + r * b->k + j) : all(0);
                transpose(v);
                for (i64 r = 0; r < LANES; r++) store(panel + (j + r) * width + u, v[r]);
            }
            for (; j < b->k; j++)
                for (i64 r = 0; r < LANES; r++) panel[j * width + u + r] = r < units ? from[r * b->k + j] : 0;
        }
    }
}

/* Pack the rows (count, n), `row` apart, as rows `first` .. of the columns `columns` (whole panels). */
static void pack_rows(const Matrix *b, Range columns, i64 first, i64 count, const real *source, i64 row) {
    for (i64 column = columns.first; column < columns.last; column += PANEL) {
        i64 width = panel_width(b, column), real_width = least(width, b->n - column);
        real *to = panel_at(b, column) + first * width;
        const real *from = source + column;
        for (i64 j = 0; j < count; j++, to += width, from += row) {
            memcpy(to, from, (size_t)real_width * sizeof(real));
            for (i64 u = real_width; u < width; u++) to[u] = 0;
        }
    }
}

/* Where a product starts: numbers (rows, columns), `row` apart; 0 for the same in each row. */
typedef struct { const real *at; i64 row; } Start;

enum { TOGETHER = LANES < 4 ? LANES : 4 };

/* The product with a matrix whose transpose is there: along k, for a few columns together; each column's sum is then the sum of a
   vector, and LANES of these are made at once by turning them over. */
static void multiply_transposed(const real *a, i64 row, i64 rows, const Matrix *b, Range columns, Start start, real *c, i64 c_row) {
    const i64 whole = b->k / LANES * LANES;
    for (i64 column = columns.first; column < columns.last; column += LANES) {
        const i64 count = least(LANES, columns.last - column), at = column - columns.first;
        for (i64 r = 0; r < rows; r++) {
            const real *from = a + r * row;
            Vector sums[LANES];
            real rest[LANES] = {0};
            for (i64 first = 0; first < LANES; first += TOGETHER) {
                const real *w[TOGETHER];
                Vector sum[TOGETHER];
                for (i64 u = 0; u < TOGETHER; u++) {
                    w[u] = b->transposed + (column + least(first + u, count - 1)) * b->k; /* past the last, that again */
                    sum[u] = all(0);
                }
                for (i64 j = 0; j < whole; j += LANES) {
                    const Vector factor = load(from + j);
#pragma GCC unroll 4
                    for (int u = 0; u < TOGETHER; u++) sum[u] += load(w[u] + j) * factor;
                }
                for (i64 u = 0; u < TOGETHER; u++) {
                    sums[first + u] = sum[u];
                    for (i64 j = whole; j < b->k; j++) rest[first + u] += from[j] * w[u][j];
                }
            }
            transpose(sums);
            Vector total = load(rest);
            for (int j = 0; j < LANES; j++) total += sums[j];
            store(rest, total);
            for (i64 u = 0; u < count; u++) c[r * c_row + at + u] = start.at[r * start.row + at + u] + rest[u];
        }
    }
}

enum { STREAMS = BLOCK / PANEL < 4 ? BLOCK / PANEL : 4 }; /* so many panels' sums fit the registers, as a tile's do */

/* The product of one row: several panels at a time, so that there are enough sums to add to. */
static void multiply_row(const real *restrict a, const Matrix *b, i64 first, i64 k, Range columns, const real *start, real *c,
                         int turned) {
    const i64 whole = (columns.last - columns.first) / (STREAMS * PANEL), rest = columns.first + whole * STREAMS * PANEL;
    for (i64 group = 0; group < whole; group++) {
        const i64 column = columns.first + (turned ? whole - 1 - group : group) * STREAMS * PANEL;
        Columns w[STREAMS];
        Vector sum[STREAMS][VECTORS];
        for (int s = 0; s < STREAMS; s++) {
            w[s] = columns_at(b, column + s * PANEL, first);
            for (int v = 0; v < VECTORS; v++) sum[s][v] = load(start + column - columns.first + s * PANEL + v * LANES);
        }
        for (i64 j = 0; j < k; j++) {
            Vector factor = all(a[j]);
#pragma GCC unroll 16
            for (int s = 0; s < STREAMS; s++)
#pragma GCC unroll 16
                for (int v = 0; v < VECTORS; v++) sum[s][v] += load(w[s].at + j * w[s].row + v * LANES) * factor;
        }
        for (int s = 0; s < STREAMS; s++)
            for (int v = 0; v < VECTORS; v++) store(c + column - columns.first + s * PANEL + v * LANES, sum[s][v]);
    }
    for (i64 column = rest; column < columns.last; column += PANEL) {
        const i64 at = column - columns.first;
        const Columns w = columns_at(b, column, first);
        micro[0][panel_width(b, column) / LANES - 1](k, a, 0, 1, w.at, w.row, start + at, 0, c + at, 0);
    }
}

/* The products of one row with a panel each of `count` matrices, together: so that there are enough sums to add to. */
INLINE void row_with_panels(const real *restrict a, i64 k, const real *const *w, const real *const *start, real *const *c,
                            const int count, const int vectors) {
    Vector sum[4][VECTORS];
#pragma GCC unroll 4
    for (int m = 0; m < count; m++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[m][v] = load(start[m] + v * LANES);
    for (i64 j = 0; j < k; j++) {
        const Vector factor = all(a[j]);
#pragma GCC unroll 4
        for (int m = 0; m < count; m++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[m][v] += load(w[m] + (j * vectors + v) * LANES) * factor;
    }
#pragma GCC unroll 4
    for (int m = 0; m < count; m++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) store(c[m] + v * LANES, sum[m][v]);
}

/* The same for four matrices, of which the columns are at most a panel. */
static void multiply_row_by_four(const real *a, i64 k, const real *const *w, const real *const *start, real *const *c, i64 vectors) {
    if (vectors == 1) row_with_panels(a, k, w, start, c, 4, 1);
    else if (vectors == 2) row_with_panels(a, k, w, start, c, 4, 2);
#if VECTORS == 4
    else if (vectors == 3) row_with_panels(a, k, w, start, c, 4, 3);
    else row_with_panels(a, k, w, start, c, 4, 4);
#endif
}

/* c = start + a @ b[first : first + k, columns], for rows of a that are `row` apart. Columns are whole panels, or run to
   the end of b; c and start begin with the first of them, and have room for whole vectors. c may be where it starts.
   Where the product is made again and again with a matrix larger than a cache, every other time it is better `turned`,
   begun with the columns that were last. */
static void multiply(const real *a, i64 row, i64 rows, const Matrix *b, i64 first, i64 k, Range columns, Start start, real *c,
                     i64 c_row, int turned) {
    if (b->transposed) {
        multiply_transposed(a, row, rows, b, columns, start, c, c_row);
        return;
    }
    if (!k) { /* only the start is there to be written */
        i64 width = rounded_up(columns.last - columns.first, LANES);
        for (i64 r = 0; r < rows; r++) memmove(c + r * c_row, start.at + r * start.row, (size_t)width * sizeof(real));
        return;
    }
    if (rows == 1) {
        multiply_row(a, b, first, k, columns, start.at, c, turned);
        return;
    }
    i64 groups = (rows + ROWS - 1) / ROWS, panels = (columns.last - columns.first + PANEL - 1) / PANEL;
    for (i64 panel = 0; panel < panels; panel++) {
        i64 at = (turned ? panels - 1 - panel : panel) * PANEL, column = columns.first + at, width = panel_width(b, column);
        for (i64 done = 0; done < k; done += DEPTH) {
            const Columns w = columns_at(b, column, first + done);
            Start from = done ? (Start){c + at, c_row} : (Start){start.at + at, start.row};
            for (i64 group = 0; group < groups; group++) {
                i64 r = rows * group / groups, count = rows * (group + 1) / groups - r;
                micro[count - 1][width / LANES - 1](least(DEPTH, k - done), a + r * row + done, row, 1, w.at, w.row,
                                                    from.at + r * from.row, from.row, c + r * c_row + at, c_row);
            }
        }
    }
}

#endif
