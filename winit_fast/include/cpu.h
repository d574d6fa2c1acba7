/* Whether this CPU, and its operating system, run a compiled copy of the kernels. */
#ifndef WINIT_FAST_CPU_H
#define WINIT_FAST_CPU_H

#if defined(__x86_64__) || defined(_M_X64)
/* Asked of the CPU itself: what compilers offer for it is always "no" in some of their builds. */
#if defined(_MSC_VER)
#include <intrin.h>
static void cpu_ask(int leaf, unsigned registers[4]) { __cpuidex((int *)registers, leaf, 0); }
static unsigned long long cpu_saved_state(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpu_ask(int leaf, unsigned registers[4])
{
    __cpuid_count(leaf, 0, registers[0], registers[1], registers[2], registers[3]);
}
static unsigned long long cpu_saved_state(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}
#endif

/* Leaf 7's bits of EBX, and the state that the operating system saves: 6 is xmm and ymm, E0 the masks and zmm. */
static int cpu_has(unsigned ebx_bits, unsigned long long saved)
{
    unsigned registers[4]; /* EAX, EBX, ECX, EDX */
    cpu_ask(0, registers);
    if (registers[0] < 7)
        return 0;
    cpu_ask(1, registers);
    if (!(registers[2] & 1u << 27) || (cpu_saved_state() & saved) != saved) /* OSXSAVE */
        return 0;
    cpu_ask(7, registers);
    return (registers[1] & ebx_bits) == ebx_bits;
}
static int cpu_has_avx2(void) { return cpu_has(1u << 5, 0x06); }
static int cpu_has_avx512(void) /* F, DQ, CD, BW, VL: what /arch:AVX512 may use */
{
#if defined(__APPLE__)
    const unsigned long long saved = 0x06; /* macOS saves zmm from its first use on, and does not say so before */
#else
    const unsigned long long saved = 0xE6;
#endif
    return cpu_has(1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31, saved);
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
