#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

static struct {
    pthread_mutex_t in_use; /* by one call at a time */
    pthread_mutex_t lock;   /* of all that follows */
    pthread_cond_t begin, end;
    Work work;
    void *argument;
    int threads;  /* of the call */
    int made;     /* threads made so far */
    atomic_int unfinished;
    long call;    /* its number */
} pool = {.in_use = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .begin = PTHREAD_COND_INITIALIZER,
          .end = PTHREAD_COND_INITIALIZER};

enum { TURNS = 4000 }; /* of waiting for a thread that is about to come, before giving it the processor; some 50 us */

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void *worker(void *number) {
    int thread = (int)(long)number;
    long done = 0;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.call == done || thread >= pool.threads) {
            done = pool.call; /* not meant for this one */
            pthread_cond_wait(&pool.begin, &pool.lock);
        }
        done = pool.call;
        Work work = pool.work;
        void *argument = pool.argument;
        int threads = pool.threads;
        pthread_mutex_unlock(&pool.lock);
        work(argument, thread, threads);
        pthread_mutex_lock(&pool.lock);
        if (--pool.unfinished == 0) pthread_cond_signal(&pool.end);
    }
    return NULL;
}

/* A child of fork has the memory but none of the threads: it begins anew. */
static void forget(void) {
    pthread_mutex_init(&pool.in_use, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.begin, NULL);
    pthread_cond_init(&pool.end, NULL);
    pool.made = pool.threads = 0;
    pool.unfinished = 0;
    pool.call = 0;
}

static void prepare(void) { pthread_atfork(NULL, NULL, forget); }

/* Make threads up to `wanted`, the caller among them; the lock is held. Signals stay with Python's threads. */
static int make(int wanted) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.made + 1 < wanted) {
        pthread_t id;
        if (pthread_create(&id, NULL, worker, (void *)(long)(pool.made + 1))) break;
        pthread_detach(id);
        pool.made++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool.made + 1;
}

void pool_run(Work work, void *argument, int threads) {
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    pthread_once(&prepared, prepare);
    if (threads <= 1 || pthread_mutex_trylock(&pool.in_use)) {
        work(argument, 0, 1);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    int there = make(threads);
    if (threads > there) threads = there;
    pool.work = work;
    pool.argument = argument;
    pool.threads = threads;
    pool.unfinished = threads - 1;
    pool.call++;
    pthread_cond_broadcast(&pool.begin);
    pthread_mutex_unlock(&pool.lock);
    work(argument, 0, threads);
    for (int turns = 0; turns < TURNS && atomic_load(&pool.unfinished); turns++) pause_briefly();
    pthread_mutex_lock(&pool.lock);
    while (pool.unfinished) pthread_cond_wait(&pool.end, &pool.lock);
    pool.threads = 0;
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.in_use);
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
        else sched_yield(); /* fewer cores than threads */
    }
}
