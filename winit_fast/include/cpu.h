/* Whether this CPU, and its operating system, run a compiled copy of the kernels. */
#ifndef WINIT_FAST_CPU_H
#define WINIT_FAST_CPU_H

#if defined(_MSC_VER)
#include <windows.h>
static int cpu_has_avx2(void) { return IsProcessorFeaturePresent(40); }   /* PF_AVX2_INSTRUCTIONS_AVAILABLE */
static int cpu_has_avx512(void) { return IsProcessorFeaturePresent(41); } /* PF_AVX512F_INSTRUCTIONS_AVAILABLE */
#elif defined(__x86_64__)
/* cpuid and xgetbv, by the compiler's own run-time library. */
static int cpu_has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
}
static int cpu_has_avx512(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
           && __builtin_cpu_supports("avx512vl");
}
#else
static int cpu_has_avx2(void) { return 0; }
static int cpu_has_avx512(void) { return 0; }
#endif

#if defined(__aarch64__) || defined(_M_ARM64)
static int cpu_has_neon(void) { return 1; } /* part of AArch64 */
#else
static int cpu_has_neon(void) { return 0; }
#endif

#endif
