/* Threads that do parts of a call's work, whoever comes first. They sleep between calls. */
#ifndef RECURRAY_POOL_H
#define RECURRAY_POOL_H

enum { MOST_THREADS = 64 };

typedef void (*Work)(void *argument, int part);

/* Take the pool for a call; returns how many parts to cut its work into: `threads` at most, and one if the pool is in use by
   another of the process's threads, if no thread can be made, or if threads have lately been a loss. */
int pool_taken(int threads);

/* Do all parts of some work; returns when they are done. A thread that comes late finds none left, so nobody waits for it,
   only for one that has begun. What a part does mustn't depend on who does it. */
void pool_each(Work work, void *argument, int parts);

void pool_given_back(int parts);

#endif
