#define _GNU_SOURCE
#include "memory.h"

#include <stdatomic.h>
#include <stdint.h>

#include "system_memory.h"

enum { HEADER = 64, LARGE = 2 << 20, RAISED = 24 << 20 };

typedef struct { size_t size; } Block; /* at the beginning of each */

static _Atomic(Block *) kept;
static _Atomic size_t most_kept = 64 << 20;
static atomic_flag raised = ATOMIC_FLAG_INIT;

void *memory_taken(size_t size) {
    if (!atomic_flag_test_and_set(&raised)) keep_freed_memory(RAISED);
    Block *block = atomic_exchange(&kept, NULL);
    if (block && block->size >= size) return (char *)block + HEADER;
    free_block(block);
    if (size > SIZE_MAX - HEADER - LARGE) return NULL;
    const size_t boundary = size < LARGE / 4 ? HEADER : LARGE;
    const size_t whole = (size + HEADER + boundary - 1) / boundary * boundary;
    block = block_on(boundary, whole);
    if (!block) return NULL;
    if (boundary == LARGE) want_large_pages(block, whole);
    block->size = whole - HEADER;
    return (char *)block + HEADER;
}

void memory_given_back(void *memory) {
    Block *block = (Block *)((char *)memory - HEADER);
    free_block(block->size > most_kept ? block : atomic_exchange(&kept, block));
}

void memory_released(void) { free_block(atomic_exchange(&kept, NULL)); }

void memory_limited(size_t most) { most_kept = most; }
