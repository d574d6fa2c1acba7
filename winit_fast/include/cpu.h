/* Whether this CPU, and its operating system, run a compiled copy of the kernels. */
#ifndef WINIT_FAST_CPU_H
#define WINIT_FAST_CPU_H

#if defined(_MSC_VER)
#include <intrin.h>
#if defined(_M_X64)
/* Leaf 7's bits of EBX, and the state that the operating system saves: 6 is xmm and ymm, E0 the masks and zmm. */
static int cpu_has(int ebx_bits, unsigned long long saved)
{
    int registers[4];
    __cpuid(registers, 0);
    if (registers[0] < 7)
        return 0;
    __cpuid(registers, 1);
    if (!(registers[2] & (1 << 27)) || (_xgetbv(0) & saved) != saved) /* OSXSAVE */
        return 0;
    __cpuidex(registers, 7, 0);
    return (registers[1] & ebx_bits) == ebx_bits;
}
static int cpu_has_avx2(void) { return cpu_has(1 << 5, 0x06); }
static int cpu_has_avx512(void) /* F, DQ, CD, BW, VL: what /arch:AVX512 may use */
{
    return cpu_has((int)(1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31), 0xE6);
}
#else
static int cpu_has_avx2(void) { return 0; }
static int cpu_has_avx512(void) { return 0; }
#endif
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
