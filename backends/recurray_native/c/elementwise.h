/* A program of one segment on flat arrays, each number by itself: an optimizer's step. */
#ifndef RECURRAY_ELEMENTWISE_H
#define RECURRAY_ELEMENTWISE_H

#include "machine.h"
#include "pool.h"

/* A tile is ROWS_OF_TILE x WIDTH numbers that follow each other, so that a number of the program needs WIDTH places only. */
enum { WIDTH = 512 / sizeof(real), FLAT_TILE = 2048 / sizeof(real) };

typedef struct {
    const Elementwise *task;
    int parts;
} Parted;

/* The tiles of all sets, one after the other, are cut into parts: no result depends on how many there are. */
static void elementwise_part(void *argument, int part) {
    const Parted *parted = argument;
    const Elementwise *task = parted->task;
    const Program *program = &task->program;
    real memory[task->numbers * WIDTH + (program->tiles + task->arrays) * FLAT_TILE + 64 / sizeof(real)];
    memset(memory, 0, sizeof memory); /* what is past a set's end is computed with too */
    real *const numbers = (real *)(((uintptr_t)memory + 63) / 64 * 64), *const tiles = numbers + task->numbers * WIDTH;
    real *const rest = tiles + program->tiles * FLAT_TILE; /* where the last numbers of a set are, as a whole tile */
    for (i64 j = 0; j < task->numbers; j++)
        for (i64 k = 0; k < WIDTH; k++) numbers[j * WIDTH + k] = (real)task->number[j];
    real *at[program->slots + 1];
    i64 row[program->slots + 1];
    for (i64 k = 0; k < program->slots; k++) {
        const Slot slot = program->slot[k];
        row[k] = slot.kind == UNIT ? 0 : WIDTH;
        at[k] = slot.kind == UNIT ? numbers + slot.index * WIDTH : slot.kind == TILE ? tiles + slot.index * FLAT_TILE : NULL;
    }
    Machine m = {.program = program, .at = at, .row = row, .rows = FLAT_TILE / WIDTH, .width = WIDTH};
    i64 total = 0;
    for (i64 s = 0; s < task->sets; s++) total += (task->size[s] + FLAT_TILE - 1) / FLAT_TILE;
    const Range own = part_of(total, 1, part, parted->parts);
    i64 first = 0; /* tile of the set */
    for (i64 s = 0; s < task->sets; s++) {
        const i64 size = task->size[s], count = (size + FLAT_TILE - 1) / FLAT_TILE;
        real *const *array = (real *const *)task->array + s * task->arrays;
        for (i64 t = most(own.first - first, 0); t < least(own.last - first, count); t++) {
            const i64 begin = t * FLAT_TILE, n = least(FLAT_TILE, size - begin);
            const int is_whole = n == FLAT_TILE;
            for (i64 k = 0; k < program->slots; k++) {
                const Slot slot = program->slot[k];
                if (slot.kind == UNIT || slot.kind == TILE) continue;
                at[k] = is_whole ? array[slot.index] + begin : rest + slot.index * FLAT_TILE;
            }
            if (!is_whole)
                for (i64 a = 0; a < task->arrays; a++) memcpy(rest + a * FLAT_TILE, array[a] + begin, (size_t)n * sizeof(real));
            for (i64 i = 0; i < program->segment_end[0]; i++) operators[program->code[i].operation](&m, program->code + i);
            if (!is_whole)
                for (i64 a = task->given; a < task->arrays; a++) memcpy(array[a] + begin, rest + a * FLAT_TILE, (size_t)n * sizeof(real));
        }
        first += count;
    }
}

static void elementwise(const Elementwise *task) {
    Parted parted = {task, pool_taken((int)task->threads)};
    pool_each(elementwise_part, &parted, parted.parts);
    pool_given_back(parted.parts);
}

#endif
