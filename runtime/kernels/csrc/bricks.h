/* Matrix products of many activations on the processor's matrix units (AMX), from bf16 terms.
 *
 * The units multiply bf16 and add in fp32. A float is taken as the sum of two bf16, the nearest and the nearest to the rest, which leaves at most 2^-18 of
 * it; high*high + high*low + low*high leaves out low*low, at most 2^-18 of the product. So |error| <= 3 * 2^-18 * sum |w * x|, besides the fp32 sums.
 * Three such products take a sixth of the time of one in fp32 on the vector units (Sapphire Rapids). Weights in bf16 are one term, without error.
 *
 * A brick is what one register of the units holds: 1 KB. Of a matrix, 16 rows of 32 columns; of activations, 16 pairs of columns of 16 rows of them. So
 * that pairs cost nothing, activations lie with features in rows: [features, rows].
 *
 * What a row of activations gives depends on no other row: sums run over columns in order, for each by itself.
 *
 * Here: bricks and their products. Not here: what is multiplied (prompt.h). Included by avx512.c only.
 */
#ifndef INTERLOCK_BRICKS_H
#define INTERLOCK_BRICKS_H

#define UNITS __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c")))

enum {
    BRICK = 512,      /* bf16 in a brick */
    SQUARE = 2 * GROUP /* matrix rows, and rows of activations, that are multiplied at a time: two bricks of each */
};

/* Their registers by number. The compiler's own words for them say nothing about memory, and it moved stores behind them. */
#define UNIT_ZERO(to) __asm__ volatile("tilezero %%tmm" #to ::)
#define UNIT_LOAD(to, from, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #to ::"r"(from), "r"((int64_t)(stride)) : "memory")
#define UNIT_STORE(from, to, stride) __asm__ volatile("tilestored %%tmm" #from ", (%0,%1,1)" ::"r"(to), "r"((int64_t)(stride)) : "memory")
#define UNIT_DOT(to, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #to ::)
#define UNIT_DOTS() \
    do { \
        UNIT_DOT(0, 4, 6); \
        UNIT_DOT(1, 4, 7); \
        UNIT_DOT(2, 5, 6); \
        UNIT_DOT(3, 5, 7); \
    } while (0)
#define UNIT_LOADS(first, a, second, b) \
    do { \
        UNIT_LOAD(first, a, 64); \
        UNIT_LOAD(second, b, 64); \
    } while (0)

/* What a thread does before its first product, and after its last. All registers: 16 rows of 64 bytes.
 * Source: Intel 64 and IA-32 Software Developer's Manual, volume 1, chapter 18. */
static void units_begin(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int i = 0; i < 8; i++) shape.bytes[i] = 64, shape.rows[i] = 16;
    __asm__ volatile("ldtilecfg %0" ::"m"(shape));
}
static void units_end(void) { __asm__ volatile("tilerelease" ::); }

/* The bf16 terms of a matrix and of activations that are multiplied. */
struct terms {
    int matrix, rows;
};

/* How many bricks lie along the columns of a matrix; blocks are padded one by one. */
INLINE int64_t steps_of(const struct matrix *matrix)
{
    return matrix->dense ? (matrix->dense->k + TILE - 1) / TILE : matrix->blocks->blocks * tiles_per_block(matrix->blocks);
}
/* The first column of a brick; `count`: how many are its own. */
INLINE int64_t columns_of(const struct matrix *matrix, int64_t step, int64_t *count)
{
    const int64_t tiles = matrix->dense ? steps_of(matrix) : tiles_per_block(matrix->blocks);
    const int64_t width = matrix->dense ? matrix->dense->k : matrix->blocks->width, at = step % tiles * TILE;
    *count = width - at < TILE ? width - at : TILE;
    return step / tiles * width + at;
}
INLINE int64_t rows_of(const struct matrix *matrix) { return matrix->dense ? matrix->dense->n : matrix->blocks->n; }
INLINE int matrix_terms(const struct matrix *matrix) { return matrix->dense && matrix->dense->type == BRAIN ? 1 : 2; }

/* As prefetch() of kernels.h, so many bytes ahead: what is read next is not always what lies behind. */
INLINE void soon(const void *at, int64_t bytes) { __builtin_prefetch((const void *)((uintptr_t)at + (uintptr_t)bytes), 0, 2); }

INLINE UNITS __m512 low_half(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
INLINE UNITS __m512 high_half(__m512i pairs) { return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000))); }
INLINE UNITS __m512 widened(__m256i brain) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(brain), 16)); }

/* 32 columns of one row of a matrix, as one row of a brick and of the brick of the rest behind it. */
INLINE UNITS void put_row(__m512 first, __m512 second, uint16_t *to, const int terms)
{
    const __m512i near = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    _mm512_storeu_si512(to, near);
    if (terms == 1) return;
    first = _mm512_sub_ps(first, widened(_mm512_castsi512_si256(near)));
    second = _mm512_sub_ps(second, widened(_mm512_extracti64x4_epi64(near, 1)));
    _mm512_storeu_si512(to + BRICK, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

/* Two features of 16 rows of activations, likewise. */
INLINE UNITS void put_pair(__m512 even, __m512 odd, uint16_t *to, const int terms)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i order = _mm512_or_si512(_mm512_slli_epi32(_mm512_or_si512(lane, _mm512_set1_epi32(16)), 16), lane); /* 0, 16, 1, 17, … */
    const __m512i near = _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
    _mm512_storeu_si512(to, near);
    if (terms == 1) return;
    const __m512i rest = (__m512i)_mm512_cvtne2ps_pbh(_mm512_sub_ps(odd, high_half(near)), _mm512_sub_ps(even, low_half(near)));
    _mm512_storeu_si512(to + BRICK, _mm512_permutexvar_epi16(order, rest));
}

/* A brick of activations. from: 32 features of 16 rows, `stride` apart. */
INLINE UNITS void put_activations(const float *from, int64_t stride, uint16_t *to, const int terms)
{
    for (int i = 0; i < TILE; i += 2) put_pair(load(from + i * stride), load(from + (i + 1) * stride), to + i / 2 * TILE, terms);
}

/* Up to 32 floats of any type as two registers; what is missing is zero. */
INLINE UNITS void load_row(const void *weight, const int type, int64_t at, int64_t count, __m512 *first, __m512 *second)
{
    if (count == TILE) {
        *first = load_dense(weight, type, at), *second = load_dense(weight, type, at + GROUP);
        return;
    }
    float part[TILE] = {0};
    for (int64_t i = 0; i < count; i++) part[i] = one_float(weight, type, at + i);
    *first = load(part), *second = load(part + GROUP);
}

/* Some bricks along the columns of a matrix. */
struct range {
    int64_t from, to;
};

/* 32 rows of a dense matrix from `row` on, as far as there are any: [2, steps of the range, terms] bricks. `type` and `terms` are constants after
 * inlining. */
INLINE UNITS void dense_bricks(const struct dense *w, const int type, int64_t row, struct range range, uint16_t *to, const int terms)
{
    const int64_t bytes = type == SINGLE ? 4 : 2, before = AHEAD / (w->k * bytes), jump = (before ? before : 1) * w->k;
    for (int r = 0; r < SQUARE; r++) {
        uint16_t *at = to + (r / GROUP * (range.to - range.from) * terms) * BRICK + r % GROUP * TILE;
        for (int64_t step = range.from; step < range.to; step++, at += terms * BRICK) {
            const int64_t left = w->k - step * TILE, start = (row + r) * w->k + step * TILE;
            __m512 first = _mm512_setzero_ps(), second = first;
            if (row + r < w->n) {
                for (int64_t line = 0; line < TILE * bytes; line += 64) soon(moved(w->weight, type, start), jump * bytes + line);
                load_row(w->weight, type, start, left < TILE ? left : TILE, &first, &second);
            }
            put_row(first, second, at, terms);
        }
    }
}

/* 32 codes of each of 16 rows, which lie four columns of all rows in turn, as [4, 2, 4] times 16 columns: row 4 * i + j in
 * [j][half][i]. next: so many bytes further lies what is needed soon. */
INLINE UNITS void turned_codes(const uint8_t *codes, int64_t next, const int bits, uint8_t (*to)[2][64])
{
    __m512i four[8];
    const __m512i nibble = _mm512_set1_epi8(15);
    UNROLL for (int c = 0; c < bits; c++) {
        soon(codes + 64 * c, next);
        const __m512i chunk = _mm512_loadu_si512(codes + 64 * c);
        if (bits == 8) four[c] = chunk;
        else four[c] = _mm512_and_si512(chunk, nibble), four[4 + c] = _mm512_and_si512(_mm512_srli_epi16(chunk, 4), nibble);
    }
    UNROLL for (int half = 0; half < 2; half++) {
        const __m512i *at = four + 4 * half;
        const __m512i low[2] = {_mm512_unpacklo_epi32(at[0], at[1]), _mm512_unpackhi_epi32(at[0], at[1])};
        const __m512i high[2] = {_mm512_unpacklo_epi32(at[2], at[3]), _mm512_unpackhi_epi32(at[2], at[3])};
        UNROLL for (int pair = 0; pair < 2; pair++) {
            _mm512_storeu_si512(to[2 * pair][half], _mm512_unpacklo_epi64(low[pair], high[pair]));
            _mm512_storeu_si512(to[2 * pair + 1][half], _mm512_unpackhi_epi64(low[pair], high[pair]));
        }
    }
}

INLINE UNITS __m512 code_lanes(const uint8_t *from) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from))); }

/* One group of 16 rows of a packed matrix: [steps of the range, 2] bricks. Each value is rounded to fp32 as scale * code + what is added. */
INLINE UNITS void block_bricks(const struct blocks *w, int64_t group, struct range range, uint16_t *to, const int bits)
{
    const int64_t tiles = tiles_per_block(w), size = bits * 64, next = w->blocks * tiles * size;
    const uint8_t *codes = w->codes + group * next;
    for (int64_t block = range.from / tiles; block * tiles < range.to; block++) {
        const int64_t at = (group * w->blocks + block) * GROUP;
        float scale[GROUP], plus[GROUP];
        const __m512 scales = load_factor(w, w->scale, at), zero = _mm512_set1_ps((float)w->zero);
        const __m512 offset = w->offset ? load_factor(w, w->offset, at) : _mm512_setzero_ps();
        store(scale, scales);
        if (w->added) store(plus, _mm512_fnmadd_ps(scales, zero, offset));
        else store(plus, _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(scales, _mm512_add_ps(offset, zero))));
        const int64_t first = block * tiles > range.from ? block * tiles : range.from, last = (block + 1) * tiles < range.to ? (block + 1) * tiles : range.to;
        for (int64_t step = first; step < last; step++, to += 2 * BRICK) {
            uint8_t turned[4][2][64];
            turned_codes(codes + step * size, next, bits, turned);
            UNROLL for (int r = 0; r < GROUP; r++) {
                const __m512 factor = splat(scale[r]), more = splat(plus[r]);
                const __m512 near = code_lanes(turned[r % 4][0] + r / 4 * 16), far = code_lanes(turned[r % 4][1] + r / 4 * 16);
                put_row(fused(near, factor, more), fused(far, factor, more), to + r * TILE, 2);
            }
        }
    }
}

/* 32 rows of a matrix from `row` on as bricks, [2, steps of the range, terms]. */
static UNITS void matrix_bricks(const struct matrix *matrix, int64_t row, struct range range, uint16_t *to)
{
    if (matrix->dense) {
        const struct dense *w = matrix->dense;
        if (w->type == SINGLE) dense_bricks(w, SINGLE, row, range, to, 2);
        else if (w->type == HALF) dense_bricks(w, HALF, row, range, to, 2);
        else dense_bricks(w, BRAIN, row, range, to, 1);
        return;
    }
    const struct blocks *w = matrix->blocks;
    const int64_t size = (range.to - range.from) * 2 * BRICK;
    for (int64_t half = 0; half < 2; half++, to += size) {
        const int64_t group = row / GROUP + half;
        if (group >= groups(w)) memset(to, 0, (size_t)size * sizeof *to);
        else if (w->bits == 4) block_bricks(w, group, range, to, 4);
        else block_bricks(w, group, range, to, 8);
    }
}

/* Both: their first bricks, [steps, terms]; the second ones `next` further. */
struct factors {
    const uint16_t *matrix, *rows;
    int64_t next_matrix, next_rows, steps;
};

/* 32 matrix rows times 32 rows of activations → out [32, stride], fp32, or added to it. The smallest products are added first. */
INLINE UNITS void square_of(const struct factors *of, const struct terms terms, int adds, float *out, int64_t stride)
{
    const uint16_t *a0 = of->matrix, *a1 = a0 + of->next_matrix, *b0 = of->rows, *b1 = b0 + of->next_rows;
    float *below = out + GROUP * stride;
    if (adds) {
        UNIT_LOAD(0, out, stride * 4);
        UNIT_LOAD(1, out + GROUP, stride * 4);
        UNIT_LOAD(2, below, stride * 4);
        UNIT_LOAD(3, below + GROUP, stride * 4);
    } else {
        UNIT_ZERO(0);
        UNIT_ZERO(1);
        UNIT_ZERO(2);
        UNIT_ZERO(3);
    }
    for (int64_t step = 0; step < of->steps; step++) {
        UNIT_LOADS(4, a0, 5, a1);
        if (terms.rows == 2) {
            UNIT_LOADS(6, b0 + BRICK, 7, b1 + BRICK);
            UNIT_DOTS();
        }
        UNIT_LOADS(6, b0, 7, b1);
        UNIT_DOTS();
        if (terms.matrix == 2) {
            UNIT_LOADS(4, a0 + BRICK, 5, a1 + BRICK);
            UNIT_DOTS();
        }
        a0 += terms.matrix * BRICK, a1 += terms.matrix * BRICK, b0 += terms.rows * BRICK, b1 += terms.rows * BRICK;
    }
    UNIT_STORE(0, out, stride * 4);
    UNIT_STORE(1, out + GROUP, stride * 4);
    UNIT_STORE(2, below, stride * 4);
    UNIT_STORE(3, below + GROUP, stride * 4);
}

static UNITS void square(const struct factors *of, const struct terms terms, int adds, float *out, int64_t stride)
{
    if (terms.matrix == 2) square_of(of, (struct terms){2, 2}, adds, out, stride);
    else square_of(of, (struct terms){1, 1}, adds, out, stride);
}

#endif
