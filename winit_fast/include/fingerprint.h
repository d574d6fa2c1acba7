/* Fingerprints of pages of 4096 bytes: docs/reproducibility.md has the definition.
 *
 * A page is hashed twice by NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC: Fast and Secure Message
 * Authentication", CRYPTO '99): a multiply for eight bytes, and sums whose order does not matter, so that the width of
 * vectors does not either. The second hash takes the same keys, 16 words later, where they are as well aligned.
 * Then a block of Philox mixes both with the number of the page. */
#ifndef WINIT_FAST_FINGERPRINT_H
#define WINIT_FAST_FINGERPRINT_H

#include <stdint.h>
#include <string.h>

#include "philox.h"
#include "prefetch.h"

enum {
    PAGE_BYTES = 4096,
    KEYS_APART = 64,   /* bytes from the keys of one hash to those of the other */
    BYTES_AHEAD = 2048 /* that memory is asked for, as CPUs do not beyond a page by themselves: 11 GB/s in place of 8 */
};

/* Per ISA, on the vectors of philox.h: load from any address, add 32-bit words, add the product of the words of each lane. */
#if defined(PHILOX_PORTABLE)
static inline uint64_t fingerprint_load(const char *bytes)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint64_t lane = 0;
    for (int i = 7; i >= 0; i--)
        lane = lane << 8 | (uint8_t)bytes[i];
#else
    uint64_t lane;
    memcpy(&lane, bytes, sizeof lane);
#endif
    return lane;
}
#define fingerprint_add_words(a, b) ((uint32_t)((a) + (b)) | (((a) >> 32) + ((b) >> 32)) << 32)
#define fingerprint_add(a, b) ((a) + (b))
#elif defined(__AVX512F__)
#define fingerprint_load(p) _mm512_loadu_si512((const void *)(p))
#define fingerprint_add_words(a, b) _mm512_add_epi32(a, b)
#define fingerprint_add(a, b) _mm512_add_epi64(a, b)
#elif defined(__AVX2__)
#define fingerprint_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define fingerprint_add_words(a, b) _mm256_add_epi32(a, b)
#define fingerprint_add(a, b) _mm256_add_epi64(a, b)
#elif defined(__ARM_NEON)
#define fingerprint_load(p) vreinterpretq_u64_u8(vld1q_u8((const uint8_t *)(p)))
#define fingerprint_add_words(a, b)                                                                                    \
    vreinterpretq_u64_u32(vaddq_u32(vreinterpretq_u32_u64(a), vreinterpretq_u32_u64(b)))
#define fingerprint_add(a, b) vaddq_u64(a, b)
#else
#define fingerprint_load(p) _mm_loadu_si128((const __m128i *)(p))
#define fingerprint_add_words(a, b) _mm_add_epi32(a, b)
#define fingerprint_add(a, b) _mm_add_epi64(a, b)
#endif
#define fingerprint_multiply_add(sum, a) fingerprint_add(sum, philox_multiply(a, philox_down(a)))

static inline uint64_t fingerprint_sum_lanes(philox_vector vector)
{
    uint64_t lanes[PHILOX_LANES], sum = 0;
    memcpy(lanes, &vector, sizeof lanes);
    for (int lane = 0; lane < PHILOX_LANES; lane++)
        sum += lanes[lane];
    return sum;
}

/* words += Philox4x32-10 of both hashes under the page's number */
static inline void fingerprint_mix(uint64_t first, uint64_t second, uint64_t page, uint32_t *words)
{
    uint32_t c0 = (uint32_t)first, c1 = (uint32_t)(first >> 32), c2 = (uint32_t)second, c3 = (uint32_t)(second >> 32);
    uint32_t key0 = (uint32_t)page, key1 = (uint32_t)(page >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const uint64_t p = (uint64_t)PHILOX_M0 * c0, q = (uint64_t)PHILOX_M1 * c2;
        c0 = (uint32_t)(q >> 32) ^ c1 ^ key0;
        c1 = (uint32_t)q;
        c2 = (uint32_t)(p >> 32) ^ c3 ^ key1;
        c3 = (uint32_t)p;
        key0 += PHILOX_W0;
        key1 += PHILOX_W1;
    }
    words[0] += c0;
    words[1] += c1;
    words[2] += c2;
    words[3] += c3;
}

/* words += those of whole pages, the first of which has this number; `keys`: PAGE_BYTES + KEYS_APART bytes. */
static void fingerprint_pages(const char *bytes, int64_t pages, uint64_t first_page, const char *keys, uint32_t *words)
{
    enum { STEP = sizeof(philox_vector) };
    for (int64_t page = 0; page < pages; page++) {
        philox_vector first = philox_spread(0), second = philox_spread(0);
        const int ahead = page + 1 < pages ? BYTES_AHEAD : 0;
        for (int line = 0; line < PAGE_BYTES; line += 64) {
            prefetch_for_read(bytes + line + ahead);
            PHILOX_UNROLL
            for (int place = line; place < line + 64; place += STEP) {
                const philox_vector data = fingerprint_load(bytes + place);
                first = fingerprint_multiply_add(first, fingerprint_add_words(data, fingerprint_load(keys + place)));
                second = fingerprint_multiply_add(
                    second, fingerprint_add_words(data, fingerprint_load(keys + place + KEYS_APART)));
            }
        }
        fingerprint_mix(fingerprint_sum_lanes(first), fingerprint_sum_lanes(second), first_page + (uint64_t)page, words);
        bytes += PAGE_BYTES;
    }
}

#endif
