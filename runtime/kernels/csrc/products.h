/* The products, written once: each instruction set's file defines the words below and includes this.
 *
 *   TARGET                  the attribute under which its functions are compiled
 *   PANEL_OUTS, PANEL_ROWS  how many matrix rows by how many activations its registers hold sums for
 *   DENSE_ROWS              how many activations against one row of floats: each takes six registers of lanes
 *   BLOCK_ROWS              how many activations against one group of a packed matrix (1, 2, 4 or 8)
 *   lanes                   16 fp32; sums: 16 int32
 *   splat, load, load_half, load_brain, store, plus (a + b), fused (a * b + c), total (sum of the lanes)
 *   dot4, dot8              16 rows of one packed tile times one activation tile, exact: 32 * 255 * 32512 < 2^31
 *   widen                   sums plus one integer, as lanes
 *   NAME(product)           the exported name
 *
 * Here: loops, order of summation, edges. Not here: instructions.
 */

/* Activations of one row as 16-bit integers per tile of 32, by their largest magnitude. A tile that holds NaN or infinity gets a NaN step,
 * which reaches every output: integers would hide it. Below 2^-110 a tile is taken as zero: its step would be no normal number. */
SHARED TARGET void quantise(const struct blocks *w, const float *x, struct activation row)
{
    const int64_t tiles = tiles_per_block(w);
    for (int64_t block = 0; block < w->blocks; block++) {
        float block_sum = 0;
        for (int64_t t = 0; t < tiles; t++) {
            struct tile *tile = row.tiles + block * tiles + t;
            const int64_t start = t * TILE, count = w->width - start < TILE ? w->width - start : TILE;
            float value[TILE] = {0}, largest = 0, poison = 0;
            memcpy(value, x + block * w->width + start, (size_t)count * sizeof *x);
            for (int i = 0; i < TILE; i++) {
                const float magnitude = fabsf(value[i]);
                largest = magnitude > largest ? magnitude : largest;
                poison += value[i] * 0; /* 0, or NaN for NaN and infinity */
            }
            const int usable = poison == 0 && largest >= 0x1p-110f;
            const float inverse = usable ? 32512 / largest : 0;
            int32_t sum = 0;
            for (int i = 0; i < TILE; i++) {
                const float scaled = usable ? value[i] * inverse : 0;
                const int32_t whole = (int32_t)(scaled + copysignf(0.5f, scaled));
                const int32_t high = (whole + 128) >> 8;
                tile->whole[i] = (int16_t)whole;
                tile->high[i] = (int8_t)high;
                tile->low[i] = (int8_t)(whole - high * 256);
                sum += whole;
            }
            tile->sum = sum;
            tile->step = (usable ? largest / 32512 : 0) + poison;
            block_sum += tile->step * (float)sum;
        }
        row.sums[block] = block_sum;
    }
}

INLINE TARGET lanes load_factor(const struct blocks *w, const void *factors, int64_t at)
{
    return w->wide ? load((const float *)factors + at) : load_half((const uint16_t *)factors + at);
}

/* One group of 16 outputs for `rows` activations: the matrix is read once for all of them. `rows` and `bits` are constants after inlining. */
INLINE TARGET void block_panel(const struct blocks *w, int64_t group, const struct activation *x, float *y, const int rows, const int bits)
{
    const int64_t tiles = tiles_per_block(w);
    const uint8_t *codes = w->codes + group * w->blocks * tiles * bits * 64;
    lanes out[BLOCK_ROWS];
    UNROLL for (int r = 0; r < rows; r++) out[r] = splat(0);
    for (int64_t block = 0; block < w->blocks; block++) {
        lanes part[BLOCK_ROWS];
        UNROLL for (int r = 0; r < rows; r++) part[r] = splat(0);
        for (int64_t t = 0; t < tiles; t++, codes += bits * 64) {
            UNROLL for (int c = 0; c < bits; c++) prefetch(codes + 64 * c);
            UNROLL for (int r = 0; r < rows; r++) {
                const struct tile *tile = x[r].tiles + block * tiles + t;
                const sums dot = bits == 4 ? dot4(codes, tile) : dot8(codes, tile);
                part[r] = fused(splat(tile->step), widen(dot, -w->zero * tile->sum), part[r]);
            }
        }
        const int64_t at = (group * w->blocks + block) * GROUP;
        const lanes scale = load_factor(w, w->scale, at);
        if (w->offset) {
            const lanes offset = load_factor(w, w->offset, at);
            if (w->added) {
                UNROLL for (int r = 0; r < rows; r++) out[r] = fused(offset, splat(x[r].sums[block]), out[r]);
            } else {
                UNROLL for (int r = 0; r < rows; r++) part[r] = fused(offset, splat(-x[r].sums[block]), part[r]);
            }
        }
        UNROLL for (int r = 0; r < rows; r++) out[r] = fused(scale, part[r], out[r]);
    }
    const int64_t first = group * GROUP, kept = w->n - first < GROUP ? w->n - first : GROUP;
    UNROLL for (int r = 0; r < rows; r++) {
        float values[GROUP];
        store(values, out[r]);
        memcpy(y + r * w->n + first, values, (size_t)kept * sizeof *y);
    }
}

INLINE TARGET void block_group(const struct blocks *w, int64_t group, const struct activation *x, float *y, int64_t rows, const int bits)
{
    int64_t r = 0;
    for (; r + BLOCK_ROWS <= rows; r += BLOCK_ROWS) block_panel(w, group, x + r, y + r * w->n, BLOCK_ROWS, bits);
    if (BLOCK_ROWS > 4 && rows - r >= 4) block_panel(w, group, x + r, y + r * w->n, BLOCK_ROWS > 4 ? 4 : 1, bits), r += 4;
    if (BLOCK_ROWS > 2 && rows - r >= 2) block_panel(w, group, x + r, y + r * w->n, BLOCK_ROWS > 2 ? 2 : 1, bits), r += 2;
    if (rows - r >= 1) block_panel(w, group, x + r, y + r * w->n, 1, bits);
}

/* Groups `from` to `to` of a matrix for some activations. */
SHARED TARGET void block_groups(const struct blocks *w, int64_t from, int64_t to, const struct activation *x, float *y, int64_t rows)
{
    for (int64_t group = from; group < to; group++) {
        if (w->bits == 4) block_group(w, group, x, y, rows, 4);
        else block_group(w, group, x, y, rows, 8);
    }
}

/* x: [rows, k] → y: [rows, n]. Returns 0, or 1 where there is no memory for the quantised activations. */
EXPORT TARGET int NAME(blocks)(const struct blocks *w, const float *x, float *y, int64_t rows)
{
    const int64_t tiles = w->blocks * tiles_per_block(w);
    struct activation *activations = malloc((size_t)rows * (sizeof *activations + (size_t)tiles * sizeof(struct tile) + (size_t)w->blocks * sizeof(float)));
    if (!activations) return rows != 0;
    struct tile *all_tiles = (struct tile *)(activations + rows);
    float *all_sums = (float *)(all_tiles + rows * tiles);
    for (int64_t r = 0; r < rows; r++) {
        activations[r] = (struct activation){all_tiles + r * tiles, all_sums + r * w->blocks};
        quantise(w, x + r * w->k, activations[r]);
    }
    block_groups(w, 0, groups(w), activations, y, rows);
    free(activations);
    return 0;
}

INLINE TARGET lanes load_dense(const void *weight, const int type, int64_t at)
{
    if (type == SINGLE) return load((const float *)weight + at);
    return type == HALF ? load_half((const uint16_t *)weight + at) : load_brain((const uint16_t *)weight + at);
}

/* One matrix row times `rows` activations → y[r * n]: each value of the matrix is loaded and widened once for all of them, and every activation's sums
 * are in the order of one alone. Six sums hide the latency of an addition; long turns of one stream are what memory reads fastest: four matrix rows at
 * a time took 26 ms, turns of 64 columns 14, these 12 (SmolLM2-135M in fp16 on Zen 4, where reading alone takes 9.5). `rows` is a constant after
 * inlining. */
INLINE TARGET void dense_dots(const void *weight, const int type, const float *x, int64_t columns, float *y, int64_t n, const int rows)
{
    enum { SUMS = 6, TURN = 2 * SUMS * GROUP };
    lanes sum[DENSE_ROWS][SUMS];
    int64_t k = 0;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < SUMS; i++) sum[r][i] = splat(0);
    for (; k + TURN <= columns; k += TURN) {
        UNROLL for (int i = 0; i < 2 * SUMS; i++)
            if (type == SINGLE || i % 2 == 0) prefetch(moved(weight, type, k + GROUP * i));
        UNROLL for (int i = 0; i < 2 * SUMS; i++) {
            const lanes wide = load_dense(weight, type, k + GROUP * i);
            UNROLL for (int r = 0; r < rows; r++) sum[r][i % SUMS] = fused(wide, load(x + r * columns + k + GROUP * i), sum[r][i % SUMS]);
        }
    }
    for (; k + GROUP <= columns; k += GROUP) {
        const lanes wide = load_dense(weight, type, k);
        UNROLL for (int r = 0; r < rows; r++) sum[r][0] = fused(wide, load(x + r * columns + k), sum[r][0]);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        float value = total(plus(plus(plus(sum[r][0], sum[r][1]), plus(sum[r][2], sum[r][3])), plus(sum[r][4], sum[r][5])));
        for (int64_t rest = k; rest < columns; rest++) value += one_float(weight, type, rest) * x[r * columns + rest];
        y[r * n] = value;
    }
}

INLINE TARGET void each_of_type(const struct dense *w, const int type, int64_t from, int64_t to, const float *x, float *y, int64_t rows)
{
    for (int64_t n = from; n < to; n++) {
        const void *weight = moved(w->weight, type, n * w->k);
        int64_t r = 0;
        for (; DENSE_ROWS > 1 && r + DENSE_ROWS <= rows; r += DENSE_ROWS) dense_dots(weight, type, x + r * w->k, w->k, y + r * w->n + n, w->n, DENSE_ROWS);
        for (; r < rows; r++) dense_dots(weight, type, x + r * w->k, w->k, y + r * w->n + n, w->n, 1);
    }
}

/* Matrix rows `from` to `to` for some activations, each as if it were alone: the sums are in the order of one row, whatever their number. */
SHARED TARGET void dense_each(const struct dense *w, int64_t from, int64_t to, const float *x, float *y, int64_t rows)
{
    if (w->type == SINGLE) each_of_type(w, SINGLE, from, to, x, y, rows);
    else if (w->type == HALF) each_of_type(w, HALF, from, to, x, y, rows);
    else each_of_type(w, BRAIN, from, to, x, y, rows);
}

/* PANEL_OUTS matrix rows times PANEL_ROWS activations: each value is loaded and widened once for several products. */
INLINE TARGET void dense_panel(const struct dense *w, const int type, int64_t n, const float *x, float *y)
{
    const void *weight = moved(w->weight, type, n * w->k);
    lanes sum[PANEL_OUTS][PANEL_ROWS];
    int64_t k = 0;
    UNROLL for (int o = 0; o < PANEL_OUTS; o++) UNROLL for (int r = 0; r < PANEL_ROWS; r++) sum[o][r] = splat(0);
    for (; k + GROUP <= w->k; k += GROUP) {
        UNROLL for (int o = 0; o < PANEL_OUTS; o++) {
            prefetch(moved(weight, type, o * w->k + k));
            const lanes wide = load_dense(weight, type, o * w->k + k);
            UNROLL for (int r = 0; r < PANEL_ROWS; r++) sum[o][r] = fused(wide, load(x + r * w->k + k), sum[o][r]);
        }
    }
    UNROLL for (int o = 0; o < PANEL_OUTS; o++) UNROLL for (int r = 0; r < PANEL_ROWS; r++) {
        float value = total(sum[o][r]);
        for (int64_t rest = k; rest < w->k; rest++) value += one_float(weight, type, o * w->k + rest) * x[r * w->k + rest];
        y[r * w->n + n + o] = value;
    }
}

INLINE TARGET void panels_of_type(const struct dense *w, const int type, int64_t from, int64_t to, const float *x, float *y, int64_t rows)
{
    for (int64_t n = from; n < to; n += PANEL_OUTS)
        for (int64_t r = 0; r < rows; r += PANEL_ROWS) dense_panel(w, type, n, x + r * w->k, y + r * w->n);
}

/* The same for many activations, in panels, which add in another order. */
SHARED TARGET void dense_many(const struct dense *w, int64_t from, int64_t to, const float *x, float *y, int64_t rows)
{
    const int64_t outs = to - (to - from) % PANEL_OUTS, paired = rows - rows % PANEL_ROWS;
    if (w->type == SINGLE) panels_of_type(w, SINGLE, from, outs, x, y, paired);
    else if (w->type == HALF) panels_of_type(w, HALF, from, outs, x, y, paired);
    else panels_of_type(w, BRAIN, from, outs, x, y, paired);
    dense_each(w, from, outs, x + paired * w->k, y + paired * w->n, rows - paired);
    dense_each(w, outs, to, x, y, rows);
}

/* x: [rows, k] → y: [rows, n]. Returns 0. */
EXPORT TARGET int NAME(dense)(const struct dense *w, const float *x, float *y, int64_t rows)
{
    dense_many(w, 0, w->n, x, y, rows);
    return 0;
}
