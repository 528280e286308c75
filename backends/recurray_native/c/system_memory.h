/* What memory.c wants of the operating system, on POSIX and on Windows. */
#ifndef RECURRAY_SYSTEM_MEMORY_H
#define RECURRAY_SYSTEM_MEMORY_H

#include <stdlib.h>

#ifdef _WIN32

#include <malloc.h>

static inline void *block_on(size_t boundary, size_t size) { return _aligned_malloc(size, boundary); }
static inline void free_block(void *block) { _aligned_free(block); }
static inline void want_large_pages(void *block, size_t size) { (void)block, (void)size; } /* a right that few users have */
static inline void keep_freed_memory(size_t size) { (void)size; } /* nothing to set */

#else

#include <sys/mman.h>

/* `size` is a multiple of the boundary. */
static inline void *block_on(size_t boundary, size_t size) { return aligned_alloc(boundary, size); }
static inline void free_block(void *block) { free(block); }

static inline void want_large_pages(void *block, size_t size) {
#ifdef MADV_HUGEPAGE
    madvise(block, size, MADV_HUGEPAGE); /* it is only advice */
#else
    (void)block, (void)size;
#endif
}

/* glibc gives freed memory back to the system beyond a limit, 128 KiB at first, that rises to twice the largest block that
   was freed. Below it, what training a small model takes would be given back and taken anew at each call: a page fault for
   every 4 KiB, a third of the time. So a block is freed here; nothing of it is ever touched. */
static inline void keep_freed_memory(size_t size) {
    void *volatile block = malloc(size);
    free(block);
}

#endif

#endif
