/* The scan backward: the loop over a chunk of time, latest first, then the products over all its rows. */
#ifndef RECURRAY_BACKWARD_H
#define RECURRAY_BACKWARD_H

#include "scan.h"

enum {
    STRETCH = 16,          /* rows at a time where rows are gone through */
    CHUNK_ROWS = 512,      /* rows of the arrays over a chunk of time, about */
    LEAST_CHUNK_ROWS = 64, /* so many at least */
};

/* A left operand of the gradients' products, (rows of a chunk, columns), and what its columns are packed as: groups of ROWS. */
typedef struct {
    const real *at;
    i64 row, columns;
    real *packed; /* (groups, rows of the chunk, ROWS) */
} Left;

/* A right operand, (N, columns), and the chunk's part of it, packed. */
typedef struct {
    const real *at;
    i64 row;
    Matrix matrix;
} Right;

/* to += left.T @ right */
typedef struct {
    const Left *left;
    const Right *right;
    real *to; /* (columns of left, columns of right) */
} Gradient;

enum { OF_INPUT, OF_OUTPUT, OF_INNER, OF_PROJECTION, RIGHTS };

typedef struct {
    Scan scan;
    Matrix input, recurrent, inner, projection; /* not turned over: (gates * H, I) and so on */
    i64 inputs, first_output, outputs;          /* blocks with the input: 0 .. inputs; with the output: first_output .. outputs */
    i64 columns;                                /* of gradients: all blocks and terms */
    real *gradients;                            /* (rows of a chunk, columns, H) padded */
    real *d_output;                             /* (B, H) padded: the gradient of the output before its projection */
    real *d_projected;                          /* (rows of a chunk, R) */
    real *zeros;                                /* a row of H, or a panel's */
    Left *left;
    Right right[RIGHTS];
    Gradient *gradient;
    i64 lefts, gradient_count;
    Machine machine[MOST_THREADS];
    real *tiles[MOST_THREADS];
    struct {
        i64 first, last; /* steps of the chunk */
        Range rows;      /* of the chunk, in arrays over time */
        int begins;      /* whether it is the first one */
        i64 step, stage; /* where the parts that meet are */
    } now;
} Backward;

/* Stages of a step before its first segment. */
INLINE i64 before_segments(const Task *task) { return task->projection ? 2 : 0; }

/* Rows of a chunk, about. Where the gradients have terms beside the blocks of the products there are fewer, so that a chunk
   isn't larger for them: they are written and read once, in a chunk of any length. */
INLINE i64 chunk_size(const Task *task) {
    const i64 blocks = task->blocks + task->inner_blocks;
    return most(LEAST_CHUNK_ROWS, CHUNK_ROWS * blocks / most(1, blocks + task->terms));
}

/* Room for a chunk: a step isn't cut. */
INLINE i64 rows_of_chunk(const Task *task) { return least(task->rows, most(chunk_size(task), task->batch)); }

static void lay_out_whole(Matrix *b, i64 k, i64 n, Arena *arena) {
    *b = (Matrix){k, n, taken(arena, packed_size(k, n), sizeof(real)), NULL, NULL};
}

/* Weights (k, n) of a call of few rows are used as they stand, if their rows are whole vectors. */
static void lay_out_weights(Matrix *b, i64 k, i64 n, const real *standing, const Task *task, Arena *arena) {
    if (standing && few(task) && n % LANES == 0)
        *b = (Matrix){k, n, NULL, standing, NULL};
    else
        lay_out_whole(b, k, n, arena);
}

/* Where the rows of blocks are in the weights, if they stand there one after the other; else null. */
static const real *blocks_at(const real *weights, const i64 *gate, i64 first, i64 last, i64 units, i64 n) {
    for (i64 k = first; k < last; k++)
        if (gate[k] != gate[first] + k - first) return NULL;
    return first < last ? weights + gate[first] * units * n : NULL;
}

static void add_left(Backward *b, const real *at, i64 row, i64 columns, Arena *arena) {
    real *packed = taken(arena, rows_of_chunk(b->scan.task) * rounded_up(columns, ROWS), sizeof(real));
    if (arena->base) b->left[b->lefts] = (Left){at, row, columns, packed};
    b->lefts++;
}

static void add_right(Backward *b, int which, const void *at, i64 row, i64 columns, Arena *arena) {
    b->right[which].at = at;
    b->right[which].row = row;
    lay_out_whole(&b->right[which].matrix, rows_of_chunk(b->scan.task), columns, arena);
}

static void add_gradient(Backward *b, i64 left, int right, void *to, i64 place) {
    if (b->gradient) b->gradient[b->gradient_count] = (Gradient){b->left + left, b->right + right, (real *)to + place};
    b->gradient_count++;
}

/* Say where everything is in the arena; run first without memory, which counts how much is needed. */
static void lay_out_backward(Backward *b, const Task *task, int parts, Arena *arena) {
    Scan *scan = &b->scan;
    lay_out_scan(scan, task, parts, least(TILE_SIZE, rounded_up(task->units, BLOCK)), arena); /* whole rows, as far as they fit */
    const i64 blocks = scan->blocks_in_all, padded = scan->padded, units = task->units, rows = rows_of_chunk(task);
    b->columns = blocks + task->terms;
    b->inputs = b->first_output = 0;
    while (b->inputs < task->blocks && task->input_gate[b->inputs] >= 0) b->inputs++;
    while (b->first_output < task->blocks && task->recurrent_gate[b->first_output] < 0) b->first_output++;
    b->outputs = task->blocks;
    const i64 *input_gate = task->input_gate, *recurrent_gate = task->recurrent_gate;
    lay_out_weights(&b->input, b->inputs * units, task->features,
                    blocks_at(task->input_weight, input_gate, 0, b->inputs, units, task->features), task, arena);
    lay_out_weights(&b->recurrent, (b->outputs - b->first_output) * units, task->outputs,
                    blocks_at(task->recurrent_weight, recurrent_gate, b->first_output, b->outputs, units, task->outputs), task, arena);
    lay_out_weights(&b->inner, task->inner_blocks * units, units,
                    blocks_at(task->recurrent_weight, recurrent_gate, task->blocks, blocks, units, units), task, arena);
    if (task->projection) lay_out_weights(&b->projection, task->outputs, units, task->projection, task, arena);
    b->gradients = taken(arena, rows * b->columns * padded, sizeof(real));
    b->d_output = task->projection ? taken(arena, task->batch * padded, sizeof(real)) : NULL;
    b->d_projected = task->projection ? taken(arena, rows * task->outputs, sizeof(real)) : NULL;
    b->zeros = taken(arena, most(padded, PANEL), sizeof(real));

    b->lefts = b->gradient_count = 0;
    b->left = taken(arena, blocks + 1, sizeof(Left));
    b->gradient = taken(arena, 2 * blocks + 1, sizeof(Gradient));
    for (i64 k = 0; k < blocks; k++) add_left(b, b->gradients ? b->gradients + k * padded : NULL, b->columns * padded, units, arena);
    add_right(b, OF_INPUT, task->x, task->features, task->features, arena);
    if (b->first_output < b->outputs) add_right(b, OF_OUTPUT, task->h_before, task->outputs, task->outputs, arena);
    if (task->inner_blocks) add_right(b, OF_INNER, task->inner_operand, padded, units, arena);
    for (i64 k = 0; k < blocks; k++) {
        const i64 x = k < task->blocks ? task->input_gate[k] : -1, h = task->recurrent_gate[k];
        if (x >= 0) add_gradient(b, k, OF_INPUT, task->d_input_weight, x * units * task->features);
        if (h >= 0) add_gradient(b, k, k < task->blocks ? OF_OUTPUT : OF_INNER, task->d_recurrent_weight, h * units * task->outputs);
    }
    if (task->projection) {
        add_left(b, b->d_projected, task->outputs, task->outputs, arena);
        add_right(b, OF_PROJECTION, task->output, padded, units, arena);
        add_gradient(b, b->lefts - 1, OF_PROJECTION, task->d_projection, 0);
    }
    for (int part = 0; part < parts; part++) lay_out_machine(&b->machine[part], scan, arena, &b->tiles[part]);
}

/* Where each slot of the program is, for a part. */
static void place_backward(Backward *b, int part) {
    const Scan *scan = &b->scan;
    const Task *task = scan->task;
    for (i64 k = 0; k < task->program.slots; k++) {
        Slot slot = task->program.slot[k];
        Origin origin = origin_of(scan, slot, b->tiles[part]);
        if (slot.kind == GRADIENT) {
            real *at = b->gradients + slot.index * scan->padded;
            origin = (Origin){{at, at}, b->columns * scan->padded, BY_CHUNK, 1};
        } else if (slot.kind == OUTPUT) {
            real *at = task->projection ? b->d_output : scan->state[0];
            origin = (Origin){{at, at}, scan->padded, BY_ROW, 1};
        }
        b->machine[part].origin[k] = origin;
        b->machine[part].row[k] = origin.row;
    }
}

static void pack_blocks(Backward *b, const Matrix *matrix, i64 first, i64 last, const i64 *gate, const real *source,
                        const Share *share) {
    const i64 units = b->scan.task->units;
    if (matrix->standing) return;
    for (i64 k = first; k < last; k++)
        pack_rows(matrix, part_of(matrix->n, PANEL, share->part, share->parts), (k - first) * units, units,
                  source + gate[k] * units * matrix->n, matrix->n);
}

static void pack_backward(Backward *b, const Share *share) {
    const Task *task = b->scan.task;
    const i64 blocks = b->scan.blocks_in_all;
    pack_blocks(b, &b->input, 0, b->inputs, task->input_gate, task->input_weight, share);
    pack_blocks(b, &b->recurrent, b->first_output, b->outputs, task->recurrent_gate, task->recurrent_weight, share);
    pack_blocks(b, &b->inner, task->blocks, blocks, task->recurrent_gate, task->recurrent_weight, share);
    if (task->projection && !b->projection.standing)
        pack_rows(&b->projection, part_of(task->units, PANEL, share->part, share->parts), 0, task->outputs, task->projection, task->units);
}

/* to += the gradients of blocks first to last @ b, for `rows` rows. Padding between the blocks is left out. */
static void multiply_gradients(const Backward *b, i64 in_chunk, i64 rows, i64 first, i64 last, const Matrix *matrix, Range columns,
                               Start start, real *to, i64 to_row, int turned) {
    const i64 units = b->scan.task->units, padded = b->scan.padded, row = b->columns * padded;
    const real *a = b->gradients + in_chunk * row + first * padded;
    if (units == padded) {
        multiply(a, row, rows, matrix, 0, (last - first) * units, columns, start, to, to_row, turned);
        return;
    }
    for (i64 k = 0; k < last - first; k++, start = (Start){to, to_row})
        multiply(a + k * padded, row, rows, matrix, k * units, units, columns, start, to, to_row, turned);
}

/* One segment of a step backward, for `units` of the part's rows. */
static void backward_tiles(Backward *b, const Share *share, i64 segment, Place place, i64 rows, Range units) {
    const Scan *scan = &b->scan;
    const Task *task = scan->task;
    const i64 width = rounded_up(units.last - units.first, LANES), most_rows = rows_of_tile(scan);
    place.unit = units.first;
    if (segment == 0 && !task->projection)
        add_rows((const real *)task->dy + place.in_time * task->outputs + units.first, task->outputs, rows, units.last - units.first,
                 scan->state[0] + place.row * scan->padded_outputs + units.first, scan->padded_outputs);
    for (i64 r = 0; r < rows; r += most_rows) {
        Place tile = place;
        tile.row += r, tile.in_time += r, tile.in_chunk += r;
        run_segment(&b->machine[share->part], segment, tile, least(most_rows, rows - r), width);
    }
}

/* The gradient of the projected output is whole. */
static void gather_projected(Backward *b, const Share *share, Place place, i64 rows) {
    const Task *task = b->scan.task;
    const i64 first = share->outputs.first, count = share->outputs.last - first, row = b->scan.padded_outputs;
    real *d = b->scan.state[0] + place.row * row;
    if (count <= 0) return;
    add_rows((const real *)task->dy + place.in_time * task->outputs + first, task->outputs, rows, count, d + first, row);
    copy_rows(d + first, row, rows, count, b->d_projected + place.in_chunk * task->outputs + first, task->outputs);
}

/* From it to that of the output. */
static void unproject(Backward *b, const Share *share, Place place, i64 rows) {
    const Scan *scan = &b->scan;
    const i64 row = scan->padded_outputs;
    multiply(scan->state[0] + place.row * row, row, rows, &b->projection, 0, scan->task->outputs, share->units,
             (Start){b->zeros, 0}, b->d_output + place.row * scan->padded + share->units.first, scan->padded, 0);
}

/* The part's own has gone on. */
static void clear_projected(Backward *b, const Share *share, Place place, i64 rows) {
    const i64 first = share->outputs.first, count = share->outputs.last - first, row = b->scan.padded_outputs;
    if (count > 0) zero_rows(rows, count, row, b->scan.state[0] + place.row * row + first);
}

/* From the gradients of the inner gates' products to that of their operand. */
static void through_inner_gates(Backward *b, const Share *share, Place place, i64 rows) {
    const Scan *scan = &b->scan;
    const Task *task = scan->task;
    const Origin *origin = b->machine[share->part].origin + task->program.inner_slot;
    multiply_gradients(b, place.in_chunk, rows, task->blocks, scan->blocks_in_all, &b->inner, share->units, (Start){b->zeros, 0},
                       origin->base[0] + place.row * origin->row + share->units.first, origin->row, 0);
    if (task->mask)
        mask_units(task, share->units, place.row, rows, origin->base[0] + place.row * origin->row, origin->row);
}

/* Add to the gradient of h before the step what comes through the recurrent product. */
static void through_recurrence(Backward *b, const Share *share, Place place, i64 rows) {
    const Scan *scan = &b->scan;
    const Task *task = scan->task;
    const i64 row = scan->padded_outputs;
    real *d = scan->state[0] + place.row * row;
    if (!task->mask) {
        multiply_gradients(b, place.in_chunk, rows, b->first_output, b->outputs, &b->recurrent, share->outputs,
                           (Start){d + share->outputs.first, row}, d + share->outputs.first, row, (int)place.parity);
        return;
    }
    real product[ROWS * PANEL] __attribute__((aligned(VECTOR_BYTES)));
    for (i64 column = share->outputs.first; column < share->outputs.last; column += PANEL) {
        const Range columns = {column, least(column + PANEL, share->outputs.last)};
        for (i64 r = 0; r < rows; r += ROWS) {
            const i64 count = least(ROWS, rows - r);
            multiply_gradients(b, place.in_chunk + r, count, b->first_output, b->outputs, &b->recurrent, columns,
                               (Start){b->zeros, 0}, product, PANEL, 0);
            for (i64 k = 0; k < count; k++)
                for (i64 j = columns.first; j < columns.last; j++)
                    d[(r + k) * row + j] += product[k * PANEL + j - column] *
                                            ((const real *)task->mask)[(place.row + r + k) * task->outputs + j];
        }
    }
}

/* Where a part's rows of a step are. */
static Place place_of(const Backward *b, const Share *share, i64 step, i64 *rows) {
    const Task *task = b->scan.task;
    const Range range = rows_at(task, share, step);
    const i64 in_time = task->offsets[step] + range.first;
    *rows = range.last - range.first;
    return (Place){step & 1, range.first, in_time, in_time - b->now.rows.first, 0, 0};
}

/* What a part does between meeting the others. A step has two stages for the projection and one for each segment. What goes
   back through the recurrent product waits for all segments: it is done first of all in the step before, and for the
   chunk's first step when all steps are done. */
static void backward_stage(Backward *b, const Share *share, i64 step, i64 stage) {
    const Scan *scan = &b->scan;
    const Task *task = scan->task;
    const Program *program = &task->program;
    i64 rows;
    if (stage == 0 && step + 1 < b->now.last && b->first_output < b->outputs) {
        const Place place = place_of(b, share, step + 1, &rows);
        through_recurrence(b, share, place, rows);
    }
    if (step < b->now.first) return;
    const Place place = place_of(b, share, step, &rows);
    const i64 segment = stage - before_segments(task);
    if (segment == -2) gather_projected(b, share, place, rows);
    if (segment == -1) unproject(b, share, place, rows);
    if (segment < 0) return;
    if (segment == 0 && task->projection) clear_projected(b, share, place, rows);
    if (segment && program->inner_segment == segment - 1) through_inner_gates(b, share, place, rows);
    for (i64 unit = share->units.first; unit < share->units.last; unit += scan->depth)
        backward_tiles(b, share, segment, place, rows, (Range){unit, least(unit + scan->depth, share->units.last)});
}

static void backward_stage_of(void *argument, int part) {
    Backward *b = argument;
    backward_stage(b, b->scan.share + part, b->now.step, b->now.stage);
}

/* The steps of a chunk: for one part or, without a share, for all parts, which meet after each stage. */
static void backward_steps(Backward *b, const Share *share) {
    const i64 stages = before_segments(b->scan.task) + b->scan.task->program.segments;
    for (i64 step = b->now.last - 1; step >= b->now.first - 1; step--)
        for (i64 stage = 0; stage < (step < b->now.first ? 1 : stages); stage++) {
            if (share) {
                backward_stage(b, share, step, stage);
            } else {
                b->now.step = step, b->now.stage = stage;
                pool_each(backward_stage_of, b, b->scan.parts);
            }
        }
}

static void backward_steps_of(void *argument, int part) {
    Backward *b = argument;
    backward_steps(b, b->scan.share + part);
}

/* A part of the chunk's operands, packed: a few rows at a time, as the gradients' rows may lie apart by what falls
   on the same place in the caches. */
static void pack_chunk(Backward *b, const Share *share, Range chunk) {
    const i64 rows = chunk.last - chunk.first;
    for (i64 k = 0; k < b->lefts; k++) {
        const Left *left = b->left + k;
        const Range columns = part_of(left->columns, ROWS, share->part, share->parts);
        for (i64 begin = 0; begin < rows; begin += STRETCH) {
            const i64 count = least(STRETCH, rows - begin);
            for (i64 column = columns.first; column < columns.last; column += ROWS) {
                real *to = left->packed + column * rows + begin * ROWS;
                const real *from = left->at + begin * left->row + column;
                if (left->columns - column >= ROWS) {
                    for (i64 r = 0; r < count; r++) memcpy(to + r * ROWS, from + r * left->row, ROWS * sizeof(real));
                } else {
                    copy_rows(from, left->row, count, left->columns - column, to, ROWS);
                }
            }
        }
    }
    for (int k = 0; k < RIGHTS; k++) {
        Right *right = b->right + k;
        if (!right->matrix.panels) continue;
        Matrix part = right->matrix;
        part.k = rows;
        pack_rows(&part, part_of(part.n, PANEL, share->part, share->parts), 0, rows, right->at + chunk.first * right->row,
                  right->row);
    }
}

/* The gradient of x for a part's rows of the chunk. */
static void input_gradient(const Backward *b, const Share *share, Range chunk) {
    const Task *task = b->scan.task;
    const Range rows = part_of(chunk.last - chunk.first, ROWS, share->part, share->parts);
    const i64 features = task->features, whole = features / LANES * LANES;
    real product[ROWS * PANEL] __attribute__((aligned(VECTOR_BYTES)));
    for (i64 begin = rows.first; begin < rows.last; begin += TILE_ROWS) {
        const i64 count = least(TILE_ROWS, rows.last - begin);
        real *dx = (real *)task->dx + (chunk.first + begin) * features;
        for (i64 column = 0; column < features; column += PANEL) {
            const Range columns = {column, least(column + PANEL, features)};
            if (columns.last <= whole) {
                multiply_gradients(b, begin, count, 0, b->inputs, &b->input, columns, (Start){b->zeros, 0}, dx + column, features, 0);
                continue;
            }
            for (i64 r = 0; r < count; r += ROWS) { /* the end of x's rows is not whole vectors */
                const i64 n = least(ROWS, count - r);
                multiply_gradients(b, begin + r, n, 0, b->inputs, &b->input, columns, (Start){b->zeros, 0}, product, PANEL, 0);
                copy_rows(product, PANEL, n, columns.last - column, dx + r * features + column, features);
            }
        }
    }
}

/* The sums over the chunk's rows, for a part's units, added to those of the chunks before. */
static void add_up_chunk(const Backward *b, const Share *share, Range chunk, int begins) {
    const i64 row = b->columns * b->scan.padded, rows = chunk.last - chunk.first;
    const Range units = part_of(row, LANES, share->part, share->parts);
    real *sums = b->scan.task->sums;
    if (begins) zero_rows(1, units.last - units.first, 0, sums + units.first);
    for (i64 begin = 0; begin < rows; begin += STRETCH) {
        const i64 count = least(STRETCH, rows - begin);
        for (i64 u = units.first; u < units.last; u += LANES) {
            Vector sum = all(0);
            for (i64 r = begin; r < begin + count; r++) sum += load(b->gradients + r * row + u);
            store(sums + u, sum + load(sums + u));
        }
    }
}

/* The sums over the chunk's steps of each row, for a part's units of the blocks with the input, added likewise. */
static void add_up_rows(const Backward *b, const Share *share, i64 first, i64 last, i64 chunk, int begins) {
    const Task *task = b->scan.task;
    const i64 row = b->columns * b->scan.padded, width = b->inputs * b->scan.padded;
    const Range units = part_of(width, LANES, share->part, share->parts);
    const i64 count = units.last - units.first;
    real *sums = (real *)task->sums_by_row + units.first;
    if (begins) zero_rows(task->batch, count, width, sums);
    for (i64 step = first; step < last; step++)
        add_rows(b->gradients + (task->offsets[step] - chunk) * row + units.first, row, task->counts[step], count, sums, width);
}

/* A part of the weights' gradients: its groups of rows of each. */
static void weight_gradients(const Backward *b, const Share *share, Range chunk, int begins) {
    const i64 rows = chunk.last - chunk.first;
    real tile[ROWS * PANEL] __attribute__((aligned(VECTOR_BYTES)));
    for (i64 g = 0; g < b->gradient_count; g++) {
        const Gradient *gradient = b->gradient + g;
        const Left *left = gradient->left;
        Matrix matrix = gradient->right->matrix;
        matrix.k = rows;
        const Range range = part_of(left->columns, ROWS, share->part, share->parts);
        for (i64 column = 0; column < matrix.n; column += PANEL) {
            const i64 width = panel_width(&matrix, column), real_width = least(width, matrix.n - column);
            for (i64 r = range.first; r < range.last; r += ROWS) {
                const i64 count = least(ROWS, left->columns - r);
                real *to = gradient->to + r * matrix.n + column, *c = to;
                i64 c_row = matrix.n;
                if (real_width < width) {
                    c = tile, c_row = PANEL;
                    if (!begins) copy_rows(to, matrix.n, count, real_width, tile, PANEL);
                }
                const real *init = begins ? b->zeros : c;
                const i64 init_row = begins ? 0 : c_row;
                const Micro multiply_tile = micro[count - 1][width / LANES - 1];
                multiply_tile(rows, left->packed + r * rows, 1, ROWS, panel_at(&matrix, column), width, init, init_row, c, c_row);
                if (c == tile) copy_rows(tile, PANEL, count, real_width, to, matrix.n);
            }
        }
    }
}

static void begin_backward(void *argument, int part) {
    Backward *b = argument;
    Scan *scan = &b->scan;
    pack_backward(b, scan->share + part);
    place_backward(b, part);
    if (part) return;
    fill_scan(scan);
    zero_rows(1, most(scan->padded, PANEL), 0, b->zeros);
}

static void between_products(void *argument, int part) {
    Backward *b = argument;
    const Share *share = b->scan.share + part;
    pack_chunk(b, share, b->now.rows);
    input_gradient(b, share, b->now.rows);
    add_up_chunk(b, share, b->now.rows, b->now.begins);
    if (b->scan.task->bias_row) add_up_rows(b, share, b->now.first, b->now.last, b->now.rows.first, b->now.begins);
}

static void weight_gradients_of(void *argument, int part) {
    Backward *b = argument;
    weight_gradients(b, b->scan.share + part, b->now.rows, b->now.begins);
}

/* Chunk by chunk from the end: the loop over its steps, then the gradients of the input and of the weights over all its
   rows. */
static void backward_chunks(Backward *b) {
    const Task *task = b->scan.task;
    const int parts = b->scan.parts;
    for (b->now.last = task->steps; b->now.last > 0; b->now.last = b->now.first) {
        b->now.begins = b->now.last == task->steps;
        b->now.first = chunk_begin(task, b->now.last, chunk_size(task));
        b->now.rows = rows_of_steps(task, b->now.first, b->now.last);
        if (b->scan.share->together) backward_steps(b, NULL);
        else pool_each(backward_steps_of, b, parts);
        pool_each(between_products, b, parts);
        pool_each(weight_gradients_of, b, parts);
    }
}

/* Hand out the gradients of the start states. */
static void start_gradients(const Scan *scan) {
    const Task *task = scan->task;
    for (i64 k = 0; k < task->states; k++) {
        const i64 size = k ? task->units : task->outputs;
        copy_rows(scan->state[k], k ? scan->padded : scan->padded_outputs, task->batch, size, task->last[k], size);
    }
}

static int backward(const Task *task) {
    Backward b = {0};
    Arena arena = {NULL, 64};
    const int parts = pool_taken((int)task->threads);
    lay_out_backward(&b, task, parts, &arena);
    void *memory = memory_taken(arena.used);
    if (memory) {
        arena = (Arena){memory, 0};
        lay_out_backward(&b, task, parts, &arena);
        pool_each(begin_backward, &b, parts);
        backward_chunks(&b);
        start_gradients(&b.scan);
        memory_given_back(memory);
    }
    pool_given_back(parts);
    return memory ? DONE : NO_MEMORY;
}

#endif
