/* What the pool wants of the operating system: locks, conditions and threads, on POSIX and on Windows. */
#ifndef RECURRAY_SYSTEM_THREADS_H
#define RECURRAY_SYSTEM_THREADS_H

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <stdint.h>
#include <windows.h>

typedef SRWLOCK Lock;
typedef CONDITION_VARIABLE Condition;
#define NEW_LOCK SRWLOCK_INIT
#define NEW_CONDITION CONDITION_VARIABLE_INIT
#define THREAD_FUNCTION DWORD WINAPI /* of one argument, void *; returns 0 */

static inline void lock(Lock *of) { AcquireSRWLockExclusive(of); }
static inline int try_lock(Lock *of) { return TryAcquireSRWLockExclusive(of); } /* whether it is the caller's now */
static inline void unlock(Lock *of) { ReleaseSRWLockExclusive(of); }
static inline void wait_for(Condition *condition, Lock *held) { SleepConditionVariableSRW(condition, held, INFINITE, 0); }
static inline void wake_one(Condition *condition) { WakeConditionVariable(condition); }
static inline void wake_all(Condition *condition) { WakeAllConditionVariable(condition); }

/* Whether it has begun. Nothing joins it. */
static inline int begin_thread(DWORD(WINAPI *function)(void *), void *argument) {
    HANDLE thread = CreateThread(NULL, 0, function, argument, 0, NULL);
    return thread && CloseHandle(thread);
}

static inline void in_forked_child(void (*function)(void)) { (void)function; } /* there is no fork */

/* Since some moment. */
static inline int64_t nanoseconds(void) {
    LARGE_INTEGER ticks, each_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&each_second);
    return (int64_t)((double)ticks.QuadPart * 1e9 / (double)each_second.QuadPart);
}

#else

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>

typedef pthread_mutex_t Lock;
typedef pthread_cond_t Condition;
#define NEW_LOCK PTHREAD_MUTEX_INITIALIZER
#define NEW_CONDITION PTHREAD_COND_INITIALIZER
#define THREAD_FUNCTION void *

static inline void lock(Lock *of) { pthread_mutex_lock(of); }
static inline int try_lock(Lock *of) { return !pthread_mutex_trylock(of); }
static inline void unlock(Lock *of) { pthread_mutex_unlock(of); }
static inline void wait_for(Condition *condition, Lock *held) { pthread_cond_wait(condition, held); }
static inline void wake_one(Condition *condition) { pthread_cond_signal(condition); }
static inline void wake_all(Condition *condition) { pthread_cond_broadcast(condition); }

/* Signals stay with Python's threads. */
static inline int begin_thread(void *(*function)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int begun = !pthread_create(&thread, NULL, function, argument);
    if (begun) pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return begun;
}

static inline void in_forked_child(void (*function)(void)) { pthread_atfork(NULL, NULL, function); }

/* Since some moment. */
static inline int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif

#endif
