/* Threads that sleep between calls. */
#ifndef RECURRAY_POOL_H
#define RECURRAY_POOL_H

#include <stdatomic.h>

enum { MOST_THREADS = 64 };

typedef void (*Work)(void *argument, int thread, int threads);

/* Run `work` as threads 0 to threads - 1, of which the caller is thread 0. If the pool is in use by another of the
   process's threads, or no thread can be made, the caller does all the work as one thread. */
void pool_run(Work work, void *argument, int threads);

/* Where the threads of one call wait for each other. They spin: a step of one row takes microseconds. */
typedef struct {
    _Atomic int arrived;
    _Atomic int round;
} Barrier;

void barrier_wait(Barrier *barrier, int threads);

#endif
