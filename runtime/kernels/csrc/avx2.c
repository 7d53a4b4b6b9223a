/* x86-64 with AVX2, FMA and F16C: Intel from Haswell, AMD from Zen. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels.h"

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define NAME(product) product##_avx2
enum { PANEL_OUTS = 2, PANEL_ROWS = 2, DENSE_ROWS = 1, BLOCK_ROWS = 2 };

typedef struct {
    __m256 low, high; /* lanes 0-7 and 8-15 */
} lanes;
typedef struct {
    __m256i low, high;
} sums;

INLINE TARGET lanes splat(float value) { return (lanes){_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
INLINE TARGET lanes load(const float *from) { return (lanes){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
INLINE TARGET void store(float *to, lanes value)
{
    _mm256_storeu_ps(to, value.low);
    _mm256_storeu_ps(to + 8, value.high);
}
INLINE TARGET lanes load_half(const uint16_t *from)
{
    const __m128i *at = (const __m128i *)from;
    return (lanes){_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at + 1))};
}
INLINE TARGET __m256 eight_brain(const uint16_t *from)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)), 16));
}
INLINE TARGET lanes load_brain(const uint16_t *from) { return (lanes){eight_brain(from), eight_brain(from + 8)}; }
INLINE TARGET lanes plus(lanes a, lanes b) { return (lanes){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
INLINE TARGET lanes fused(lanes a, lanes b, lanes c)
{
    return (lanes){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
INLINE TARGET float total(lanes value)
{
    const __m256 eight = _mm256_add_ps(value.low, value.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
INLINE TARGET lanes widen(sums value, int32_t plus)
{
    const __m256i added = _mm256_set1_epi32(plus);
    return (lanes){_mm256_cvtepi32_ps(_mm256_add_epi32(value.low, added)), _mm256_cvtepi32_ps(_mm256_add_epi32(value.high, added))};
}

/* 16-bit products: an unsigned byte times a signed one, two added, would not fit 16 bits. Each pair of sums belongs to one row. */
INLINE TARGET sums dot8(const uint8_t *codes, const struct tile *x)
{
    __m256i rows[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    UNROLL for (int c = 0; c < 8; c++) {
        int64_t four;
        memcpy(&four, x->whole + 4 * c, sizeof four);
        const __m256i columns = _mm256_set1_epi64x(four);
        UNROLL for (int part = 0; part < 4; part++) {
            const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(codes + 64 * c + 16 * part)));
            rows[part] = _mm256_add_epi32(rows[part], _mm256_madd_epi16(code, columns));
        }
    }
    /* hadd leaves rows 0 1 4 5 2 3 6 7 of its two inputs */
    return (sums){_mm256_permute4x64_epi64(_mm256_hadd_epi32(rows[0], rows[1]), 0xd8),
                  _mm256_permute4x64_epi64(_mm256_hadd_epi32(rows[2], rows[3]), 0xd8)};
}

/* Eight rows. Eight sums of two nibbles times bytes stay in 16 bits: 8 * 2 * 15 * 128 = 30720. */
INLINE TARGET __m256i dot4_half(const uint8_t *codes, const struct tile *x)
{
    const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i high = _mm256_setzero_si256(), low = high;
    UNROLL for (int c = 0; c < 4; c++) {
        int32_t four[4];
        memcpy(four + 0, x->high + 4 * c, 4);
        memcpy(four + 1, x->high + 16 + 4 * c, 4);
        memcpy(four + 2, x->low + 4 * c, 4);
        memcpy(four + 3, x->low + 16 + 4 * c, 4);
        const __m256i both = _mm256_loadu_si256((const __m256i *)(codes + 64 * c));
        const __m256i first = _mm256_and_si256(both, nibble), second = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
        high = _mm256_add_epi16(high, _mm256_maddubs_epi16(first, _mm256_set1_epi32(four[0])));
        high = _mm256_add_epi16(high, _mm256_maddubs_epi16(second, _mm256_set1_epi32(four[1])));
        low = _mm256_add_epi16(low, _mm256_maddubs_epi16(first, _mm256_set1_epi32(four[2])));
        low = _mm256_add_epi16(low, _mm256_maddubs_epi16(second, _mm256_set1_epi32(four[3])));
    }
    return _mm256_add_epi32(_mm256_slli_epi32(_mm256_madd_epi16(high, ones), 8), _mm256_madd_epi16(low, ones));
}

INLINE TARGET sums dot4(const uint8_t *codes, const struct tile *x) { return (sums){dot4_half(codes, x), dot4_half(codes + 32, x)}; }

#include "products.h"
#include "step.h"
#endif
