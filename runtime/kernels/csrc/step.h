/* Steps of a decoder, written once like the products: norms, rotation, attention over a cache, and the products between them.
 *
 * A row is one position of one sequence; several sequences, and several positions of each, go through the layers together, so that the weights are read
 * once. What is computed for a row depends on its own sequence only, in an order that depends on nothing else: any composition of rows, and any number
 * of threads, gives the same bits.
 *
 * Here: arithmetic. Not here: types and threads (model.h), products (products.h), instructions.
 */
#include "model.h"

/* e^x for x <= 0, to one unit in the last place; NaN stays NaN, and what is smaller than the smallest normal float is that. Written so that compilers
 * make vector code of a loop around it. Source: Cephes, single/expf.c. */
INLINE TARGET float exponential(float x)
{
    const float given = x;
    x = x > -87.0f ? x : -87.0f;
    const int32_t power = (int32_t)(x * 1.44269504f - 0.5f);
    const float rest = (x - (float)power * 0.693359375f) + (float)power * 2.12194440e-4f;
    float value = 1.9875691500e-4f;
    value = value * rest + 1.3981999507e-3f;
    value = value * rest + 8.3334519073e-3f;
    value = value * rest + 4.1665795894e-2f;
    value = value * rest + 1.6666665459e-1f;
    value = value * rest + 5.0000001201e-1f;
    value = value * rest * rest + rest + 1.0f;
    const int32_t bits = (power + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    value *= scale;
    return given == given ? value : given;
}

INLINE TARGET float float_dot(const float *a, const float *b, int64_t count)
{
    lanes first = splat(0), second = splat(0);
    int64_t i = 0;
    for (; i + 2 * GROUP <= count; i += 2 * GROUP) {
        first = fused(load(a + i), load(b + i), first);
        second = fused(load(a + i + GROUP), load(b + i + GROUP), second);
    }
    for (; i + GROUP <= count; i += GROUP) first = fused(load(a + i), load(b + i), first);
    float value = total(plus(first, second));
    for (; i < count; i++) value += a[i] * b[i];
    return value;
}

/* x / sqrt(mean(x²) + epsilon) * weight, in place where out is x. */
SHARED TARGET void normed(const float *x, const float *weight, int64_t count, float epsilon, float *out)
{
    const float scale = 1.0f / sqrtf(float_dot(x, x, count) / (float)count + epsilon);
    for (int64_t i = 0; i < count; i++) out[i] = x[i] * scale * weight[i];
}

/* Element i turns with element i + half. In place. */
static TARGET void rotated(float *x, const float *cos, const float *sin, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        const float first = x[i], second = x[half + i];
        x[i] = first * cos[i] - second * sin[i];
        x[half + i] = second * cos[i] + first * sin[i];
    }
}

/* One query or key head as attention takes it. from: [d_head] of the product; head: among queries and keys. */
SHARED TARGET void turned(const struct model *m, const struct layer *layer, const float *from, int64_t head, int64_t position, float *to)
{
    const int64_t size = m->d_head;
    for (int64_t i = 0; i < size; i++) to[i] = from[i] + (layer->bias ? layer->bias[head * size + i] : 0);
    if (layer->qk_norm) normed(to, layer->qk_norm + head * size, size, m->epsilon, to);
    if (layer->rotates) rotated(to, m->cos + position * (size / 2), m->sin + position * (size / 2), size / 2);
}

/* Scores become weights before they are divided by their sum, which is returned. */
SHARED TARGET float softmax(float *scores, int64_t count)
{
    float top[GROUP], largest = -INFINITY;
    for (int i = 0; i < GROUP; i++) top[i] = largest;
    int64_t s = 0;
    for (; s + GROUP <= count; s += GROUP)
        for (int i = 0; i < GROUP; i++) top[i] = scores[s + i] > top[i] ? scores[s + i] : top[i];
    for (int i = 0; i < GROUP; i++) largest = top[i] > largest ? top[i] : largest;
    for (; s < count; s++) largest = scores[s] > largest ? scores[s] : largest;
    for (s = 0; s < count; s++) scores[s] = exponential(scores[s] - largest);
    lanes sum = splat(0);
    for (s = 0; s + GROUP <= count; s += GROUP) sum = plus(load(scores + s), sum);
    float value = total(sum);
    for (; s < count; s++) value += scores[s];
    return value;
}

/* `width` groups of columns of the weighted values, from `column` on. */
INLINE TARGET void mixed_columns(const float *weights, const float *values, int64_t slots, int64_t size, float scale, float *to, const int width)
{
    lanes sum[4];
    UNROLL for (int i = 0; i < width; i++) sum[i] = splat(0);
    for (int64_t s = 0; s < slots; s++) {
        const lanes weight = splat(weights[s]);
        UNROLL for (int i = 0; i < width; i++) sum[i] = fused(weight, load(values + s * size + GROUP * i), sum[i]);
    }
    UNROLL for (int i = 0; i < width; i++) store(to + GROUP * i, fused(sum[i], splat(scale), splat(0)));
}

/* query: [d_head]; keys, values: [slots, d_head] → to [d_head]. */
SHARED TARGET void attend(const float *query, const float *keys, const float *values, int64_t slots, int64_t size, float *scores, float *to)
{
    const float root = 1.0f / sqrtf((float)size);
    for (int64_t s = 0; s < slots; s++) scores[s] = float_dot(query, keys + s * size, size) * root;
    const float scale = 1.0f / softmax(scores, slots);
    int64_t at = 0;
    for (; at + 4 * GROUP <= size; at += 4 * GROUP) mixed_columns(scores, values + at, slots, size, scale, to + at, 4);
    for (; at + GROUP <= size; at += GROUP) mixed_columns(scores, values + at, slots, size, scale, to + at, 1);
    for (; at < size; at++) {
        float sum = 0;
        for (int64_t s = 0; s < slots; s++) sum += scores[s] * values[s * size + at];
        to[at] = sum * scale;
    }
}

/* One key head of one sequence: its new slots are written, then its queries read them. row: of the sequence's first input. */
static TARGET void attention(const struct job *job, int64_t number, const struct sequence *sequence, int64_t row, int64_t head, const struct own *own)
{
    const struct model *m = job->model;
    const struct layer *layer = m->layer + number;
    const int64_t size = m->d_head, group = m->heads / m->kv_heads, wide = (m->heads + 2 * m->kv_heads) * size;
    float *keys = sequence->slots + (number * 2 * m->kv_heads + head) * sequence->room * size;
    float *values = keys + m->kv_heads * sequence->room * size;
    for (int64_t i = 0; i < sequence->count; i++) {
        const int64_t position = sequence->position + i, value = m->heads + m->kv_heads + head;
        const float *from = job->qkv + (row + i) * wide;
        turned(m, layer, from + (m->heads + head) * size, m->heads + head, position, keys + position * size);
        for (int64_t j = 0; j < size; j++)
            values[position * size + j] = from[value * size + j] + (layer->bias ? layer->bias[value * size + j] : 0);
    }
    for (int64_t i = 0; i < sequence->count; i++) {
        const int64_t position = sequence->position + i, first = m->window ? most(0, position + 1 - m->window) : 0;
        for (int64_t query = head * group; query < (head + 1) * group; query++) {
            turned(m, layer, job->qkv + (row + i) * wide + query * size, query, position, own->query);
            float *to = job->mixed + ((row + i) * m->heads + query) * size;
            attend(own->query, keys + first * size, values + first * size, position + 1 - first, size, own->scores, to);
        }
    }
}

/* A thread's part of one matrix: [rows, k] → its columns of [rows, n]. Returns them. */
struct part {
    int64_t from, to;
};
SHARED TARGET struct part multiplied(const struct matrix *matrix, const float *x, float *y, int64_t rows, int whole, const struct own *own, int id, int threads)
{
    if (matrix->dense) {
        const struct dense *w = matrix->dense;
        const struct part part = {share(w->n, id, threads), share(w->n, id + 1, threads)};
        if (whole) dense_many(w, part.from, part.to, x, y, rows);
        else dense_each(w, part.from, part.to, x, y, rows);
        return part;
    }
    const struct blocks *w = matrix->blocks;
    const int64_t tiles = w->blocks * tiles_per_block(w), from = share(groups(w), id, threads), to = share(groups(w), id + 1, threads);
    for (int64_t r = 0; r < rows; r++) {
        own->activations[r] = (struct activation){own->tiles + r * tiles, own->sums + r * w->blocks};
        quantise(w, x + r * w->k, own->activations[r]);
    }
    block_groups(w, from, to, own->activations, y, rows);
    return (struct part){from * GROUP, to * GROUP < w->n ? to * GROUP : w->n};
}

/* What a product says, added to the residual stream. */
static TARGET void added(const struct job *job, struct part part)
{
    const int64_t d = job->model->d;
    for (int64_t r = 0; r < job->rows; r++)
        for (int64_t i = part.from; i < part.to; i++) job->x[r * d + i] += job->change[r * d + i];
}

static TARGET void normed_rows(const struct job *job, const float *weight, float *out)
{
    for (int64_t r = 0; r < job->rows; r++) normed(job->x + r * job->model->d, weight, job->model->d, job->model->epsilon, out + r * job->model->d);
}

/* silu(gate) * up. */
static TARGET void gated(const struct job *job, float *out)
{
    const int64_t size = job->model->d_ff;
    for (int64_t r = 0; r < job->rows; r++) {
        const float *gate = job->gate_up + 2 * r * size, *up = gate + size;
        for (int64_t i = 0; i < size; i++) {
            const float small = exponential(-fabsf(gate[i]));
            out[r * size + i] = gate[i] * ((gate[i] < 0 ? small : 1.0f) / (1.0f + small)) * up[i];
        }
    }
}

static TARGET void run(struct job *job, const struct own *own, int id)
{
    const struct model *m = job->model;
    struct meeting *meeting = &job->meeting;
    const int threads = atomic_load_explicit(&meeting->threads, memory_order_acquire);
    for (int64_t number = 0; number < m->layers; number++) {
        const struct layer *layer = m->layer + number;
        normed_rows(job, layer->norm1, own->input);
        multiplied(&layer->qkv, own->input, job->qkv, job->rows, job->whole, own, id, threads);
        meet(meeting);
        int64_t row = 0, unit = 0;
        for (int64_t i = 0; i < job->count; row += job->sequences[i].count, i++)
            for (int64_t head = 0; head < m->kv_heads; head++, unit++)
                if (unit % threads == id) attention(job, number, job->sequences + i, row, head, own);
        meet(meeting);
        added(job, multiplied(&layer->out, job->mixed, job->change, job->rows, job->whole, own, id, threads));
        meet(meeting);
        normed_rows(job, layer->norm2, own->input);
        multiplied(&layer->gate_up, own->input, job->gate_up, job->rows, job->whole, own, id, threads);
        meet(meeting);
        gated(job, own->input);
        added(job, multiplied(&layer->down, own->input, job->change, job->rows, job->whole, own, id, threads));
        meet(meeting);
    }
    normed_rows(job, m->norm, own->input);
    const int64_t said = job->whole ? 1 : job->rows;
    const float *hidden = own->input + (job->rows - said) * m->d;
    multiplied(&m->head, hidden, job->logits, said, 0, own, id, threads);
    meet(meeting);
    if (id) return;
    memcpy(job->x, own->input, (size_t)(job->rows * m->d) * sizeof(float));
    if (!m->halt.dense) return;
    multiplied(&m->halt, hidden, job->halt, said, 0, own, 0, 1);
    for (int64_t r = 0; r < said; r++)
        for (int i = 0; i < 2; i++) job->halt[2 * r + i] += m->halt_bias[i];
}

static TARGET void *work(void *argument)
{
    struct worker *worker = argument;
    while (!atomic_load_explicit(&worker->job->meeting.threads, memory_order_acquire)) sched_yield();
    run(worker->job, &worker->own, worker->id);
    return NULL;
}

/* x: [rows, d], embeddings → hidden states; logits: [rows, vocabulary]; halt: [rows, 2] or NULL; whole: see struct job. Rows are the inputs of the
 * sequences in turn, whose slots are written. Returns 0, or 1 where there is no memory; then nothing is written. */
EXPORT TARGET int NAME(step)(const struct model *m, const struct sequence *sequences, int64_t count, float *x, float *logits, float *halt, int32_t whole,
                             int32_t threads)
{
    struct job job = {.model = m, .sequences = sequences, .count = count, .whole = whole, .x = x, .logits = logits, .halt = halt};
    for (int64_t i = 0; i < count; i++) job.rows += sequences[i].count, job.slots = most(job.slots, sequences[i].position + sequences[i].count);
    int64_t tiles = 0, blocks = 0;
    measure(&m->head, &tiles, &blocks);
    for (int64_t i = 0; i < m->layers; i++) {
        const struct layer *layer = m->layer + i;
        measure(&layer->qkv, &tiles, &blocks), measure(&layer->out, &tiles, &blocks);
        measure(&layer->gate_up, &tiles, &blocks), measure(&layer->down, &tiles, &blocks);
    }
    const int64_t attended = m->heads * m->d_head, qkv = attended + 2 * m->kv_heads * m->d_head, input = most(most(m->d, attended), m->d_ff);
    const int64_t shared = job.rows * (qkv + attended + m->d + 2 * m->d_ff), floats = job.rows * (input + blocks) + job.slots + m->d_head;
    const size_t each = (size_t)job.rows * (sizeof(struct activation) + (size_t)tiles * sizeof(struct tile)) + (size_t)floats * sizeof(float);
    char *memory = malloc((size_t)shared * sizeof(float) + (size_t)threads * (sizeof(struct worker) + each));
    if (!memory) return 1;
    struct worker *workers = (struct worker *)memory;
    struct activation *activations = (struct activation *)(workers + threads);
    struct tile *all_tiles = (struct tile *)(activations + threads * job.rows);
    float *at = (float *)(all_tiles + threads * job.rows * tiles);
    job.qkv = at, job.mixed = job.qkv + job.rows * qkv, job.change = job.mixed + job.rows * attended, job.gate_up = job.change + job.rows * m->d;
    at += shared;
    for (int i = 0; i < threads; i++, at += floats) {
        struct own own = {.input = at, .activations = activations + i * job.rows, .tiles = all_tiles + i * job.rows * tiles};
        own.sums = own.input + job.rows * input, own.scores = own.sums + job.rows * blocks, own.query = own.scores + job.slots;
        workers[i] = (struct worker){.job = &job, .own = own, .id = i};
    }
    int started = 1;
    while (started < threads && !pthread_create(&workers[started].thread, NULL, work, workers + started)) started++;
    atomic_store_explicit(&job.meeting.threads, started, memory_order_release);
    run(&job, &workers[0].own, 0);
    for (int i = 1; i < started; i++) pthread_join(workers[i].thread, NULL);
    free(memory);
    return 0;
}
