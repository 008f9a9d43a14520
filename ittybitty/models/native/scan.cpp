// The selective scan on a CPU, forward and backward, for scan.py.
//
//   h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,   y_t = (C_t h_t + D u_t) silu(z_t)     (Gu and Dao 2023, equations 2a, 2b, 4)
//
// W channels side by side fill one vector register, so no sum over states ever crosses lanes. States live in the
// first-level cache; memory holds one state in CHUNK steps, and the backward recomputes the rest from there.
// Arrays are contiguous: u, delta, y (B, L, E); A (E, N); B, C (B, L, N); D (E,); states (B, E, N). The gate z (B, L, E)
// may be null, and its rows lie `zs` apart: it is one half of a wider array.
#include "lanes.h"

#include <algorithm>
#include <vector>

namespace {

constexpr int CHUNK = 32;

// (lanes, N) rows of memory <-> N vectors
template <typename V, typename T> inline void gather(V* v, const T* from, int n, int64_t N) {
    for (int64_t s = 0; s < N; s++) { v[s] = V{}; for (int i = 0; i < n; i++) v[s][i] = from[i * N + s]; }
}
template <typename V, typename T> inline void scatter(T* to, const V* v, int n, int64_t N) {
    for (int64_t s = 0; s < N; s++) for (int i = 0; i < n; i++) to[i * N + s] = v[s][i];
}
// `entries` (B, ceil(L / CHUNK), blocks, N, W) receives the state at the start of each chunk; null when no backward follows.
template <typename T>
void forward(const T* u, const T* delta, const T* A, const T* B, const T* C, const T* D, const T* z, const T* state,
             T* y, T* last, T* entries, int64_t batch, int64_t L, int64_t E, int64_t N, int64_t zs) {
    using V = typename Lanes<T>::V; constexpr int W = Lanes<T>::W;
    const int64_t blocks = (E + W - 1) / W, chunks = (L + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static)
    for (int64_t job = 0; job < batch * blocks; job++) {
        const int64_t b = job / blocks, block = job % blocks, e = block * W;
        const int n = (int)(E - e < W ? E - e : W);
        std::vector<V> a(N), h(N);
        gather(a.data(), A + e * N, n, N);
        gather(h.data(), state + (b * E + e) * N, n, N);
        const V skip = load<V>(D + e, n);
        for (int64_t t = 0; t < L; t++) {
            if (entries && t % CHUNK == 0)
                std::memcpy(entries + (((b * chunks + t / CHUNK) * blocks + block) * N) * W, h.data(), N * sizeof(V));
            const int64_t at = (b * L + t) * E + e;
            const V d = load<V>(delta + at, n), x = load<V>(u + at, n), du = d * x;
            const T *Bt = B + (b * L + t) * N, *Ct = C + (b * L + t) * N;
            V out = skip * x;
            for (int64_t s = 0; s < N; s++) {
                h[s] = exponential(d * a[s]) * h[s] + du * Bt[s];
                out += h[s] * Ct[s];
            }
            if (z) {
                const V g = load<V>(z + (b * L + t) * zs + e, n);
                out = out * g * sigmoid(g);
            }
            store(y + at, out, n);
        }
        scatter(last + (b * E + e) * N, h.data(), n, N);
    }
}

// Gradients; dB and dC (shares, B, L, N) hold one part a share of the channels and are added by the caller.
template <typename T>
void backward(const T* u, const T* delta, const T* A, const T* B, const T* C, const T* D, const T* z, const T* entries,
              const T* dy, const T* dlast, T* du, T* ddelta, T* dA, T* dB, T* dC, T* dD, T* dz, T* dstate,
              int64_t batch, int64_t L, int64_t E, int64_t N, int64_t zs, int64_t shares) {
    using V = typename Lanes<T>::V; constexpr int W = Lanes<T>::W;
    const int64_t blocks = (E + W - 1) / W, chunks = (L + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static)
    for (int64_t share = 0; share < shares; share++) {
        const int64_t from = blocks * share / shares, to = blocks * (share + 1) / shares;
        std::vector<V> a((to - from) * N), sum_a((to - from) * N, V{}), carried((to - from) * N), sum_d(to - from, V{}), plain(CHUNK);
        std::vector<V> h((CHUNK + 1) * N), decay(CHUNK * N), sum_b(CHUNK * N), sum_c(CHUNK * N);
        for (int64_t block = from; block < to; block++) {
            const int64_t e = block * W;
            gather(a.data() + (block - from) * N, A + e * N, (int)(E - e < W ? E - e : W), N);
        }
        for (int64_t b = 0; b < batch; b++) {
            for (int64_t block = from; block < to; block++) {
                const int64_t e = block * W;
                gather(carried.data() + (block - from) * N, dlast + (b * E + e) * N, (int)(E - e < W ? E - e : W), N);
            }
            for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
                const int64_t start = chunk * CHUNK, steps = L - start < CHUNK ? L - start : CHUNK;
                std::fill(sum_b.begin(), sum_b.end(), V{});
                std::fill(sum_c.begin(), sum_c.end(), V{});
                for (int64_t block = from; block < to; block++) {
                    const int64_t e = block * W;
                    const int n = (int)(E - e < W ? E - e : W);
                    const V* ab = a.data() + (block - from) * N;
                    V *g = carried.data() + (block - from) * N, *ga = sum_a.data() + (block - from) * N;
                    std::memcpy(h.data(), entries + (((b * chunks + chunk) * blocks + block) * N) * W, N * sizeof(V));
                    for (int64_t t = 0; t < steps; t++) {  // the states of this chunk again
                        const int64_t at = (b * L + start + t) * E + e;
                        const V d = load<V>(delta + at, n), x = d * load<V>(u + at, n);
                        const T *Bt = B + (b * L + start + t) * N, *Ct = C + (b * L + start + t) * N;
                        V out = {}, *now = h.data() + (t + 1) * N, *before = h.data() + t * N, *k = decay.data() + t * N;
                        for (int64_t s = 0; s < N; s++) {
                            k[s] = exponential(d * ab[s]);
                            now[s] = k[s] * before[s] + x * Bt[s];
                            out += now[s] * Ct[s];
                        }
                        plain[t] = out;  // y before skip and gate: the gate's gradient needs it
                    }
                    const V skip = load<V>(D + e, n);
                    for (int64_t t = steps - 1; t >= 0; t--) {
                        const int64_t at = (b * L + start + t) * E + e, row = (b * L + start + t) * N;
                        const V d = load<V>(delta + at, n), x = load<V>(u + at, n), dx = d * x;
                        V o = load<V>(dy + at, n);  // dL/dy before the gate
                        if (z) {
                            const V g = load<V>(z + (b * L + start + t) * zs + e, n), r = sigmoid(g);
                            store(dz + at, o * (plain[t] + skip * x) * r * (1 + g * (1 - r)), n);
                            o *= g * r;
                        }
                        sum_d[block - from] += o * x;
                        const V *now = h.data() + (t + 1) * N, *before = h.data() + t * N, *k = decay.data() + t * N;
                        V *sb = sum_b.data() + t * N, *sc = sum_c.data() + t * N, gd = {}, gB = {};
                        for (int64_t s = 0; s < N; s++) {
                            const V gs = g[s] + o * C[row + s];  // dL/dh_t
                            sc[s] += o * now[s];
                            sb[s] += gs * dx;
                            gB += gs * B[row + s];
                            g[s] = gs * k[s];
                            const V through = g[s] * before[s];  // dL/d(Δ A)
                            gd += through * ab[s];
                            ga[s] += through * d;
                        }
                        store(ddelta + at, gd + gB * x, n);
                        store(du + at, gB * d + o * skip, n);
                    }
                }
                for (int64_t t = 0; t < steps; t++) for (int64_t s = 0; s < N; s++) {
                    const int64_t to_row = ((share * batch + b) * L + start + t) * N + s;
                    dB[to_row] = total(sum_b[t * N + s]);
                    dC[to_row] = total(sum_c[t * N + s]);
                }
            }
            for (int64_t block = from; block < to; block++) {
                const int64_t e = block * W;
                scatter(dstate + (b * E + e) * N, carried.data() + (block - from) * N, (int)(E - e < W ? E - e : W), N);
            }
        }
        for (int64_t block = from; block < to; block++) {
            const int64_t e = block * W;
            scatter(dA + e * N, sum_a.data() + (block - from) * N, (int)(E - e < W ? E - e : W), N);
            store(dD + e, sum_d[block - from], (int)(E - e < W ? E - e : W));
        }
    }
}

}  // namespace

extern "C" {
int64_t chunk_length() { return CHUNK; }
int64_t lanes(int64_t bytes) { return bytes == 4 ? Lanes<float>::W : Lanes<double>::W; }
#define SCAN(T, NAME) \
    void forward_##NAME(const T* u, const T* d, const T* A, const T* B, const T* C, const T* D, const T* z, const T* s, T* y, T* last, \
                        T* entries, int64_t b, int64_t L, int64_t E, int64_t N, int64_t zs) { \
        forward<T>(u, d, A, B, C, D, z, s, y, last, entries, b, L, E, N, zs); } \
    void backward_##NAME(const T* u, const T* d, const T* A, const T* B, const T* C, const T* D, const T* z, const T* entries, \
                         const T* dy, const T* dlast, T* du, T* dd, T* dA, T* dB, T* dC, T* dD, T* dz, T* ds, \
                         int64_t b, int64_t L, int64_t E, int64_t N, int64_t zs, int64_t shares) { \
        backward<T>(u, d, A, B, C, D, z, entries, dy, dlast, du, dd, dA, dB, dC, dD, dz, ds, b, L, E, N, zs, shares); }
SCAN(float, float)
SCAN(double, double)
}
