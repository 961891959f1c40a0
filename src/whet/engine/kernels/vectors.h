/* Vectors of 16 numbers in fp32, read from and written to fp32 or bf16. Compiled before each of the other files, which are one unit with it. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "this file needs AVX-512 F, BW and VL"
#endif

enum { LANES = 16 };

struct tensor {           /* [H, T, d]; the last axis is dense */
    void *data;
    int64_t head, token;  /* strides, in elements */
    int64_t bf16;         /* else fp32 */
};

typedef void (*parallel_t)(void (*)(void *), void *, unsigned, unsigned); /* torch's own OpenMP library's GOMP_parallel */

static inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline __m512 load(const struct tensor *t, int64_t at, __mmask16 some) {
    if (t->bf16) {
        __m256i halves = _mm256_maskz_loadu_epi16(some, (const uint16_t *)t->data + at);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    }
    return _mm512_maskz_loadu_ps(some, (const float *)t->data + at);
}

static inline void store(const struct tensor *t, int64_t at, __mmask16 some, __m512 x) {
    if (!t->bf16) {
        _mm512_mask_storeu_ps((float *)t->data + at, some, x);
        return;
    }
#ifdef __AVX512BF16__
    _mm256_mask_storeu_epi16((uint16_t *)t->data + at, some, (__m256i)_mm512_cvtneps_pbh(x)); /* to the nearest, ties to even */
#else
    __m512i bits = _mm512_castps_si512(x); /* to the nearest, ties to even */
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc00000));
    _mm512_mask_cvtepi32_storeu_epi16((uint16_t *)t->data + at, some, _mm512_srli_epi32(rounded, 16));
#endif
}

/* Those of 16 numbers from `from` on that lie before `width`; none where it begins behind */
static inline __mmask16 within(int64_t from, int64_t width) {
    return from + LANES <= width ? (__mmask16)0xffff : from < width ? (__mmask16)((1u << (width - from)) - 1) : 0;
}

/* e^x for x that is not much above 0: 2^n times the series of e^r, |r| <= ln(2) / 2, whose rest after r^7 is below 6e-9 */
static inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x); /* the second operand where one is not a number */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x); /* ln 2 in two parts; the first has few bits */
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.0f / 5040);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 720));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 120));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}
