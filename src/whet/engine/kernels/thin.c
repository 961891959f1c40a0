/* Products of a tall bf16 matrix with a thin one: what a low-rank update needs beside the product that it is added to.
 *
 * X [T, W] is tall, L [T, R] and M [R, W] are thin. A part is a run of X's columns with a run of ranks of its own: low-rank updates of layers
 * that share their input or output lie beside each other. Work is dealt out in blocks of tokens, or of columns where it is summed over tokens:
 * the order of each sum does not depend on the number of threads.
 */
#ifndef __AVX512BF16__
#error "this file needs AVX-512 BF16"
#endif

enum { BLOCK = 64, COLUMNS = 64, GROUP = 8, MOST = 64, TILE = 6, VECTORS = COLUMNS / LANES };
enum work { LOW, ADD, SUM, LAY };

struct part {
    int64_t column, width, rank, ranks; /* where it begins, and how many */
    float *sums;                        /* written by SUM, read by LAY: rank r and column c at r * by_rank + c * by_column */
    int64_t by_rank, by_column;
    float scale;
};

struct call {                           /* as `_Call` of thin_products.py has it */
    int64_t work, tokens;
    struct tensor x, low, matrix;
    const struct part *parts;
    int64_t count, threads, next;
};

#define INLINE static inline __attribute__((always_inline))

static inline const uint16_t *at(const struct tensor *t, int64_t row, int64_t column) {
    return (const uint16_t *)t->data + row * t->token + column;
}

static inline __mmask32 halves(int64_t from, int64_t width) {
    return from + 32 <= width ? 0xffffffffu : from < width ? (1u << (width - from)) - 1 : 0;
}

#define ALL 0xffffffffu

INLINE __m512i words(const uint16_t *from, __mmask32 some) {
    return some == ALL ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi16(some, from);
}

INLINE __m512 wide_of(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

INLINE __m512bh numbers(const uint16_t *from, __mmask32 some) { return (__m512bh)words(from, some); }

static inline __m512bh pair_of(const uint32_t *from) { return (__m512bh)_mm512_set1_epi32((int)*from); }

/* Two rows of 32 numbers as pairs of one column each: of the first 16 columns, and of the others. */
static inline void paired(__m512i first, __m512i second, __m512i *out) {
    const __m512i step = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34,
                                          2, 33, 1, 32, 0);
    out[0] = _mm512_permutex2var_epi16(first, step, second);
    out[1] = _mm512_permutex2var_epi16(first, _mm512_add_epi16(step, _mm512_set1_epi16(16)), second);
}

/* The sums of 16 vectors. */
static inline __m512 sums_of(const __m512 *v) {
    __m512 fours[4];
    for (int i = 0; i < 4; i++) {
        __m512 one = _mm512_add_ps(_mm512_unpacklo_ps(v[4 * i], v[4 * i + 1]), _mm512_unpackhi_ps(v[4 * i], v[4 * i + 1]));
        __m512 other = _mm512_add_ps(_mm512_unpacklo_ps(v[4 * i + 2], v[4 * i + 3]), _mm512_unpackhi_ps(v[4 * i + 2], v[4 * i + 3]));
        __m512d a = _mm512_castps_pd(one), b = _mm512_castps_pd(other);
        fours[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(fours[0], fours[1], 0x88), _mm512_shuffle_f32x4(fours[0], fours[1], 0xdd));
    __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2], fours[3], 0x88), _mm512_shuffle_f32x4(fours[2], fours[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

INLINE void low_step(__m512 *sums, const uint16_t *const *rows, const uint16_t *const *ranks, int64_t c, __mmask32 some) {
    __m512bh of_rank[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) of_rank[j] = numbers(ranks[j] + c, some);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512bh of_row = numbers(rows[i] + c, some);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) sums[4 * i + j] = _mm512_dpbf16_ps(sums[4 * i + j], of_row, of_rank[j]);
    }
}

/* L = X M^T, of four tokens and four ranks at a time; where there are fewer, the last is taken again and not written */
static void low_block(const struct call *call, const struct part *part, int64_t first, int64_t end) {
    const int64_t whole = part->width / 32 * 32;
    for (int64_t t = first; t < end; t += 4)
        for (int64_t r = 0; r < part->ranks; r += 4) {
            const uint16_t *rows[4], *ranks[4];
            __m512 sums[16];
            for (int i = 0; i < 4; i++) {
                rows[i] = at(&call->x, least(t + i, end - 1), part->column);
                ranks[i] = at(&call->matrix, part->rank + least(r + i, part->ranks - 1), part->column);
            }
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) sums[i] = _mm512_setzero_ps();
            for (int64_t c = 0; c < whole; c += 32) low_step(sums, rows, ranks, c, ALL);
            if (whole < part->width) low_step(sums, rows, ranks, whole, halves(whole, part->width));
            uint16_t out[LANES];
            _mm256_storeu_si256((__m256i *)out, (__m256i)_mm512_cvtneps_pbh(sums_of(sums)));
            const size_t many = (size_t)least(4, part->ranks - r) * sizeof *out;
            for (int64_t i = 0; i < least(4, end - t); i++)
                __builtin_memcpy((uint16_t *)call->low.data + (t + i) * call->low.token + part->rank + r, out + 4 * i, many);
        }
}

/* X += L M in COLUMNS columns of some tokens. `pairs`: two ranks each, of L by token, of M by column */
INLINE void add_tile(const struct call *call, const int tokens, int64_t t, int64_t column, int64_t width, int64_t steps, int64_t wide,
                     const uint32_t *low, const __m512i *matrix) {
    __m512 sums[TILE][VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < tokens; i++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sums[i][v] = _mm512_setzero_ps();
    for (int64_t s = 0; s < steps; s++) {
        __m512bh of_columns[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) of_columns[v] = (__m512bh)matrix[s * VECTORS + v];
#pragma GCC unroll 8
        for (int i = 0; i < tokens; i++) {
            __m512bh of_token = pair_of(low + i * wide + s);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sums[i][v] = _mm512_dpbf16_ps(sums[i][v], of_token, of_columns[v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < tokens; i++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v += 2) {
            uint16_t *place = (uint16_t *)at(&call->x, t + i, column + v * LANES);
            __mmask32 some = width == COLUMNS ? ALL : halves(v * LANES, width);
            __m512i x = words(place, some);
            __m512 one = _mm512_add_ps(wide_of(_mm512_castsi512_si256(x)), sums[i][v]);
            __m512 other = _mm512_add_ps(wide_of(_mm512_extracti64x4_epi64(x, 1)), sums[i][v + 1]);
            x = (__m512i)_mm512_cvtne2ps_pbh(other, one);
            if (some == ALL)
                _mm512_storeu_si512(place, x);
            else
                _mm512_mask_storeu_epi16(place, some, x);
        }
}

static void add_block(const struct call *call, const struct part *part, int64_t first, int64_t end) {
    for (int64_t r = 0; r < part->ranks; r += MOST) { /* more than MOST ranks are added in turn */
        const int64_t ranks = least(MOST, part->ranks - r), steps = (ranks + 1) / 2;
        uint32_t low[BLOCK][MOST / 2];
        __m512i matrix[MOST / 2 * VECTORS];
        for (int64_t t = first; t < end; t++) {
            low[t - first][steps - 1] = 0;
            __builtin_memcpy(low[t - first], at(&call->low, t, part->rank + r), (size_t)(ranks * 2));
        }
        for (int64_t c = 0; c < part->width; c += COLUMNS) {
            const int64_t width = least(COLUMNS, part->width - c), column = part->column + c;
            for (int64_t s = 0; s < steps; s++)
                for (int v = 0; v < VECTORS; v += 2) {
                    __mmask32 some = halves(v * LANES, width);
                    const uint16_t *one = at(&call->matrix, part->rank + r + 2 * s, column + v * LANES);
                    __m512i other = 2 * s + 1 < ranks ? _mm512_maskz_loadu_epi16(some, one + call->matrix.token) : _mm512_setzero_si512();
                    paired(_mm512_maskz_loadu_epi16(some, one), other, matrix + s * VECTORS + v);
                }
            int64_t t = first;
            if (width == COLUMNS)
                for (; t + TILE <= end; t += TILE) add_tile(call, TILE, t, column, COLUMNS, steps, MOST / 2, low[t - first], matrix);
            for (; t < end; t++) add_tile(call, 1, t, column, width, steps, MOST / 2, low[t - first], matrix);
        }
    }
}

/* sums += L^T X of up to BLOCK tokens in 32 columns and GROUP ranks, from pairs of two tokens each */
INLINE void sum_tile(float *sums, const uint32_t *low, int64_t wide, const __m512i *columns, int64_t steps) {
    __m512 found[GROUP][2];
#pragma GCC unroll 8
    for (int r = 0; r < GROUP; r++) found[r][0] = _mm512_load_ps(sums + r * COLUMNS), found[r][1] = _mm512_load_ps(sums + r * COLUMNS + LANES);
    for (int64_t s = 0; s < steps; s++) {
        __m512bh one = (__m512bh)columns[s * VECTORS], other = (__m512bh)columns[s * VECTORS + 1];
#pragma GCC unroll 8
        for (int r = 0; r < GROUP; r++) {
            __m512bh of_rank = pair_of(low + s * wide + r);
            found[r][0] = _mm512_dpbf16_ps(found[r][0], of_rank, one);
            found[r][1] = _mm512_dpbf16_ps(found[r][1], of_rank, other);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < GROUP; r++) _mm512_store_ps(sums + r * COLUMNS, found[r][0]), _mm512_store_ps(sums + r * COLUMNS + LANES, found[r][1]);
}

/* sums = scale * L^T X in COLUMNS columns of a part */
static void sum_columns(const struct call *call, const struct part *part, int64_t column) {
    const int64_t width = least(COLUMNS, part->width - column);
    for (int64_t r0 = 0; r0 < part->ranks; r0 += MOST) {
        const int64_t ranks = least(MOST, part->ranks - r0);
        float sums[MOST * COLUMNS] __attribute__((aligned(64)));
        uint32_t low[BLOCK / 2 * MOST] __attribute__((aligned(64)));
        __m512i columns[BLOCK / 2 * VECTORS];
        __builtin_memset(sums, 0, (size_t)(up(ranks, GROUP) * COLUMNS) * sizeof(float));
        for (int64_t first = 0; first < call->tokens; first += BLOCK) {
            const int64_t end = least(first + BLOCK, call->tokens), steps = (end - first + 1) / 2;
            for (int64_t s = 0; s < steps; s++) {
                const int64_t t = first + 2 * s;
                const int both = t + 1 < end;
                const uint16_t *one = at(&call->x, t, part->column + column), *of_one = at(&call->low, t, part->rank + r0);
                for (int v = 0; v < VECTORS; v += 2) {
                    __mmask32 some = width == COLUMNS ? ALL : halves(v * LANES, width);
                    __m512i other = both ? words(one + call->x.token + v * LANES, some) : _mm512_setzero_si512();
                    paired(words(one + v * LANES, some), other, columns + s * VECTORS + v);
                }
                for (int64_t r = 0; r < ranks; r += LANES) {
                    __mmask16 some = within(r, ranks);
                    __m512i pair = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, of_one + r));
                    if (both) {
                        __m512i other = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, of_one + call->low.token + r));
                        pair = _mm512_or_si512(pair, _mm512_slli_epi32(other, 16));
                    }
                    _mm512_store_si512(low + s * MOST + r, pair);
                }
            }
            for (int64_t r = 0; r < ranks; r += GROUP)
                for (int v = 0; v < VECTORS && v * LANES < width; v += 2)
                    sum_tile(sums + r * COLUMNS + v * LANES, low + r, MOST, columns + v, steps);
        }
        for (int64_t r = 0; r < ranks; r++)
            for (int64_t c = 0; c < width; c++)
                part->sums[(r0 + r) * part->by_rank + (column + c) * part->by_column] = part->scale * sums[r * COLUMNS + c];
    }
}

/* M = scale * sums, rounded, in COLUMNS columns of a part */
static void lay_columns(const struct call *call, const struct part *part, int64_t column) {
    const int64_t end = least(column + COLUMNS, part->width);
    const __m512 scale = _mm512_set1_ps(part->scale);
    const __m512i steps = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                             _mm512_set1_epi32((int)part->by_column));
    for (int64_t r = 0; r < part->ranks; r++)
        for (int64_t c = column; c < end; c += LANES) {
            const float *from = part->sums + r * part->by_rank + c * part->by_column;
            __mmask16 some = within(c, end);
            __m512 x = part->by_column == 1 ? _mm512_maskz_loadu_ps(some, from)
                                            : _mm512_mask_i32gather_ps(_mm512_setzero_ps(), some, steps, from, sizeof *from);
            uint16_t *to = (uint16_t *)at(&call->matrix, part->rank + r, part->column + c);
            _mm256_mask_storeu_epi16(to, some, (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(x, scale)));
        }
}

static void work(void *given) {
    struct call *call = given;
    if (call->work < SUM) {
        for (int64_t first; (first = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED) * BLOCK) < call->tokens;)
            for (int64_t p = 0; p < call->count; p++)
                (call->work == LOW ? low_block : add_block)(call, call->parts + p, first, least(first + BLOCK, call->tokens));
        return;
    }
    int64_t task = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED), before = 0;
    for (int64_t p = 0; p < call->count; p++) {
        const int64_t blocks = (call->parts[p].width + COLUMNS - 1) / COLUMNS;
        for (; task < before + blocks; task = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED))
            (call->work == SUM ? sum_columns : lay_columns)(call, call->parts + p, (task - before) * COLUMNS);
        before += blocks;
    }
}

void compute(struct call *call, parallel_t parallel) {
    if (call->threads > 1)
        parallel(work, call, (unsigned)call->threads, 0);
    else
        work(call);
}
