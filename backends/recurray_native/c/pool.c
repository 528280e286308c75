#define _GNU_SOURCE
#include "pool.h"

#include <stdint.h>

#include "system_threads.h"

static struct {
    Lock in_use; /* by one call at a time */
    Lock held;   /* for all that follows */
    Condition begin, end;
    Work work;
    void *argument;
    int threads;  /* of the call */
    int made;     /* threads made so far */
    atomic_int unfinished;
    uint64_t call; /* its number */
} pool = {.in_use = NEW_LOCK, .held = NEW_LOCK, .begin = NEW_CONDITION, .end = NEW_CONDITION};

enum { TURNS = 4000 }; /* of waiting for a thread that is about to come, before giving it the processor; some 50 us */

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static THREAD_FUNCTION worker(void *number) {
    int thread = (int)(intptr_t)number;
    uint64_t done = 0;
    lock(&pool.held);
    for (;;) {
        while (pool.call == done || thread >= pool.threads) {
            done = pool.call; /* not meant for this one */
            wait_for(&pool.begin, &pool.held);
        }
        done = pool.call;
        Work work = pool.work;
        void *argument = pool.argument;
        int threads = pool.threads;
        unlock(&pool.held);
        work(argument, thread, threads);
        lock(&pool.held);
        if (--pool.unfinished == 0) wake_one(&pool.end);
    }
    return 0;
}

/* A child of fork has the memory but none of the threads: it begins anew. */
static void forget(void) {
    pool.in_use = pool.held = (Lock)NEW_LOCK;
    pool.begin = pool.end = (Condition)NEW_CONDITION;
    pool.made = pool.threads = 0;
    pool.unfinished = 0;
    pool.call = 0;
}

__attribute__((constructor)) static void when_loaded(void) { in_forked_child(forget); }

/* Make threads up to `wanted`, the caller among them; the lock is held. */
static int make(int wanted) {
    while (pool.made + 1 < wanted && begin_thread(worker, (void *)(intptr_t)(pool.made + 1))) pool.made++;
    return pool.made + 1;
}

void pool_run(Work work, void *argument, int threads) {
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads <= 1 || !try_lock(&pool.in_use)) {
        work(argument, 0, 1);
        return;
    }
    lock(&pool.held);
    int there = make(threads);
    if (threads > there) threads = there;
    pool.work = work;
    pool.argument = argument;
    pool.threads = threads;
    pool.unfinished = threads - 1;
    pool.call++;
    wake_all(&pool.begin);
    unlock(&pool.held);
    work(argument, 0, threads);
    for (int turns = 0; turns < TURNS && atomic_load(&pool.unfinished); turns++) pause_briefly();
    lock(&pool.held);
    while (pool.unfinished) wait_for(&pool.end, &pool.held);
    pool.threads = 0;
    unlock(&pool.held);
    unlock(&pool.in_use);
}

void barrier_wait(Barrier *barrier, int threads) {
    if (threads == 1) return;
    int round = atomic_load_explicit(&barrier->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) + 1 == threads) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->round, round + 1, memory_order_release);
        return;
    }
    for (int turns = 0; atomic_load_explicit(&barrier->round, memory_order_acquire) == round; turns++) {
        if (turns < TURNS) pause_briefly();
        else let_others_run(); /* fewer cores than threads */
    }
}
