/* Attention of a prompt (prompt.h): heads as bricks, scores, weights, values. Included by avx512.c only.
 *
 * Here: what lies between the first product of a layer and the second. Not here: products, memory (prompt_memory.h).
 */
#ifndef INTERLOCK_PROMPT_ATTENTION_H
#define INTERLOCK_PROMPT_ATTENTION_H

#include "prompt_memory.h"

/* 1 / sqrt(mean(x²) + epsilon) of 16 positions. x: [count, stride] */
INLINE UNITS void norm_scales(const float *x, int64_t count, int64_t stride, float epsilon, float *scales)
{
    __m512 sum[4];
    UNROLL for (int i = 0; i < 4; i++) sum[i] = _mm512_setzero_ps();
    int64_t k = 0;
    for (; k + 4 <= count; k += 4) UNROLL for (int i = 0; i < 4; i++) sum[i] = fused(load(x + (k + i) * stride), load(x + (k + i) * stride), sum[i]);
    for (; k < count; k++) sum[0] = fused(load(x + k * stride), load(x + k * stride), sum[0]);
    const __m512 mean = _mm512_div_ps(plus(plus(sum[0], sum[1]), plus(sum[2], sum[3])), splat((float)count));
    store(scales, _mm512_div_ps(splat(1), _mm512_sqrt_ps(plus(mean, splat(epsilon)))));
}

/* exponential() of step.h for 16 numbers, x <= 0: compilers make no vector code of it between other things. What is below -87 becomes 0, NaN stays NaN. */
INLINE UNITS __m512 exponentials(__m512 x)
{
    const __m512 power = _mm512_roundscale_ps(_mm512_mul_ps(x, splat(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = fused(power, splat(2.12194440e-4f), fused(power, splat(-0.693359375f), x));
    __m512 value = splat(1.9875691500e-4f);
    value = fused(value, rest, splat(1.3981999507e-3f));
    value = fused(value, rest, splat(8.3334519073e-3f));
    value = fused(value, rest, splat(4.1665795894e-2f));
    value = fused(value, rest, splat(1.6666665459e-1f));
    value = fused(value, rest, splat(5.0000001201e-1f));
    value = _mm512_scalef_ps(plus(fused(_mm512_mul_ps(value, rest), rest, rest), splat(1)), power);
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, splat(-87), _CMP_NLT_UQ), value);
}

/* One head of queries, keys or values: bias, norm and rotation, in place. head: among all of them; x: [d_head, stride]. */
SHARED UNITS void turned_head(const struct prompt *p, const struct layer *layer, int64_t head, float *x)
{
    const struct model *m = p->model;
    const int64_t size = m->d_head, half = size / 2, stride = p->stride;
    const int rotates = layer->rotates && head < m->heads + m->kv_heads;
    for (int64_t t = 0; t < p->wide; t += GROUP) {
        float *at = x + t;
        for (int64_t i = 0; layer->bias && i < size; i++) store(at + i * stride, plus(load(at + i * stride), splat(layer->bias[head * size + i])));
        if (layer->qk_norm && head < m->heads + m->kv_heads) {
            float scales[GROUP];
            norm_scales(at, size, stride, m->epsilon, scales);
            for (int64_t i = 0; i < size; i++) {
                const __m512 scale = _mm512_mul_ps(load(scales), splat(layer->qk_norm[head * size + i]));
                store(at + i * stride, _mm512_mul_ps(load(at + i * stride), scale));
            }
        }
        for (int64_t i = 0; rotates && i < half; i++) {
            const __m512 first = load(at + i * stride), second = load(at + (half + i) * stride);
            const __m512 cos = load(p->cos + i * stride + t), sin = load(p->sin + i * stride + t);
            store(at + i * stride, _mm512_fmsub_ps(first, cos, _mm512_mul_ps(second, sin)));
            store(at + (half + i) * stride, fused(second, cos, _mm512_mul_ps(first, sin)));
        }
    }
}

/* from [rows, stride] → to [columns, other stride] */
SHARED UNITS void transposed(const float *from, int64_t stride, int64_t rows, int64_t columns, float *to, int64_t other)
{
    for (int64_t r = 0; r < rows; r += GROUP)
        for (int64_t c = 0; c < columns; c++)
            for (int64_t i = r; i < rows && i < r + GROUP; i++) to[c * other + i] = from[i * stride + c];
}

/* Queries of one head as bricks, divided by the root of its size. */
SHARED UNITS void query_bricks(const struct prompt *p, int64_t head, const float *x)
{
    const int64_t size = p->model->d_head, steps = head_steps(p->model);
    const __m512 root = splat(1.0f / sqrtf((float)size));
    uint16_t *to = p->queries + head * query_size(p);
    for (int64_t part = 0; part < p->wide / GROUP; part++)
        for (int64_t step = 0; step < steps; step++, to += 2 * BRICK) {
            float features[TILE][GROUP];
            for (int64_t i = 0; i < TILE; i++) {
                const int64_t feature = step * TILE + i;
                store(features[i], feature < size ? _mm512_mul_ps(load(x + feature * p->stride + part * GROUP), root) : splat(0));
            }
            put_activations(features[0], GROUP, to, 2);
        }
}

/* All keys of one head that are attended to, from the cache. */
SHARED UNITS void key_bricks(const struct prompt *p, int64_t head, const float *keys)
{
    const struct sequence *s = p->sequence;
    const struct dense all = {keys, s->position + s->count, p->model->d_head, SINGLE};
    const struct range whole = {0, head_steps(p->model)};
    uint16_t *to = p->keys + head * key_size(p);
    for (int64_t step = 0; step < p->steps; step++, to += 2 * head_steps(p->model) * 2 * BRICK) dense_bricks(&all, SINGLE, p->first + step * SQUARE, whole, to, 2);
}

/* All values of one head, as a matrix with a row for each feature. */
SHARED UNITS void value_bricks(const struct prompt *p, int64_t head, const float *values)
{
    const struct sequence *s = p->sequence;
    const int64_t size = p->model->d_head, end = s->position + s->count;
    for (int64_t group = 0; group < head_groups(p->model); group++)
        for (int64_t step = 0; step < p->steps; step++) {
            float part[GROUP][TILE] = {{0}};
            const int64_t slot = p->first + step * TILE, slots = end - slot < TILE ? end - slot : TILE;
            const int64_t features = size - group * GROUP < GROUP ? size - group * GROUP : GROUP;
            if (features > 0) transposed(values + slot * size + group * GROUP, size, slots, features, part[0], TILE);
            uint16_t *to = p->values + head * value_size(p) + (group * p->steps + step) * 2 * BRICK;
            for (int r = 0; r < GROUP; r++) put_row(load(part[r]), load(part[r] + GROUP), to + r * TILE, 2);
        }
}

/* One head after its product: what attention takes of it. New keys and values go to the cache. */
static UNITS void prepared(const struct prompt *p, int64_t number, int64_t head)
{
    const struct model *m = p->model;
    const struct sequence *s = p->sequence;
    const int64_t size = m->d_head, key = head - m->heads, value = key - m->kv_heads;
    float *x = p->made + head * size * p->stride;
    turned_head(p, m->layer + number, head, x);
    if (key < 0) {
        query_bricks(p, head, x);
        return;
    }
    float *slots = s->slots + (number * 2 * m->kv_heads + key) * s->room * size; /* the values of a layer lie behind its keys */
    transposed(x, p->stride, size, s->count, slots + s->position * size, size);
    if (value < 0) key_bricks(p, key, slots);
    else value_bricks(p, value, slots);
}

/* Which of 16 queries from `first` on see a slot that lies `distance` before the first of 32. */
INLINE UNITS __mmask16 seen_by(int64_t distance, int64_t window, int first)
{
    if (distance >= 0 && (!window || distance + SQUARE <= window)) return 0xffff;
    const int64_t from = -distance - first, to = window ? window - distance - first : GROUP;
    const uint32_t begun = from <= 0 ? 0xffff : from < GROUP ? 0xffffu << from : 0, ended = to >= GROUP ? 0 : to > 0 ? 0xffffu << to : 0xffff;
    return (__mmask16)(begun & ~ended);
}

/* Scores [slots, 32] of 32 queries become weights; sums: of each query. position: of the first query; slot: the first. What a query does not see
 * weighs nothing. */
SHARED UNITS void softmax_columns(float *scores, int64_t slots, int64_t slot, int64_t position, int64_t window, float *sums)
{
    const __m512 nothing = splat(-INFINITY);
    __m512 top[2] = {nothing, nothing}, sum[2] = {splat(0), splat(0)};
    for (int64_t s = 0; s < slots; s++) {
        const int64_t distance = position - slot - s;
        UNROLL for (int half = 0; half < 2; half++) {
            const __m512 score = _mm512_mask_mov_ps(nothing, seen_by(distance, window, half * GROUP), load(scores + s * SQUARE + half * GROUP));
            top[half] = _mm512_max_ps(score, top[half]);
        }
    }
    for (int64_t s = 0; s < slots; s++) {
        const int64_t distance = position - slot - s;
        UNROLL for (int half = 0; half < 2; half++) {
            float *at = scores + s * SQUARE + half * GROUP;
            const __m512 weight = _mm512_maskz_mov_ps(seen_by(distance, window, half * GROUP), exponentials(_mm512_sub_ps(load(at), top[half])));
            store(at, weight);
            sum[half] = plus(sum[half], weight);
        }
    }
    store(sums, sum[0]), store(sums + GROUP, sum[1]);
}

/* 32 positions of one key head: its queries, from `column` on. */
static UNITS void attended(const struct prompt *p, int64_t kv_head, int64_t column, const struct desk *desk)
{
    const struct model *m = p->model;
    const struct terms both = {2, 2};
    const int64_t size = m->d_head, along = head_steps(m) * 2 * BRICK, position = p->sequence->position + column;
    const int64_t steps = ceiling(position + SQUARE - p->first, TILE) < p->steps ? ceiling(position + SQUARE - p->first, TILE) : p->steps;
    for (int64_t head = kv_head * (m->heads / m->kv_heads); head < (kv_head + 1) * (m->heads / m->kv_heads); head++) {
        const uint16_t *queries = p->queries + head * query_size(p) + column / GROUP * along, *keys = p->keys + kv_head * key_size(p);
        for (int64_t step = 0; step < steps; step++) {
            const struct factors of = {keys + step * 2 * along, queries, along, along, head_steps(m)};
            square(&of, both, 0, desk->scores + step * TILE * SQUARE, SQUARE);
        }
        float sums[SQUARE];
        softmax_columns(desk->scores, steps * TILE, p->first, position, m->window, sums);
        for (int half = 0; half < 2; half++)
            for (int64_t step = 0; step < steps; step++)
                put_activations(desk->scores + step * TILE * SQUARE + half * GROUP, SQUARE, desk->weights + (half * steps + step) * 2 * BRICK, 2);
        for (int64_t group = 0; group < head_groups(m); group += 2) {
            const uint16_t *values = p->values + kv_head * value_size(p) + group * p->steps * 2 * BRICK;
            const struct factors of = {values, desk->weights, p->steps * 2 * BRICK, steps * 2 * BRICK, steps};
            square(&of, both, 0, desk->square, SQUARE);
            const int64_t first = group * GROUP, kept = size - first < SQUARE ? size - first : SQUARE;
            for (int64_t r = 0; r < kept; r++)
                for (int c = 0; c < SQUARE; c += GROUP)
                    store(p->mixed + (head * size + first + r) * p->stride + column + c, _mm512_div_ps(load(desk->square + r * SQUARE + c), load(sums + c)));
        }
    }
}

#endif
