// The causal depthwise convolution of the Mamba block with its bias and SiLU, forward and backward, for mamba.py.
//
//   y_t = silu(bias + Σ_k w_k u_{t - K + 1 + k})          (Gu and Dao 2023, section 3.4)
//
// Rows of u lie `us` apart, since u is one half of a wider array; `past` (B, K - 1, E) stands before the first row.
// Work is cut by rows, so that memory is read once and in order. Weights are given tap by tap: (K, E).
#include "lanes.h"

#include <vector>

namespace {

// bias + Σ_k w_k u_{t - K + 1 + k} for one block of channels
template <typename V, typename T>
inline V tap_sum(const T* u, const T* past, const T* w, const T* bias, int64_t b, int64_t t, int64_t e, int n, int64_t L, int64_t E, int64_t K, int64_t us) {
    V sum = load<V>(bias + e, n);
    for (int64_t k = 0; k < K; k++) {
        const int64_t from = t - K + 1 + k;
        const T* row = from >= 0 ? u + (b * L + from) * us : past + (b * (K - 1) + from + K - 1) * E;
        sum += load<V>(w + k * E + e, n) * load<V>(row + e, n);
    }
    return sum;
}

template <typename T>
void conv_forward(const T* u, const T* past, const T* w, const T* bias, T* y, int64_t batch, int64_t L, int64_t E, int64_t K, int64_t us) {
    using V = typename Lanes<T>::V; constexpr int W = Lanes<T>::W;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < batch * L; row++)
        for (int64_t e = 0; e < E; e += W) {
            const int n = (int)(E - e < W ? E - e : W);
            const V x = tap_sum<V>(u, past, w, bias, row / L, row % L, e, n, L, E, K, us);
            store(y + row * E + e, x * sigmoid(x), n);
        }
}

// dw (shares, K, E) and dbias (shares, E) hold one part a share of the rows and are added by the caller; `inner` (B, L, E) is scratch.
template <typename T>
void conv_backward(const T* u, const T* past, const T* w, const T* bias, const T* dy, T* inner, T* du, T* dw, T* dbias,
                   int64_t batch, int64_t L, int64_t E, int64_t K, int64_t us, int64_t shares) {
    using V = typename Lanes<T>::V; constexpr int W = Lanes<T>::W;
    const int64_t rows = batch * L;
#pragma omp parallel for schedule(static)
    for (int64_t share = 0; share < shares; share++) {
        T *dws = dw + share * K * E, *dbs = dbias + share * E;
        std::memset(dws, 0, K * E * sizeof(T));
        std::memset(dbs, 0, E * sizeof(T));
        for (int64_t row = rows * share / shares; row < rows * (share + 1) / shares; row++) {
            const int64_t b = row / L, t = row % L;
            for (int64_t e = 0; e < E; e += W) {
                const int n = (int)(E - e < W ? E - e : W);
                const V x = tap_sum<V>(u, past, w, bias, b, t, e, n, L, E, K, us), r = sigmoid(x);
                const V g = load<V>(dy + row * E + e, n) * r * (1 + x * (1 - r));  // dL/d(sum)
                store(inner + row * E + e, g, n);
                store(dbs + e, load<V>(dbs + e, n) + g, n);
                for (int64_t k = 0; k < K; k++) {
                    const int64_t from = t - K + 1 + k;
                    const T* source = from >= 0 ? u + (b * L + from) * us : past + (b * (K - 1) + from + K - 1) * E;
                    store(dws + k * E + e, load<V>(dws + k * E + e, n) + g * load<V>(source + e, n), n);
                }
            }
        }
    }
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const int64_t t = row % L;
        for (int64_t e = 0; e < E; e += W) {
            const int n = (int)(E - e < W ? E - e : W);
            V sum = {};
            for (int64_t k = 0; k < K; k++) {
                const int64_t ahead = K - 1 - k;
                if (t + ahead < L) sum += load<V>(w + k * E + e, n) * load<V>(inner + (row + ahead) * E + e, n);
            }
            store(du + row * E + e, sum, n);
        }
    }
}

}  // namespace

extern "C" {
#define CONV(T, NAME) \
    void conv_forward_##NAME(const T* u, const T* past, const T* w, const T* bias, T* y, int64_t b, int64_t L, int64_t E, int64_t K, int64_t us) { \
        conv_forward<T>(u, past, w, bias, y, b, L, E, K, us); } \
    void conv_backward_##NAME(const T* u, const T* past, const T* w, const T* bias, const T* dy, T* inner, T* du, T* dw, T* dbias, \
                              int64_t b, int64_t L, int64_t E, int64_t K, int64_t us, int64_t shares) { \
        conv_backward<T>(u, past, w, bias, dy, inner, du, dw, dbias, b, L, E, K, us, shares); }
CONV(float, float)
CONV(double, double)
}
