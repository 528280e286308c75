/* The memory that calls work in. */
#ifndef RECURRAY_MEMORY_H
#define RECURRAY_MEMORY_H

#include <stddef.h>

/* Memory for a call, on a boundary of 64 bytes; null if there is none. */
void *memory_taken(size_t size);

/* Give it back. One block of up to 64 MiB is kept for the next call, as fresh memory costs a fault for each page of it. */
void memory_given_back(void *memory);
void memory_released(void);        /* what is kept */
void memory_limited(size_t most); /* how large that may be */

#endif
