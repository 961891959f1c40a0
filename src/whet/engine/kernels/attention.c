/* Attention over packed rows, forward and backward, with AVX-512: sums in fp32.
 *
 * Rows lie end to end; each sees itself only, and `before` virtual keys that lie before its own. One task is a row and a
 * key/value head with the query heads that share it, so no two tasks write to one place, and nothing depends on the number of
 * threads. Within a task, queries go in blocks against all keys that they see: scores of a block, never of a whole row, exist at
 * once. Masked parts are left out by strips of 8 queries and groups of 16 keys.
 *
 * L queries of a row, J = before + L keys, d width of a head, D its width in whole vectors. All of a task's operands are
 * copied to scratch, padded with zeros, so that every product below is `strip` on plain arrays of words: numbers in fp32, or, where all
 * that is given is bf16 and the processor multiplies it, pairs of bf16 along what is summed over. Weights and their slopes are then
 * rounded to bf16 before they are multiplied, as in FlashAttention-2 (Dao 2023). Rotary positions are turned as tokens are copied, and
 * their gradients back before they are written.
 */
enum { STRIP = 8, PANEL = 48, SHORT_KEYS = 384 };

struct call {             /* as `_Call` of packed_attention.py has it */
    struct tensor q, k, v, out, grad_out, grad_q, grad_k, grad_v;
    float *log_sums;      /* [H, T] logarithm of each query's sum of exponentials */
    const int64_t *starts; /* [rows + 1] first token of each row */
    const float *cosines, *sines; /* [T, d] by which queries and keys are turned first, or null */
    int64_t rows, heads, shared_heads, width, before, window, causal; /* window 0: none */
    float scale;
    int32_t threads;
    float *scratch;       /* `scratch_floats` for each thread that gets a task */
    int64_t backward;
    int64_t next_task, next_slot;
};

struct row {              /* one row, and what of its scores exists */
    int64_t length, keys, before, window, causal, padded; /* padded: D */
    int64_t pair, words, depth; /* numbers in a word; words of a head as `gather` lays it; those of them that hold something */
};

#ifdef __AVX512BF16__
static const int MULTIPLIES = 1;
static inline __m512 summed(__m512 sums, __m512 a, __m512 b, int paired) {
    return paired ? _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b) : _mm512_fmadd_ps(a, b, sums);
}
static inline __m256i rounded(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
#else
static const int MULTIPLIES = 0;
static inline __m512 summed(__m512 sums, __m512 a, __m512 b, int paired) { return (void)paired, _mm512_fmadd_ps(a, b, sums); }
static inline __m256i rounded(__m512 x) { return (void)x, _mm256_setzero_si256(); }
#endif

/* Words of a number of the one and a number of the other each */
static inline __m512 paired_up(__m256i low, __m256i high) {
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
}

/* 16 words of a head's token from number c on */
static inline __m512 words(const struct tensor *t, int64_t at, int64_t c, int64_t width, int paired) {
    if (!paired) return load(t, at + c, within(c, width));
    __mmask32 some = (__mmask32)within(c, width) | (__mmask32)within(c + LANES, width) << LANES;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(some, (const uint16_t *)t->data + at + c));
}

static int64_t block_of(int64_t keys) { return keys <= SHORT_KEYS ? 64 : 32; }

/* Tokens of a head from `first` on. [L, d] */
static struct tensor head_of(const struct tensor *t, int64_t head, int64_t first) {
    int64_t at = (head * t->head + first * t->token) * (t->bf16 ? 2 : 4);
    return (struct tensor){(char *)t->data + at, 0, t->token, t->bf16};
}

/* Floats of scratch in which so many tokens are turned */
static int64_t room_for(const struct call *call, int64_t tokens) { return call->cosines ? tokens * up(call->width, 2 * LANES) : 0; }

/* The same of queries or keys; turned by the angles of their tokens, into `room`, where there are angles (Su et al. 2021, eq. 34) */
static struct tensor turned(const struct call *call, const struct tensor *t, int64_t head, int64_t first, int64_t count, float *room) {
    struct tensor from = head_of(t, head, first), to = {room, 0, up(call->width, 2 * LANES), t->bf16};
    if (!call->cosines) return from;
    const int64_t half = call->width / 2;
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < half; c += LANES) {
            const float *cosines = call->cosines + (first + i) * call->width + c, *sines = call->sines + (first + i) * call->width + c;
            __mmask16 some = within(c, half);
            __m512 one = load(&from, i * from.token + c, some), two = load(&from, i * from.token + half + c, some);
            __m512 x = _mm512_mul_ps(one, _mm512_maskz_loadu_ps(some, cosines));
            __m512 y = _mm512_mul_ps(two, _mm512_maskz_loadu_ps(some, cosines + half));
            store(&to, i * to.token + c, some, _mm512_fnmadd_ps(two, _mm512_maskz_loadu_ps(some, sines), x));
            store(&to, i * to.token + half + c, some, _mm512_fmadd_ps(one, _mm512_maskz_loadu_ps(some, sines + half), y));
        }
    return to;
}

/* Gradients of turned tokens become those of the tokens. [count, D] */
static void turn_back(const struct call *call, float *grads, int64_t first, int64_t count, int64_t padded) {
    const int64_t half = call->width / 2;
    if (!call->cosines) return;
    for (int64_t i = 0; i < count; i++, grads += padded)
        for (int64_t c = 0; c < half; c += LANES) {
            const float *cosines = call->cosines + (first + i) * call->width + c, *sines = call->sines + (first + i) * call->width + c;
            __mmask16 some = within(c, half);
            __m512 one = _mm512_maskz_loadu_ps(some, grads + c), two = _mm512_maskz_loadu_ps(some, grads + half + c);
            __m512 x = _mm512_mul_ps(one, _mm512_maskz_loadu_ps(some, cosines));
            __m512 y = _mm512_mul_ps(two, _mm512_maskz_loadu_ps(some, cosines + half));
            _mm512_mask_storeu_ps(grads + c, some, _mm512_fmadd_ps(two, _mm512_maskz_loadu_ps(some, sines + half), x));
            _mm512_mask_storeu_ps(grads + half + c, some, _mm512_fnmadd_ps(one, _mm512_maskz_loadu_ps(some, sines), y));
        }
}

/* Tokens to [up(count, 16), words]; times scale where they are not pairs */
static void gather(const struct tensor *t, int64_t count, const struct row *row, int64_t width, float scale, float *to) {
    __m512 factor = _mm512_set1_ps(scale);
    const int paired = row->pair == 2;
    for (int64_t i = 0; i < up(count, LANES); i++)
        for (int64_t c = 0; c < row->words; c += LANES) {
            __m512 x = _mm512_setzero_ps();
            if (i < count) x = words(t, i * t->token, c * row->pair, width, paired);
            _mm512_store_ps(to + i * row->words + c, paired ? x : _mm512_mul_ps(x, factor));
        }
}

/* The same tokens as what is summed over: [up(count, 16) / pair, D] */
static void gather_over(const struct tensor *t, int64_t count, const struct row *row, int64_t width, float *to) {
    if (row->pair == 1) return gather(t, count, row, width, 1.0f, to);
    for (int64_t i = 0; i < up(count, LANES); i += 2)
        for (int64_t c = 0; c < row->padded; c += LANES) {
            __m256i x[2];
            for (int r = 0; r < 2; r++) {
                const uint16_t *at = (const uint16_t *)t->data + (i + r) * t->token + c;
                x[r] = i + r < count ? _mm256_maskz_loadu_epi16(within(c, width), at) : _mm256_setzero_si256();
            }
            _mm512_store_ps(to + i / 2 * row->padded + c, paired_up(x[0], x[1]));
        }
}

/* [16, 16], in registers */
static inline void transpose(__m512 x[16]) {
    __m512 t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
        __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
        x[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        x[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        x[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        x[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
#pragma GCC unroll 4
    for (int m = 0; m < 4; m++) { /* x[4i + m], quarter l, is column 4l + m of rows 4i to 4i + 3 */
        __m512 even_low = _mm512_shuffle_f32x4(x[m], x[4 + m], 0x88), even_high = _mm512_shuffle_f32x4(x[8 + m], x[12 + m], 0x88);
        __m512 odd_low = _mm512_shuffle_f32x4(x[m], x[4 + m], 0xdd), odd_high = _mm512_shuffle_f32x4(x[8 + m], x[12 + m], 0xdd);
        t[m] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
        t[4 + m] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
        t[8 + m] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
        t[12 + m] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) x[i] = t[i];
}

/* The same tokens, transposed, in panels of 48 tokens: [panels, words, 48] */
static void gather_panels(const struct tensor *t, int64_t count, const struct row *row, int64_t width, float *to) {
    for (int64_t j = 0; j < up(count, LANES); j += LANES) {
        float *panel = to + j / PANEL * PANEL * row->words + j % PANEL;
        for (int64_t c = 0; c < row->words; c += LANES) {
            __m512 x[16];
            for (int i = 0; i < 16; i++) {
                x[i] = _mm512_setzero_ps();
                if (j + i < count) x[i] = words(t, (j + i) * t->token, c * row->pair, width, row->pair == 2);
            }
            transpose(x);
            for (int i = 0; i < 16; i++) _mm512_store_ps(panel + (c + i) * PANEL, x[i]);
        }
    }
}

/* ---- products ---- */

/* c [m, 16n] = or += a [m, depth] b [depth, 16n]. `turned`: a lies as [depth, m]. Strides between rows as they lie, in words. */
static inline __attribute__((always_inline)) void tile(const int m, const int n, const int turned, const int paired, const float *a,
                                                       int64_t a_row, const float *b, int64_t b_row, float *c, int64_t c_row,
                                                       int64_t depth, int add) {
    __m512 sums[STRIP][3];
#pragma GCC unroll 8
    for (int r = 0; r < m; r++)
#pragma GCC unroll 3
        for (int x = 0; x < n; x++) sums[r][x] = add ? _mm512_load_ps(c + r * c_row + x * LANES) : _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k++, b += b_row) {
        __m512 columns[3];
#pragma GCC unroll 3
        for (int x = 0; x < n; x++) columns[x] = _mm512_load_ps(b + x * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < m; r++) {
            __m512 one = _mm512_set1_ps(turned ? a[k * a_row + r] : a[r * a_row + k]);
#pragma GCC unroll 3
            for (int x = 0; x < n; x++) sums[r][x] = summed(sums[r][x], one, columns[x], paired);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < m; r++)
#pragma GCC unroll 3
        for (int x = 0; x < n; x++) _mm512_store_ps(c + r * c_row + x * LANES, sums[r][x]);
}

#define TILES(turned, paired, m)                                                                  \
    switch (n) {                                                                                  \
    case 1: tile(m, 1, turned, paired, a, a_row, b, b_row, c, c_row, depth, add); break;           \
    case 2: tile(m, 2, turned, paired, a, a_row, b, b_row, c, c_row, depth, add); break;           \
    default: tile(m, 3, turned, paired, a, a_row, b, b_row, c, c_row, depth, add);                 \
    }                                                                                             \
    a += turned ? m : m * a_row;                                                                  \
    c += m * c_row;                                                                               \
    rows -= m;

#define STRIPS(paired)                    \
    if (rows == 8) { TILES(0, paired, 8) } \
    if (rows >= 4) { TILES(0, paired, 4) } \
    if (rows >= 2) { TILES(0, paired, 2) } \
    if (rows >= 1) { TILES(0, paired, 1) }

/* The same for 1 to 8 rows and 1 to 3 vectors */
static void strip(int64_t pair, int64_t rows, int64_t n, const float *a, int64_t a_row, const float *b, int64_t b_row, float *c,
                  int64_t c_row, int64_t depth) {
    const int add = 0;
    if (pair == 2) { STRIPS(1) }
    else { STRIPS(0) }
}

/* The same for 8 rows of a that lies as [depth, 8], added to what is there */
static void strip_turned(int64_t pair, int64_t n, const float *a, int64_t a_row, const float *b, int64_t b_row, float *c, int64_t c_row,
                         int64_t depth) {
    int64_t rows = 8;
    const int add = 1;
    if (pair == 2) { TILES(1, 1, 8) }
    else { TILES(1, 0, 8) }
    (void)rows;
}

/* Vectors to take at once where so many are left: 3, but 2 and 2 for 4 */
static int64_t part_of(int64_t left) { return left == 3 || left > 4 ? 3 : left >= 2 ? 2 : 1; }

/* ---- which scores exist ---- */

/* Keys that some query of the strip from `i` sees, in whole vectors */
static void seen_keys(const struct row *row, int64_t i, int64_t *from, int64_t *to) {
    int64_t last = least(i + STRIP, row->length) - 1, end = row->length;
    if (row->causal) end = last + 1;
    else if (row->window) end = least(row->length, last + row->window);
    *from = row->window && !row->before ? most(0, i - row->window + 1) / LANES * LANES : 0;
    *to = up(row->before + end, LANES);
}

/* Queries of the block (first, count) that see some key of the strip from `j`, in whole strips, from the block's begin on */
static void seeing_queries(const struct row *row, int64_t j, int64_t first, int64_t count, int64_t *from, int64_t *to) {
    int64_t begin = 0, end = row->length;
    if (j >= row->before) {
        int64_t own = j - row->before;
        if (row->causal) begin = own;
        else if (row->window) begin = own - row->window + 1;
        if (row->window) end = own + STRIP - 1 + row->window;
    }
    *from = most(0, begin - first) / STRIP * STRIP;
    *to = least(count, up(most(0, end - first), STRIP));
}

/* Which of the keys j..j+15 query i sees */
static inline __mmask16 seen(const struct row *row, int64_t i, int64_t j) {
    int64_t from = row->before, to = row->keys;
    if (row->causal) to = row->before + i + 1;
    else if (row->window) to = least(to, row->before + i + row->window);
    if (row->window) from += most(0, i - row->window + 1);
    __m512i at = _mm512_add_epi32(_mm512_set1_epi32((int)j), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    __mmask16 own = _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32((int)to)) & _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32((int)from));
    return own | _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32((int)row->before));
}

/* ---- a block of queries ---- */

/* scores [count, keys] = queries [count, words] panels, where a score exists */
static void scores_of(const struct row *row, const float *queries, int64_t first, int64_t count, const float *panels, float *scores,
                      int64_t stride) {
    for (int64_t panel = 0; panel < stride; panel += PANEL)
        for (int64_t i = 0; i < count; i += STRIP) {
            int64_t from, to;
            seen_keys(row, first + i, &from, &to);
            from = most(from, panel);
            to = least(to, panel + PANEL);
            if (from < to)
                strip(row->pair, least(STRIP, count - i), (to - from) / LANES, queries + i * row->words, row->words,
                      panels + panel * row->words + from - panel, PANEL, scores + i * stride + from, stride, row->depth);
        }
}

/* sums [count, D] = weights [count, keys] values [keys, D], both in words along the keys */
static void weighted(const struct row *row, const float *weights, int64_t stride, int64_t first, int64_t count, const float *values,
                     float *sums) {
    for (int64_t c = 0, n; c < row->padded; c += n * LANES) {
        n = part_of((row->padded - c) / LANES);
        for (int64_t i = 0; i < count; i += STRIP) {
            int64_t from, to;
            seen_keys(row, first + i, &from, &to);
            from /= row->pair, to /= row->pair;
            strip(row->pair, least(STRIP, count - i), n, weights + i * stride + from, stride, values + from * row->padded + c,
                  row->padded, sums + i * row->padded + c, row->padded, to - from);
        }
    }
}

/* sums [keys, D] += weights [count, keys]^T rows [count, D], both in words along the queries; of weights, each in its first query's line */
static void spread(const struct row *row, const float *weights, int64_t stride, int64_t first, int64_t count, const float *rows,
                   float *sums) {
    for (int64_t c = 0, n; c < row->padded; c += n * LANES) {
        n = part_of((row->padded - c) / LANES);
        for (int64_t j = 0; j < up(row->keys, STRIP); j += STRIP) {
            int64_t from, to;
            seeing_queries(row, j, first, count, &from, &to);
            if (from < to)
                strip_turned(row->pair, n, weights + from * stride + j, row->pair * stride, rows + from / row->pair * row->padded + c,
                             row->padded, sums + j * row->padded + c, row->padded, (to - from + row->pair - 1) / row->pair);
        }
    }
}

/* ---- tasks ---- */

/* By what scores are still to be multiplied: pairs are not rounded for it */
static float later_scale(const struct call *call, const struct row *row) { return row->pair == 2 ? call->scale : 1.0f; }

/* Weights of the keys j..j+15 in their line; those in pairs take the place of scores that have been read */
static inline void put(const struct row *row, float *line, int64_t j, __m512 x) {
    if (row->pair == 2)
        _mm256_store_si256((__m256i *)((uint16_t *)line + j), rounded(x));
    else
        _mm512_store_ps(line + j, x);
}

static void forward_head(const struct call *call, const struct row *row, int64_t start, int64_t head, const float *key_panels,
                         const float *values, float *scratch) {
    const int64_t stride = up(row->keys, PANEL), block = block_of(row->keys), tokens = call->starts[call->rows];
    float *queries = scratch, *sums = queries + block * row->words, *scores = sums + block * row->padded;
    float *room = scores + block * stride;
    const __m512 scale = _mm512_set1_ps(later_scale(call, row));
    for (int64_t first = 0; first < row->length; first += block) {
        int64_t count = least(block, row->length - first);
        float share[64];
        const struct tensor own = turned(call, &call->q, head, start + first, count, room);
        gather(&own, count, row, call->width, call->scale, queries);
        scores_of(row, queries, first, count, key_panels, scores, stride);
        for (int64_t i = 0; i < count; i++) {
            int64_t from, to;
            seen_keys(row, first + i / STRIP * STRIP, &from, &to);
            float *line = scores + i * stride;
            __m512 high = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
            for (int64_t j = from; j < to; j += LANES)
                high = _mm512_mask_max_ps(high, seen(row, first + i, j), high, _mm512_mul_ps(_mm512_load_ps(line + j), scale));
            float highest = _mm512_reduce_max_ps(high);
            for (int64_t j = from; j < to; j += LANES) {
                __m512 x = exponential(_mm512_sub_ps(_mm512_mul_ps(_mm512_load_ps(line + j), scale), _mm512_set1_ps(highest)));
                x = _mm512_maskz_mov_ps(seen(row, first + i, j), x);
                total = _mm512_add_ps(total, x);
                put(row, line, j, x);
            }
            float sum = _mm512_reduce_add_ps(total);
            share[i] = 1.0f / sum;
            call->log_sums[head * tokens + start + first + i] = highest + logf(sum);
        }
        weighted(row, scores, stride, first, count, values, sums);
        for (int64_t i = 0; i < count; i++)
            for (int64_t c = 0; c < call->width; c += LANES)
                store(&call->out, head * call->out.head + (start + first + i) * call->out.token + c, within(c, call->width),
                      _mm512_mul_ps(_mm512_load_ps(sums + i * row->padded + c), _mm512_set1_ps(share[i])));
    }
}

/* A query's exponentials become its weights, and slopes of the weights those of the scores */
static void slope_line(float *weights, float *slopes, float share, float mean, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; j += LANES) {
        __m512 x = _mm512_mul_ps(_mm512_load_ps(weights + j), _mm512_set1_ps(share));
        _mm512_store_ps(weights + j, x);
        _mm512_store_ps(slopes + j, _mm512_mul_ps(x, _mm512_sub_ps(_mm512_load_ps(slopes + j), _mm512_set1_ps(mean))));
    }
}

/* The same for two queries, or the last one, in pairs: weights along the queries, in the first one's line; slopes so in the second one's,
 * and along the keys in their own lines */
static void slope_pair(float *weights, float *slopes, int64_t stride, int queries, const float *shares, const float *means, int64_t from,
                       int64_t to) {
    for (int64_t j = from; j < to; j += LANES) {
        __m256i weight[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()}, slope[2] = {weight[0], weight[0]};
        for (int r = 0; r < queries; r++) {
            __m512 x = _mm512_mul_ps(_mm512_load_ps(weights + r * stride + j), _mm512_set1_ps(shares[r]));
            __m512 bend = _mm512_sub_ps(_mm512_load_ps(slopes + r * stride + j), _mm512_set1_ps(means[r]));
            weight[r] = rounded(x);
            slope[r] = rounded(_mm512_mul_ps(x, bend));
            _mm256_store_si256((__m256i *)((uint16_t *)(slopes + r * stride) + j), slope[r]);
        }
        _mm512_store_ps(weights + j, paired_up(weight[0], weight[1]));
        _mm512_store_ps(weights + stride + j, paired_up(slope[0], slope[1]));
    }
}

static void backward_head(const struct call *call, const struct row *row, int64_t start, int64_t head, const float *keys,
                          const float *key_panels, const float *value_panels, float *grad_keys, float *grad_values,
                          float *scratch) {
    const int64_t stride = up(row->keys, PANEL), block = block_of(row->keys), tokens = call->starts[call->rows], pair = row->pair;
    const __m512 scale = _mm512_set1_ps(later_scale(call, row));
    float *queries = scratch, *grads = queries + block * row->words, *sums = grads + block * row->words;
    float *scores = sums + block * row->padded, *slopes = scores + block * stride;
    float *over = slopes + block * stride, *room = over + (pair == 2 ? block * row->padded : 0);
    float *queries_over = pair == 2 ? over : queries, *grads_over = pair == 2 ? over + block / 2 * row->padded : grads;
    float shares[2], means[2];
    for (int64_t first = 0; first < row->length; first += block) {
        int64_t count = least(block, row->length - first);
        const struct tensor own = turned(call, &call->q, head, start + first, count, room);
        const struct tensor given = head_of(&call->grad_out, head, start + first);
        gather(&own, count, row, call->width, call->scale, queries);
        gather(&given, count, row, call->width, 1.0f, grads);
        if (pair == 2) {
            gather_over(&own, count, row, call->width, queries_over);
            gather_over(&given, count, row, call->width, grads_over);
        }
        scores_of(row, queries, first, count, key_panels, scores, stride);
        scores_of(row, grads, first, count, value_panels, slopes, stride);
        for (int64_t i = 0; i < count; i++) {
            int64_t from, to;
            seen_keys(row, first + i / STRIP * STRIP, &from, &to);
            float *line = scores + i * stride, *slope = slopes + i * stride;
            __m512 log_sum = _mm512_set1_ps(call->log_sums[head * tokens + start + first + i]);
            __m512 sum = _mm512_setzero_ps(), total = _mm512_setzero_ps();
            for (int64_t j = from; j < to; j += LANES) {
                __m512 x = exponential(_mm512_sub_ps(_mm512_mul_ps(_mm512_load_ps(line + j), scale), log_sum));
                x = _mm512_maskz_mov_ps(seen(row, first + i, j), x);
                _mm512_store_ps(line + j, x);
                sum = _mm512_add_ps(x, sum);
                total = _mm512_fmadd_ps(x, _mm512_load_ps(slope + j), total);
            }
            /* weights that sum to 1, or what the logarithm was rounded by would not cancel in the gradient */
            float share = 1.0f / _mm512_reduce_add_ps(sum);
            shares[i % 2] = share, means[i % 2] = _mm512_reduce_add_ps(total) * share;
            if (pair == 1)
                slope_line(line, slope, share, means[i % 2], from, to);
            else if (i % 2 || i == count - 1)
                slope_pair(line - i % 2 * stride, slope - i % 2 * stride, stride, 1 + i % 2, shares, means, from, to);
        }
        spread(row, scores, stride, first, count, grads_over, grad_values);
        spread(row, pair == 2 ? scores + stride : slopes, stride, first, count, queries_over, grad_keys);
        weighted(row, slopes, stride, first, count, keys, sums);
        turn_back(call, sums, start + first, count, row->padded);
        for (int64_t i = 0; i < count; i++)
            for (int64_t c = 0; c < call->width; c += LANES)
                store(&call->grad_q, head * call->grad_q.head + (start + first + i) * call->grad_q.token + c,
                      within(c, call->width), _mm512_mul_ps(_mm512_load_ps(sums + i * row->padded + c), _mm512_set1_ps(call->scale)));
    }
}

static struct row row_of(const struct call *call, int64_t index) {
    const int64_t length = call->starts[index + 1] - call->starts[index], padded = up(call->width, LANES);
    struct row row = {length, call->before + length, call->before, call->window, call->causal, padded, 1, padded, padded};
    if (MULTIPLIES && call->q.bf16 && call->k.bf16 && call->v.bf16 && (!call->backward || call->grad_out.bf16)) {
        row.pair = 2;
        row.words = up(call->width, 2 * LANES) / 2;
        row.depth = (call->width + 1) / 2;
    }
    return row;
}

/* One row and one key/value head */
static void task(const struct call *call, int64_t index, int64_t shared, float *scratch) {
    const struct row row = row_of(call, index);
    const int64_t start = call->starts[index], key_start = start + index * row.before, group = call->heads / call->shared_heads;
    const int64_t whole = up(row.keys, LANES) * row.padded, over = whole / row.pair, in_panels = up(row.keys, PANEL) * row.words;
    float *key_panels = scratch, *room = key_panels + in_panels;
    scratch = room + room_for(call, up(row.keys, LANES));
    const struct tensor key = turned(call, &call->k, shared, key_start, row.keys, room), value = head_of(&call->v, shared, key_start);
    gather_panels(&key, row.keys, &row, call->width, key_panels);
    if (!call->backward) {
        float *values = scratch;
        gather_over(&value, row.keys, &row, call->width, values);
        for (int64_t head = shared * group; head < (shared + 1) * group; head++)
            forward_head(call, &row, start, head, key_panels, values, values + over);
        return;
    }
    float *value_panels = scratch, *keys = value_panels + in_panels;
    float *grad_keys = keys + over, *grad_values = grad_keys + whole;
    gather_panels(&value, row.keys, &row, call->width, value_panels);
    gather_over(&key, row.keys, &row, call->width, keys);
    for (int64_t i = 0; i < 2 * whole; i += LANES) _mm512_store_ps(grad_keys + i, _mm512_setzero_ps());
    for (int64_t head = shared * group; head < (shared + 1) * group; head++) /* in a fixed order */
        backward_head(call, &row, start, head, keys, key_panels, value_panels, grad_keys, grad_values, grad_values + whole);
    const __m512 scale = _mm512_set1_ps(later_scale(call, &row));
    turn_back(call, grad_keys, key_start, row.keys, row.padded);
    for (int64_t j = 0; j < row.keys; j++)
        for (int64_t c = 0; c < call->width; c += LANES) {
            __mmask16 some = within(c, call->width);
            store(&call->grad_k, shared * call->grad_k.head + (key_start + j) * call->grad_k.token + c, some,
                  _mm512_mul_ps(_mm512_load_ps(grad_keys + j * row.padded + c), scale));
            store(&call->grad_v, shared * call->grad_v.head + (key_start + j) * call->grad_v.token + c, some,
                  _mm512_load_ps(grad_values + j * row.padded + c));
        }
}

/* Floats of scratch that each thread needs */
int64_t scratch_floats(const struct call *call) {
    int64_t largest = 0;
    for (int64_t index = 0; index < call->rows; index++) {
        struct row row = row_of(call, index);
        int64_t block = block_of(row.keys), stride = up(row.keys, PANEL), keys = up(row.keys, LANES), whole = keys * row.padded;
        int64_t floats = stride * row.words + room_for(call, keys) + whole / row.pair; /* panels, turned keys, values or keys */
        floats += block * (row.words + row.padded + stride) + room_for(call, block);    /* queries, sums, scores, turned queries */
        if (call->backward) floats += stride * row.words + 2 * whole + block * (row.words + stride + (row.pair == 2 ? row.padded : 0));
        largest = most(largest, floats);
    }
    return largest;
}

static void work(void *given) {
    struct call *call = given;
    const int64_t tasks = call->rows * call->shared_heads, slot = __atomic_fetch_add(&call->next_slot, 1, __ATOMIC_RELAXED);
    if (slot >= tasks) return; /* all threads are asked, since another number of them would be made anew */
    float *scratch = call->scratch + slot * scratch_floats(call);
    for (;;) { /* from the end: rows lie by length, and what takes longest goes first */
        int64_t next = tasks - 1 - __atomic_fetch_add(&call->next_task, 1, __ATOMIC_RELAXED);
        if (next < 0) return;
        task(call, next / call->shared_heads, next % call->shared_heads, scratch);
    }
}

void attend(struct call *call, parallel_t parallel) {
    if (call->threads > 1)
        parallel(work, call, (unsigned)call->threads, 0);
    else
        work(call);
}
