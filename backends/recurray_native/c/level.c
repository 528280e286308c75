/* The engine for one instruction set and one type; compiled once for each, see vector.h. */
#include "forward.h"
#include "backward.h"

/* One operation on arrays, for the tests. */
static void apply(i64 operation, i64 count, const void *a, const void *b, const void *c, void *to) {
    for (i64 k = 0; k < count; k += LANES) {
        const i64 n = least(LANES, count - k);
        real parts[4][LANES] = {{0}};
        const void *given[] = {a, b, c};
        real *at[4];
        i64 row[4] = {0};
        for (int j = 0; j < 4; j++) at[j] = parts[j];
        for (int j = 0; j < 3; j++)
            if (given[j]) copy_rows((const real *)given[j] + k, 0, 1, n, parts[j + 1], 0);
        Machine m = {.at = at, .row = row, .rows = 1, .width = LANES};
        Instruction instruction = {(int32_t)operation, 0, 1, 2, 3};
        operators[operation](&m, &instruction);
        copy_rows(parts[0], 0, 1, n, (real *)to + k, 0);
    }
}

const Kernels LEVEL_NAME(kernels) = {LANES, forward, backward, pack, apply};
