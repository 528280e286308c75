/* The scan forward. */
#ifndef RECURRAY_FORWARD_H
#define RECURRAY_FORWARD_H

#include "scan.h"

/* How far the parts that meet are. */
typedef struct {
    i64 step, stage;
    i64 first, last; /* steps of the chunk */
    Range rows;      /* of the chunk, in arrays over time */
} Moment;

typedef struct {
    Scan scan;
    Matrix *input, *recurrent; /* (blocks), for the inner ones too */
    Matrix projection;
    real *bias;          /* (blocks, H) padded, or of each row (B, blocks, H) */
    int hoisted;         /* whether the product with the input is made ahead of the steps */
    real *ahead;         /* that: (rows of a chunk, blocks, H) padded */
    real *gates;         /* (B, blocks, H) padded, where they are wanted after the first segment; else null */
    real *output;        /* (B, H) padded, where the output is projected and not kept */
    real *operand[2];    /* what the recurrent product is with: h, or h times the mask */
    Moment now;
    Machine machine[MOST_THREADS];
    real *tiles[MOST_THREADS], *gate_tile[MOST_THREADS];
} Forward;

INLINE i64 tile_rows(const Task *task) { return least(TILE_ROWS, task->batch); }

/* Units in a tile: as many as leave the gates of all its rows in the second-level cache. */
static i64 depth_forward(const Task *task) {
    const i64 blocks = GATES_SIZE / (i64)sizeof(real) / (tile_rows(task) * most(1, task->blocks) * BLOCK);
    return least(BLOCK * most(1, least(blocks, TILE_SIZE / BLOCK)), rounded_up(task->units, BLOCK));
}

/* What is ready holds the panels of all matrices, whether a task uses them or the weights as they stand. */
static void lay_out_matrix(Matrix *b, i64 k, i64 n, const Task *task, Arena *arena, int is_ready) {
    const int packed = !standing(task, k);
    real *panels = packed || is_ready ? taken(arena, packed_size(k, n), sizeof(real)) : NULL;
    if (b) *b = (Matrix){k, n, packed ? panels : NULL, NULL, NULL};
}

/* Where the weights are in the engine's order, and the biases. */
static void lay_out_products(Forward *f, const Task *task, Arena *arena, Arena *of_biases, int is_ready) {
    const i64 blocks = task->blocks + task->inner_blocks;
    for (i64 b = 0; b < blocks; b++) {
        if (b < task->blocks && task->input_gate[b] >= 0)
            lay_out_matrix(f->input ? f->input + b : NULL, task->features, task->units, task, arena, is_ready);
        if (task->recurrent_gate[b] >= 0)
            lay_out_matrix(f->recurrent ? f->recurrent + b : NULL, b < task->blocks ? task->outputs : task->units, task->units, task,
                           arena, is_ready);
    }
    if (task->projection) lay_out_matrix(&f->projection, task->units, task->outputs, task, arena, is_ready);
    f->bias = taken(of_biases, (task->bias_row ? task->batch : 1) * blocks * rounded_up(task->units, LANES), sizeof(real));
}

static void lay_out_forward(Forward *f, const Task *task, int parts, Arena *arena) {
    Scan *scan = &f->scan;
    lay_out_scan(scan, task, parts, depth_forward(task), arena);
    const i64 blocks = scan->blocks_in_all, padded = scan->padded;
    f->input = taken(arena, blocks, sizeof(Matrix));
    f->recurrent = taken(arena, blocks, sizeof(Matrix));
    Arena ready = {(char *)task->ready, 0};
    Arena *of_weights = task->ready ? &ready : arena;
    lay_out_products(f, task, of_weights, task->bias_row ? arena : of_weights, task->ready != NULL);
    f->hoisted = task->batch < ROWS && !few(task);
    f->ahead = f->hoisted ? taken(arena, (task->batch + TILE_ROWS) * blocks * padded, sizeof(real)) : NULL;
    f->gates = task->program.segments > 1 ? taken(arena, task->batch * blocks * padded, sizeof(real)) : NULL;
    f->output = task->projection && !task->output ? taken(arena, task->batch * padded, sizeof(real)) : NULL;
    for (int k = 0; k < 2; k++)
        f->operand[k] = task->mask ? taken(arena, task->batch * scan->padded_outputs, sizeof(real)) : scan->state_h[k];
    for (int part = 0; part < parts; part++) {
        lay_out_machine(&f->machine[part], scan, arena, &f->tiles[part]);
        i64 size = f->gates ? 0 : task->blocks * tile_rows(task) * scan->depth;
        f->gate_tile[part] = taken(arena, size, sizeof(real));
    }
}

static void place_forward(Forward *f, int part) {
    const Scan *scan = &f->scan;
    const Task *task = scan->task;
    const i64 padded = scan->padded, row = scan->blocks_in_all * padded;
    for (i64 k = 0; k < task->program.slots; k++) {
        Slot slot = task->program.slot[k];
        Origin origin = origin_of(scan, slot, f->tiles[part]);
        if (slot.kind == GATE) {
            real *at;
            if (f->hoisted && slot.index < task->blocks && task->recurrent_gate[slot.index] < 0) {
                at = f->ahead + slot.index * padded;
                origin = (Origin){{at, at}, row, BY_CHUNK, 1};
            } else if (f->gates) {
                at = f->gates + slot.index * padded;
                origin = (Origin){{at, at}, row, BY_ROW, 1};
            } else {
                at = f->gate_tile[part] + slot.index * tile_rows(task) * scan->depth;
                origin = (Origin){{at, at}, scan->depth, BY_TILE_ROW, 0};
            }
        } else if (slot.kind == STATE && slot.index == 0) {
            origin = (Origin){{scan->state_h[0], scan->state_h[1]}, scan->padded_outputs, BY_ROW, 1};
        } else if (slot.kind == OUTPUT && task->projection) {
            real *at = task->output ? task->output : f->output;
            origin = (Origin){{at, at}, padded, task->output ? BY_STEP : BY_ROW, 1};
        } else if (slot.kind == OUTPUT) {
            origin = (Origin){{scan->state_h[1], scan->state_h[0]}, scan->padded_outputs, BY_ROW, 1};
        }
        f->machine[part].origin[k] = origin;
        f->machine[part].row[k] = origin.row;
    }
}

static void pack_part(const Task *task, Matrix *b, const real *source, const Share *share) {
    if (!b->panels && !share->part) b->transposed = source;
    if (b->panels && !task->ready) pack_transposed(b, part_of(b->n, PANEL, share->part, share->parts), source);
}

/* A part of the weights, packed, and of the biases. */
static void pack_forward(Forward *f, const Share *share) {
    const Task *task = f->scan.task;
    const i64 units = task->units, padded = f->scan.padded;
    for (i64 b = 0; b < f->scan.blocks_in_all; b++) {
        const i64 x = b < task->blocks ? task->input_gate[b] : -1, h = task->recurrent_gate[b];
        if (x >= 0) pack_part(task, f->input + b, (const real *)task->input_weight + x * units * task->features, share);
        if (h >= 0) pack_part(task, f->recurrent + b, (const real *)task->recurrent_weight + h * units * task->outputs, share);
        if (share->part || (task->ready && !task->bias_row)) continue;
        const i64 biases = task->bias_row ? task->batch : 1, row = f->scan.blocks_in_all * padded;
        real *bias = f->bias + b * padded;
        zero_rows(biases, padded, row, bias);
        if (x >= 0 && task->input_bias)
            add_rows((const real *)task->input_bias + x * units, task->bias_row, biases, units, bias, row);
        if (h >= 0 && task->recurrent_bias) add_rows((const real *)task->recurrent_bias + h * units, 0, biases, units, bias, row);
    }
    if (task->projection) pack_part(task, &f->projection, task->projection, share);
}

/* See `recurray_pack`. */
static size_t pack(const Task *given, void *to) {
    Task task = *given; /* of many rows, so that all is packed */
    task.rows = FEW_ROWS + 1, task.ready = NULL;
    if (task.bias_row) task.bias_row = 0, task.input_bias = NULL; /* of each row, they aren't the weights' */
    Forward f = {.scan = {.task = &task, .padded = rounded_up(task.units, LANES), .blocks_in_all = task.blocks + task.inner_blocks}};
    Arena arena = {to, 0};
    Matrix *matrices = to ? memory_taken(2 * (size_t)f.scan.blocks_in_all * sizeof(Matrix)) : NULL;
    if (to && !matrices) return 0;
    if (to) f.input = matrices, f.recurrent = matrices + f.scan.blocks_in_all;
    lay_out_products(&f, &task, &arena, &arena, 1);
    if (!to) return arena.used;
    const Share whole = {.part = 0, .parts = 1};
    pack_forward(&f, &whole);
    memory_given_back(matrices);
    return arena.used;
}

static void mask_rows(Forward *f, i64 first, i64 rows, Range columns, i64 parity) {
    const i64 row = f->scan.padded_outputs, outputs = f->scan.task->outputs;
    const real *mask = f->scan.task->mask, *h = f->scan.state_h[parity];
    for (i64 b = first; b < first + rows; b++)
        for (i64 k = columns.first; k < columns.last; k++) f->operand[parity][b * row + k] = h[b * row + k] * mask[b * outputs + k];
}

/* A block's biases of the batch's rows from `batch_row` on, from a unit on. */
INLINE Start biases_at(const Forward *f, i64 block, i64 batch_row, i64 unit) {
    const i64 row = f->scan.task->bias_row ? f->scan.blocks_in_all * f->scan.padded : 0;
    return (Start){f->bias + batch_row * row + block * f->scan.padded + unit, row};
}

/* The products with the input of all steps of a chunk, for the part's units. */
static void hoist(Forward *f, const Share *share, const Moment *now) {
    const Task *task = f->scan.task;
    const i64 padded = f->scan.padded, row = f->scan.blocks_in_all * padded, first = share->units.first;
    const i64 width = rounded_up(share->units.last - first, LANES);
    for (i64 b = 0; b < task->blocks; b++) {
        if (task->input_gate[b] < 0) continue;
        real *to = f->ahead + b * padded + first;
        Start start = biases_at(f, b, 0, first);
        if (task->bias_row) {
            for (i64 step = now->first; step < now->last; step++)
                copy_rows(start.at, row, task->counts[step], width, to + (task->offsets[step] - now->rows.first) * row, row);
            start = (Start){to, row};
        }
        multiply((const real *)task->x + now->rows.first * task->features, task->features, now->rows.last - now->rows.first,
                 f->input + b, 0, task->features, share->units, start, to, row, 0);
    }
}

/* The gates of a step of one row, for `units`, panel by panel, where there are four with both products. */
static int make_four_gates(Forward *f, int part, Place place, Range units) {
    const Scan *scan = &f->scan;
    const Task *task = scan->task;
    if (task->blocks != 4) return 0;
    for (i64 b = 0; b < 4; b++) {
        if (task->input_gate[b] < 0 || task->recurrent_gate[b] < 0) return 0;
        if (!f->recurrent[b].panels || (!f->hoisted && !f->input[b].panels)) return 0;
    }
    const i64 padded = scan->padded, row = scan->blocks_in_all * padded, panels = (units.last - units.first + PANEL - 1) / PANEL;
    for (i64 p = 0; p < panels; p++) {
        const i64 at = (place.parity ? panels - 1 - p : p) * PANEL, unit = units.first + at;
        const i64 vectors = panel_width(f->recurrent, unit) / LANES;
        const real *w[4], *start[4];
        real *c[4];
        for (i64 b = 0; b < 4; b++) {
            c[b] = f->gates ? f->gates + place.row * row + b * padded + unit
                            : f->gate_tile[part] + b * tile_rows(task) * scan->depth + at;
            start[b] = f->hoisted ? f->ahead + place.in_chunk * row + b * padded + unit : biases_at(f, b, place.row, unit).at;
            if (!f->hoisted) w[b] = panel_at(f->input + b, unit);
        }
        if (!f->hoisted) {
            multiply_row_by_four((const real *)task->x + place.in_time * task->features, task->features, w, start, c, vectors);
            for (i64 b = 0; b < 4; b++) start[b] = c[b];
        }
        for (i64 b = 0; b < 4; b++) w[b] = panel_at(f->recurrent + b, unit);
        multiply_row_by_four(f->operand[place.parity] + place.row * scan->padded_outputs, task->outputs, w, start, c, vectors);
    }
    return 1;
}

/* The gates of `rows` rows of a step, for `units`. */
static void make_gates(Forward *f, int part, Place place, i64 rows, Range units) {
    const Scan *scan = &f->scan;
    const Task *task = scan->task;
    const i64 padded = scan->padded, row = scan->blocks_in_all * padded;
    if (rows == 1 && make_four_gates(f, part, place, units)) return;
    for (i64 k = 0; k < task->blocks; k++) {
        const i64 b = place.parity ? task->blocks - 1 - k : k;
        const int has_x = task->input_gate[b] >= 0, has_h = task->recurrent_gate[b] >= 0;
        if (f->hoisted && !has_h) continue; /* read where it is */
        const i64 c_row = f->gates ? row : scan->depth;
        real *c = f->gates ? f->gates + place.row * row + b * padded + units.first
                           : f->gate_tile[part] + b * tile_rows(task) * scan->depth;
        Start start = biases_at(f, b, place.row, units.first);
        if (has_x && f->hoisted) {
            start = (Start){f->ahead + place.in_chunk * row + b * padded + units.first, row};
        } else if (has_x) {
            multiply((const real *)task->x + place.in_time * task->features, task->features, rows, f->input + b, 0, task->features,
                     units, start, c, c_row, (int)place.parity);
            start = (Start){c, c_row};
        }
        if (has_h)
            multiply(f->operand[place.parity] + place.row * scan->padded_outputs, scan->padded_outputs, rows, f->recurrent + b, 0,
                     task->outputs, units, start, c, c_row, (int)place.parity);
    }
}

/* What the inner gates' product is with, times the mask, for the part's units of its rows. */
static void mask_inner(Forward *f, const Share *share, Place place, i64 rows) {
    const Task *task = f->scan.task;
    const Origin *origin = f->machine[share->part].origin + task->program.inner_slot;
    real *a = origin->base[0] + (origin->moves == BY_STEP ? place.in_time : place.row) * origin->row;
    mask_units(task, share->units, place.row, rows, a, origin->row);
}

/* The products of the inner gates, for all the part's rows and units. */
static void make_inner_gates(Forward *f, const Share *share, Place place, Range rows) {
    const Scan *scan = &f->scan;
    const Task *task = scan->task;
    const i64 padded = scan->padded, row = scan->blocks_in_all * padded;
    const Origin *origin = f->machine[share->part].origin + task->program.inner_slot;
    const real *a = origin->base[0] + (origin->moves == BY_STEP ? place.in_time : place.row) * origin->row;
    for (i64 b = task->blocks; b < scan->blocks_in_all; b++)
        multiply(a, origin->row, rows.last - rows.first, f->recurrent + b, 0, task->units, share->units,
                 biases_at(f, b, place.row, share->units.first),
                 f->gates + place.row * row + b * padded + share->units.first, row, (int)place.parity);
}

/* The columns `columns` of the output of a step, wherever they go. */
static void put_out(Forward *f, Place place, i64 rows, Range columns) {
    const Task *task = f->scan.task;
    const i64 row = f->scan.padded_outputs, next = 1 - place.parity, count = columns.last - columns.first;
    const real *h = f->scan.state_h[next] + place.row * row + columns.first;
    copy_rows(h, row, rows, count, (real *)task->y + place.in_time * task->y_row + columns.first, task->y_row);
    if (task->mask) mask_rows(f, place.row, rows, columns, next);
}

/* One segment of a step for `units` of the part's rows. */
static void forward_tiles(Forward *f, const Share *share, i64 segment, Place place, i64 rows, Range units) {
    const Scan *scan = &f->scan;
    const Task *task = scan->task;
    const i64 width = rounded_up(units.last - units.first, LANES), most_rows = rows_of_tile(scan);
    place.unit = units.first;
    for (i64 done = 0; done < rows; done += tile_rows(task)) {
        const i64 count = least(tile_rows(task), rows - done);
        Place here = place;
        here.row += done, here.in_time += done, here.in_chunk += done;
        if (segment == 0) make_gates(f, share->part, here, count, units);
        for (i64 r = 0; r < count; r += most_rows) {
            Place tile = here;
            tile.row += r, tile.in_time += r, tile.in_chunk += r, tile.in_tile = r;
            const i64 n = least(most_rows, count - r);
            run_segment(&f->machine[share->part], segment, tile, n, width);
        }
    }
    if (segment + 1 == task->program.segments && !task->projection) put_out(f, place, rows, units);
}

/* The output, projected, for the part's rows and outputs. */
static void project(Forward *f, const Share *share, Place place, i64 rows) {
    const Scan *scan = &f->scan;
    const Task *task = scan->task;
    const i64 row = scan->padded_outputs, first = share->outputs.first, count = share->outputs.last - first;
    if (count <= 0) return;
    const real *a = task->output ? (real *)task->output + place.in_time * scan->padded : f->output + place.row * scan->padded;
    real *to = scan->state_h[1 - place.parity] + place.row * row + first;
    for (i64 r = 0; r < rows; r++) memset(to + r * row, 0, (size_t)rounded_up(count, LANES) * sizeof(real));
    multiply(a, scan->padded, rows, &f->projection, 0, task->units, share->outputs, (Start){to, row}, to, row, (int)place.parity);
    put_out(f, place, rows, share->outputs);
}

/* What the recurrent product of a step is with is kept for backward. */
static void before_step(Forward *f, const Share *share, Place place, i64 rows) {
    const Scan *scan = &f->scan;
    const Task *task = scan->task;
    const i64 first = share->outputs.first, count = share->outputs.last - first, row = scan->padded_outputs;
    if (!task->h_before) return;
    copy_rows(f->operand[place.parity] + place.row * row + first, row, rows, count,
              (real *)task->h_before + place.in_time * task->outputs + first, task->outputs);
}

/* What a part does of a step between meeting the others: a segment, or last the projection. */
static void forward_stage(Forward *f, const Share *share, const Moment *now) {
    const Scan *scan = &f->scan;
    const Task *task = scan->task;
    const Program *program = &task->program;
    const Range rows = rows_at(task, share, now->step);
    const i64 count = rows.last - rows.first, in_time = task->offsets[now->step] + rows.first, segment = now->stage;
    const Place place = {now->step & 1, rows.first, in_time, in_time - now->rows.first, 0, 0};
    if (segment == program->segments) {
        project(f, share, place, count);
        return;
    }
    if (f->hoisted && segment == 0 && now->step == now->first) hoist(f, share, now);
    if (segment == 0) before_step(f, share, place, count);
    if (segment && program->inner_segment == segment - 1) make_inner_gates(f, share, place, rows);
    for (i64 unit = share->units.first; unit < share->units.last; unit += scan->depth)
        forward_tiles(f, share, segment, place, count, (Range){unit, least(unit + scan->depth, share->units.last)});
    if (task->mask && program->inner_segment == segment) mask_inner(f, share, place, count);
}

static void forward_stage_of(void *argument, int part) {
    Forward *f = argument;
    forward_stage(f, f->scan.share + part, &f->now);
}

/* All steps: for one part or, without a share, for all parts, which meet after each stage. */
static void forward_steps(Forward *f, const Share *share) {
    const Task *task = f->scan.task;
    const i64 stages = task->program.segments + (task->projection != NULL);
    Moment now;
    for (now.first = 0; now.first < task->steps; now.first = now.last) {
        now.last = f->hoisted ? chunk_end(task, now.first, TILE_ROWS) : task->steps;
        now.rows = rows_of_steps(task, now.first, now.last);
        for (now.step = now.first; now.step < now.last; now.step++)
            for (now.stage = 0; now.stage < stages; now.stage++) {
                if (share) {
                    forward_stage(f, share, &now);
                } else {
                    f->now = now;
                    pool_each(forward_stage_of, f, f->scan.parts);
                }
            }
    }
}

static void forward_steps_of(void *argument, int part) {
    Forward *f = argument;
    forward_steps(f, f->scan.share + part);
}

/* What comes before the steps of each call. */
static void begin_forward(void *argument, int part) {
    Forward *f = argument;
    Scan *scan = &f->scan;
    const Task *task = scan->task;
    pack_forward(f, scan->share + part);
    if (part) return;
    fill_scan(scan);
    for (int k = 0; k < 2 && task->mask; k++) mask_rows(f, 0, task->batch, (Range){0, task->outputs}, k);
}

static void end_states(const Scan *scan) {
    const Task *task = scan->task;
    for (i64 k = 0; k < task->states; k++) {
        const i64 size = k ? task->units : task->outputs, row = k ? scan->padded : scan->padded_outputs;
        for (i64 b = 0; b < task->batch; b++) {
            /* a row's last step: its own where time runs forward, everyone's where it runs backward */
            const real *from = k ? scan->state[k] : scan->state_h[task->ends[b] & 1];
            copy_rows(from + b * row, 0, 1, size, (real *)task->last[k] + b * size, 0);
        }
    }
}

/* y = x @ weight.T + bias, (N, I) to (N, R), with the weight as it stands. */
static void affine(const Task *task) {
    const Matrix weight = {.k = task->features, .n = task->outputs, .transposed = task->input_weight};
    Start start = {task->input_bias, 0};
    if (!start.at) {
        memset(task->y, 0, (size_t)(task->rows * task->outputs) * sizeof(real));
        start = (Start){task->y, task->outputs};
    }
    multiply_transposed(task->x, task->features, task->rows, &weight, (Range){0, task->outputs}, start, task->y, task->outputs);
}

static int forward(const Task *task) {
    if (!task->states) {
        affine(task);
        return DONE;
    }
    Forward f = {0};
    Arena arena = {NULL, 64};
    const int parts = pool_taken((int)task->threads);
    lay_out_forward(&f, task, parts, &arena);
    void *memory = memory_taken(arena.used);
    if (memory) {
        arena = (Arena){memory, 0};
        lay_out_forward(&f, task, parts, &arena);
        for (int part = 0; part < parts; part++) place_forward(&f, part);
        pool_each(begin_forward, &f, parts);
        if (f.scan.share->together) forward_steps(&f, NULL);
        else pool_each(forward_steps_of, &f, parts);
        end_states(&f.scan);
        memory_given_back(memory);
    }
    pool_given_back(parts);
    return memory ? DONE : NO_MEMORY;
}

/* See `recurray_prepare`. */
static size_t prepare(const Task *task, void *to) {
    Forward other = {0};
    Arena arena = {to, 0};
    Forward *f = task->states ? taken(&arena, 1, sizeof(Forward)) : NULL;
    if (f) *f = other;
    if (task->states) lay_out_forward(f ? f : &other, task, 1, &arena);
    if (f) place_forward(f, 0);
    return arena.used;
}

static void forward_prepared(const Task *task, void *prepared) {
    if (!task->states) {
        affine(task);
        return;
    }
    Forward *f = prepared;
    begin_forward(f, 0);
    forward_steps(f, f->scan.share);
    end_states(&f->scan);
}

#endif
