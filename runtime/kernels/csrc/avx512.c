/* x86-64 with AVX-512 and VNNI: Intel from Ice Lake and Cascade Lake, AMD from Zen 4. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#define NAME(product) product##_avx512
enum { PANEL_OUTS = 4, PANEL_ROWS = 4, DENSE_ROWS = 4, BLOCK_ROWS = 8 };

typedef __m512 lanes;
typedef __m512i sums;

INLINE TARGET lanes splat(float value) { return _mm512_set1_ps(value); }
INLINE TARGET lanes load(const float *from) { return _mm512_loadu_ps(from); }
INLINE TARGET lanes load_half(const uint16_t *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)); }
INLINE TARGET lanes load_brain(const uint16_t *from)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}
INLINE TARGET void store(float *to, lanes value) { _mm512_storeu_ps(to, value); }
INLINE TARGET lanes plus(lanes a, lanes b) { return _mm512_add_ps(a, b); }
INLINE TARGET lanes fused(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
INLINE TARGET float total(lanes value) { return _mm512_reduce_add_ps(value); }
INLINE TARGET lanes widen(sums value, int32_t plus) { return _mm512_cvtepi32_ps(_mm512_add_epi32(value, _mm512_set1_epi32(plus))); }

/* Four columns of the activation, for all 16 rows. */
INLINE TARGET __m512i columns(const int8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
}

INLINE TARGET sums dot8(const uint8_t *codes, const struct tile *x)
{
    sums high = _mm512_setzero_si512(), low = high;
    UNROLL for (int c = 0; c < 8; c++) {
        const __m512i code = _mm512_loadu_si512(codes + 64 * c);
        high = _mm512_dpbusd_epi32(high, code, columns(x->high + 4 * c));
        low = _mm512_dpbusd_epi32(low, code, columns(x->low + 4 * c));
    }
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
}

INLINE TARGET sums dot4(const uint8_t *codes, const struct tile *x)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    sums high = _mm512_setzero_si512(), low = high;
    UNROLL for (int c = 0; c < 4; c++) {
        const __m512i both = _mm512_loadu_si512(codes + 64 * c);
        const __m512i first = _mm512_and_si512(both, nibble), second = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
        high = _mm512_dpbusd_epi32(high, first, columns(x->high + 4 * c));
        high = _mm512_dpbusd_epi32(high, second, columns(x->high + 16 + 4 * c));
        low = _mm512_dpbusd_epi32(low, first, columns(x->low + 4 * c));
        low = _mm512_dpbusd_epi32(low, second, columns(x->low + 16 + 4 * c));
    }
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
}

#include "products.h"
#include "step.h"
#if MATRIX_UNITS
#include "prompt.h"
#endif
#endif
