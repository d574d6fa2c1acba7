/* Threads of the system that know nothing of Python, and a counter that they share.
 *
 * The counter has 32 bits, which every target adds to without a library. */
#ifndef WINIT_FAST_CREW_H
#define WINIT_FAST_CREW_H

#include <stdint.h>

#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#include <process.h>
#undef near /* words of 16-bit Windows */
#undef far
#undef small
#else
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <dlfcn.h>
#endif
#endif

typedef struct {
    void (*begin)(void *);
    void *argument;
#if defined(_WIN32)
    HANDLE handle;
#else
    pthread_t handle;
#endif
} crew_thread;

/* A kernel takes some 3 KiB. Small stacks start twice as fast: glibc keeps 40 MB of used ones for the next threads. */
#define CREW_STACK_BYTES ((size_t)256 << 10)

#if defined(_WIN32)

static unsigned __stdcall crew_thread_runs(void *thread)
{
    ((crew_thread *)thread)->begin(((crew_thread *)thread)->argument);
    return 0;
}

static inline int crew_thread_start(crew_thread *thread, void (*begin)(void *), void *argument)
{
    thread->begin = begin;
    thread->argument = argument;
    thread->handle = (HANDLE)_beginthreadex(
        NULL, (unsigned)CREW_STACK_BYTES, crew_thread_runs, thread, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return thread->handle != NULL;
}

static inline void crew_thread_wait(crew_thread *thread)
{
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
}

static inline long crew_process(void) { return 0; } /* there is no fork */

#else

static void *crew_thread_runs(void *thread)
{
    /* Signals are for threads that run Python. Those that report a fault of this thread itself stay. */
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t others;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&others, faults[i]);
    pthread_sigmask(SIG_BLOCK, &others, NULL);
    ((crew_thread *)thread)->begin(((crew_thread *)thread)->argument);
    return NULL;
}

/* glibc takes the memory that libraries have for each thread out of its stack: it may be nearly all. */
static inline size_t crew_stack_taken(const pthread_attr_t *attributes)
{
    size_t taken = 0;
#if defined(__GLIBC__) && defined(RTLD_DEFAULT)
    void *const minimum = dlsym(RTLD_DEFAULT, "__pthread_get_minstack"); /* not for linkers: no version promises it */
    if (minimum != NULL)
        taken = ((size_t (*)(const pthread_attr_t *))minimum)(attributes);
#endif
    (void)attributes;
    return taken;
}

static inline int crew_thread_start(crew_thread *thread, void (*begin)(void *), void *argument)
{
    pthread_attr_t small_stack;
    int refused = 1;
    thread->begin = begin;
    thread->argument = argument;
    if (pthread_attr_init(&small_stack) == 0) {
        if (pthread_attr_setstacksize(&small_stack, CREW_STACK_BYTES + crew_stack_taken(&small_stack)) == 0)
            refused = pthread_create(&thread->handle, &small_stack, crew_thread_runs, thread);
        pthread_attr_destroy(&small_stack);
    }
    if (refused) /* too small here, or there are no more threads */
        refused = pthread_create(&thread->handle, NULL, crew_thread_runs, thread);
    return !refused;
}

static inline void crew_thread_wait(crew_thread *thread) { pthread_join(thread->handle, NULL); }

static inline long crew_process(void) { return (long)getpid(); }

#endif

#if defined(_MSC_VER)
typedef volatile long crew_counter;
static inline int32_t crew_add(crew_counter *counter, int32_t more) { return InterlockedExchangeAdd(counter, more); }
static inline int32_t crew_get(crew_counter *counter) { return *counter; }
#else
typedef int32_t crew_counter;
static inline int32_t crew_add(crew_counter *counter, int32_t more)
{
    return __atomic_fetch_add(counter, more, __ATOMIC_ACQ_REL);
}
static inline int32_t crew_get(crew_counter *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }
#endif

/* Whether Python ends, which stops threads that want its lock, but none of ours. Python's own word for it is in no stable
 * ABI before 3.13. All threads look before each share: read, so that they do not take the line from each other. */
static crew_counter crew_late;
static inline int crew_is_late(void) { return crew_get(&crew_late) != 0; }

#endif
