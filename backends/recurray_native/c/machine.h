/* The vector machine: runs a program's instructions on tiles of rows x units. */
#ifndef RECURRAY_MACHINE_H
#define RECURRAY_MACHINE_H

#include <string.h>

#include "functions.h"

enum {
    TILE_SIZE = 4096 / sizeof(real), /* numbers of a tile, or BLOCK where that is more: half a dozen fit the first-level cache */
};

/* What a slot's place moves with, besides the unit. */
enum Moves { STAYS, BY_ROW, BY_STEP, BY_CHUNK, BY_TILE_ROW, MOVES };

typedef struct {
    real *base[2]; /* at even and odd steps */
    i64 row;       /* from one row to the next */
    int32_t moves;
    int32_t by_unit; /* whether it moves with the unit, too */
} Origin;

typedef struct {
    const Program *program;
    Origin *origin; /* by slot */
    real **at;      /* by slot, for the tile at hand */
    i64 *row;       /* by slot */
    i64 units, batch;
    /* the tile at hand */
    i64 rows, width; /* width: whole vectors */
    i64 first_row, first_unit;
} Machine;

/* Where a tile is. */
typedef struct {
    i64 parity;
    i64 row;       /* of the batch */
    i64 in_time;   /* the same row in arrays over time */
    i64 in_chunk;  /* the same in arrays over a chunk of time */
    i64 in_tile;   /* the same in tiles of the products */
    i64 unit;
} Place;

typedef void (*Operator)(const Machine *m, const Instruction *i);

#define EACH(name, result)                                                                                    \
    static void name##_each(const Machine *m, const Instruction *i) {                                         \
        real *to = m->at[i->to];                                                                              \
        const real *from_a = m->at[i->a], *from_b = m->at[i->b], *from_c = m->at[i->c];                       \
        const real *from_d = m->at[i->d], *from_e = m->at[i->e];                                              \
        const i64 to_row = m->row[i->to], a_row = m->row[i->a], b_row = m->row[i->b], c_row = m->row[i->c];   \
        const i64 d_row = m->row[i->d], e_row = m->row[i->e], width = m->width;                               \
        for (i64 rows = m->rows; rows > 0; rows--) {                                                          \
            for (i64 k = 0; k < width; k += LANES) {                                                          \
                const Vector a = load(from_a + k), b = load(from_b + k), c = load(from_c + k);                \
                const Vector d = load(from_d + k), e = load(from_e + k);                                      \
                (void)b, (void)c, (void)d, (void)e; /* compilers leave out what the result doesn't read */    \
                store(to + k, result);                                                                        \
            }                                                                                                 \
            to += to_row, from_a += a_row, from_b += b_row, from_c += c_row, from_d += d_row, from_e += e_row;\
        }                                                                                                     \
    }

EACH(copy, a)
EACH(negative, -a)
EACH(absolute, magnitude(a))
EACH(sqrt, sqrt_of(a))
EACH(exp, exp_of(a))
EACH(expm1, expm1_of(a))
EACH(log, log_of(a))
EACH(log1p, log1p_of(a))
EACH(tanh, tanh_of(a))
EACH(logistic, logistic_of(a))
EACH(add, a + b)
EACH(subtract, a - b)
EACH(multiply, a * b)
EACH(divide, a / b)
EACH(maximum, maximum_of(a, b))
EACH(minimum, minimum_of(a, b))
EACH(greater, (Vector)(a > b))
EACH(greater_equal, (Vector)(a >= b))
EACH(less, (Vector)(a < b))
EACH(less_equal, (Vector)(a <= b))
EACH(logical_and, (Vector)(bits(a) & bits(b)))
EACH(where, chosen(bits(a), b, c))
EACH(multiply_add, a * b + c)
EACH(subtract_product, c - a * b)
EACH(multiply_three, a * b * c)
EACH(add_products, a * b + c * d)
EACH(subtract_ratio, d - a * b / c)
EACH(add_root, sqrt_of(a) + b)
EACH(add_product_of_three, a * b + c * d * e)
EACH(subtract_ratio_to_root, d - a * b / (sqrt_of(c) + e))

/* Sums of each BLOCK of units by itself, so that they don't depend on how the units are cut into tiles. A SUM holds
   (blocks, rows of the batch). */
static void add_up_each(const Machine *m, const Instruction *i) {
    for (i64 begin = 0; begin < m->width; begin += BLOCK) {
        i64 end = least(least(begin + BLOCK, m->width), m->units - m->first_unit);
        real *to = m->at[i->to] + (m->first_unit + begin) / BLOCK * m->batch;
        for (i64 r = 0; r < m->rows; r++) {
            const real *from = m->at[i->a] + r * m->row[i->a];
            Vector sums = all(0);
            i64 k = begin;
            for (; k + LANES <= end; k += LANES) sums += load(from + k);
            real sum = 0;
            for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
            for (; k < end; k++) sum += from[k];
            to[r] = sum;
        }
    }
}

static void spread_each(const Machine *m, const Instruction *i) {
    const i64 blocks = (m->units + BLOCK - 1) / BLOCK;
    for (i64 r = 0; r < m->rows; r++) {
        real sum = 0;
        for (i64 block = 0; block < blocks; block++) sum += m->at[i->a][block * m->batch + r];
        Vector mean = all(sum / (real)m->units);
        for (i64 k = 0; k < m->width; k += LANES) store(m->at[i->to] + r * m->row[i->to] + k, mean);
    }
}

/* In the order of `enum Operation`. */
static const Operator operators[OPERATIONS] = {
    copy_each, negative_each, absolute_each, sqrt_each, exp_each, expm1_each, log_each, log1p_each, tanh_each, logistic_each,
    add_each, subtract_each, multiply_each, divide_each, maximum_each, minimum_each,
    greater_each, greater_equal_each, less_each, less_equal_each, logical_and_each, where_each,
    multiply_add_each, subtract_product_each, multiply_three_each, add_products_each, subtract_ratio_each, add_root_each,
    add_product_of_three_each, subtract_ratio_to_root_each,
    add_up_each,
    spread_each,
};

/* Run a segment on a tile of `rows` x `width`. */
static void run_segment(Machine *m, i64 segment, Place place, i64 rows, i64 width) {
    const Program *program = m->program;
    const i64 moved[MOVES] = {0, place.row, place.in_time, place.in_chunk, place.in_tile};
    for (i64 k = 0; k < program->slots; k++) {
        const Origin *origin = m->origin + k;
        m->at[k] = origin->base[place.parity] + moved[origin->moves] * origin->row + (origin->by_unit ? place.unit : 0);
    }
    m->rows = rows;
    m->width = width;
    m->first_row = place.row;
    m->first_unit = place.unit;
    const Instruction *i = program->code + (segment ? program->segment_end[segment - 1] : 0);
    const Instruction *end = program->code + program->segment_end[segment];
    for (; i < end; i++) operators[i->operation](m, i);
}

#endif
