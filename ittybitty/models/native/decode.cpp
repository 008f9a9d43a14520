// One decoding step of a language model over tokens, for decode.py: embedding, blocks (step.h), norm, head.
#include "step.h"

extern "C" {

int64_t block_size() { return sizeof(Block); }
int64_t matrix_size() { return sizeof(Matrix); }
int64_t thread_count() { return threads(); }

int64_t halves() { return HALVES; }

// ids (batch,) of as many pieces -> logits (batch, V); with `in_time` ids (batch,) of one piece -> logits (V,) after the last.
// By at most `team` threads. Returns 0, or 1 with nothing read or written where an id lies outside the vocabulary. For each row
// `normed` holds D for every thread, `wide` the largest of 2 E, the feed-forward width and 3 D, `mid` max(E, D), `small` R + 2 N,
// `scores` H (window + marks). Positions of the blocks are moved on by the caller.
int64_t decode_step(const Block* blocks, int64_t count, const float* embedding, const float* norm, const Matrix* head, const int64_t* ids,
                 float* logits, int64_t batch, int64_t D, float* x, float* normed, float* wide, float* mid, float* small, float* scores,
                 int64_t team, int64_t in_time) {
    for (int64_t b = 0; b < batch; b++)
        if (ids[b] < 0 || ids[b] >= head->rows) return 1;
    const int64_t last = in_time ? batch - 1 : 0;  // the first row whose logits are wanted
#pragma omp parallel num_threads(team)
    {
        const Scratch s{x, normed + thread() * batch * D, wide, mid, small, scores};
#pragma omp for schedule(static)
        for (int64_t b = 0; b < batch; b++) std::memcpy(x + b * D, embedding + ids[b] * D, D * sizeof(float));
        for (int64_t i = 0; i < count; i++) block(blocks[i], s, batch, D, in_time);
        normalize(x, norm, s.normed, batch, D);
        multiply(*head, s.normed + last * D, batch - last, [&](int64_t b, int64_t r, V v, int count) { store(logits + b * head->rows + r, v, count); });
    }
    return 0;
}
}
