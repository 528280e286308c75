/* The engine for one instruction set and one type; compiled once for each, see vector.h. */
#include "forward.h"
#include "backward.h"
#include "elementwise.h"

/* One operation on arrays, for the tests. */
static void apply(i64 operation, i64 count, const void *const *operands, void *to) {
    enum { OPERANDS = 5 };
    for (i64 k = 0; k < count; k += LANES) {
        const i64 n = least(LANES, count - k);
        real parts[1 + OPERANDS][LANES] = {{0}};
        real *at[1 + OPERANDS];
        i64 row[1 + OPERANDS] = {0};
        for (int j = 0; j <= OPERANDS; j++) at[j] = parts[j];
        for (int j = 0; j < OPERANDS; j++)
            if (operands[j]) copy_rows((const real *)operands[j] + k, 0, 1, n, parts[1 + j], 0);
        Machine m = {.at = at, .row = row, .rows = 1, .width = LANES};
        Instruction instruction = {(int32_t)operation, 0, 1, 2, 3, 4, 5};
        operators[operation](&m, &instruction);
        copy_rows(parts[0], 0, 1, n, (real *)to + k, 0);
    }
}

const Kernels LEVEL_NAME(kernels) = {LANES, forward, backward, pack, prepare, forward_prepared, elementwise, apply};
