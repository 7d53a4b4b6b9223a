/* Which variants this processor can run, and whether the operating system saves the registers that they use. */
#define _GNU_SOURCE /* syscall */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Asked here rather than through __builtin_cpu_supports, which knows F16C on some compilers only, and needs a run-time library that knows the rest.
 * Source: Intel 64 and IA-32 Software Developer's Manual, volume 1, sections 14.3 and 15.2. */
struct flags {
    unsigned basic;             /* leaf 1, ecx */
    unsigned extended, further; /* leaf 7, ebx and ecx */
    unsigned saved;             /* XCR0 */
};

static struct flags ask(void)
{
    struct flags found = {0, 0, 0, 0};
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &found.basic, &d) || !(found.basic & bit_OSXSAVE)) return found;
    __asm__("xgetbv" : "=a"(found.saved), "=d"(d) : "c"(0));
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) found.extended = b, found.further = c;
    return found;
}

static int has(unsigned flags, unsigned needed) { return (flags & needed) == needed; }

#if MATRIX_UNITS
#include <sys/syscall.h>
#include <unistd.h>

/* Whether there are matrix units with bf16 (AMX), and the kernel lets this process use them: their registers are 8 KB, which it saves only for those that
 * ask. Source: the same manual, chapter 18; Documentation/arch/x86/xstate.rst of Linux. */
EXPORT int matrix_units(void)
{
    enum { TILES = 1 << 24, TILES_BF16 = 1 << 22, BF16 = 1 << 5, STATE = 3 << 17, REQUEST = 0x1023, TILE_DATA = 18 };
    const struct flags found = ask();
    unsigned a, b, c, units, more;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &units) || !__get_cpuid_count(7, 1, &more, &b, &c, &a)) return 0;
    return has(units, TILES | TILES_BF16) && has(more, BF16) && has(found.saved, STATE) && !syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
}
#else
EXPORT int matrix_units(void) { return 0; }
#endif

/* Names, best first, separated by a space. */
EXPORT const char *variants(void)
{
    const struct flags found = ask();
    const int avx2 = has(found.saved, 0x06) && has(found.basic, bit_FMA | bit_F16C) && has(found.extended, bit_AVX2);
    const unsigned foundation = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    const int avx512 = avx2 && has(found.saved, 0xe6) && has(found.extended, foundation) && has(found.further, bit_AVX512VNNI);
    return avx512 ? "avx512 avx2 generic" : avx2 ? "avx2 generic" : "generic";
}

#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

EXPORT const char *variants(void) { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? "neon generic" : "generic"; }

#elif defined(__aarch64__) && defined(__APPLE__)

/* Every Apple processor that runs macOS has the dot product. */
EXPORT const char *variants(void) { return "neon generic"; }

#else

EXPORT const char *variants(void) { return "generic"; }

#endif

#if !defined(__x86_64__)
EXPORT int matrix_units(void) { return 0; }
#endif
