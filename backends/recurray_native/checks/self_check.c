/* Compares a level with the portable one, on programs written by write_programs.py: forward and backward, random sizes.

   For processors that the tests can't run on, built by a cross compiler and run under an emulator, see neon.sh; and for
   MemorySanitizer, which wants all of a program compiled with it, see sanitizers.sh. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../c/engine.h"
#include "programs.h" /* written: struct Cell cells[], CELLS */

extern const char *recurray_level(i64);
extern i64 recurray_lanes(i64, i64);
extern int recurray_forward(i64, i64, const Task *);
extern int recurray_backward(i64, i64, const Task *);

enum { ARRAYS = 64, LEVELS_COMPARED = 2 };

static uint64_t state = 88172645463325252ull;

static double uniform(void) { /* xorshift, (-1, 1) */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (double)(state >> 11) / (double)(1ull << 52) - 1;
}

static int below(int n) { return (int)((uniform() + 1) / 2 * n); }

static int is_double;

static void set(void *a, i64 k, double value) {
    if (is_double) ((double *)a)[k] = value;
    else ((float *)a)[k] = (float)value;
}

static double get(const void *a, i64 k) { return is_double ? ((const double *)a)[k] : (double)((const float *)a)[k]; }

static void *made(i64 count) {
    void *a = malloc((size_t)(count + 1) * (is_double ? 8 : 4));
    if (!a) exit(3);
    return a;
}

static void *drawn(i64 count, double scale) {
    void *a = made(count);
    for (i64 k = 0; k < count; k++) set(a, k, uniform() * scale);
    return a;
}

static double worst;

static void compare(const char *what, const struct Cell *cell, const void *a, const void *b, i64 rows, i64 columns, i64 a_row, i64 b_row) {
    double most = 1, error = 0;
    for (i64 r = 0; r < rows; r++)
        for (i64 k = 0; k < columns; k++) {
            most = fmax(most, fabs(get(b, r * b_row + k)));
            const double difference = fabs(get(a, r * a_row + k) - get(b, r * b_row + k));
            error = difference > error || difference != difference ? difference : error;
        }
    error /= most * (is_double ? 1e-12 : 1e-4);
    if (!(error <= worst)) worst = error;
    if (!(error < 1)) {
        printf("%s of %s: %g times the tolerance\n", what, cell->name, error);
        exit(1);
    }
}

static void check_lstm(const void *y, const void *x, const void *w_in, const void *w_re, const void *b_in, i64 bias_row, const void *b_re,
                       const void *h0, const void *c0, i64 T, i64 B, i64 I, i64 H);

static void check(const struct Cell *cell) {
    const i64 T = 1 + below(7), B = 1 + below(30), I = 1 + below(40), H = 1 + below(79), N = T * B;
    i64 counts[8], offsets[8], lengths[32];
    for (i64 t = 0; t < T; t++) counts[t] = B, offsets[t] = t * B;
    for (i64 b = 0; b < B; b++) lengths[b] = T;
    const double scale = 1 / sqrt((double)(I + H));
    void *w_in = drawn(cell->inputs * H * I, scale), *w_re = drawn(cell->recurrents * H * H, scale);
    const i64 bias_row = below(2) ? cell->inputs * H : 0; /* whether each row has a bias of its own */
    void *b_in = drawn((bias_row ? B : 1) * cell->inputs * H, 1), *b_re = drawn(cell->recurrents * H, 1), *x = drawn(N * I, 1), *dy = drawn(N * H, 1);
    void *params[ARRAYS], *first[8], *d_first[8];
    for (i64 k = 0; k < cell->params; k++) params[k] = drawn(H, 1);
    for (i64 k = 0; k < cell->states; k++) first[k] = drawn(B * H, 1), d_first[k] = drawn(B * H, 1);
    void *y[2], *dx[2], *last[2][8], *d_last[2][8], *dw_in[2], *dw_re[2], *sums[2], *sums_by_row[2];
    const i64 dgates = cell->blocks + cell->inner_blocks + cell->params;
    for (int level = 0; level < LEVELS_COMPARED; level++) {
        const i64 lanes = recurray_lanes(level, is_double), padded = (H + lanes - 1) / lanes * lanes;
        void *packed[ARRAYS], *kept[ARRAYS];
        for (i64 k = 0; k < cell->packed; k++) packed[k] = made(N * padded);
        for (i64 k = 0; k < cell->kept; k++) kept[k] = packed[k];
        for (i64 k = 0; k < cell->states; k++) last[level][k] = made(B * H), d_last[level][k] = made(B * H);
        void *h_before = made(N * H);
        y[level] = made(N * H), dx[level] = made(N * I), sums[level] = made(dgates * padded);
        sums_by_row[level] = made(B * cell->inputs * padded);
        dw_in[level] = made(cell->inputs * H * I), dw_re[level] = made(cell->recurrents * H * H);
        Task task = {.steps = T, .batch = B, .rows = N, .features = I, .units = H, .outputs = H, .threads = 1 + below(3),
                     .counts = counts, .offsets = offsets, .lengths = lengths, .ends = lengths,
                     .blocks = cell->blocks, .inner_blocks = cell->inner_blocks,
                     .input_gate = cell->input_gate, .recurrent_gate = cell->recurrent_gate,
                     .input_weight = w_in, .input_bias = b_in, .recurrent_weight = w_re, .recurrent_bias = b_re,
                     .bias_row = bias_row, .params = cell->params, .param = (const void *const *)params,
                     .constants = cell->forward_constants, .constant = cell->forward_constant, .states = cell->states,
                     .first = (const void *const *)first, .last = last[level], .x = x, .packed = packed, .y = y[level], .y_row = H,
                     .h_before = cell->has_product ? h_before : NULL, .program = cell->forward};
        if (recurray_forward(level, is_double, &task)) exit(2);
        task.terms = cell->params;
        task.constants = cell->backward_constants, task.constant = cell->backward_constant;
        task.first = (const void *const *)d_first, task.last = d_last[level], task.packed = kept;
        task.inner_operand = cell->inner_blocks ? packed[cell->packed - 1] : NULL;
        task.dy = dy, task.dx = dx[level], task.d_input_weight = dw_in[level], task.d_recurrent_weight = dw_re[level];
        task.sums = sums[level], task.sums_by_row = bias_row ? sums_by_row[level] : NULL, task.program = cell->backward;
        if (recurray_backward(level, is_double, &task)) exit(2);
        for (i64 k = 0; k < cell->packed; k++) free(packed[k]);
        free(h_before);
    }
    if (cell == cells) check_lstm(y[0], x, w_in, w_re, b_in, bias_row, b_re, first[0], first[1], T, B, I, H); /* the first is the LSTM */
    const i64 lanes[2] = {recurray_lanes(0, is_double), recurray_lanes(1, is_double)};
    compare("y", cell, y[0], y[1], N, H, H, H);
    compare("dx", cell, dx[0], dx[1], N, I, I, I);
    compare("the input weight's gradient", cell, dw_in[0], dw_in[1], cell->inputs * H, I, I, I);
    compare("the recurrent weight's gradient", cell, dw_re[0], dw_re[1], cell->recurrents * H, H, H, H);
    const i64 row[2] = {(H + lanes[0] - 1) / lanes[0] * lanes[0], (H + lanes[1] - 1) / lanes[1] * lanes[1]};
    compare("sums", cell, sums[0], sums[1], dgates, H, row[0], row[1]);
    if (bias_row) compare("sums by row", cell, sums_by_row[0], sums_by_row[1], B * cell->inputs, H, row[0], row[1]);
    for (i64 k = 0; k < cell->states; k++) {
        compare("an end state", cell, last[0][k], last[1][k], B, H, H, H);
        compare("a start state's gradient", cell, d_last[0][k], d_last[1][k], B, H, H, H);
        for (int level = 0; level < 2; level++) free(last[level][k]), free(d_last[level][k]);
        free(first[k]), free(d_first[k]);
    }
    for (int level = 0; level < 2; level++) free(y[level]), free(dx[level]), free(dw_in[level]), free(dw_re[level]), free(sums[level]), free(sums_by_row[level]);
    for (i64 k = 0; k < cell->params; k++) free(params[k]);
    free(w_in), free(w_re), free(b_in), free(b_re), free(x), free(dy);
}

/* The LSTM written down once more, with the C library's functions: the levels share what could be wrong in both. */
static void check_lstm(const void *y, const void *x, const void *w_in, const void *w_re, const void *b_in, i64 bias_row, const void *b_re,
                       const void *h0, const void *c0, i64 T, i64 B, i64 I, i64 H) {
    for (i64 b = 0; b < B; b++) {
        double h[80], c[80], next[80], error = 0;
        for (i64 u = 0; u < H; u++) h[u] = get(h0, b * H + u), c[u] = get(c0, b * H + u);
        for (i64 t = 0; t < T; t++) {
            for (i64 u = 0; u < H; u++) {
                double a[4]; /* i f g o */
                for (i64 g = 0; g < 4; g++) {
                    const i64 row = g * H + u;
                    a[g] = get(b_in, b * bias_row + row) + get(b_re, row);
                    for (i64 k = 0; k < I; k++) a[g] += get(w_in, row * I + k) * get(x, (t * B + b) * I + k);
                    for (i64 k = 0; k < H; k++) a[g] += get(w_re, row * H + k) * h[k];
                }
                c[u] = c[u] / (1 + exp(-a[1])) + tanh(a[2]) / (1 + exp(-a[0]));
                next[u] = tanh(c[u]) / (1 + exp(-a[3]));
                error = fmax(error, fabs(next[u] - get(y, (t * B + b) * H + u)));
            }
            memcpy(h, next, sizeof h);
        }
        if (!(error < (is_double ? 1e-12 : 1e-5))) {
            printf("the LSTM is wrong by %g\n", error);
            exit(1);
        }
    }
}

int main(int count, char **arguments) {
    const int problems = count > 1 ? atoi(arguments[1]) : 200;
    for (int k = 0; k < problems; k++) {
        is_double = k & 1;
        check(&cells[k / 2 % CELLS]);
    }
    printf("%s equals %s in %d problems: at worst %.3f of the tolerance\n", recurray_level(0), recurray_level(1), problems, worst);
    return 0;
}
