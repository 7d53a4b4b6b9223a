/* Which variants this processor can run: its own flags are asked, and whether the operating system saves its wide registers. */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}

/* Names, best first, separated by a space. */
EXPORT const char *variants(void)
{
    __builtin_cpu_init();
    return has_avx512() ? "avx512 avx2 generic" : has_avx2() ? "avx2 generic" : "generic";
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
