#define _GNU_SOURCE
#include "memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HEADER = 64, LARGE = 2 << 20, MOST_KEPT = 64 << 20, RAISED = 24 << 20 };

typedef struct { size_t size; } Block; /* at the beginning of each */

static _Atomic(Block *) kept;
static pthread_once_t raised = PTHREAD_ONCE_INIT;

/* glibc gives freed memory back to the system beyond a limit, 128 KiB at first, that rises to twice the largest block that
   was freed. Below it, what training a small model takes would be given back and taken anew at each call: a page fault for
   every 4 KiB, a third of the time. So a block is freed here once; nothing of it is ever touched. */
static void raise_limit(void) {
    void *volatile block = malloc(RAISED);
    free(block);
}

void *memory_taken(size_t size) {
    pthread_once(&raised, raise_limit);
    Block *block = atomic_exchange(&kept, NULL);
    if (block && block->size >= size) return (char *)block + HEADER;
    free(block);
    if (size > SIZE_MAX - HEADER - LARGE) return NULL;
    const size_t boundary = size < LARGE / 4 ? HEADER : LARGE;
    const size_t whole = (size + HEADER + boundary - 1) / boundary * boundary;
    block = aligned_alloc(boundary, whole);
    if (!block) return NULL;
#ifdef MADV_HUGEPAGE
    if (boundary == LARGE) madvise(block, whole, MADV_HUGEPAGE); /* it is only advice */
#endif
    block->size = whole - HEADER;
    return (char *)block + HEADER;
}

void memory_given_back(void *memory) {
    Block *block = (Block *)((char *)memory - HEADER);
    free(block->size > MOST_KEPT ? block : atomic_exchange(&kept, block));
}

void memory_released(void) { free(atomic_exchange(&kept, NULL)); }
