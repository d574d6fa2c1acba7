/* Hints that a cache line will be written, or read, soon. */
#ifndef WINIT_FAST_PREFETCH_H
#define WINIT_FAST_PREFETCH_H

static inline void prefetch_for_write(const void *address)
{
#if defined(__GNUC__)
    __builtin_prefetch(address, 1, 3);
#else
    (void)address;
#endif
}

static inline void prefetch_for_read(const void *address)
{
#if defined(__GNUC__)
    __builtin_prefetch(address, 0, 3);
#else
    (void)address;
#endif
}

#endif
