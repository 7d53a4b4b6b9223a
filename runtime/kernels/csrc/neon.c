/* aarch64 with the dot-product instructions (Armv8.2 and later: Apple M1, Neoverse N1). Compiled for it, but not yet run on one. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "kernels.h"

#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define NAME(product) product##_neon
enum { PANEL_OUTS = 2, PANEL_ROWS = 2, DENSE_ROWS = 1, BLOCK_ROWS = 2 };

typedef struct {
    float32x4_t at[4];
} lanes;
typedef struct {
    int32x4_t at[4];
} sums;

INLINE TARGET lanes splat(float value)
{
    const float32x4_t four = vdupq_n_f32(value);
    return (lanes){{four, four, four, four}};
}
INLINE TARGET lanes load(const float *from)
{
    return (lanes){{vld1q_f32(from), vld1q_f32(from + 4), vld1q_f32(from + 8), vld1q_f32(from + 12)}};
}
INLINE TARGET lanes load_half(const uint16_t *from)
{
    lanes out;
    UNROLL for (int i = 0; i < 4; i++) out.at[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from + 4 * i)));
    return out;
}
INLINE TARGET lanes load_brain(const uint16_t *from)
{
    lanes out;
    UNROLL for (int i = 0; i < 4; i++) out.at[i] = vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(from + 4 * i)), 16));
    return out;
}
INLINE TARGET void store(float *to, lanes value) { UNROLL for (int i = 0; i < 4; i++) vst1q_f32(to + 4 * i, value.at[i]); }
INLINE TARGET lanes plus(lanes a, lanes b)
{
    UNROLL for (int i = 0; i < 4; i++) a.at[i] = vaddq_f32(a.at[i], b.at[i]);
    return a;
}
INLINE TARGET lanes fused(lanes a, lanes b, lanes c)
{
    UNROLL for (int i = 0; i < 4; i++) c.at[i] = vfmaq_f32(c.at[i], a.at[i], b.at[i]);
    return c;
}
INLINE TARGET float total(lanes value)
{
    return vaddvq_f32(vaddq_f32(vaddq_f32(value.at[0], value.at[1]), vaddq_f32(value.at[2], value.at[3])));
}
INLINE TARGET lanes widen(sums value, int32_t plus)
{
    lanes out;
    UNROLL for (int i = 0; i < 4; i++) out.at[i] = vcvtq_f32_s32(vaddq_s32(value.at[i], vdupq_n_s32(plus)));
    return out;
}

INLINE TARGET int8x16_t columns(const int8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* The instruction takes signed bytes only: codes less 128, and 128 times the sum of the activation as the start. */
INLINE TARGET sums dot8(const uint8_t *codes, const struct tile *x)
{
    int32x4_t high[4], low[4];
    UNROLL for (int part = 0; part < 4; part++) high[part] = vdupq_n_s32(0), low[part] = vdupq_n_s32(128 * x->sum);
    UNROLL for (int c = 0; c < 8; c++) UNROLL for (int part = 0; part < 4; part++) {
        const int8x16_t code = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(codes + 64 * c + 16 * part), vdupq_n_u8(128)));
        high[part] = vdotq_s32(high[part], code, columns(x->high + 4 * c));
        low[part] = vdotq_s32(low[part], code, columns(x->low + 4 * c));
    }
    sums out;
    UNROLL for (int part = 0; part < 4; part++) out.at[part] = vaddq_s32(vshlq_n_s32(high[part], 8), low[part]);
    return out;
}

INLINE TARGET sums dot4(const uint8_t *codes, const struct tile *x)
{
    int32x4_t high[4], low[4];
    UNROLL for (int part = 0; part < 4; part++) high[part] = low[part] = vdupq_n_s32(0);
    UNROLL for (int c = 0; c < 4; c++) UNROLL for (int part = 0; part < 4; part++) {
        const uint8x16_t both = vld1q_u8(codes + 64 * c + 16 * part);
        const int8x16_t first = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15))), second = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
        high[part] = vdotq_s32(vdotq_s32(high[part], first, columns(x->high + 4 * c)), second, columns(x->high + 16 + 4 * c));
        low[part] = vdotq_s32(vdotq_s32(low[part], first, columns(x->low + 4 * c)), second, columns(x->low + 16 + 4 * c));
    }
    sums out;
    UNROLL for (int part = 0; part < 4; part++) out.at[part] = vaddq_s32(vshlq_n_s32(high[part], 8), low[part]);
    return out;
}

#include "products.h"
#include "step.h"
#endif
