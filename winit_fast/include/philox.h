/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC11), many blocks at once.
 *
 * The only part of the kernels that Cython cannot say: a widening 32 x 32 -> 64 multiply across lanes. Each 32-bit word
 * lives in the low half of a 64-bit lane and what stands in the high half is ignored, so that a round is two multiplies,
 * two shifts and two three-way xors, with no shuffle. One lane holds one block; the blocks of a vector are consecutive.
 *
 * The unit of work is the group: 8 blocks, 32 words. Its words come out as two rows of 16,
 *     even[2 b + h] = word 2 h of block b        odd[2 b + h] = word 2 h + 1 of block b        (b = 0..7, h = 0, 1)
 * because the last round leaves them so in every ISA without a transposition. In stream order the rows are interleaved:
 * word 2 k of the group is even[k], word 2 k + 1 is odd[k].
 *
 * The seed, the stream and the high half of the block number are the same for all blocks of a batch, so most of the first
 * two rounds is computed once, in philox_start. Where every group of a batch has a stream of its own, philox_begin_stream
 * computes the same for one group. */
#ifndef WINIT_FAST_PHILOX_H
#define WINIT_FAST_PHILOX_H

#include <stdint.h>

#include "sizes.h"

#if defined(_MSC_VER)
#define PHILOX_INLINE static __forceinline
#define PHILOX_APART static __declspec(noinline)
#define PHILOX_RESTRICT __restrict
#define PHILOX_UNROLL
#elif defined(__clang__)
#define PHILOX_INLINE static inline __attribute__((always_inline))
#define PHILOX_APART static __attribute__((noinline))
#define PHILOX_RESTRICT __restrict__
#define PHILOX_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PHILOX_INLINE static inline __attribute__((always_inline))
#define PHILOX_APART static __attribute__((noinline))
#define PHILOX_RESTRICT __restrict__
#define PHILOX_UNROLL _Pragma("GCC unroll 16")
#endif

/* Per ISA: a vector of 64-bit lanes, how many vectors are worked on side by side (to hide the latency of a multiply
 * without running out of registers), and ten operations. low_high(a, b) takes the low halves of a, the high halves of b. */
#if defined(WINIT_FAST_PORTABLE)
#define PHILOX_PORTABLE
#elif defined(__AVX512F__)
#include <immintrin.h>
typedef __m512i philox_vector;
enum { PHILOX_LANES = 8, PHILOX_ABREAST = 4 };
#define philox_load(p) _mm512_loadu_si512(p)
#define philox_store(p, a) _mm512_storeu_si512(p, a)
#define philox_spread(x) _mm512_set1_epi64((long long)(x))
#define philox_count(x) _mm512_add_epi64(philox_spread(x), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0))
#define philox_multiply(a, b) _mm512_mul_epu32(a, b)
#define philox_down(a) _mm512_srli_epi64(a, 32)
#define philox_up(a) _mm512_slli_epi64(a, 32)
#define philox_xor(a, b) _mm512_xor_si512(a, b)
#define philox_xor3(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define philox_low_high(a, b) _mm512_mask_blend_epi32(0xAAAA, a, b)
#elif defined(__AVX2__)
#include <immintrin.h>
typedef __m256i philox_vector;
enum { PHILOX_LANES = 4, PHILOX_ABREAST = 2 };
#define philox_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define philox_store(p, a) _mm256_storeu_si256((__m256i *)(p), a)
#define philox_spread(x) _mm256_set1_epi64x((long long)(x))
#define philox_count(x) _mm256_add_epi64(philox_spread(x), _mm256_set_epi64x(3, 2, 1, 0))
#define philox_multiply(a, b) _mm256_mul_epu32(a, b)
#define philox_down(a) _mm256_srli_epi64(a, 32)
#define philox_up(a) _mm256_slli_epi64(a, 32)
#define philox_xor(a, b) _mm256_xor_si256(a, b)
#define philox_xor3(a, b, c) philox_xor(a, philox_xor(b, c))
#define philox_low_high(a, b) _mm256_blend_epi32(a, b, 0xAA)
#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
typedef __m128i philox_vector;
enum { PHILOX_LANES = 2, PHILOX_ABREAST = 2 };
#define philox_load(p) _mm_loadu_si128((const __m128i *)(p))
#define philox_store(p, a) _mm_storeu_si128((__m128i *)(p), a)
#define philox_spread(x) _mm_set1_epi64x((long long)(x))
#define philox_count(x) _mm_add_epi64(philox_spread(x), _mm_set_epi64x(1, 0))
#define philox_multiply(a, b) _mm_mul_epu32(a, b)
#define philox_down(a) _mm_srli_epi64(a, 32)
#define philox_up(a) _mm_slli_epi64(a, 32)
#define philox_xor(a, b) _mm_xor_si128(a, b)
#define philox_xor3(a, b, c) philox_xor(a, philox_xor(b, c))
#define philox_low_high(a, b)                                                                                          \
    _mm_or_si128(_mm_and_si128(a, philox_spread(0xFFFFFFFF)), _mm_andnot_si128(philox_spread(0xFFFFFFFF), b))
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
typedef uint64x2_t philox_vector;
enum { PHILOX_LANES = 2, PHILOX_ABREAST = 4 };
#define philox_load(p) vld1q_u64(p)
#define philox_store(p, a) vst1q_u32(p, vreinterpretq_u32_u64(a))
#define philox_spread(x) vdupq_n_u64(x)
#define philox_count(x) vaddq_u64(vdupq_n_u64(x), vcombine_u64(vcreate_u64(0), vcreate_u64(1)))
#define philox_multiply(a, b) vmull_u32(vmovn_u64(a), vmovn_u64(b))
#define philox_down(a) vshrq_n_u64(a, 32)
#define philox_up(a) vshlq_n_u64(a, 32)
#define philox_xor(a, b) veorq_u64(a, b)
#define philox_xor3(a, b, c) veorq_u64(a, veorq_u64(b, c))
#define philox_low_high(a, b) vbslq_u64(vdupq_n_u64(0xFFFFFFFF), a, b)
#else
#define PHILOX_PORTABLE
#endif

#if defined(PHILOX_PORTABLE)
typedef uint64_t philox_vector;
enum { PHILOX_LANES = 1, PHILOX_ABREAST = 2 };
#define philox_load(p) (*(p))
#define philox_store(p, a) ((p)[0] = (uint32_t)(a), (p)[1] = (uint32_t)((a) >> 32))
#define philox_spread(x) ((uint64_t)(x))
#define philox_count(x) ((uint64_t)(x))
#define philox_multiply(a, b) ((uint64_t)(uint32_t)(a) * (uint32_t)(b))
#define philox_down(a) ((a) >> 32)
#define philox_up(a) ((a) << 32)
#define philox_xor(a, b) ((a) ^ (b))
#define philox_xor3(a, b, c) ((a) ^ (b) ^ (c))
#define philox_low_high(a, b) (((a) & 0xFFFFFFFFu) | ((b) & ~(uint64_t)0xFFFFFFFFu))
#endif

enum { PHILOX_ROUNDS = 10 };
static const uint32_t PHILOX_M0 = 0xD2511F53u, PHILOX_M1 = 0xCD9E8D57u; /* multipliers and Weyl steps: Random123 */
static const uint32_t PHILOX_W0 = 0x9E3779B9u, PHILOX_W1 = 0xBB67AE85u;

/* What the stream and the high half of the block number decide of the first two rounds. */
typedef struct {
    uint64_t first2[PHILOX_LANES];                                                    /* word 2 after round 1: ^ hi(M0 c0) */
    uint64_t second0[PHILOX_LANES], second2[PHILOX_LANES], second3[PHILOX_LANES];     /* words 0, 2, 3 after round 2 */
} philox_stream;

/* What all blocks with one seed, stream and high half of the block number share, spread over the lanes beforehand. */
typedef struct {
    uint64_t key0[PHILOX_ROUNDS][PHILOX_LANES], key1[PHILOX_ROUNDS][PHILOX_LANES];
    uint64_t key_last[PHILOX_LANES];                                                  /* both keys of round 10 */
    philox_stream common;
    uint64_t seed, stream;
    uint32_t high;
} philox_state;

static void philox_begin_stream(philox_stream *begun, uint64_t seed, uint64_t stream, uint32_t high)
{
    const uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    const uint64_t product1 = (uint64_t)PHILOX_M1 * (uint32_t)stream;
    const uint32_t word0 = (uint32_t)(product1 >> 32) ^ high ^ key0;
    const uint64_t product0 = (uint64_t)PHILOX_M0 * word0;
    for (int lane = 0; lane < PHILOX_LANES; lane++) {
        begun->first2[lane] = (stream >> 32) ^ key1;
        begun->second0[lane] = (uint32_t)product1 ^ (uint32_t)(key0 + PHILOX_W0);
        begun->second2[lane] = (product0 >> 32) ^ (uint32_t)(key1 + PHILOX_W1);
        begun->second3[lane] = (uint32_t)product0;
    }
}

static void philox_start(philox_state *state, uint64_t seed, uint64_t stream, uint32_t high)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    philox_begin_stream(&state->common, seed, stream, high);
    state->seed = seed;
    state->stream = stream;
    state->high = high;
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        for (int lane = 0; lane < PHILOX_LANES; lane++) {
            state->key0[round][lane] = key0;
            state->key1[round][lane] = key1;
        }
        key0 += PHILOX_W0;
        key1 += PHILOX_W1;
    }
    for (int lane = 0; lane < PHILOX_LANES; lane++) {
        state->key_last[lane] = state->key0[9][lane] | (state->key1[9][lane] << 32);
    }
}

/* One batch of groups, each given by the low half of the number of its first block (a multiple of 8); the high half of
 * all of them is the state's. `streams` is one for all groups, or, where `step` is 1, one for each. */
PHILOX_INLINE void philox_rounds(const philox_state *PHILOX_RESTRICT state, const philox_stream *PHILOX_RESTRICT streams,
                                 int step, const uint32_t *PHILOX_RESTRICT first_block, uint32_t *PHILOX_RESTRICT even,
                                 uint32_t *PHILOX_RESTRICT odd)
{
    const philox_vector m0 = philox_spread(PHILOX_M0), m1 = philox_spread(PHILOX_M1);
    for (int start = 0; start < GROUPS * GROUP_BLOCKS; start += PHILOX_LANES * PHILOX_ABREAST) {
        philox_vector c0[PHILOX_ABREAST], c1[PHILOX_ABREAST], c2[PHILOX_ABREAST], c3[PHILOX_ABREAST];
        PHILOX_UNROLL
        for (int v = 0; v < PHILOX_ABREAST; v++) {
            const int block = start + v * PHILOX_LANES;
            const philox_stream *const stream = streams + step * (block / GROUP_BLOCKS);
            const philox_vector counter = philox_count(first_block[block / GROUP_BLOCKS]
                                                       + (uint32_t)(block % GROUP_BLOCKS));
            const philox_vector p = philox_multiply(counter, m0);
            const philox_vector q = philox_multiply(philox_xor(philox_down(p), philox_load(stream->first2)), m1);
            c0[v] = philox_xor(philox_down(q), philox_load(stream->second0));
            c1[v] = q;
            c2[v] = philox_xor(p, philox_load(stream->second2));
            c3[v] = philox_load(stream->second3);
        }
        PHILOX_UNROLL
        for (int round = 2; round < PHILOX_ROUNDS - 1; round++) {
            const philox_vector key0 = philox_load(state->key0[round]), key1 = philox_load(state->key1[round]);
            PHILOX_UNROLL
            for (int v = 0; v < PHILOX_ABREAST; v++) {
                const philox_vector p = philox_multiply(c0[v], m0), q = philox_multiply(c2[v], m1);
                c0[v] = philox_xor3(philox_down(q), c1[v], key0);
                c1[v] = q;
                c2[v] = philox_xor3(philox_down(p), c3[v], key1);
                c3[v] = p;
            }
        }
        /* Round 10 packs as it goes: words 0 and 2 of a block share a lane of `even`, words 1 and 3 one of `odd`. */
        const philox_vector keys = philox_load(state->key_last);
        PHILOX_UNROLL
        for (int v = 0; v < PHILOX_ABREAST; v++) {
            const philox_vector p = philox_multiply(c0[v], m0), q = philox_multiply(c2[v], m1);
            const int place = 2 * (start + v * PHILOX_LANES);
            philox_store(even + place, philox_xor3(philox_low_high(philox_down(q), p),
                                                   philox_low_high(c1[v], philox_up(c3[v])), keys));
            philox_store(odd + place, philox_low_high(q, philox_up(p)));
        }
    }
}

/* Functions of their own: in the middle of another, gcc 12 keeps what that has in registers and spills half the rounds.
 * Stores to the stack stand before those to the caller's memory, which took a third longer to reach. */
PHILOX_APART void philox_batch(const philox_state *state, const uint32_t *first_block, uint32_t *even, uint32_t *odd)
{
    philox_rounds(state, &state->common, 0, first_block, even, odd);
}

/* Groups of streams of their own, with blocks below 2^32. */
PHILOX_APART void philox_batch_of_streams(const philox_state *state, const philox_stream *streams,
                                           const uint32_t *first_block, uint32_t *even, uint32_t *odd)
{
    philox_rounds(state, streams, 1, first_block, even, odd);
}

#endif
