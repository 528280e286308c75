/* The functions that Python calls, and the choice of an instruction set. Levels are numbered from the best. */
#include <stdio.h>

#include "engine.h"
#include "memory.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#if defined(__x86_64__)
extern const Kernels kernels_avx512_float, kernels_avx512_double, kernels_avx2_float, kernels_avx2_double;
static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#elif defined(__aarch64__)
extern const Kernels kernels_neon_float, kernels_neon_double;
#endif
extern const Kernels kernels_portable_float, kernels_portable_double;
static int always(void) { return 1; }

static const struct {
    const char *name;
    int (*runs_here)(void);
    const Kernels *kernels[2]; /* of float and double */
} levels[] = {
#if defined(__x86_64__)
    {"avx512", has_avx512, {&kernels_avx512_float, &kernels_avx512_double}},
    {"avx2", has_avx2, {&kernels_avx2_float, &kernels_avx2_double}},
#elif defined(__aarch64__)
    {"neon", always, {&kernels_neon_float, &kernels_neon_double}}, /* every such processor has it */
#endif
    {"portable", always, {&kernels_portable_float, &kernels_portable_double}},
};

/* The name of a level, null past the last. */
EXPORT const char *recurray_level(i64 level) {
    return level >= 0 && (size_t)level < sizeof levels / sizeof *levels ? levels[level].name : NULL;
}

EXPORT int recurray_runs_here(i64 level) { return levels[level].runs_here(); }

EXPORT i64 recurray_lanes(i64 level, i64 is_double) { return levels[level].kernels[is_double]->lanes; }

EXPORT int recurray_forward(i64 level, i64 is_double, const Task *task) { return levels[level].kernels[is_double]->forward(task); }

/* One task after another: the layers and directions of a stack. */
EXPORT int recurray_forward_each(i64 level, i64 is_double, i64 count, const Task *const *task) {
    int result = DONE;
    for (i64 k = 0; k < count && result == DONE; k++) result = recurray_forward(level, is_double, task[k]);
    return result;
}

/* Lay out what a task works in, so that calls needn't: for as long as the task is the same but for the numbers that it points to.
   Returns the bytes of that, on a boundary of 64; `to` may be null, to ask. */
EXPORT size_t recurray_prepare(i64 level, i64 is_double, const Task *task, void *to) {
    return levels[level].kernels[is_double]->prepare(task, to);
}

EXPORT void recurray_run(const Chain *chain) {
    const Kernels *kernels = levels[chain->level].kernels[chain->is_double];
    for (i64 k = 0; k < chain->count; k++) kernels->forward_prepared(chain->task[k], chain->prepared[k]);
}

/* x @ weight.T + bias, for a few rows: (N, I), (R, I), (R) or null, to y (N, R). */
EXPORT void recurray_affine(i64 level, i64 is_double, i64 rows, i64 features, i64 outputs, const void *x, const void *weight,
                            const void *bias, void *y) {
    const Task task = {.rows = rows, .features = features, .outputs = outputs, .x = x, .input_weight = weight, .input_bias = bias, .y = y};
    recurray_forward(level, is_double, &task);
}

/* Bring a task's weights into the engine's order, for `ready` of any task with these weights. Returns the bytes of that, on a
   boundary of 64; `to` may be null, to ask. */
EXPORT size_t recurray_pack(i64 level, i64 is_double, const Task *task, void *to) {
    return levels[level].kernels[is_double]->pack(task, to);
}

EXPORT int recurray_backward(i64 level, i64 is_double, const Task *task) { return levels[level].kernels[is_double]->backward(task); }

EXPORT void recurray_elementwise(i64 level, i64 is_double, const Elementwise *task) {
    levels[level].kernels[is_double]->elementwise(task);
}

EXPORT void recurray_apply(i64 level, i64 is_double, i64 operation, i64 count, const void *const *operands, void *to) {
    levels[level].kernels[is_double]->apply(operation, count, operands, to);
}

/* Checked against the mirrors in Python. */
EXPORT size_t recurray_task_size(void) { return sizeof(Task) + sizeof(Elementwise) + sizeof(Instruction) + sizeof(Chain); }

EXPORT void recurray_release_memory(void) { memory_released(); }

EXPORT void recurray_limit_memory(size_t most) { memory_limited(most); }
