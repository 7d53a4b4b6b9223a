/* What a prompt (prompt.h) works with: shared by its threads, and each thread's own. Included by avx512.c only.
 *
 * Here: types, sizes, memory. Not here: arithmetic.
 */
#ifndef INTERLOCK_PROMPT_MEMORY_H
#define INTERLOCK_PROMPT_MEMORY_H

#include "bricks.h"

/* One call: what its threads share. */
struct prompt {
    const struct model *model;
    const struct sequence *sequence;
    int64_t wide, stride;     /* positions of this call, padded, and so many floats from one feature to the next: no power of two, which caches dislike */
    int64_t first, steps;     /* the first slot that is attended to, rounded down, and bricks of 32 slots from there to the end */
    float *x;                 /* [d, wide]: the residual stream */
    float *made;              /* [features, wide]: what a product makes, for queries, keys and values, or gate and up */
    float *mixed;             /* [heads * d_head, wide]: what attention makes */
    float *cos, *sin;         /* [d_head / 2, wide] */
    uint16_t *input;          /* activations for a product: [wide / 16, steps, terms] bricks */
    uint16_t *queries;        /* [heads, wide / 16, bricks of a head, 2] */
    uint16_t *keys, *values;  /* [kv_heads, slots / 16, bricks of a head, 2] and [kv_heads, d_head / 16, slots / 32, 2] */
    struct meeting meeting;
};

/* What one thread has for itself. */
struct desk {
    uint16_t *panel;   /* bricks of 32 matrix rows */
    uint16_t *weights; /* [2, slots / 32, 2]: of attention, for 32 queries */
    float *scores;     /* [slots, 32] */
    float *square;     /* [32, 32]: of what attention makes */
};

struct reader {
    struct prompt *prompt;
    struct desk desk;
    pthread_t thread;
    int id;
};

INLINE int64_t ceiling(int64_t count, int64_t of) { return (count + of - 1) / of; }
INLINE int64_t padded(int64_t count, int64_t of) { return ceiling(count, of) * of; }
/* Bricks along the size of a head, in pairs of 16 where it is rows of a matrix. */
INLINE int64_t head_steps(const struct model *m) { return ceiling(m->d_head, TILE); }
INLINE int64_t head_groups(const struct model *m) { return padded(m->d_head, SQUARE) / GROUP; }
INLINE int64_t query_size(const struct prompt *p) { return p->wide / GROUP * head_steps(p->model) * 2 * BRICK; }
INLINE int64_t key_size(const struct prompt *p) { return p->steps * 2 * head_steps(p->model) * 2 * BRICK; }
INLINE int64_t value_size(const struct prompt *p) { return head_groups(p->model) * p->steps * 2 * BRICK; }

/* Activations that meet weights in bf16 are bf16 too: the weights' own rounding is as large. */
INLINE struct terms terms_of(const struct matrix *matrix) { return matrix_terms(matrix) == 1 ? (struct terms){1, 1} : (struct terms){2, 2}; }

/* Squares of matrix rows that meet the activations together, which are read half as often so. */
enum { PANEL = 2 };

/* Memory in whole cache lines: first its size is found, then its parts are given. */
struct room {
    char *base;
    size_t used;
};
INLINE void *placed(struct room *room, int64_t count, size_t size)
{
    void *at = room->base ? room->base + room->used : NULL;
    room->used += ((size_t)count * size + 63) / 64 * 64;
    return at;
}

static void laid_out(struct prompt *p, struct reader *readers, int threads, struct room *room)
{
    const struct model *m = p->model;
    int64_t input = 0, panel = 0;
    for (int64_t i = 0; i < m->layers; i++) {
        const struct matrix *all[] = {&m->layer[i].qkv, &m->layer[i].out, &m->layer[i].gate_up, &m->layer[i].down};
        for (int j = 0; j < 4; j++) {
            input = most(input, steps_of(all[j]) * terms_of(all[j]).rows);
            panel = most(panel, steps_of(all[j]) * terms_of(all[j]).matrix * 2);
        }
    }
    const int64_t features = most(m->d, most((m->heads + 2 * m->kv_heads) * m->d_head, 2 * m->d_ff));
    p->x = placed(room, padded(m->d, SQUARE) * p->stride, sizeof(float));
    p->made = placed(room, padded(features, SQUARE) * p->stride, sizeof(float));
    p->mixed = placed(room, m->heads * m->d_head * p->stride, sizeof(float));
    p->cos = placed(room, m->d_head / 2 * p->stride, sizeof(float));
    p->sin = placed(room, m->d_head / 2 * p->stride, sizeof(float));
    p->input = placed(room, p->wide / GROUP * input * BRICK, sizeof(uint16_t));
    p->queries = placed(room, m->heads * query_size(p), sizeof(uint16_t));
    p->keys = placed(room, m->kv_heads * key_size(p), sizeof(uint16_t));
    p->values = placed(room, m->kv_heads * value_size(p), sizeof(uint16_t));
    for (int i = 0; i < threads; i++) {
        struct desk *desk = &readers[i].desk;
        desk->panel = placed(room, panel * PANEL * BRICK, sizeof(uint16_t));
        desk->weights = placed(room, 2 * p->steps * 2 * BRICK, sizeof(uint16_t));
        desk->scores = placed(room, p->steps * TILE * SQUARE, sizeof(float));
        desk->square = placed(room, SQUARE * SQUARE, sizeof(float));
    }
}

#endif
