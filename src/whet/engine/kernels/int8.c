/* Rows of fp32 or bf16 as 8 bits and one step each, and products of them back in numbers, each as one pass over memory.
 *
 * Work is dealt out in blocks of tokens; nothing is summed over them. T tokens, D width.
 */
enum { BLOCK = 16 };
enum work { ROUND, RESCALE };

struct call {                /* as `_Call` of int8_products.py has it */
    int64_t work, tokens, width;
    struct tensor x;         /* [T, D] */
    uint8_t *codes;          /* [T, D] */
    float *steps;            /* [T] */
    const float *factors;    /* [D], or null */
    const float *shift;      /* [D], or null */
    int64_t threads, next;
};

#define EACH(c, width) for (int64_t c = 0; c < (width); c += LANES)

static inline __m512 factored(const struct call *call, int64_t t, int64_t c, __mmask16 some) {
    __m512 x = load(&call->x, t * call->x.token + c, some);
    return call->factors ? _mm512_mul_ps(x, _mm512_maskz_loadu_ps(some, call->factors + c)) : x;
}

#define LEAST_TOP 1e-36f /* a row of smaller numbers is one of zeros: 127 over them is no number */

/* codes = 128 + x * factors / step to the nearest, ties to even; the step is the largest of a row over 127, and not a number where one is not
 * finite, so that all that comes of the row is none either */
static void round_row(const struct call *call, int64_t t) {
    const int64_t width = call->width;
    __m512 most_of = _mm512_setzero_ps(), wrong = _mm512_setzero_ps();
    EACH(c, width) {
        __m512 x = factored(call, t, c, within(c, width));
        most_of = _mm512_max_ps(most_of, _mm512_abs_ps(x));
        wrong = _mm512_fmadd_ps(x, _mm512_setzero_ps(), wrong);
    }
    float top = _mm512_reduce_max_ps(most_of), none = _mm512_reduce_add_ps(wrong);
    call->steps[t] = none == 0 ? top / 127 : NAN;
    __m512 rate = _mm512_set1_ps(none == 0 && top > LEAST_TOP ? 127 / top : 0.0f);
    EACH(c, width) {
        __mmask16 some = within(c, width);
        __m512i code = _mm512_cvtps_epi32(_mm512_maskz_mul_ps(some, factored(call, t, c, some), rate));
        code = _mm512_min_epi32(_mm512_max_epi32(code, _mm512_set1_epi32(-127)), _mm512_set1_epi32(127));
        _mm_mask_storeu_epi8(call->codes + t * width + c, some, _mm512_cvtepi32_epi8(_mm512_add_epi32(code, _mm512_set1_epi32(128))));
    }
}

/* x = x * step + shift */
static void rescale_row(const struct call *call, int64_t t) {
    __m512 step = _mm512_set1_ps(call->steps[t]);
    EACH(c, call->width) {
        __mmask16 some = within(c, call->width);
        __m512 x = _mm512_mul_ps(load(&call->x, t * call->x.token + c, some), step);
        if (call->shift) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(some, call->shift + c));
        store(&call->x, t * call->x.token + c, some, x);
    }
}

static void work(void *given) {
    struct call *call = given;
    for (int64_t first; (first = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED) * BLOCK) < call->tokens;)
        for (int64_t t = first; t < least(first + BLOCK, call->tokens); t++) {
            if (call->work == ROUND)
                round_row(call, t);
            else
                rescale_row(call, t);
        }
}

void compute(struct call *call, parallel_t parallel) {
    if (call->threads > 1)
        parallel(work, call, (unsigned)call->threads, 0);
    else
        work(call);
}
