/* Every product and step of every variant that this processor runs, on random shapes and bytes in allocations of the exact size: for the sanitizers to judge.
 *
 * Usage: sanitized SEED COUNT. Values are not looked at here. */
#include <stdio.h>

#include "model.h"

typedef int product_dense(const struct dense *, const float *, float *, int64_t);
typedef int product_blocks(const struct blocks *, const float *, float *, int64_t);
typedef int model_step(const struct model *, const struct sequence *, int64_t, float *, float *, float *, int32_t, int32_t);
typedef int model_prompt(const struct model *, const struct sequence *, float *, float *, float *, int32_t);
const char *variants(void);
int matrix_units(void);
#define DECLARE(name) product_dense dense_##name; product_blocks blocks_##name; model_step step_##name
#define CALL(name) (strstr(variants(), #name) ? dense_##name(&dense, x, y, rows) + blocks_##name(&blocks, x, y, rows) : 0)
#define STEP(name) (strstr(variants(), #name) ? step_##name(&model, sequences, count, inputs, logits, halt, whole, threads) : 0)

DECLARE(generic);
#if MATRIX_UNITS
model_prompt prompt_avx512;
#define PROMPT (matrix_units() ? prompt_avx512(&model, sequences, x, logits, halt, threads) : 0)
#else
#define PROMPT 0
#endif
#if defined(__x86_64__)
DECLARE(avx2);
DECLARE(avx512);
#define CALL_ALL (CALL(generic) + CALL(avx2) + CALL(avx512))
#define STEP_ALL (STEP(generic) + STEP(avx2) + STEP(avx512))
#else
DECLARE(neon);
#define CALL_ALL (CALL(generic) + CALL(neon))
#define STEP_ALL (STEP(generic) + STEP(neon))
#endif

static uint32_t state;
static uint32_t below(uint32_t limit) { return (state = state * 1664525u + 1013904223u) / 65536u % limit; }

/* Random bytes: as floats they are NaN, infinite, subnormal and huge too. */
static void *bytes(int64_t count)
{
    unsigned char *made = malloc((size_t)count);
    for (int64_t i = 0; i < count; i++) made[i] = (unsigned char)below(256);
    return made;
}

/* What was allocated for one round, to be freed together. */
static void *kept[4096];
static int keeping;
static void *keep(void *made) { return kept[keeping++] = made; }

static struct dense random_dense(int64_t n, int64_t k)
{
    const int32_t type = (int32_t)below(3);
    return (struct dense){keep(bytes(n * k * (type == SINGLE ? 4 : 2))), n, k, type};
}

static struct blocks random_blocks(int64_t n, int64_t blocks, int64_t width)
{
    struct blocks made = {.n = n, .blocks = blocks, .width = width, .k = blocks * width};
    made.bits = below(2) ? 4 : 8, made.wide = (int32_t)below(2), made.added = (int32_t)below(2), made.zero = below(2) ? 0 : made.bits == 4 ? 8 : 128;
    const int64_t factors = groups(&made) * blocks * GROUP * (made.wide ? 4 : 2);
    made.codes = keep(bytes(groups(&made) * blocks * tiles_per_block(&made) * made.bits * 64));
    made.scale = keep(bytes(factors));
    made.offset = below(2) ? keep(bytes(factors)) : NULL;
    return made;
}

static struct matrix random_matrix(int64_t n, int64_t k)
{
    if (below(2)) {
        struct dense *dense = keep(malloc(sizeof *dense));
        *dense = random_dense(n, k);
        return (struct matrix){dense, NULL};
    }
    struct blocks *blocks = keep(malloc(sizeof *blocks));
    *blocks = k % 2 ? random_blocks(n, 1, k) : random_blocks(n, 2, k / 2);
    return (struct matrix){NULL, blocks};
}

/* A small model with everything that an architecture may have, and some sequences in caches of the exact size. */
static int steps(void)
{
    struct model model = {.d = 1 + below(70), .kv_heads = 1 + below(3), .d_head = 2 * (1 + below(40)), .d_ff = 1 + below(90), .layers = 1 + below(3)};
    model.heads = model.kv_heads * (1 + below(3)), model.vocabulary = 1 + below(60), model.window = below(2) ? 1 + below(9) : 0, model.epsilon = 1e-5f;
    const int64_t positions = 40, size = model.d_head, both = model.heads + model.kv_heads, wide = (both + model.kv_heads) * size;
    struct layer *layers = keep(malloc((size_t)model.layers * sizeof *layers));
    for (int64_t i = 0; i < model.layers; i++) {
        layers[i] = (struct layer){.norm1 = keep(bytes(model.d * 4)), .norm2 = keep(bytes(model.d * 4)), .rotates = below(2)};
        layers[i].qkv = random_matrix(wide, model.d), layers[i].out = random_matrix(model.d, model.heads * size);
        layers[i].gate_up = random_matrix(2 * model.d_ff, model.d), layers[i].down = random_matrix(model.d, model.d_ff);
        layers[i].bias = below(2) ? keep(bytes(wide * 4)) : NULL, layers[i].qk_norm = below(2) ? keep(bytes(both * size * 4)) : NULL;
    }
    model.layer = layers, model.norm = keep(bytes(model.d * 4)), model.head = random_matrix(model.vocabulary, model.d);
    model.cos = keep(bytes(positions * size / 2 * 4)), model.sin = keep(bytes(positions * size / 2 * 4));
    struct dense head = random_dense(2, model.d);
    if (below(2)) model.halt = (struct matrix){&head, NULL}, model.halt_bias = keep(bytes(8));
    struct sequence sequences[4];
    const int64_t count = 1 + below(4);
    int64_t rows = 0;
    for (int64_t i = 0; i < count; i++) {
        struct sequence *at = sequences + i;
        at->position = below(20), at->count = 1 + below(i ? 4 : 20), at->room = at->position + at->count, rows += at->count;
        at->slots = keep(bytes(model.layers * 2 * model.kv_heads * at->room * size * 4));
    }
    const int32_t whole = (int32_t)below(2);
    const int64_t said = whole ? 1 : rows;
    float *inputs = keep(bytes(rows * model.d * 4)), *logits = keep(malloc((size_t)(said * model.vocabulary * 4)));
    float *halt = model.halt.dense ? keep(malloc((size_t)(said * 8))) : NULL;
    for (int64_t j = 0; j < rows * model.d && below(2); j++) inputs[j] = (float)below(2000) / 1000 - 1;
    const int32_t threads = 1 + (int32_t)below(3);
    const size_t prompt = (size_t)(sequences->count * model.d * 4);
    float *x = keep(malloc(prompt));
    memcpy(x, inputs, prompt);
    return STEP_ALL + PROMPT;
}

int main(int argc, char **argv)
{
    state = argc > 1 ? (uint32_t)atoi(argv[1]) : 0;
    int failed = 0;
    for (int i = argc > 2 ? atoi(argv[2]) : 1; i > 0; i--) {
        const struct blocks blocks = random_blocks(1 + below(50), 1 + below(4), 1 + below(150));
        const struct dense dense = random_dense(blocks.n, blocks.k);
        const int64_t rows = below(20);
        float *x = keep(bytes(rows * blocks.k * 4)), *y = keep(malloc((size_t)(rows * blocks.n * 4)));
        for (int64_t j = 0; j < rows * blocks.k && below(2); j++) x[j] = (float)below(2000) - 1000;
        failed += CALL_ALL + steps();
        while (keeping) free(kept[--keeping]);
    }
    printf("%s\n", variants());
    return failed != 0;
}
