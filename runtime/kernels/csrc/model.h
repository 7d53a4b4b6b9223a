/* A decoder of the Llama family as the steps (step.h) take it, and what their threads share.
 *
 * Here: types, memory, the meeting of threads. Not here: arithmetic.
 */
#ifndef INTERLOCK_MODEL_H
#define INTERLOCK_MODEL_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "kernels.h"

/* One of the two. */
struct matrix {
    const struct dense *dense;
    const struct blocks *blocks;
};

/* One block. Pointers to floats may be NULL where the architecture has no such thing. */
struct layer {
    const float *norm1; /* [d] */
    struct matrix qkv;  /* [(heads + 2 * kv_heads) * d_head, d] */
    const float *bias;  /* of it, or NULL */
    const float *qk_norm; /* [heads + kv_heads, d_head], or NULL */
    struct matrix out;  /* [d, heads * d_head] */
    const float *norm2; /* [d] */
    struct matrix gate_up; /* [2 * d_ff, d] */
    struct matrix down; /* [d, d_ff] */
    int64_t rotates;
};

struct model {
    int64_t d, heads, kv_heads, d_head, d_ff, layers, vocabulary;
    int64_t window;         /* how many positions one position sees, itself included; 0: all */
    const float *cos, *sin; /* [positions, d_head / 2] */
    const struct layer *layer;
    const float *norm; /* [d] */
    struct matrix head, halt; /* halt: dense [2, d], or neither */
    const float *halt_bias; /* [2] */
    float epsilon;
};

/* Consecutive positions of one cache. */
struct sequence {
    float *slots; /* [layers, 2, kv_heads, room, d_head] */
    int64_t room, position, count;
};

/* Threads wait for each other here. Spinning first: a phase is some ten microseconds long. */
struct meeting {
    atomic_int arrived, turn, threads;
};

static inline void meet(struct meeting *at)
{
    enum { SPINS = 5000 };
    const int threads = atomic_load_explicit(&at->threads, memory_order_acquire), turn = atomic_load_explicit(&at->turn, memory_order_acquire);
    if (threads == 1) return;
    if (atomic_fetch_add_explicit(&at->arrived, 1, memory_order_acq_rel) + 1 == threads) {
        atomic_store_explicit(&at->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&at->turn, turn + 1, memory_order_release);
        return;
    }
    for (int spin = 0; atomic_load_explicit(&at->turn, memory_order_acquire) == turn; spin++)
        if (spin > SPINS) sched_yield();
}

/* One call: what its threads share. */
struct job {
    const struct model *model;
    const struct sequence *sequences;
    int64_t count, rows; /* sequences, and inputs of all of them */
    int64_t slots;       /* the most that one row may see */
    int whole;           /* a prompt: the rows are wanted for what they leave in the cache, and the last one for what the model says */
    float *x;            /* [rows, d]: embeddings, in the end what the model's last norm makes of them */
    float *logits;       /* [rows, vocabulary], of a prompt [1, vocabulary] */
    float *halt;         /* [rows, 2], of a prompt [1, 2] */
    float *qkv, *mixed, *change, *gate_up; /* products of all rows */
    struct meeting meeting;
};

/* What one thread has for itself. */
struct own {
    float *input;  /* [rows, max(d, heads * d_head, d_ff)]: what a product is given */
    float *scores; /* [slots] */
    float *query;  /* [d_head] */
    struct activation *activations; /* [rows] */
    struct tile *tiles;
    float *sums;
};

struct worker {
    struct job *job;
    struct own own;
    pthread_t thread;
    int id;
};

INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* How many tiles and blocks the activations of a matrix have, as far as they are more than was known. */
INLINE void measure(const struct matrix *matrix, int64_t *tiles, int64_t *blocks)
{
    if (!matrix->blocks) return;
    *tiles = most(*tiles, matrix->blocks->blocks * tiles_per_block(matrix->blocks));
    *blocks = most(*blocks, matrix->blocks->blocks);
}

/* The part of `count` things that a thread does. */
INLINE int64_t share(int64_t count, int id, int threads) { return count * id / threads; }

#endif
