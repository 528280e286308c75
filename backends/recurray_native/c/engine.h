/* What Python hands to the engine and the engine's parts share. Mirrored by ../structures.py.

   T steps, B rows of the batch, N all valid steps of all rows, I input, H hidden units, R size of the output.
   The rows of the batch come sorted by falling length, so that the valid ones of a step are the first; arrays over
   time hold the valid rows of each step one after the other, (N, features). `Padded` arrays have rows of H numbers
   rounded up to whole vectors. */
#ifndef RECURRAY_ENGINE_H
#define RECURRAY_ENGINE_H

#include <stddef.h>
#include <stdint.h>

typedef int64_t i64;

/* Where an operand of an instruction is. The index counts within the kind. */
enum Kind {
    TILE,     /* a register: rows x units of one step that fit the first-level cache */
    WIDE,     /* the same for all rows and units of a step: what a later segment reads */
    GATE,     /* a block of the products, biases included; those of the inner gates come last */
    STATE,    /* forward: a state before the step; backward: the gradient of the state after it. Written: that after,
                 or before it, in place except for h forward */
    OUTPUT,   /* what the cell computes as h, or the gradient of that: the state itself unless it is projected */
    PACKED,   /* an array (N, H) padded: what is kept for backward, and draws */
    UNIT,     /* one number for each unit: params, then constants */
    SUM,      /* sums over the units, one for each row */
    GRADIENT, /* backward: the gradient of a block of the products; or a term of a param's gradient */
    KINDS
};

enum Operation {
    COPY, NEGATIVE, ABSOLUTE, SQRT, EXP, EXPM1, LOG, LOG1P, TANH, LOGISTIC,
    ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM,
    GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, LOGICAL_AND, WHERE,
    MULTIPLY_ADD,     /* a * b + c */
    SUBTRACT_PRODUCT, /* c - a * b */
    MULTIPLY_THREE,   /* a * b * c */
    ADD_PRODUCTS,     /* a * b + c * d */
    SUBTRACT_RATIO,   /* d - a * b / c */
    ADD_ROOT,         /* sqrt(a) + b */
    ADD_PRODUCT_OF_THREE,   /* a * b + c * d * e */
    SUBTRACT_RATIO_TO_ROOT, /* d - a * b / (sqrt(c) + e) */
    ADD_UP, /* into a SUM */
    SPREAD, /* a SUM over H, the mean, to all units */
    OPERATIONS
};

typedef struct { int32_t kind, index; } Slot;
typedef struct { int32_t operation, to, a, b, c, d, e; } Instruction; /* numbers of slots */

/* A straight line of instructions in segments, each of which runs for all rows and units before the next. */
typedef struct {
    i64 slots, segments, tiles, wides, sums;
    const Slot *slot;
    const Instruction *code;
    const i64 *segment_end;    /* (segments) places in the code */
    i64 inner_segment;         /* after which the inner gates' product is made, -1 if there is none */
    i64 inner_slot;          /* forward: what that is with; backward: where it goes */
} Program;

/* One call. Arrays are of the call's type, float or double. Without states it is a product, y = x @ weight.T + bias, for which
   rows, features, outputs, input_weight, input_bias, x and y are all that is read. */
typedef struct {
    i64 steps, batch, rows, features, units, outputs, threads;
    const i64 *counts;   /* (T) valid rows of each step, in the order of the loop */
    const i64 *offsets;  /* (T) the first of them in arrays over time */
    const i64 *lengths;  /* (B) */
    const i64 *ends;     /* (B) steps of the loop after which a row is done: its length, or where time runs backward T */

    /* The blocks of the products, and which gates' rows of the weights make each; -1: none. First those with the input
       alone, then those with both, then those with the output alone; then the inner ones. */
    i64 blocks, inner_blocks, terms;
    const i64 *input_gate;      /* (blocks) */
    const i64 *recurrent_gate;  /* (blocks + inner_blocks) */

    const void *input_weight, *input_bias;          /* (gates * H, I), (gates * H) or of each row (B, gates * H) or null */
    const void *recurrent_weight, *recurrent_bias;  /* (gates * H, R), (gates * H) or null */
    const void *projection;                         /* (R, H) or null */
    i64 params, constants;
    const void *const *param;    /* (params) rows of H */
    const double *constant;

    i64 states;
    const void *const *first;    /* (states) forward: start states, backward: gradients of the end states, (B, size) */
    void *const *last;           /* (states) the other end's */
    const void *x;               /* (N, I) */
    const void *mask;            /* (B, R) or null: what the output, and what the inner gates are made of, is multiplied by */
    void *const *packed;         /* padded (N, H) */
    void *h_before;              /* (N, R): what the recurrent product was with; forward: null if it isn't kept */
    void *output;                /* padded (N, H): h before the projection; null if it isn't kept */
    void *inner_operand;         /* padded (N, H); backward: what the inner gates' product was with */

    void *y;                     /* forward: (N, R) */

    const void *dy;              /* backward: (N, R) */
    void *dx;                    /* (N, I) */
    void *d_input_weight, *d_recurrent_weight, *d_projection; /* like the weights; every gate's block is written */
    void *sums;                  /* padded (blocks + inner_blocks + terms, H): sums of the gradients over N */
    Program program;

    /* Where each row of the batch has a bias of its own: */
    i64 bias_row;                /* from a row's input_bias to the next one's; else 0 */
    void *sums_by_row;           /* backward: padded (B, blocks with the input, H): sums of the gradients over time */

    i64 y_row;                   /* forward: from a row of y to the next one: R, or with both directions in one array more */
    const void *ready;           /* forward: what `pack` made of the weights, where they are a frozen layer's; else null */
} Task;

/* A program on flat arrays of one type, each number by itself. Its slots are TILE, UNIT, an index among the numbers, and
   otherwise an index among a set's arrays: STATE where it is written over in place, else PACKED. */
typedef struct {
    i64 sets, arrays, given, numbers, threads; /* given: the arrays that are only read come first */
    const i64 *size;       /* (sets) */
    void *const *array;    /* (sets, arrays) */
    const double *number;  /* (numbers) */
    Program program;
} Elementwise;

/* Tasks forward one after another, as the layers and directions of a stack, on one thread. */
typedef struct {
    i64 level, is_double, count;
    const Task *const *task; /* (count) */
    void *const *prepared;   /* (count), by `recurray_prepare` */
} Chain;

enum Result { DONE = 0, NO_MEMORY = 1 };

/* What is compiled for one instruction set and one type. */
typedef struct {
    i64 lanes;  /* of a vector */
    int (*forward)(const Task *);
    int (*backward)(const Task *);
    size_t (*pack)(const Task *, void *to);
    size_t (*prepare)(const Task *, void *to);
    void (*forward_prepared)(const Task *, void *prepared);
    void (*elementwise)(const Elementwise *);
    void (*apply)(i64 operation, i64 count, const void *const *operands, void *to);
} Kernels;

/* Memory is laid out twice: first to find its size, with `base` null, then in earnest. */
typedef struct {
    char *base;
    size_t used;
} Arena;

static inline void *taken(Arena *arena, i64 count, size_t size) {
    void *place = arena->base ? arena->base + arena->used : NULL;
    arena->used += ((size_t)count * size + 63) / 64 * 64;
    return place;
}

#endif
