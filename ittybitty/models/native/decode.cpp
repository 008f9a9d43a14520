// One decoding step of a stack of blocks, for decode.py: reads every weight once and allocates nothing.
//
// The whole step is one parallel region; threads meet at a barrier after each matrix. Weights are float32, or int8 with
// one scale a row; activations and states are float32. States are those of mamba.py and attention.py, moved on in place.
#include "lanes.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

using V = Lanes<float>::V;
constexpr int W = Lanes<float>::W;
constexpr int TILE = 4;  // sequences whose sums are held in registers while one row of weights passes by

struct Matrix {
    const float* weight;      // (rows, columns), or null when packed
    const int8_t* packed;     // the same in int8
    const float* scale;       // (rows,) of packed
    const float* bias;        // (rows,) or null
    int64_t rows, columns;
};

struct Block {
    int64_t kind;  // 'M', 'F' or 'A'
    const float* norm;
    Matrix in, out, x_proj, dt_proj;
    const float *conv, *conv_bias, *A, *D;  // Mamba: (E, K), (E,), (E, N), (E,)
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

// sums[i * m + j] = row j of the weights times sequence i: m rows and n sequences side by side, so that each value that
// comes from the cache is used several times.
template <int n, int m, typename S>
inline void dot(const S* row, int64_t row_stride, const float* x, int64_t x_stride, int64_t columns, float* sums) {
    V a[n][m] = {}, b[n][m] = {};
    int64_t c = 0;
    for (; c + 2 * W <= columns; c += 2 * W)
        for (int j = 0; j < m; j++) {
            const V w0 = widen(row + j * row_stride + c), w1 = widen(row + j * row_stride + c + W);
            for (int i = 0; i < n; i++) {
                a[i][j] += w0 * widen(x + i * x_stride + c);
                b[i][j] += w1 * widen(x + i * x_stride + c + W);
            }
        }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++) {
            float sum = total(a[i][j] + b[i][j]);
            for (int64_t k = c; k < columns; k++) sum += (float)row[j * row_stride + k] * x[i * x_stride + k];
            sums[i * m + j] = sum;
        }
}

template <int m, typename S>
inline void dots(const S* row, const float* x, int64_t n, int64_t columns, float* sums) {
    if (n == 4) dot<4, m>(row, columns, x, columns, columns, sums);
    else if (n == 3) dot<3, m>(row, columns, x, columns, columns, sums);
    else if (n == 2) dot<2, m>(row, columns, x, columns, columns, sums);
    else dot<1, m>(row, columns, x, columns, columns, sums);
}

template <typename S, typename F>
inline void rows_of(const Matrix& m, const S* weight, const float* x, int64_t batch, F done) {
#pragma omp for schedule(static)
    for (int64_t pair = 0; pair < (m.rows + 1) / 2; pair++) {
        const int64_t r = 2 * pair, two = r + 1 < m.rows ? 2 : 1;
        const S* row = weight + r * m.columns;
        float sums[2 * TILE];
        for (int64_t b = 0; b < batch; b += TILE) {
            const int64_t n = batch - b < TILE ? batch - b : TILE;
            if (two == 2) dots<2>(row, x + b * m.columns, n, m.columns, sums);
            else dots<1>(row, x + b * m.columns, n, m.columns, sums);
            for (int64_t j = 0; j < two; j++) {
                const float scale = m.packed ? m.scale[r + j] : 1.0f, bias = m.bias ? m.bias[r + j] : 0.0f;
                for (int64_t i = 0; i < n; i++) done(b + i, r + j, sums[i * two + j] * scale + bias);
            }
        }
    }
}

// done(b, r, value) receives (W x + bias)[r] of sequence b; ends with a barrier.
template <typename F> inline void multiply(const Matrix& m, const float* x, int64_t batch, F done) {
    if (m.packed) rows_of(m, m.packed, x, batch, done); else rows_of(m, m.weight, x, batch, done);
}

inline float silu(float x) { return x / (1 + std::exp(-x)); }
inline float gelu(float x) { return 0.5f * x * (1 + std::erf(x * 0.70710678118654752f)); }
inline float softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }

inline void normalize(const float* x, const float* weight, float* out, int64_t batch, int64_t D) {
#pragma omp for schedule(static)
    for (int64_t b = 0; b < batch; b++) {
        float square = 0;
        for (int64_t d = 0; d < D; d++) square += x[b * D + d] * x[b * D + d];
        const float r = 1 / std::sqrt(square / D + 1e-5f);
        for (int64_t d = 0; d < D; d++) out[b * D + d] = x[b * D + d] * r * weight[d];
    }
}

struct Scratch { float *x, *normed, *wide, *mid, *small, *scores; };

inline void mamba(const Block& k, Scratch s, int64_t batch, int64_t D) {
    const int64_t E = k.out.columns, N = k.N, K = k.K, P = k.R + 2 * N;
    float *u = s.mid, *z = s.wide, *delta = s.wide + batch * E;  // (batch, E) each
    multiply(k.in, s.normed, batch, [&](int64_t b, int64_t r, float v) {
        if (r >= E) { z[b * E + r - E] = silu(v); return; }
        float *past = k.s0 + (b * (K - 1)) * E + r, sum = k.conv_bias[r] + v * k.conv[r * K + K - 1];
        for (int64_t i = 0; i < K - 1; i++) sum += past[i * E] * k.conv[r * K + i];
        for (int64_t i = 0; i + 1 < K - 1; i++) past[i * E] = past[(i + 1) * E];
        if (K > 1) past[(K - 2) * E] = v;
        u[b * E + r] = silu(sum);
    });
    multiply(k.x_proj, u, batch, [&](int64_t b, int64_t r, float v) {  // dt stands apart: it is the next matrix's input
        if (r < k.R) s.small[b * k.R + r] = v; else s.small[batch * k.R + b * 2 * N + r - k.R] = v;
    });
    multiply(k.dt_proj, s.small, batch, [&](int64_t b, int64_t r, float v) { delta[b * E + r] = softplus(v); });
#pragma omp for schedule(static)
    for (int64_t job = 0; job < batch * E; job++) {
        const int64_t b = job / E, e = job % E;
        const float *A = k.A + e * N, *B = s.small + batch * k.R + b * 2 * N, *C = B + N, d = delta[job], du = d * u[job];
        float* h = k.s1 + job * N;
        float y = 0;
        int64_t n = 0;
        V sum = {};
        for (; n + W <= N; n += W) {
            const V now = exponential(widen(A + n) * d) * widen(h + n) + widen(B + n) * du;
            std::memcpy(h + n, &now, sizeof now);
            sum += now * widen(C + n);
        }
        y = total(sum);
        for (; n < N; n++) { h[n] = std::exp(A[n] * d) * h[n] + B[n] * du; y += h[n] * C[n]; }
        u[job] = (y + k.D[e] * u[job]) * z[job];
    }
    multiply(k.out, u, batch, [&](int64_t b, int64_t r, float v) { s.x[b * D + r] += v; });
}

inline void feed_forward(const Block& k, Scratch s, int64_t batch, int64_t D) {
    const int64_t F = k.in.rows;
    multiply(k.in, s.normed, batch, [&](int64_t b, int64_t r, float v) { s.wide[b * F + r] = gelu(v); });
    multiply(k.out, s.wide, batch, [&](int64_t b, int64_t r, float v) { s.x[b * D + r] += v; });
}

// What slot i of the rings holds at position t: its distance, or -1 when it may not be read.
inline int64_t distance_of(const Block& k, int64_t i, int64_t t) {
    if (i < k.window) {
        const int64_t d = ((t - i) % k.window + k.window) % k.window;
        return d <= t ? d : -1;
    }
    const int64_t newest = (t + 1) / k.stride - 1, m = i - k.window;
    const int64_t index = newest - ((newest - m) % k.marks + k.marks) % k.marks;
    const int64_t d = t - (index * k.stride + k.stride - 1);
    return index >= 0 && d >= k.window && d <= k.reach ? d : -1;
}

inline void attention(const Block& k, Scratch s, int64_t batch, int64_t D) {
    const int64_t H = k.H, d = D / H, t = k.position, keys = k.window + k.marks;
    const bool landmark = t % k.stride == k.stride - 1;
    const int64_t slot = (t / k.stride) % k.marks;
    multiply(k.in, s.normed, batch, [&](int64_t b, int64_t r, float v) {
        const int64_t part = r / D, h = (r % D) / d, i = r % d, head = b * H + h;
        if (part == 0) { s.wide[b * D + r] = v; return; }
        (part == 1 ? k.s0 : k.s1)[(head * k.window + t % k.window) * d + i] = v;
        if (landmark) (part == 1 ? k.s2 : k.s3)[(head * k.marks + slot) * d + i] = v;
    });
#pragma omp for schedule(static)
    for (int64_t head = 0; head < batch * H; head++) {
        const int64_t b = head / H, h = head % H;
        const float *q = s.wide + b * D + h * d, shrink = 1 / std::sqrt((float)d);
        float *score = s.scores + head * keys, top = -1e30f, sum = 0, *out = s.mid + b * D + h * d;
        for (int64_t i = 0; i < keys; i++) {
            const int64_t distance = distance_of(k, i, t);
            if (distance < 0) { score[i] = -1e30f; continue; }
            const float* key = i < k.window ? k.s0 + (head * k.window + i) * d : k.s2 + (head * k.marks + i - k.window) * d;
            float dotted;
            dot<1, 1>(key, 0, q, 0, d, &dotted);
            score[i] = dotted * shrink + k.bias[h * (k.most + 1) + (distance < k.most ? distance : k.most)];
            if (score[i] > top) top = score[i];
        }
        for (int64_t i = 0; i < d; i++) out[i] = 0;
        for (int64_t i = 0; i < keys; i++) {
            if (score[i] <= -1e30f) continue;
            const float weight = std::exp(score[i] - top);
            const float* value = i < k.window ? k.s1 + (head * k.window + i) * d : k.s3 + (head * k.marks + i - k.window) * d;
            sum += weight;
            for (int64_t j = 0; j < d; j++) out[j] += weight * value[j];
        }
        for (int64_t i = 0; i < d; i++) out[i] /= sum;
    }
    multiply(k.out, s.mid, batch, [&](int64_t b, int64_t r, float v) { s.x[b * D + r] += v; });
}

}  // namespace

extern "C" {

int64_t block_size() { return sizeof(Block); }
int64_t matrix_size() { return sizeof(Matrix); }

// ids (batch,) -> logits (batch, V). `wide` holds the largest of 2 E, the feed-forward width and D, a sequence each;
// `mid` max(E, D), `small` R + 2 N, `scores` H (window + marks). Positions of the blocks are moved on by the caller.
void decode_step(const Block* blocks, int64_t count, const float* embedding, const float* norm, const Matrix* head, const int64_t* ids,
                 float* logits, int64_t batch, int64_t D, float* x, float* normed, float* wide, float* mid, float* small, float* scores) {
    const Scratch s{x, normed, wide, mid, small, scores};
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t b = 0; b < batch; b++) std::memcpy(x + b * D, embedding + ids[b] * D, D * sizeof(float));
        for (int64_t i = 0; i < count; i++) {
            normalize(x, blocks[i].norm, normed, batch, D);
            if (blocks[i].kind == 'M') mamba(blocks[i], s, batch, D);
            else if (blocks[i].kind == 'F') feed_forward(blocks[i], s, batch, D);
            else attention(blocks[i], s, batch, D);
        }
        normalize(x, norm, normed, batch, D);
        multiply(*head, normed, batch, [&](int64_t b, int64_t r, float v) { logits[b * head->rows + r] = v; });
    }
}
}
