/* Products of bf16 rows with a matrix that was laid out once, and a low-rank update added to them before they are rounded.
 *
 * Y [T, O] = X [T, K] W + bias + L [T, R] M. W lies in panels of COLUMNS columns, of each pairs of two of its K rows. Work is dealt out in blocks of
 * tokens; a token's sums go over K and then R, whatever the number of tokens or threads. Nothing is compiled for a number of tokens.
 */
#ifndef __AVX512BF16__
#error "this file needs AVX-512 BF16"
#endif

enum { COLUMNS = 64, VECTORS = COLUMNS / LANES, TILE = 6, MOST_RANKS = 256 };
enum work { LAY, LAY_TURNED, MULTIPLY };

struct part { int64_t column, width, rank, ranks; }; /* columns of M that are not zero, and their ranks */

struct call {                               /* as `_Call` of products.py has it */
    int64_t work, tokens, inner, outputs;       /* K = inner is even */
    struct tensor x, y, low, matrix;        /* LAY: x is W [K, O]; LAY_TURNED: it is [O, K] */
    void *panels;                           /* [O / COLUMNS][K / 2][COLUMNS] pairs */
    const float *bias;                      /* [O], or none */
    const struct part *parts;
    int64_t count, block, blocks, group, threads, next; /* tokens of a task, how many of these, and its panels */
};

#define INLINE static inline __attribute__((always_inline))

static inline __mmask32 halves(int64_t from, int64_t width) {
    return from + 32 <= width ? 0xffffffffu : from < width ? (1u << (width - from)) - 1 : 0;
}

/* Two rows of COLUMNS numbers as pairs of one column each, zero behind `width` */
static inline void pair_rows(const uint16_t *one, const uint16_t *other, int64_t width, __m512i *out) {
    const __m512i step = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34,
                                          2, 33, 1, 32, 0);
    for (int v = 0; v < VECTORS; v += 2) {
        __mmask32 some = halves(v * LANES, width);
        __m512i first = _mm512_maskz_loadu_epi16(some, one + v * LANES);
        __m512i second = _mm512_maskz_loadu_epi16(some, other + v * LANES);
        out[v] = _mm512_permutex2var_epi16(first, step, second);
        out[v + 1] = _mm512_permutex2var_epi16(first, _mm512_add_epi16(step, _mm512_set1_epi16(16)), second);
    }
}

static inline const uint16_t *row_of(const struct tensor *t, int64_t row) { return (const uint16_t *)t->data + row * t->token; }

static void lay_panel(const struct call *call, int64_t panel) {
    const int64_t steps = call->inner / 2, column = panel * COLUMNS, width = least(COLUMNS, call->outputs - column);
    uint32_t *to = (uint32_t *)call->panels + panel * steps * COLUMNS;
    for (int64_t s = 0; s < steps; s++) {
        __m512i pairs[VECTORS];
        const uint16_t *one = row_of(&call->x, 2 * s) + column;
        pair_rows(one, one + call->x.token, width, pairs);
        __builtin_memcpy(to + s * COLUMNS, pairs, sizeof pairs);
    }
}

static void lay_turned(const struct call *call, int64_t panel) {
    const int64_t steps = call->inner / 2, column = panel * COLUMNS, width = least(COLUMNS, call->outputs - column);
    uint32_t *to = (uint32_t *)call->panels + panel * steps * COLUMNS;
    for (int64_t c = 0; c < COLUMNS; c++)
        for (int64_t s = 0; s < steps; s++) {
            to[s * COLUMNS + c] = 0;
            if (c < width) __builtin_memcpy(to + s * COLUMNS + c, row_of(&call->x, column + c) + 2 * s, sizeof *to);
        }
}

INLINE void steps_of(__m512 sums[TILE][VECTORS], const uint16_t *const *tokens, const uint32_t *columns, int64_t steps) {
    for (int64_t s = 0; s < steps; s++) {
        __m512bh of_columns[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) of_columns[v] = (__m512bh)_mm512_loadu_si512(columns + s * COLUMNS + v * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < TILE; i++) {
            __m512bh of_token = (__m512bh)_mm512_set1_epi32(((const int *)tokens[i])[s]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sums[i][v] = _mm512_dpbf16_ps(sums[i][v], of_token, of_columns[v]);
        }
    }
}

/* TILE tokens and COLUMNS columns; where there are fewer tokens, the last is taken again and not written */
static void tile(const struct call *call, int64_t first, int64_t end, int64_t column, const uint32_t *panel, int64_t rank, const uint32_t *thin,
                 int64_t thin_steps) {
    const int64_t width = least(COLUMNS, call->outputs - column);
    const uint16_t *tokens[TILE];
    __m512 sums[TILE][VECTORS];
    for (int i = 0; i < TILE; i++) tokens[i] = row_of(&call->x, least(first + i, end - 1));
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
        __m512 bias = call->bias ? _mm512_maskz_loadu_ps(within(v * LANES, width), call->bias + column + v * LANES) : _mm512_setzero_ps();
#pragma GCC unroll 6
        for (int i = 0; i < TILE; i++) sums[i][v] = bias;
    }
    steps_of(sums, tokens, panel, call->inner / 2);
    if (thin_steps) {
        for (int i = 0; i < TILE; i++) tokens[i] = row_of(&call->low, least(first + i, end - 1)) + rank;
        steps_of(sums, tokens, thin, thin_steps);
    }
#pragma GCC unroll 6
    for (int i = 0; i < TILE; i++)
        if (first + i < end)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v += 2) {
                uint16_t *to = (uint16_t *)row_of(&call->y, first + i) + column + v * LANES;
                _mm512_mask_storeu_epi16(to, halves(v * LANES, width), (__m512i)_mm512_cvtne2ps_pbh(sums[i][v + 1], sums[i][v]));
            }
}

/* The ranks, from an even one on, of which M has something in a panel */
static int64_t ranks_of(const struct call *call, int64_t column, int64_t *from) {
    int64_t first = INT64_MAX, end = 0;
    for (int64_t p = 0; p < call->count; p++) {
        const struct part *part = call->parts + p;
        if (part->column < column + COLUMNS && column < part->column + part->width)
            first = least(first, part->rank), end = most(end, part->rank + part->ranks);
    }
    *from = end ? first / 2 * 2 : 0;
    return end - *from;
}

static void multiply(const struct call *call, int64_t begin, int64_t end, int64_t left, int64_t right) {
    for (int64_t column = left; column < right; column += COLUMNS) {
        const uint32_t *panel = (const uint32_t *)call->panels + column * (call->inner / 2);
        __m512i thin[MOST_RANKS / 2 * VECTORS];
        int64_t from = 0, steps = call->count ? (ranks_of(call, column, &from) + 1) / 2 : 0;
        for (int64_t s = 0; s < steps; s++) {
            const uint16_t *one = row_of(&call->matrix, from + 2 * s) + column;
            pair_rows(one, one + call->matrix.token, least(COLUMNS, call->outputs - column), thin + s * VECTORS);
        }
        for (int64_t t = begin; t < end; t += TILE) tile(call, t, end, column, panel, from, (const uint32_t *)thin, steps);
    }
}

static void work(void *given) {
    struct call *call = given;
    const int64_t panels = (call->outputs + COLUMNS - 1) / COLUMNS, groups = (panels + call->group - 1) / call->group;
    for (int64_t task; (task = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED)) < groups * call->blocks;) {
        const int64_t first = task / groups * call->block, left = task % groups * call->group * COLUMNS;
        const int64_t right = least(left + call->group * COLUMNS, call->outputs);
        if (call->work == LAY)
            lay_panel(call, task);
        else if (call->work == LAY_TURNED)
            lay_turned(call, task);
        else
            multiply(call, first, least(first + call->block, call->tokens), left, right);
    }
}

void compute(struct call *call, parallel_t parallel) {
    if (call->threads > 1)
        parallel(work, call, (unsigned)call->threads, 0);
    else
        work(call);
}
