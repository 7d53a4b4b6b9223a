/* Every product of every variant that this processor runs, on random shapes and bytes in allocations of the exact size: for the sanitizers to judge.
 *
 * Usage: sanitized SEED COUNT. Values are not looked at here. */
#include <stdio.h>

#include "kernels.h"

typedef int product_half(const struct half *, const float *, float *, int64_t);
typedef int product_blocks(const struct blocks *, const float *, float *, int64_t);
const char *variants(void);
#define DECLARE(name) product_half half_##name; product_blocks blocks_##name
#define CALL(name) (strstr(variants(), #name) ? half_##name(&half, x, y, rows) + blocks_##name(&blocks, x, y, rows) : 0)

DECLARE(generic);
#if defined(__x86_64__)
DECLARE(avx2);
DECLARE(avx512);
#define CALL_ALL (CALL(generic) + CALL(avx2) + CALL(avx512))
#else
DECLARE(neon);
#define CALL_ALL (CALL(generic) + CALL(neon))
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

int main(int argc, char **argv)
{
    state = argc > 1 ? (uint32_t)atoi(argv[1]) : 0;
    int failed = 0;
    for (int i = argc > 2 ? atoi(argv[2]) : 1; i > 0; i--) {
        struct blocks blocks = {.n = 1 + below(50), .blocks = 1 + below(4), .width = 1 + below(150)};
        blocks.k = blocks.blocks * blocks.width;
        blocks.bits = below(2) ? 4 : 8, blocks.wide = (int32_t)below(2), blocks.zero = below(2) ? 0 : blocks.bits == 4 ? 8 : 128;
        const int64_t rows = below(20), factors = groups(&blocks) * blocks.blocks * GROUP * (blocks.wide ? 4 : 2);
        void *codes = bytes(groups(&blocks) * blocks.blocks * tiles_per_block(&blocks) * blocks.bits * 64);
        void *scale = bytes(factors), *offset = below(2) ? bytes(factors) : NULL, *weight = bytes(blocks.n * blocks.k * 2);
        float *x = bytes(rows * blocks.k * 4), *y = malloc((size_t)(rows * blocks.n * 4));
        for (int64_t j = 0; j < rows * blocks.k && below(2); j++) x[j] = (float)below(2000) - 1000;
        blocks.codes = codes, blocks.scale = scale, blocks.offset = offset;
        const struct half half = {weight, blocks.n, blocks.k};
        failed += CALL_ALL;
        free(codes), free(scale), free(offset), free(weight), free(x), free(y);
    }
    printf("%s\n", variants());
    return failed != 0;
}
