// One vector register of floats or doubles, and its exponential. Plain vector extensions of GCC and Clang: the same
// source becomes AVX-512, AVX2 or NEON code.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

template <typename T> struct Lanes;
#if defined(__AVX512F__)
template <> struct Lanes<float> { static constexpr int W = 16; typedef float V __attribute__((vector_size(64))); typedef int32_t I __attribute__((vector_size(64))); };
template <> struct Lanes<double> { static constexpr int W = 8; typedef double V __attribute__((vector_size(64))); };
#else
template <> struct Lanes<float> { static constexpr int W = 8; typedef float V __attribute__((vector_size(32))); typedef int32_t I __attribute__((vector_size(32))); };
template <> struct Lanes<double> { static constexpr int W = 4; typedef double V __attribute__((vector_size(32))); };
#endif

// exp(x) for x <= 0 to about 2 units in the last place: 2^i from the exponent bits, 2^f by a polynomial on |f| <= 1/2.
inline Lanes<float>::V exponential(Lanes<float>::V x) {
    using V = Lanes<float>::V; using I = Lanes<float>::I;
    V t = x * 1.44269504088896341f;
    t = t < -126.0f ? V{} - 126.0f : t;
    const V magic = V{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
    V shifted = t + magic;
    V f = t - (shifted - magic);
    V p = f * 1.535336188319500e-4f + 1.339887440266574e-3f;
    p = p * f + 9.618437357674640e-3f;
    p = p * f + 5.550332471162809e-2f;
    p = p * f + 2.402264791363012e-1f;
    p = p * f + 6.931472028550421e-1f;
    p = p * f + 1.0f;
    I bits = ((I)shifted - (I)magic) << 23;
    return (V)((I)p + bits);
}

inline Lanes<double>::V exponential(Lanes<double>::V x) {
    for (int i = 0; i < Lanes<double>::W; i++) x[i] = std::exp(x[i]);
    return x;
}

// 1 / (1 + exp(-x)) for any x, without overflow.
template <typename V> inline V sigmoid(V x) {
    const V e = exponential(x < 0 ? x : -x);
    return (x < 0 ? e : V{} + 1) / (1 + e);
}

// The first `n` lanes from memory; the others are zero, so that channels beyond E do nothing.
template <typename V, typename T> inline V load(const T* from, int n) {
    V v = {};
    if (n * sizeof(T) == sizeof(V)) std::memcpy(&v, from, sizeof(V));
    else std::memcpy(&v, from, n * sizeof(T));
    return v;
}
template <typename V, typename T> inline void store(T* to, const V& v, int n) {
    if (n * sizeof(T) == sizeof(V)) std::memcpy(to, &v, sizeof(V));
    else std::memcpy(to, &v, n * sizeof(T));
}
// The sum of the lanes, in halves: a chain of additions would take longer than a row of weights.
template <typename T, int bytes> inline T total_of(const void* from) {
    if constexpr (bytes == sizeof(T)) { T last; std::memcpy(&last, from, sizeof last); return last; }
    else if constexpr (bytes == 2 * sizeof(T)) return total_of<T, bytes / 2>(from) + total_of<T, bytes / 2>((const T*)from + 1);
    else {
        typedef T Half __attribute__((vector_size(bytes / 2)));
        Half low, high;
        std::memcpy(&low, from, sizeof low);
        std::memcpy(&high, (const char*)from + sizeof low, sizeof high);
        low += high;
        return total_of<T, bytes / 2>(&low);
    }
}
template <typename V> inline auto total(const V& v) { return total_of<decltype(v[0] + v[0]), sizeof(V)>(&v); }
