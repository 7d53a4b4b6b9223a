/* What the caller (runtime/kernels/products.py) and the variants share: the matrices as they lie in memory, and activations as integers.
 *
 * Here: types and what no instruction set changes. Not here: products (products.h), instructions (one .c file per instruction set).
 */
#ifndef INTERLOCK_KERNELS_H
#define INTERLOCK_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
/* What is used in several places and long: once in each variant. */
#define SHARED static __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")

/* Whether this compiler and system can use the matrix units of x86-64: an assembler that knows them, and a kernel that is asked for their registers. */
#if defined(__x86_64__) && defined(__linux__) && ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define MATRIX_UNITS 1
#else
#define MATRIX_UNITS 0
#endif

enum {
    GROUP = 16, /* matrix rows that are stored together, one per 32-bit lane of a 512-bit register */
    TILE = 32   /* matrix columns that are multiplied as integers before anything becomes a float */
};

/* The types of floats in rows. */
enum { SINGLE, HALF, BRAIN };

/* Floats in rows, exactly as they were given. */
struct dense {
    const void *weight; /* [n, k] */
    int64_t n, k;
    int32_t type;
};

/* Packed integers: value = scale * (code - offset), or scale * code + offset, one scale and offset per row and block of `width` columns.
 *
 * Rows come in groups of 16 and a block in tiles of 32 columns; what is missing is padded with codes that meet only zero activations or
 * whose row is not stored. One tile is `bits` chunks of 64 bytes; chunk c holds four bytes of each of the 16 rows in turn:
 *   8 bits: columns 4c .. 4c+3
 *   4 bits: columns 4c .. 4c+3 in the low half of the bytes, 16+4c .. 16+4c+3 in the high half
 */
struct blocks {
    const uint8_t *codes; /* [groups, blocks, tiles, bits, 16, 4], unsigned: `zero` was added to each */
    const void *scale;    /* [groups, blocks, 16] */
    const void *offset;   /* the same, or NULL */
    int64_t n, k;
    int64_t blocks, width; /* blocks per row, and columns per block: k = blocks * width */
    int32_t bits;          /* 4 or 8 */
    int32_t zero;          /* 8 or 128 where codes were signed, else 0 */
    int32_t wide;          /* scale and offset are fp32, else fp16 */
    int32_t added;         /* the offset is added to the scaled code, else taken from the code */
};

/* 32 activations as 16-bit integers, whole and as the two signed bytes that 8-bit instructions need: x = step * whole, whole = 256 * high + low. */
struct tile {
    int8_t high[TILE], low[TILE];
    int16_t whole[TILE];
    float step;
    int32_t sum; /* of `whole` */
};

/* One row of activations. */
struct activation {
    struct tile *tiles; /* [blocks, tiles] */
    float *sums;        /* [blocks]: sum of step * whole, what an offset is multiplied with */
};

INLINE int64_t tiles_per_block(const struct blocks *w) { return (w->width + TILE - 1) / TILE; }
INLINE int64_t groups(const struct blocks *w) { return (w->n + GROUP - 1) / GROUP; }

/* Into the second-level cache, 16 kB ahead: packed integers took 10 to 30 % less time so than without, and the first level's hint, which helps
 * elsewhere, cost fp16 70 % on Zen 4. */
enum { AHEAD = 16384 };

/* As an integer: the address may lie behind the matrix, where a pointer must not. */
INLINE void prefetch(const void *at) { __builtin_prefetch((const void *)((uintptr_t)at + AHEAD), 0, 2); }

/* fp16 to fp32 in integer arithmetic, for a single value where no instruction is at hand. Exact; infinities and NaN stay what they are. */
INLINE float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = (uint32_t)(half & 0x7fffu) << 13;
    const uint32_t top = magnitude >= 0x0f800000u ? 0x7f800000u : 0; /* infinity and NaN keep the highest exponent */
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f; /* moves the exponent's bias from 15 to 127, and makes subnormals normal */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits |= sign | top;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* bf16 is the upper half of fp32. */
INLINE float brain_to_float(uint16_t brain)
{
    const uint32_t bits = (uint32_t)brain << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE float one_float(const void *weight, const int type, int64_t at)
{
    if (type == SINGLE) return ((const float *)weight)[at];
    return type == HALF ? half_to_float(((const uint16_t *)weight)[at]) : brain_to_float(((const uint16_t *)weight)[at]);
}

INLINE const void *moved(const void *weight, const int type, int64_t count) { return (const char *)weight + count * (type == SINGLE ? 4 : 2); }

#endif
