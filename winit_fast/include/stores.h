/* Stores past the cache: whole lines that are not read from memory before they are overwritten.
 *
 * A plain store to a line that no cache holds first reads it. Memory that is written once and not read soon, as that of
 * a table of GiBs, need not be read, and need not push out of the cache what is there. What is written so is seen by
 * other threads in order only after stores_past_cache_done(). */
#ifndef WINIT_FAST_STORES_H
#define WINIT_FAST_STORES_H

#include <stdint.h>
#include <string.h>

enum { STORE_LINE = 64 };

/* One line, from any address to a multiple of 64. */
#if defined(__AVX512F__)
#include <immintrin.h>
static inline void store_line_past_cache(char* target, const char* source)
{
    _mm512_stream_si512((void*)target, _mm512_loadu_si512((const void*)source));
}
#elif defined(__AVX__)
#include <immintrin.h>
static inline void store_line_past_cache(char* target, const char* source)
{
    _mm256_stream_si256((__m256i*)target, _mm256_loadu_si256((const __m256i*)source));
    _mm256_stream_si256((__m256i*)(target + 32), _mm256_loadu_si256((const __m256i*)(source + 32)));
}
#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
static inline void store_line_past_cache(char* target, const char* source)
{
    int i;
    for (i = 0; i < STORE_LINE; i += 16)
        _mm_stream_si128((__m128i*)(target + i), _mm_loadu_si128((const __m128i*)(source + i)));
}
#elif defined(__aarch64__) && defined(__GNUC__) && !defined(WINIT_FAST_PORTABLE)
static inline void store_line_past_cache(char* target, const char* source)
{
    __asm__ volatile(
        "ldp q0, q1, [%1]\n\tldp q2, q3, [%1, #32]\n\tstnp q0, q1, [%0]\n\tstnp q2, q3, [%0, #32]"
        : : "r"(target), "r"(source) : "v0", "v1", "v2", "v3", "memory");
}
#else
static inline void store_line_past_cache(char* target, const char* source) { memcpy(target, source, STORE_LINE); }
#endif

/* Before others are told that the memory is written. */
static inline void stores_past_cache_done(void)
{
#if defined(__SSE2__) || defined(_M_X64)
    _mm_sfence();
#endif
}

#endif
