#define _GNU_SOURCE
#include "pool.h"

#include <stdatomic.h>
#include <stdint.h>

#include "system_threads.h"

enum {
    TURNS = 2000, /* of waiting for what is about to come, before sleeping; some 20 us */
    REST = 10,    /* times what was lost by threads, until they are used again; twice as many each time in a row */
    MOST_REST = 50000000, /* nanoseconds */
    MOST_LOSS = 1000000000, /* the same: a process that was stopped meanwhile has lost nothing by threads */
    WAKE = 10000,         /* nanoseconds that it costs the caller to wake them */
};

/* Parts are claimed by counting up `claims`, which holds the round's number, how many parts it has, and how many are
   claimed. A round doesn't end before all that are claimed are done, so work and argument stay for who has claimed one. */
static struct {
    Lock in_use; /* by one call at a time, the caller's thread */
    Lock held;   /* for making threads and for going to sleep */
    Condition begin, end;
    Work work;
    void *argument;
    uint64_t round;
    _Atomic uint64_t claims;
    _Atomic int unfinished;                   /* parts of the round */
    _Atomic int workers_sleep, caller_sleeps; /* or are about to */
    int made;                                 /* threads made so far */
    /* the caller's account of a call: when it began, what it waited, and parts by it and by others */
    int64_t began, waited, own, others;
    int64_t rests;  /* until then it does all parts itself */
    int64_t factor; /* of the next rest */
} pool = {.in_use = NEW_LOCK, .held = NEW_LOCK, .begin = NEW_CONDITION, .end = NEW_CONDITION, .factor = REST};

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

enum { BITS = 8 };
static int parts_of(uint64_t claims) { return (int)(claims >> BITS & 255); }
static int next_of(uint64_t claims) { return (int)(claims & 255); }

/* A part that is the caller's to do now, or -1 if there is none left. */
static int claimed(void) {
    uint64_t claims = atomic_load(&pool.claims);
    while (next_of(claims) < parts_of(claims))
        if (atomic_compare_exchange_weak(&pool.claims, &claims, claims + 1)) return next_of(claims);
    return -1;
}

static int is_wanted(int thread) {
    const uint64_t claims = atomic_load(&pool.claims);
    return thread < parts_of(claims) && next_of(claims) < parts_of(claims);
}

static void sleep_until_wanted(int thread) {
    lock(&pool.held);
    for (;;) {
        atomic_store(&pool.workers_sleep, 1);
        if (is_wanted(thread)) break; /* it may have been too late to be seen */
        wait_for(&pool.begin, &pool.held);
    }
    unlock(&pool.held);
}

static THREAD_FUNCTION worker(void *number) {
    const int thread = (int)(intptr_t)number;
    for (;;) {
        for (int turns = 0; turns < TURNS && !is_wanted(thread); turns++) pause_briefly();
        if (!is_wanted(thread)) sleep_until_wanted(thread);
        const int part = claimed();
        if (part < 0) continue;
        pool.work(pool.argument, part);
        if (atomic_fetch_sub(&pool.unfinished, 1) == 1 && atomic_load(&pool.caller_sleeps)) {
            lock(&pool.held);
            wake_one(&pool.end);
            unlock(&pool.held);
        }
    }
    return 0;
}

/* A child of fork has the memory but none of the threads: it begins anew. */
static void forget(void) {
    pool.in_use = pool.held = (Lock)NEW_LOCK;
    pool.begin = pool.end = (Condition)NEW_CONDITION;
    pool.claims = 0;
    pool.unfinished = pool.workers_sleep = pool.caller_sleeps = pool.made = 0;
    pool.rests = 0;
    pool.factor = REST;
}

__attribute__((constructor)) static void when_loaded(void) { in_forked_child(forget); }

int pool_taken(int threads) {
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads <= 1 || !try_lock(&pool.in_use)) return 1;
    pool.began = nanoseconds();
    if (pool.began >= pool.rests) {
        pool.waited = pool.own = pool.others = 0;
        while (pool.made + 1 < threads && begin_thread(worker, (void *)(intptr_t)(pool.made + 1))) pool.made++;
        if (threads > pool.made + 1) threads = pool.made + 1;
        if (threads > 1) return threads;
    }
    unlock(&pool.in_use);
    return 1;
}

/* Where others took longer than the caller would have for their parts, as threads do that have to share a processor, or
   came too late for any, rest from them for a multiple of that: all such losses together are a tenth of the time, whatever
   else runs, and less the longer it does. */
static void account(void) {
    const int64_t now = nanoseconds(), worked = now - pool.began - pool.waited;
    int64_t loss = pool.waited - worked / (pool.own ? pool.own : 1) * pool.others;
    if (loss > MOST_LOSS) loss = MOST_LOSS;
    if (loss <= 0) {
        pool.factor = REST;
        return;
    }
    const int64_t rest = loss * pool.factor;
    pool.rests = now + (rest <= MOST_REST ? rest : MOST_REST > loss * REST ? MOST_REST : loss * REST);
    if (rest < MOST_REST) pool.factor *= 2;
    pool.began = now;
    pool.waited = pool.own = pool.others = 0;
}

void pool_given_back(int parts) {
    if (parts == 1) return;
    if (pool.waited) account();
    unlock(&pool.in_use);
}

static void wake_workers(void) {
    if (pool.waited) account();
    pool.waited += WAKE;
    lock(&pool.held);
    atomic_store(&pool.workers_sleep, 0);
    wake_all(&pool.begin);
    unlock(&pool.held);
}

static void wait_for_others(void) {
    for (int turns = 0; turns < TURNS; turns++) {
        if (!atomic_load(&pool.unfinished)) return;
        pause_briefly();
    }
    const int64_t since = nanoseconds();
    lock(&pool.held);
    atomic_store(&pool.caller_sleeps, 1);
    while (atomic_load(&pool.unfinished)) wait_for(&pool.end, &pool.held);
    atomic_store(&pool.caller_sleeps, 0);
    unlock(&pool.held);
    pool.waited += nanoseconds() - since;
    account();
}

void pool_each(Work work, void *argument, int parts) {
    if (parts == 1 || (pool.rests > pool.began && nanoseconds() < pool.rests)) {
        for (int part = 0; part < parts; part++) work(argument, part);
        return;
    }
    pool.work = work;
    pool.argument = argument;
    atomic_store(&pool.unfinished, parts);
    atomic_store(&pool.claims, (uint64_t)++pool.round << 2 * BITS | (uint64_t)parts << BITS);
    if (atomic_load(&pool.workers_sleep)) wake_workers();
    int own = 0;
    for (int part; (part = claimed()) >= 0; own++) work(argument, part);
    pool.own += own;
    pool.others += parts - own;
    if (atomic_fetch_sub(&pool.unfinished, own) > own) wait_for_others();
}
