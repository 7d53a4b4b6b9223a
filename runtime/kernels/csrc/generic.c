/* Any processor: plain loops, for the compiler to make of them what it can. */
#include "kernels.h"

#define TARGET
#define NAME(product) product##_generic
enum { PANEL_OUTS = 2, PANEL_ROWS = 2, DENSE_ROWS = 1, BLOCK_ROWS = 2 };

#define EACH_LANE UNROLL for (int i = 0; i < GROUP; i++)

typedef struct {
    float at[GROUP];
} lanes;
typedef struct {
    int32_t at[GROUP];
} sums;

INLINE lanes splat(float value)
{
    lanes out;
    EACH_LANE out.at[i] = value;
    return out;
}
INLINE lanes load(const float *from)
{
    lanes out;
    memcpy(&out, from, sizeof out);
    return out;
}
INLINE lanes load_half(const uint16_t *from)
{
    lanes out;
    EACH_LANE out.at[i] = half_to_float(from[i]);
    return out;
}
INLINE lanes load_brain(const uint16_t *from)
{
    lanes out;
    EACH_LANE out.at[i] = brain_to_float(from[i]);
    return out;
}
INLINE void store(float *to, lanes value) { memcpy(to, &value, sizeof value); }
INLINE lanes plus(lanes a, lanes b)
{
    EACH_LANE a.at[i] += b.at[i];
    return a;
}
/* Rounded twice: fmaf() without the instruction is a function call. */
INLINE lanes fused(lanes a, lanes b, lanes c)
{
    EACH_LANE c.at[i] += a.at[i] * b.at[i];
    return c;
}
INLINE float total(lanes value)
{
    float sum = 0;
    EACH_LANE sum += value.at[i];
    return sum;
}
INLINE lanes widen(sums value, int32_t plus)
{
    lanes out;
    EACH_LANE out.at[i] = (float)(value.at[i] + plus);
    return out;
}

INLINE sums dot8(const uint8_t *codes, const struct tile *x)
{
    sums out = {{0}};
    for (int c = 0; c < 8; c++)
        EACH_LANE for (int j = 0; j < 4; j++) out.at[i] += codes[64 * c + 4 * i + j] * x->whole[4 * c + j];
    return out;
}

INLINE sums dot4(const uint8_t *codes, const struct tile *x)
{
    sums out = {{0}};
    for (int c = 0; c < 4; c++)
        EACH_LANE for (int j = 0; j < 4; j++) {
            const uint8_t both = codes[64 * c + 4 * i + j];
            out.at[i] += (both & 15) * x->whole[4 * c + j] + (both >> 4) * x->whole[16 + 4 * c + j];
        }
    return out;
}

#include "products.h"
#include "step.h"
