/* A prompt: many positions of one sequence through the layers, on the processor's matrix units (bricks.h). Included by avx512.c only.
 *
 * Activations lie with features in rows, [features, wide], positions padded to whole squares. What is computed for a position depends on what lies before
 * it only, in one order: a prompt in pieces, with any number of threads, leaves the same bits in the cache as one piece. Values that are not finite reach
 * all positions after them, and may reach those before them in the same call, whose weight for them is zero.
 *
 * Here: a prompt through the layers. Not here: attention (prompt_attention.h), memory
 * (prompt_memory.h), bricks, the same for few positions (step.h).
 */
#ifndef INTERLOCK_PROMPT_H
#define INTERLOCK_PROMPT_H

#include "prompt_attention.h"

enum { NORMED, MIXED, GATED };

/* silu(gate) * up of 16 positions. */
INLINE UNITS __m512 gated_lanes(__m512 gate, __m512 up)
{
    const __m512 small = exponentials(_mm512_or_ps(gate, splat(-0.0f)));
    const __m512 above = _mm512_mask_mov_ps(splat(1), _mm512_cmp_ps_mask(gate, splat(0), _CMP_LT_OQ), small);
    return _mm512_mul_ps(_mm512_mul_ps(gate, _mm512_div_ps(above, plus(splat(1), small))), up);
}

/* A thread's part of the positions as the bricks that `matrix` is multiplied with. weight: of the norm. */
INLINE UNITS void input_bricks(const struct prompt *p, const struct matrix *matrix, const float *weight, const int kind, const int terms, int id, int threads)
{
    const int64_t steps = steps_of(matrix), parts = p->wide / GROUP, stride = p->stride;
    for (int64_t part = share(parts, id, threads); part < share(parts, id + 1, threads); part++) {
        float scales[GROUP];
        if (kind == NORMED) norm_scales(p->x + part * GROUP, p->model->d, stride, p->model->epsilon, scales);
        for (int64_t step = 0; step < steps; step++) {
            float features[TILE][GROUP];
            int64_t count;
            const int64_t start = columns_of(matrix, step, &count);
            for (int64_t i = 0; i < count; i++) {
                const int64_t at = (start + i) * stride + part * GROUP;
                if (kind == NORMED) store(features[i], _mm512_mul_ps(_mm512_mul_ps(load(p->x + at), load(scales)), splat(weight[start + i])));
                else if (kind == MIXED) store(features[i], load(p->mixed + at));
                else store(features[i], gated_lanes(load(p->made + at), load(p->made + at + p->model->d_ff * stride)));
            }
            for (int64_t i = count; i < TILE; i++) store(features[i], splat(0));
            put_activations(features[0], GROUP, p->input + (part * steps + step) * terms * BRICK, terms);
        }
    }
}

SHARED UNITS void given(const struct prompt *p, const struct matrix *matrix, const float *weight, const int kind, int id, int threads)
{
    if (terms_of(matrix).rows == 1) {
        if (kind == NORMED) input_bricks(p, matrix, weight, NORMED, 1, id, threads);
        else if (kind == MIXED) input_bricks(p, matrix, weight, MIXED, 1, id, threads);
        else input_bricks(p, matrix, weight, GATED, 1, id, threads);
    } else {
        if (kind == NORMED) input_bricks(p, matrix, weight, NORMED, 2, id, threads);
        else if (kind == MIXED) input_bricks(p, matrix, weight, MIXED, 2, id, threads);
        else input_bricks(p, matrix, weight, GATED, 2, id, threads);
    }
}

/* Squares of matrix rows `at` to `end`, at most PANEL, times the input, along a range of its columns. */
static UNITS void panel_product(const struct prompt *p, const struct matrix *matrix, int64_t at, int64_t end, struct range range, int adds, const struct desk *desk)
{
    const struct terms terms = terms_of(matrix);
    const int64_t n = rows_of(matrix), steps = steps_of(matrix), stride = p->stride, some = range.to - range.from, panel = 2 * some * terms.matrix * BRICK;
    struct factors of = {.next_matrix = some * terms.matrix * BRICK, .next_rows = steps * terms.rows * BRICK, .steps = some};
    for (int64_t i = at; i < end; i++) matrix_bricks(matrix, i * SQUARE, range, desk->panel + (i - at) * panel);
    for (int64_t column = 0; column < p->wide; column += SQUARE) {
        of.rows = p->input + column / GROUP * of.next_rows + range.from * terms.rows * BRICK;
        for (int64_t i = at; i < end; i++) {
            float *made = p->made + i * SQUARE * stride + column, *x = p->x + i * SQUARE * stride + column;
            of.matrix = desk->panel + (i - at) * panel;
            square(&of, terms, range.from > 0, made, stride);
            for (int64_t r = 0; adds && range.to == steps && r < SQUARE && i * SQUARE + r < n; r++)
                for (int c = 0; c < SQUARE; c += GROUP) store(x + r * stride + c, plus(load(x + r * stride + c), load(made + r * stride + c)));
        }
    }
}

/* A thread's part of the rows of a matrix, times the input: written to `made`, and added to the residual stream or not. Along the columns in turns whose
 * input stays in the second-level cache: sums go on where they stood. */
SHARED UNITS void product_of_all(const struct prompt *p, const struct matrix *matrix, int adds, const struct desk *desk, int id, int threads)
{
    enum { NEAR = 1 << 20 };
    const int64_t squares = ceiling(rows_of(matrix), SQUARE), first = share(squares, id, threads), end = share(squares, id + 1, threads);
    const int64_t steps = steps_of(matrix), turns = ceiling(steps * p->wide * TILE * terms_of(matrix).rows * (int64_t)sizeof(uint16_t), NEAR + NEAR / 4);
    for (int64_t turn = 0; turn < turns; turn++) {
        const struct range range = {share(steps, (int)turn, (int)turns), share(steps, (int)turn + 1, (int)turns)};
        for (int64_t at = first; at < end; at += PANEL) panel_product(p, matrix, at, at + PANEL < end ? at + PANEL : end, range, adds, desk);
    }
}

static UNITS void read_prompt(struct prompt *p, const struct desk *desk, int id)
{
    const struct model *m = p->model;
    struct meeting *meeting = &p->meeting;
    const int threads = atomic_load_explicit(&meeting->threads, memory_order_acquire);
    units_begin();
    for (int64_t number = 0; number < m->layers; number++) {
        const struct layer *layer = m->layer + number;
        given(p, &layer->qkv, layer->norm1, NORMED, id, threads);
        meet(meeting);
        product_of_all(p, &layer->qkv, 0, desk, id, threads);
        meet(meeting);
        for (int64_t head = id; head < m->heads + 2 * m->kv_heads; head += threads) prepared(p, number, head);
        meet(meeting);
        for (int64_t unit = id; unit < m->kv_heads * (p->wide / SQUARE); unit += threads) attended(p, unit % m->kv_heads, unit / m->kv_heads * SQUARE, desk);
        meet(meeting);
        given(p, &layer->out, NULL, MIXED, id, threads);
        meet(meeting);
        product_of_all(p, &layer->out, 1, desk, id, threads);
        meet(meeting);
        given(p, &layer->gate_up, layer->norm2, NORMED, id, threads);
        meet(meeting);
        product_of_all(p, &layer->gate_up, 0, desk, id, threads);
        meet(meeting);
        given(p, &layer->down, NULL, GATED, id, threads);
        meet(meeting);
        product_of_all(p, &layer->down, 1, desk, id, threads);
        meet(meeting);
    }
    units_end();
}

static UNITS void *read_along(void *argument)
{
    struct reader *reader = argument;
    while (!atomic_load_explicit(&reader->prompt->meeting.threads, memory_order_acquire)) sched_yield();
    read_prompt(reader->prompt, &reader->desk, reader->id);
    return NULL;
}

/* Positions of one sequence, whose slots are written. x: [count, d], embeddings; its first row becomes the hidden state of the last position, which logits,
 * [vocabulary], and halt, [2] or NULL, are said of. threads: at most 64. Returns 0, or 1 where there is no memory. */
EXPORT UNITS int NAME(prompt)(const struct model *m, const struct sequence *sequence, float *x, float *logits, float *halt, int32_t threads)
{
    enum { MOST = 64 };
    struct reader readers[MOST];
    const int64_t count = sequence->count, seen = m->window ? most(0, sequence->position + 1 - m->window) : 0;
    struct prompt prompt = {.model = m, .sequence = sequence, .wide = padded(count, SQUARE), .stride = padded(count, SQUARE) + GROUP, .first = seen / TILE * TILE};
    prompt.steps = ceiling(sequence->position + count - prompt.first, TILE);
    struct room room = {0};
    threads = threads < MOST ? threads : MOST;
    laid_out(&prompt, readers, threads, &room);
    room.base = aligned_alloc(64, room.used);
    if (!room.base) return 1;
    room.used = 0;
    laid_out(&prompt, readers, threads, &room);
    const int64_t stride = prompt.stride, half = m->d_head / 2;
    memset(prompt.x, 0, (size_t)(m->d * stride) * sizeof(float));
    transposed(x, m->d, count, m->d, prompt.x, stride);
    memset(prompt.cos, 0, (size_t)(half * stride) * sizeof(float));
    memset(prompt.sin, 0, (size_t)(half * stride) * sizeof(float));
    transposed(m->cos + sequence->position * half, half, count, half, prompt.cos, stride);
    transposed(m->sin + sequence->position * half, half, count, half, prompt.sin, stride);
    for (int i = 0; i < threads; i++) readers[i].prompt = &prompt, readers[i].id = i;
    int started = 1;
    while (started < threads && !pthread_create(&readers[started].thread, NULL, read_along, readers + started)) started++;
    atomic_store_explicit(&prompt.meeting.threads, started, memory_order_release);
    read_prompt(&prompt, &readers[0].desk, 0);
    for (int i = 1; i < started; i++) pthread_join(readers[i].thread, NULL);
    for (int64_t i = 0; i < m->d; i++) x[i] = prompt.x[i * stride + count - 1];
    free(room.base);
    struct model rest = *m; /* the last norm and the heads: a step through no layers */
    rest.layers = 0;
    return NAME(step)(&rest, &(struct sequence){.count = 1}, 1, x, logits, halt, 0, threads);
}

#endif
