/* Which variants this processor can run, and whether the operating system saves the registers that they use. */
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
