/* Bits of a number, and the floating-point environment.
 *
 * memcpy is the one way to reinterpret bits that every compiler at every level of optimization agrees on; it costs
 * nothing. The control register belongs to the whole thread and others change it (flush-to-zero from a library built
 * with -ffast-math, a rounding mode left behind), so that kernels run under its default and put back what they found. */
#ifndef WINIT_FAST_FLOATING_POINT_H
#define WINIT_FAST_FLOATING_POINT_H

#include <float.h>
#include <stdint.h>
#include <string.h>

/* x87 and a few others compute floats in a wider type, which would give other bits. */
#if !defined(_MSC_VER) && defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "winit_fast needs arithmetic in the type of its operands; on 32-bit x86 add -msse2 -mfpmath=sse"
#endif

static const uint32_t FLOAT_SIGN = 0x80000000u, FLOAT_MAGNITUDE = 0x7FFFFFFFu;
static const uint64_t DOUBLE_SIGN = 0x8000000000000000u, DOUBLE_MAGNITUDE = 0x7FFFFFFFFFFFFFFFu;

static inline uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double double_of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
typedef unsigned int floating_point_state;
static inline floating_point_state floating_point_default(void)
{
    const unsigned int found = _mm_getcsr();
    _mm_setcsr(0x1F80); /* all exceptions masked, to nearest even, no flush-to-zero, no denormals-are-zero */
    return found;
}
static inline void floating_point_restore(floating_point_state found) { _mm_setcsr(found); }
#elif defined(__aarch64__) && !defined(_MSC_VER)
typedef uint64_t floating_point_state;
static inline floating_point_state floating_point_default(void)
{
    uint64_t found;
    __asm__ volatile("mrs %0, fpcr" : "=r"(found));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return found;
}
static inline void floating_point_restore(floating_point_state found)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(found));
}
#else
#include <fenv.h>
typedef fenv_t floating_point_state;
static inline floating_point_state floating_point_default(void)
{
    fenv_t found;
    fegetenv(&found);
    fesetenv(FE_DFL_ENV);
    return found;
}
static inline void floating_point_restore(floating_point_state found) { fesetenv(&found); }
#endif

#endif
