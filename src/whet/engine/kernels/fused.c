/* What lies between the matrix products of a decoder's or encoder's block, each as one pass over memory, forward and backward.
 *
 * Sums in fp32; what is read and written is fp32 or bf16. Work is dealt out in blocks of tokens of a fixed size, and what is summed over
 * tokens is summed by block first and then in the blocks' order, so that nothing depends on the number of threads.
 *
 * T tokens, D width, H heads, d width of a head, V vocabulary.
 */
enum { BLOCK = 32 };
enum work { NORM, NORM_BACK, ROTATE, GATE, GATE_BACK, LOSS, GELU, GELU_BACK, COLUMNS };

struct call {             /* as `_Call` of fused.py has it */
    int64_t work, tokens, width, heads;
    struct tensor a, b, c, d, e, f; /* [T, D], or [H, T, d] for ROTATE */
    const float *weight, *shift;    /* [D]; NORM of LayerNorm's kind where there is a shift. ROTATE: cosines and sines [T, d] */
    float *rates, *means;           /* [T]: one over the spread of each token, and its mean */
    float *sums;                    /* [blocks, 2, D] gradients of weight and shift, or null; [blocks, D] for COLUMNS */
    const int64_t *targets;         /* [T] */
    float scale, epsilon;
    int32_t threads, backward, centred;
    int64_t next;
};

#define EACH(c, width) for (int64_t c = 0; c < (width); c += LANES)

/* a residual, b what is added to it or null, c their sum or null where nothing is added, d the normed sum, f the same again or null */
static void norm(const struct call *call, int64_t t, float *line) {
    const int64_t width = call->width;
    __m512 scale = _mm512_set1_ps(call->scale), squares = _mm512_setzero_ps(), total = _mm512_setzero_ps();
    EACH(c, width) {
        __mmask16 some = within(c, width);
        __m512 x = load(&call->a, t * call->a.token + c, some);
        if (call->b.data) x = _mm512_fmadd_ps(load(&call->b, t * call->b.token + c, some), scale, x);
        if (call->c.data) store(&call->c, t * call->c.token + c, some, x);
        _mm512_storeu_ps(line + c, x);
        squares = _mm512_fmadd_ps(x, x, squares);
        total = _mm512_add_ps(x, total);
    }
    float mean = 0, variance = _mm512_reduce_add_ps(squares) / (float)width;
    if (call->centred) {
        mean = _mm512_reduce_add_ps(total) / (float)width;
        __m512 middle = _mm512_set1_ps(mean);
        squares = _mm512_setzero_ps();
        EACH(c, width) {
            __m512 x = _mm512_maskz_sub_ps(within(c, width), _mm512_loadu_ps(line + c), middle);
            squares = _mm512_fmadd_ps(x, x, squares);
        }
        variance = _mm512_reduce_add_ps(squares) / (float)width;
        call->means[t] = mean;
    }
    float rate = 1.0f / sqrtf(variance + call->epsilon);
    call->rates[t] = rate;
    __m512 factor = _mm512_set1_ps(rate), middle = _mm512_set1_ps(mean);
    EACH(c, width) {
        __mmask16 some = within(c, width);
        __m512 x = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(line + c), middle), factor);
        x = _mm512_mul_ps(x, _mm512_maskz_loadu_ps(some, call->weight + c));
        if (call->shift) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(some, call->shift + c));
        store(&call->d, t * call->d.token + c, some, x);
        if (call->f.data) store(&call->f, t * call->f.token + c, some, x);
    }
}

/* a gradient of the normed sum, b that of the sum itself or null, c the sum, d gradient of the residual, e that of what was added or null,
 * f another gradient of the normed sum or null */
static void norm_back(const struct call *call, int64_t t, float *line, float *sums) {
    const int64_t width = call->width;
    __m512 rate = _mm512_set1_ps(call->rates[t]), middle = _mm512_set1_ps(call->centred ? call->means[t] : 0.0f);
    __m512 along = _mm512_setzero_ps(), total = _mm512_setzero_ps();
    EACH(c, width) {
        __mmask16 some = within(c, width);
        __m512 slope = load(&call->a, t * call->a.token + c, some);
        if (call->f.data) slope = _mm512_add_ps(slope, load(&call->f, t * call->f.token + c, some));
        __m512 x = _mm512_maskz_mul_ps(some, _mm512_sub_ps(load(&call->c, t * call->c.token + c, some), middle), rate);
        if (sums) {
            _mm512_storeu_ps(sums + c, _mm512_fmadd_ps(slope, x, _mm512_loadu_ps(sums + c)));
            float *shift = sums + up(width, LANES) + c;
            _mm512_storeu_ps(shift, _mm512_add_ps(slope, _mm512_loadu_ps(shift)));
        }
        slope = _mm512_mul_ps(slope, _mm512_maskz_loadu_ps(some, call->weight + c));
        _mm512_storeu_ps(line + c, slope);
        along = _mm512_fmadd_ps(slope, x, along);
        total = _mm512_add_ps(slope, total);
    }
    if (!call->d.data) return;
    __m512 part = _mm512_set1_ps(_mm512_reduce_add_ps(along) / (float)width);
    __m512 mean = _mm512_set1_ps(call->centred ? _mm512_reduce_add_ps(total) / (float)width : 0.0f);
    __m512 scale = _mm512_set1_ps(call->scale);
    EACH(c, width) {
        __mmask16 some = within(c, width);
        __m512 x = _mm512_mul_ps(_mm512_sub_ps(load(&call->c, t * call->c.token + c, some), middle), rate);
        __m512 slope = _mm512_sub_ps(_mm512_fnmadd_ps(x, part, _mm512_loadu_ps(line + c)), mean);
        slope = _mm512_mul_ps(slope, rate);
        if (call->b.data) slope = _mm512_add_ps(slope, load(&call->b, t * call->b.token + c, some));
        store(&call->d, t * call->d.token + c, some, slope);
        if (call->e.data) store(&call->e, t * call->e.token + c, some, _mm512_mul_ps(slope, scale));
    }
}

/* b = a with each pair (i, i + d / 2) turned by its token's angle, backward by the angle's opposite; without cosines a copy */
static void rotate(const struct call *call, int64_t t) {
    const int64_t half = call->width / 2;
    for (int64_t head = 0; head < call->heads; head++) {
        const int64_t from = head * call->a.head + t * call->a.token, to = head * call->b.head + t * call->b.token;
        EACH(c, half) {
            __mmask16 some = within(c, half);
            __m512 first = load(&call->a, from + c, some), second = load(&call->a, from + half + c, some);
            if (call->weight) {
                const float *cosines = call->weight + t * call->width + c, *sines = call->shift + t * call->width + c;
                __m512 low = _mm512_maskz_loadu_ps(some, sines), high = _mm512_maskz_loadu_ps(some, sines + half);
                __m512 one = _mm512_mul_ps(first, _mm512_maskz_loadu_ps(some, cosines));
                __m512 two = _mm512_mul_ps(second, _mm512_maskz_loadu_ps(some, cosines + half));
                if (call->backward) {
                    one = _mm512_fmadd_ps(second, high, one);
                    second = _mm512_fnmadd_ps(first, low, two);
                } else {
                    one = _mm512_fnmadd_ps(second, low, one);
                    second = _mm512_fmadd_ps(first, high, two);
                }
                first = one;
            }
            store(&call->b, to + c, some, first);
            store(&call->b, to + half + c, some, second);
        }
    }
}

static inline __m512 sigmoid(__m512 x) {
    x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(80.0f)), _mm512_set1_ps(-80.0f));
    return _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_add_ps(_mm512_set1_ps(1.0f), exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

/* c = silu(a) b */
static void gate(const struct call *call, int64_t t) {
    EACH(c, call->width) {
        __mmask16 some = within(c, call->width);
        __m512 x = load(&call->a, t * call->a.token + c, some);
        __m512 y = _mm512_mul_ps(_mm512_mul_ps(x, sigmoid(x)), load(&call->b, t * call->b.token + c, some));
        store(&call->c, t * call->c.token + c, some, y);
    }
}

/* d, e: gradients of a and b, given that of what gate gave, c; f that itself once more, or null. f may lie where c does */
static void gate_back(const struct call *call, int64_t t) {
    const __m512 one = _mm512_set1_ps(1.0f);
    EACH(c, call->width) {
        __mmask16 some = within(c, call->width);
        __m512 x = load(&call->a, t * call->a.token + c, some), other = load(&call->b, t * call->b.token + c, some);
        __m512 slope = load(&call->c, t * call->c.token + c, some), s = sigmoid(x);
        store(&call->e, t * call->e.token + c, some, _mm512_mul_ps(slope, _mm512_mul_ps(x, s)));
        __m512 bend = _mm512_mul_ps(s, _mm512_fmadd_ps(x, _mm512_sub_ps(one, s), one));
        store(&call->d, t * call->d.token + c, some, _mm512_mul_ps(_mm512_mul_ps(slope, other), bend));
        if (call->f.data) store(&call->f, t * call->f.token + c, some, _mm512_mul_ps(_mm512_mul_ps(x, s), other));
    }
}

/* The share of a normal distribution below x, and e^(-x^2 / 2). Abramowitz and Stegun 1964, 7.1.26: off by 8e-8 at most */
static inline __m512 share_below(__m512 x, __m512 *bell) {
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
    __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
    __m512 y = _mm512_set1_ps(1.061405429f);
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f));
    *bell = exponential(_mm512_mul_ps(_mm512_mul_ps(z, z), _mm512_set1_ps(-1.0f)));
    __m512 tail = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(y, t), *bell), _mm512_set1_ps(0.5f));
    return _mm512_mask_sub_ps(tail, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLT_UQ), one, tail);
}

/* c = a times the share of a normal distribution below a */
static void gelu(const struct call *call, int64_t t) {
    EACH(c, call->width) {
        __mmask16 some = within(c, call->width);
        __m512 x = load(&call->a, t * call->a.token + c, some), bell;
        store(&call->c, t * call->c.token + c, some, _mm512_mul_ps(x, share_below(x, &bell)));
    }
}

/* d gradient of a, given c, that of what gelu gave; f that itself once more, or null. f may lie where c does */
static void gelu_back(const struct call *call, int64_t t) {
    EACH(c, call->width) {
        __mmask16 some = within(c, call->width);
        __m512 x = load(&call->a, t * call->a.token + c, some), bell, share = share_below(x, &bell);
        __m512 bend = _mm512_fmadd_ps(_mm512_mul_ps(x, bell), _mm512_set1_ps(0.39894228f), share);
        store(&call->d, t * call->d.token + c, some, _mm512_mul_ps(load(&call->c, t * call->c.token + c, some), bend));
        if (call->f.data) store(&call->f, t * call->f.token + c, some, _mm512_mul_ps(x, share));
    }
}

/* sums += a */
static void columns(const struct call *call, int64_t t, float *sums) {
    EACH(c, call->width) {
        __m512 x = load(&call->a, t * call->a.token + c, within(c, call->width));
        _mm512_storeu_ps(sums + c, _mm512_add_ps(x, _mm512_loadu_ps(sums + c)));
    }
}

/* rates[t] = log softmax(a)[target]; a becomes its gradient by the logits, onehot(target) - softmax(a), where backward is asked for */
static void loss(const struct call *call, int64_t t) {
    const int64_t width = call->width, at = t * call->a.token, target = call->targets[t];
    __m512 most_of = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    EACH(c, width) {
        __mmask16 some = within(c, width);
        __m512 x = load(&call->a, at + c, some);
        most_of = _mm512_mask_max_ps(most_of, some, most_of, x);
    }
    float highest = _mm512_reduce_max_ps(most_of);
    __m512 top = _mm512_set1_ps(highest);
    EACH(c, width) {
        __mmask16 some = within(c, width);
        sum = _mm512_add_ps(sum, _mm512_maskz_mov_ps(some, exponential(_mm512_sub_ps(load(&call->a, at + c, some), top))));
    }
    float log_sum = highest + logf(_mm512_reduce_add_ps(sum)), chosen[LANES];
    _mm512_storeu_ps(chosen, load(&call->a, at + target, 1));
    call->rates[t] = chosen[0] - log_sum;
    if (!call->backward) return;
    __m512 norm_of = _mm512_set1_ps(log_sum), negative = _mm512_set1_ps(-0.0f);
    EACH(c, width) {
        __mmask16 some = within(c, width);
        __m512 x = exponential(_mm512_sub_ps(load(&call->a, at + c, some), norm_of));
        store(&call->a, at + c, some, _mm512_castsi512_ps(_mm512_xor_epi32(_mm512_castps_si512(x), _mm512_castps_si512(negative))));
    }
    store(&call->a, at + target, 1, _mm512_set1_ps(1.0f - expf(chosen[0] - log_sum)));
}

static void work(void *given) {
    struct call *call = given;
    const int64_t block = call->work == LOSS ? 1 : BLOCK, wide = up(call->width, LANES);
    float line[call->work == NORM || call->work == NORM_BACK ? wide : 1];
    for (;;) {
        int64_t index = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED), first = index * block;
        if (first >= call->tokens) return;
        float *sums = call->sums ? call->sums + index * (call->work == COLUMNS ? 1 : 2) * wide : 0;
        for (int64_t t = first; t < least(first + block, call->tokens); t++) switch (call->work) {
            case NORM: norm(call, t, line); break;
            case NORM_BACK: norm_back(call, t, line, sums); break;
            case ROTATE: rotate(call, t); break;
            case GATE: gate(call, t); break;
            case GATE_BACK: gate_back(call, t); break;
            case GELU: gelu(call, t); break;
            case GELU_BACK: gelu_back(call, t); break;
            case COLUMNS: columns(call, t, sums); break;
            default: loss(call, t);
            }
    }
}

void compute(struct call *call, parallel_t parallel) {
    if (call->threads > 1)
        parallel(work, call, (unsigned)call->threads, 0);
    else
        work(call);
}
