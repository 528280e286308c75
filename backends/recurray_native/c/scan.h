/* What forward and backward share: how a call's work is cut, and where the slots of a program are. */
#ifndef RECURRAY_SCAN_H
#define RECURRAY_SCAN_H

#include "machine.h"
#include "memory.h"
#include "pool.h"
#include "product.h"

enum {
    GATES_SIZE = 128 << 10, /* bytes of the second-level cache for a tile's gates */
    TILE_ROWS = 96,     /* rows whose products are made before the machine runs on them */
    FEW_ROWS = 4,       /* so many steps and rows in all aren't worth packing the weights for */
    ROWS_EACH = 12,     /* the least that a part has where the batch is cut; as in engine.py */
};

/* A part of a call's work. Where the batch is large it has rows of its own and needs no other part within a chunk of time;
   else it has units of its own, and the parts meet at each stage of a step. */
typedef struct {
    Range rows, units, outputs;
    int part, parts;
    int together; /* whether parts share rows */
} Share;

typedef struct {
    const Task *task;
    i64 padded, padded_outputs; /* H and R rounded up to whole vectors */
    i64 blocks_in_all;          /* with the inner ones */
    i64 depth;                  /* units in a tile */
    int parts;                  /* that the call's work is cut into */
    Share *share;        /* of each */
    real **unit;                /* (params + constants) padded rows of H */
    real **state;               /* (states) padded (B, H), for h (B, R) */
    real *state_h[2];           /* the same of h; at even and odd steps forward */
    real *wide, *sums;
} Scan;

INLINE int few(const Task *task) { return task->rows <= FEW_ROWS; }

/* Whether a product along k is with the weights as they stand: of short ones each is a loop's end, and packing is little. */
INLINE int standing(const Task *task, i64 k) { return few(task) && k >= 2 * LANES; }

/* Whether units only ever read their own past, so that parts needn't meet. */
static int is_independent(const Task *task) {
    int products = task->projection != NULL || task->inner_blocks > 0;
    for (i64 block = 0; block < task->blocks; block++) products |= task->recurrent_gate[block] >= 0;
    return !products && task->program.segments == 1;
}

/* Multiply some units of rows (rows, H), from the row `first` of the batch on, by the mask; R is H where this is called. */
static void mask_units(const Task *task, Range units, i64 first, i64 rows, real *a, i64 row) {
    for (i64 b = 0; b < rows; b++)
        for (i64 k = units.first; k < units.last; k++) a[b * row + k] *= ((const real *)task->mask)[(first + b) * task->outputs + k];
}

static Share share_of(const Task *task, int part, int parts) {
    Share own = {{0, task->batch}, {0, task->units}, {0, task->outputs}, part, parts, 0};
    if (parts == 1) return own;
    if (task->batch >= (i64)parts * ROWS_EACH) { /* rows of about the same length in all */
        i64 total = 0, sum = 0, next = 0;
        for (i64 b = 0; b < task->batch; b++) total += task->lengths[b];
        own.rows = (Range){task->batch, task->batch};
        for (i64 b = 0; b < task->batch; b++) {
            for (; next <= part + 1 && sum * parts >= total * next; next++) {
                if (next == part) own.rows.first = b;
                if (next == part + 1) own.rows.last = b;
            }
            sum += task->lengths[b];
        }
        if (part == parts - 1) own.rows.last = task->batch;
        return own;
    }
    own.units = part_of(task->units, BLOCK, part, parts);
    own.outputs = part_of(task->outputs, BLOCK, part, parts);
    own.together = !is_independent(task);
    return own;
}

/* The rows of a step that a part has. */
INLINE Range rows_at(const Task *task, const Share *share, i64 step) {
    return (Range){share->rows.first, most(share->rows.first, least(share->rows.last, task->counts[step]))};
}

static void lay_out_scan(Scan *scan, const Task *task, int parts, i64 depth, Arena *arena) {
    const i64 lanes_of_units = rounded_up(task->units, LANES), outputs = rounded_up(task->outputs, LANES);
    scan->task = task;
    scan->padded = lanes_of_units;
    scan->padded_outputs = outputs;
    scan->blocks_in_all = task->blocks + task->inner_blocks;
    scan->depth = depth;
    scan->parts = parts;
    scan->share = taken(arena, parts, sizeof(Share));
    const i64 units = task->params + task->constants, blocks = (task->units + BLOCK - 1) / BLOCK;
    scan->unit = taken(arena, units, sizeof(real *));
    real *rows = taken(arena, units * scan->padded, sizeof(real));
    scan->state = taken(arena, task->states, sizeof(real *));
    real *states = taken(arena, (task->states - 1) * task->batch * scan->padded, sizeof(real));
    for (int k = 0; k < 2; k++) scan->state_h[k] = taken(arena, task->batch * outputs, sizeof(real));
    scan->wide = taken(arena, task->program.wides * task->batch * scan->padded, sizeof(real));
    scan->sums = taken(arena, task->program.sums * task->batch * blocks, sizeof(real));
    if (!arena->base) return;
    for (int part = 0; part < parts; part++) scan->share[part] = share_of(task, part, parts);
    for (i64 k = 0; k < units; k++) scan->unit[k] = rows + k * scan->padded;
    scan->state[0] = scan->state_h[0];
    for (i64 k = 1; k < task->states; k++) scan->state[k] = states + (k - 1) * task->batch * scan->padded;
}

static void copy_rows(const real *from, i64 from_row, i64 rows, i64 columns, real *to, i64 to_row) {
    for (i64 r = 0; r < rows; r++) memcpy(to + r * to_row, from + r * from_row, (size_t)columns * sizeof(real));
}

static void add_rows(const real *from, i64 from_row, i64 rows, i64 columns, real *to, i64 to_row) {
    for (i64 r = 0; r < rows; r++)
        for (i64 k = 0; k < columns; k++) to[r * to_row + k] += from[r * from_row + k];
}

static void zero_rows(i64 rows, i64 columns, i64 row, real *at) {
    for (i64 r = 0; r < rows; r++) memset(at + r * row, 0, (size_t)columns * sizeof(real));
}

/* Params, constants and states before the loop; what is padding is zero. */
static void fill_scan(Scan *scan) {
    const Task *task = scan->task;
    for (i64 k = 0; k < task->params; k++) {
        zero_rows(1, scan->padded, 0, scan->unit[k]);
        copy_rows(task->param[k], 0, 1, task->units, scan->unit[k], 0);
    }
    for (i64 k = 0; k < task->constants; k++)
        for (i64 u = 0; u < scan->padded; u++) scan->unit[task->params + k][u] = (real)task->constant[k];
    for (i64 k = 0; k < task->states; k++) {
        i64 size = k ? task->units : task->outputs, row = k ? scan->padded : scan->padded_outputs;
        for (int parity = 0; parity < (k ? 1 : 2); parity++) {
            real *to = k ? scan->state[k] : scan->state_h[parity];
            zero_rows(task->batch, row, row, to);
            copy_rows(task->first[k], size, task->batch, size, to, row);
        }
    }
}

/* A part's machine: its own registers, and where each slot is. The kinds that differ are set by the caller. */
static void lay_out_machine(Machine *m, const Scan *scan, Arena *arena, real **tiles) {
    const Program *program = &scan->task->program;
    i64 rows = most(1, TILE_SIZE / scan->depth);
    m->program = program;
    m->origin = taken(arena, program->slots, sizeof(Origin));
    m->at = taken(arena, program->slots, sizeof(real *));
    m->row = taken(arena, program->slots, sizeof(i64));
    m->units = scan->task->units;
    m->batch = scan->task->batch;
    *tiles = taken(arena, program->tiles * rows * scan->depth, sizeof(real));
}

INLINE i64 rows_of_tile(const Scan *scan) { return most(1, TILE_SIZE / scan->depth); }

static Origin origin_of(const Scan *scan, Slot slot, real *tiles) {
    const Task *task = scan->task;
    const i64 padded = scan->padded, whole = task->batch * padded;
    real *at = NULL;
    switch (slot.kind) {
    case TILE:
        at = tiles + slot.index * rows_of_tile(scan) * scan->depth;
        return (Origin){{at, at}, scan->depth, STAYS, 0};
    case WIDE:
        at = scan->wide + slot.index * whole;
        return (Origin){{at, at}, padded, BY_ROW, 1};
    case STATE:
        at = scan->state[slot.index];
        return (Origin){{at, at}, slot.index ? padded : scan->padded_outputs, BY_ROW, 1};
    case PACKED:
        at = task->packed[slot.index];
        return (Origin){{at, at}, padded, BY_STEP, 1};
    case UNIT:
        at = scan->unit[slot.index];
        return (Origin){{at, at}, 0, STAYS, 1};
    case SUM:
        at = scan->sums + slot.index * task->batch * ((task->units + BLOCK - 1) / BLOCK);
        return (Origin){{at, at}, 1, BY_ROW, 0};
    default:
        return (Origin){{NULL, NULL}, 0, STAYS, 0};
    }
}

/* The first row of the steps `first` to `last` in arrays over time, and how many rows they have. */
static Range rows_of_steps(const Task *task, i64 first, i64 last) {
    i64 lowest = least(task->offsets[first], task->offsets[last - 1]), rows = 0;
    for (i64 step = first; step < last; step++) rows += task->counts[step];
    return (Range){lowest, lowest + rows};
}

/* The step after a chunk that begins with `first` and has `rows` rows at most, or one step. */
static i64 chunk_end(const Task *task, i64 first, i64 rows) {
    i64 sum = task->counts[first], last = first + 1;
    for (; last < task->steps && sum + task->counts[last] <= rows; last++) sum += task->counts[last];
    return last;
}

/* The first step of a chunk that ends before `last` and has `rows` rows at most, or one step. */
static i64 chunk_begin(const Task *task, i64 last, i64 rows) {
    i64 first = last - 1, sum = task->counts[first];
    for (; first > 0 && sum + task->counts[first - 1] <= rows; first--) sum += task->counts[first - 1];
    return first;
}

#endif
