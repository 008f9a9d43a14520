// What one decoding step of a stack of blocks is made of, for decode.cpp and events.cpp: every weight is read once, and nothing
// allocated.
//
// All of it runs within one parallel region; threads meet at a barrier after each matrix. Weights are float32, float16 where that
// holds exactly the same numbers in half the bytes, or int8 with one scale a row; activations and states are float32. States are
// those of states.py, moved on in place.
//
// The `batch` rows of an activation are one token of each of several pieces, or, with `in_time`, successive tokens of one piece:
// a prompt is read so, and every weight then serves all its tokens.
#pragma once
#include "lanes.h"

#if defined(_OPENMP)
#include <omp.h>
inline int64_t thread() { return omp_get_thread_num(); }
inline int64_t threads() { return omp_get_max_threads(); }
#else
inline int64_t thread() { return 0; }
inline int64_t threads() { return 1; }
#endif

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

using V = Lanes<float>::V;
constexpr int W = Lanes<float>::W;
constexpr int TILE = 4;  // sequences whose sums are held in registers while one row of weights passes by

struct Matrix {
    const float* weight;      // (rows, columns), or null and one of the next two
    const uint16_t* half;     // the same in float16
    const int8_t* packed;     // the same in int8
    const float* scale;       // (rows,) of packed
    const float* bias;        // (rows,) or null
    int64_t rows, columns;
};

struct Block {
    int64_t kind;  // 'M', 'F' or 'A'
    const float* norm;
    Matrix in, out, x_proj, dt_proj;
    const float *conv, *conv_bias, *A, *D;  // Mamba: (K, E), (E,), (E, N), (E,)
    int64_t N, K, R;
    const float* bias;  // attention: (H, most + 1) by distance, clipped
    int64_t most, H, window, stride, reach, marks;
    float *s0, *s1, *s2, *s3;  // states: conv, ssm; or keys, values, landmark keys, landmark values
    int64_t position;
};

inline V widen(const float* p) { V v; std::memcpy(&v, p, sizeof v); return v; }
inline V widen(const int8_t* p) {
#if defined(__AVX512F__)
    return (V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
#elif defined(__AVX2__)
    return (V)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
#else  // one widening at a time: compilers turn a direct conversion into scalar code
    typedef int8_t B1 __attribute__((vector_size(W)));
    typedef int16_t B2 __attribute__((vector_size(2 * W)));
    B1 b; std::memcpy(&b, p, sizeof b);
    return __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(b, B2), Lanes<float>::I), V);
#endif
}

// A float16 number; weights are finite.
struct Half { uint16_t bits; };

inline float scalar(float x) { return x; }
inline float scalar(int8_t x) { return x; }
inline float scalar(Half x) {
    const int exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
    const float size = exponent ? std::ldexp((float)(mantissa | 1024), exponent - 25) : std::ldexp((float)mantissa, -24);
    return x.bits >> 15 ? -size : size;
}

#if defined(__AVX512F__)
constexpr bool HALVES = true;
inline V widen(const Half* p) { return (V)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
#elif defined(__AVX2__) && defined(__F16C__)
constexpr bool HALVES = true;
inline V widen(const Half* p) { return (V)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
#else
constexpr bool HALVES = false;  // decode.py then keeps float32
inline V widen(const Half* p) { V v; for (int i = 0; i < W; i++) v[i] = scalar(p[i]); return v; }
#endif

// sums[i] = one row of the weights times sequence i. One row at a time: a thread then reads its weights as one rising
// stream, which is what memory is fastest at (two rows side by side halve the bandwidth). U registers a sequence hide the
// latency of the additions.
template <int n, int U, typename S> inline void dot(const S* row, const float* x, int64_t columns, float* sums) {
    V a[n][U] = {};
    int64_t c = 0;
    for (; c + U * W <= columns; c += U * W)
        for (int u = 0; u < U; u++) {
            const V w = widen(row + c + u * W);
            for (int i = 0; i < n; i++) a[i][u] += w * widen(x + i * columns + c + u * W);
        }
    for (; c + W <= columns; c += W) {
        const V w = widen(row + c);
        for (int i = 0; i < n; i++) a[i][0] += w * widen(x + i * columns + c);
    }
    for (int i = 0; i < n; i++) {
        for (int u = 1; u < U; u++) a[i][0] += a[i][u];
        float sum = total(a[i][0]);
        for (int64_t k = c; k < columns; k++) sum += scalar(row[k]) * x[i * columns + k];
        sums[i] = sum;
    }
}

// `done(b, r, values, count)` receives (W x + bias)[r … r + count - 1] of row b, at most a register full of them; for each r
// one thread calls it, with b rising.
template <typename S, typename F>
inline void rows_of(const Matrix& m, const S* weight, const float* x, int64_t batch, int64_t first, int64_t last, F done) {
#pragma omp for schedule(static) nowait
    for (int64_t group = 0; group < (last - first + W - 1) / W; group++) {
        const int64_t r = first + group * W;
        const int count = last - r < W ? last - r : W;
        const V scale = m.packed ? load<V>(m.scale + r, count) : V{} + 1, bias = m.bias ? load<V>(m.bias + r, count) : V{};
        for (int64_t b = 0; b < batch; b += TILE) {
            const float* sequences = x + b * m.columns;
            const int n = batch - b < TILE ? batch - b : TILE;
            V sums[TILE] = {};
            for (int j = 0; j < count; j++) {
                const S* row = weight + (r + j) * m.columns;
                float one[TILE];
                if (n == 4) dot<4, 2>(row, sequences, m.columns, one);
                else if (n == 3) dot<3, 2>(row, sequences, m.columns, one);
                else if (n == 2) dot<2, 4>(row, sequences, m.columns, one);
                else dot<1, 8>(row, sequences, m.columns, one);
                for (int i = 0; i < n; i++) sums[i][j] = one[i];
            }
            for (int i = 0; i < n; i++) done(b + i, r, sums[i] * scale + bias, count);
        }
    }
}

// Rows first … last - 1 of a matrix times x of every sequence, shared among the threads; no barrier at the end.
template <typename F> inline void multiply(const Matrix& m, const float* x, int64_t batch, int64_t first, int64_t last, F done) {
    if (m.packed) rows_of(m, m.packed, x, batch, first, last, done);
    else if (m.half) rows_of(m, (const Half*)m.half, x, batch, first, last, done);
    else rows_of(m, m.weight, x, batch, first, last, done);
}
template <typename F> inline void multiply(const Matrix& m, const float* x, int64_t batch, F done) { multiply(m, x, batch, 0, m.rows, done); }

inline V larger(V x, float y) { return x > y ? x : V{} + y; }
inline V silu(V x) { return x * sigmoid(x); }

// max(x, 0) + log(1 + e), e = exp(-|x|): the logarithm by the series of the inverse hyperbolic tangent in s = e / (2 + e) <= 1/3.
inline V softplus(V x) {
    const V e = exponential(x < 0 ? x : -x), s = e / (2 + e), q = s * s;
    V p = V{} + 1.0f / 15;
    for (int k = 13; k > 0; k -= 2) p = p * q + 1.0f / k;
    return larger(x, 0) + 2 * s * p;
}

// x times the normal distribution function; erf by Abramowitz and Stegun 1964, formula 7.1.26 (off by 1.5e-7 at most).
inline V gelu(V x) {
    const V y = (x < 0 ? -x : x) * 0.70710678118654752f, t = 1 / (1 + 0.3275911f * y);
    V p = 1.061405429f * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const V tail = 0.5f * p * t * exponential(-y * y);  // of the distribution, beyond |x|
    return x * (x < 0 ? tail : 1 - tail);
}

inline void barrier() {
#pragma omp barrier
}

// Every thread normalizes for itself: half a microsecond of work each, where a barrier would take longer.
inline void normalize(const float* x, const float* weight, float* out, int64_t batch, int64_t D) {
    for (int64_t b = 0; b < batch; b++) {
        V squares = {};
        int64_t d = 0;
        for (; d + W <= D; d += W) squares += widen(x + b * D + d) * widen(x + b * D + d);
        float square = total(squares);
        for (; d < D; d++) square += x[b * D + d] * x[b * D + d];
        const float r = 1 / std::sqrt(square / D + 1e-5f);
        for (d = 0; d < D; d++) out[b * D + d] = x[b * D + d] * r * weight[d];
    }
}

struct Scratch { float *x, *normed, *wide, *mid, *small, *scores; };

// x += m y, the end of every residual branch.
inline void add(const Matrix& m, const float* y, Scratch s, int64_t batch, int64_t D) {
    barrier();
    multiply(m, y, batch, [&](int64_t b, int64_t r, V v, int count) {
        float* x = s.x + b * D + r;
        store(x, load<V>(x, count) + v, count);
    });
    barrier();
}

inline void mamba(const Block& k, Scratch s, int64_t batch, int64_t D, bool in_time) {
    const int64_t E = k.out.columns, N = k.N, K = k.K;
    float *u = s.mid, *z = s.wide;  // (batch, E) each
    multiply(k.in, s.normed, batch, 0, E, [&](int64_t b, int64_t r, V v, int count) {
        float* past = k.s0 + (in_time ? 0 : b * (K - 1) * E) + r;
        V sum = load<V>(k.conv_bias + r, count) + v * load<V>(k.conv + (K - 1) * E + r, count);
        for (int64_t i = 0; i < K - 1; i++) {
            const V before = load<V>(past + i * E, count);
            sum += before * load<V>(k.conv + i * E + r, count);
            if (i > 0) store(past + (i - 1) * E, before, count);
        }
        if (K > 1) store(past + (K - 2) * E, v, count);
        store(u + b * E + r, silu(sum), count);
    });
    multiply(k.in, s.normed, batch, E, 2 * E, [&](int64_t b, int64_t r, V v, int count) { store(z + b * E + r - E, silu(v), count); });
    barrier();
    multiply(k.x_proj, u, batch, [&](int64_t b, int64_t r, V v, int count) {  // dt stands apart: it is the next matrix's input
        for (int j = 0; j < count; j++)
            (r + j < k.R ? s.small + b * k.R : s.small + batch * k.R + b * 2 * N - k.R)[r + j] = v[j];
    });
    barrier();
    multiply(k.dt_proj, s.small, batch, [&](int64_t b, int64_t r, V v, int count) {
        const V deltas = softplus(v);
        const float *B = s.small + batch * k.R + b * 2 * N, *C = B + N;
        for (int j = 0; j < count; j++) {
            const int64_t e = r + j, job = b * E + e;
            const float *A = k.A + e * N, delta = deltas[j], input = delta * u[job];
            float* h = k.s1 + (in_time ? e : job) * N;
            V sum = {};
            int64_t n = 0;
            for (; n + W <= N; n += W) {
                const V now = exponential(widen(A + n) * delta) * widen(h + n) + widen(B + n) * input;
                std::memcpy(h + n, &now, sizeof now);
                sum += now * widen(C + n);
            }
            float y = total(sum);
            for (; n < N; n++) { h[n] = std::exp(A[n] * delta) * h[n] + B[n] * input; y += h[n] * C[n]; }
            u[job] = (y + k.D[e] * u[job]) * z[job];
        }
    });
    add(k.out, u, s, batch, D);
}

inline void feed_forward(const Block& k, Scratch s, int64_t batch, int64_t D) {
    const int64_t F = k.in.rows;
    multiply(k.in, s.normed, batch, [&](int64_t b, int64_t r, V v, int count) { store(s.wide + b * F + r, gelu(v), count); });
    add(k.out, s.wide, s, batch, D);
}

// How far back each slot of the rings lies at position t; -1 where it may not be read.
struct Distances {
    const Block& k;
    int64_t t, slot, newest, mark;
    Distances(const Block& k, int64_t t) : k(k), t(t), slot(t % k.window), newest((t + 1) / k.stride - 1), mark(newest < 0 ? 0 : newest % k.marks) {}
    int64_t operator()(int64_t i) const {
        if (i < k.window) {
            const int64_t d = i <= slot ? slot - i : slot - i + k.window;
            return d <= t ? d : -1;
        }
        const int64_t m = i - k.window, index = newest - (m <= mark ? mark - m : mark - m + k.marks);
        const int64_t d = t - (index * k.stride + k.stride - 1);
        return index >= 0 && d >= k.window && d <= k.reach ? d : -1;
    }
};

// One head of one token: its key and value go into the rings, and its query reads them. `head` counts the heads of all pieces.
inline void attend(const Block& k, const float* qkv, float* out, float* score, int64_t head, int64_t t, int64_t D) {
    const int64_t d = D / k.H, h = head % k.H, keys = k.window + k.marks;
    const float *q = qkv + h * d, shrink = 1 / std::sqrt((float)d);
    const size_t bytes = d * sizeof(float);
    std::memcpy(k.s0 + (head * k.window + t % k.window) * d, q + D, bytes);
    std::memcpy(k.s1 + (head * k.window + t % k.window) * d, q + 2 * D, bytes);
    if (t % k.stride == k.stride - 1) {
        const int64_t slot = (t / k.stride) % k.marks;
        std::memcpy(k.s2 + (head * k.marks + slot) * d, q + D, bytes);
        std::memcpy(k.s3 + (head * k.marks + slot) * d, q + 2 * D, bytes);
    }
    const Distances distance_of(k, t);
    float top = -1e30f, sum = 0;
    for (int64_t i = 0; i < keys; i++) {
        const int64_t distance = distance_of(i);
        if (distance < 0) { score[i] = -1e30f; continue; }
        const float* key = i < k.window ? k.s0 + (head * k.window + i) * d : k.s2 + (head * k.marks + i - k.window) * d;
        float dotted;
        dot<1, 2>(key, q, d, &dotted);
        score[i] = dotted * shrink + k.bias[h * (k.most + 1) + (distance < k.most ? distance : k.most)];
        if (score[i] > top) top = score[i];
    }
    for (int64_t i = 0; i < keys; i += W) {
        const int count = keys - i < W ? keys - i : W;
        store(score + i, exponential(load<V>(score + i, count) - top), count);
    }
    for (int64_t i = 0; i < d; i++) out[h * d + i] = 0;
    for (int64_t i = 0; i < keys; i++) {
        if (score[i] < 1e-30f) continue;  // not to be read, or too far below the top to change a float
        const float weight = score[i];
        const float* value = i < k.window ? k.s1 + (head * k.window + i) * d : k.s3 + (head * k.marks + i - k.window) * d;
        sum += weight;
        for (int64_t j = 0; j < d; j++) out[h * d + j] += weight * value[j];
    }
    for (int64_t i = 0; i < d; i++) out[h * d + i] /= sum;
}

inline void attention(const Block& k, Scratch s, int64_t batch, int64_t D, bool in_time) {
    const int64_t pieces = in_time ? 1 : batch, tokens = in_time ? batch : 1;
    multiply(k.in, s.normed, batch, [&](int64_t b, int64_t r, V v, int count) { store(s.wide + b * 3 * D + r, v, count); });
    barrier();
#pragma omp for schedule(static) nowait
    for (int64_t head = 0; head < pieces * k.H; head++)
        for (int64_t i = 0; i < tokens; i++) {
            const int64_t b = head / k.H + i;
            attend(k, s.wide + b * 3 * D, s.mid + b * D, s.scores + head * (k.window + k.marks), head, k.position + i, D);
        }
    add(k.out, s.mid, s, batch, D);
}

inline void block(const Block& k, Scratch s, int64_t batch, int64_t D, bool in_time) {
    normalize(s.x, k.norm, s.normed, batch, D);
    if (k.kind == 'M') mamba(k, s, batch, D, in_time);
    else if (k.kind == 'F') feed_forward(k, s, batch, D);
    else attention(k, s, batch, D, in_time);
}

}  // namespace
