// One event of a model that takes a step per event (models/events.py), for decode_events.py: its four parts are predicted by
// small heads, drawn within the rules of music, and read by the blocks (step.h), all in one call.
//
//   logits of part i = out(h + down gelu(up norm(h))),   h += condition(part i)
#include "step.h"

#include <algorithm>
#include <vector>

namespace {

enum { TIME, WHAT, DURATION, VELOCITY, G };
enum { PAD, NONE, BOS, EOS };
constexpr int64_t KEYS = 88;  // `what` counts the keys first; then the pedal goes down, and up
constexpr int64_t MOST_RECENT = 2048, FEWEST = 10;  // notes among which a key's share counts: at most, and at least

struct Head {
    const float* norm;
    Matrix up, down, out;
    const float* condition;  // (classes, D), or null for the last part
    int64_t start;           // id of class 0
};

struct Rules {  // what the past of a piece forbids: EventState of tokenizers/events/grammar.py
    int64_t waited, highest, pedal, fresh, silent, now;
    int64_t oldest, recent;                          // a ring of the notes of the last `span` ticks: where it begins, how many
    int64_t ticks[MOST_RECENT], keys[MOST_RECENT];
    int64_t counts[KEYS];                            // of each key among them
    int64_t notes;                                   // so far
    double means[3];                                 // of the last notes: ticks from note to note, key, MIDI velocity
};

struct Choice {
    const int64_t* times;  // ticks of each class of time, rising from 0
    int64_t longest;       // ticks that a silence stays below
    int64_t span;          // ticks in which a key's share of the notes counts
    double max_share;      // that a key may have
    int64_t pedals;        // does the vocabulary have a pedal?
    int64_t end;           // may the piece end?
    double temperature[G], top_p[G];
    int64_t top_k[G];
    double pull[3], low[3], high[3];  // what the piece is held to, in the order of Rules::means (tokenizers/events/hold.py)
    const double *steps, *loudness;   // value of each class of time, and of velocity
};

constexpr double HORIZON = 200, SHORTEST = 1.0 / 64;  // as in hold.py

// told (batch, D) -> logits (batch, classes); the threads have met at the end.
inline void predict(const Head& k, const float* told, float* logits, Scratch s, int64_t batch, int64_t D) {
    const int64_t F = k.up.rows, n = k.out.rows;
    normalize(told, k.norm, s.normed, batch, D);
    multiply(k.up, s.normed, batch, [&](int64_t b, int64_t r, V v, int count) { store(s.wide + b * F + r, gelu(v), count); });
    barrier();
    multiply(k.down, s.wide, batch, [&](int64_t b, int64_t r, V v, int count) {
        store(s.mid + b * D + r, load<V>(told + b * D + r, count) + v, count);
    });
    barrier();
    multiply(k.out, s.mid, batch, [&](int64_t b, int64_t r, V v, int count) { store(logits + b * n + r, v, count); });
    barrier();
}

// h (batch, D) = norm(blocks(sum of the embeddings of ids (batch, G))), PAD counting nothing; the threads have met at the end.
inline void read(const Block* blocks, int64_t count, const float* embedding, const float* norm, const int64_t* ids, float* h,
                 Scratch s, int64_t batch, int64_t D, bool in_time) {
#pragma omp for schedule(static)
    for (int64_t b = 0; b < batch; b++) {
        std::fill(s.x + b * D, s.x + (b + 1) * D, 0.0f);
        for (int64_t part = 0; part < G; part++)
            if (ids[b * G + part] != PAD)
                for (int64_t d = 0; d < D; d++) s.x[b * D + d] += embedding[ids[b * G + part] * D + d];
    }
    for (int64_t i = 0; i < count; i++) block(blocks[i], s, batch, D, in_time);
    normalize(s.x, norm, s.normed, batch, D);
#pragma omp single
    std::memcpy(h, s.normed, batch * D * sizeof(float));
}

// A running mean after one more value.
inline void move(Rules& rules, int at, double value) {
    rules.means[at] += (value - rules.means[at]) / std::min((double)std::max<int64_t>(rules.notes, 1), HORIZON);
}

// Tilts the logits of a part towards what the piece is held to: Hold.slopes and EventGrammar.tilted. The end and the pedal stay.
inline void tilt(const Rules& rules, const Choice& c, int part, int64_t classes, float* logits) {
    if (part == DURATION) return;
    const int at = part == TIME ? 0 : part == WHAT ? 1 : 2;
    if (!(c.pull[at] > 0)) return;
    const double mean = rules.means[at], now = at ? mean : std::log2(std::max(mean, SHORTEST));
    const double slope = -c.pull[at] * (now - std::min(std::max(now, c.low[at]), c.high[at]));
    if (slope == 0) return;
    const int64_t first = part == TIME, count = part == WHAT ? KEYS : classes - first;
    const double centre = part == TIME ? std::log2(1 + mean) : mean;
    for (int64_t k = 0; k < count; k++) {
        const double value = part == TIME ? c.steps[k] : part == WHAT ? (double)k : c.loudness[k];
        logits[first + k] = (float)((double)logits[first + k] + slope * (value - centre));
    }
}

// Forgets the oldest recent note.
inline void forget(Rules& rules) {
    rules.counts[rules.keys[rules.oldest]]--;
    rules.oldest = (rules.oldest + 1) % MOST_RECENT;
    rules.recent--;
}

// Which classes of a part may follow, as grammar.py has it.
inline void allow(Rules& rules, const Choice& c, int part, int64_t classes, std::vector<int64_t>& allowed) {
    const bool movable = c.pedals && rules.silent + 1 < c.longest && !(rules.pedal && rules.fresh && !rules.waited);
    allowed.clear();
    if (part == TIME) {
        const bool stuck = rules.highest >= KEYS - 1 && !movable;  // nothing more can happen at this instant
        if (c.end) allowed.push_back(0);
        for (int64_t k = stuck; k < classes - 1 && (k == stuck || rules.silent + c.times[k] < c.longest); k++) allowed.push_back(1 + k);
    } else if (part == WHAT) {
        while (rules.recent && rules.ticks[rules.oldest] <= rules.now - c.span) forget(rules);
        const int64_t lowest = rules.waited ? 0 : rules.highest + 1, notes = rules.recent + 1;
        for (int64_t k = lowest; k < KEYS; k++)
            if (notes < FEWEST || rules.counts[k] + 1 <= c.max_share * notes) allowed.push_back(k);
        if (!movable && allowed.empty())
            for (int64_t k = lowest; k < KEYS; k++) allowed.push_back(k);
        if (movable) allowed.push_back(rules.pedal ? KEYS + 1 : KEYS);
    } else {
        for (int64_t k = 0; k < classes; k++) allowed.push_back(k);
    }
}

inline void follow(Rules& rules, const Choice& c, int part, int64_t drawn) {
    if (part == TIME) {
        rules.waited = drawn > 1;
        if (rules.waited) {
            rules.highest = -1, rules.fresh = 0;
            rules.silent += c.times[drawn - 1], rules.now += c.times[drawn - 1];
        }
    } else if (part == WHAT) {
        rules.highest = drawn < KEYS ? drawn : KEYS;
        if (drawn < KEYS) {
            rules.notes++;
            move(rules, 0, rules.silent);
            move(rules, 1, drawn);
            rules.silent = 0;
            if (rules.recent == MOST_RECENT) forget(rules);
            const int64_t at = (rules.oldest + rules.recent++) % MOST_RECENT;
            rules.ticks[at] = rules.now, rules.keys[at] = drawn;
            rules.counts[drawn]++;
        } else rules.pedal = rules.fresh = drawn == KEYS;
    } else if (part == VELOCITY) {
        move(rules, 2, c.loudness[drawn]);
    }
}

// sampling.draw for one row: the class that `chance` in [0, 1) reads off the cumulated probabilities from the likeliest on,
// within the k likeliest and the nucleus p. -1 where logits are not finite, -2 where nothing is allowed.
// The classes are a heap with the likeliest on top, for most draws need only a few of them in order.
inline int64_t draw(const float* logits, std::vector<int64_t>& allowed, double temperature, int64_t k, double p, double chance) {
    if (allowed.empty()) return -2;
    for (const int64_t a : allowed) if (!(logits[a] < INFINITY)) return -1;  // nor has NaN an order
    const auto less = [&](int64_t a, int64_t b) { return logits[a] < logits[b] || (logits[a] == logits[b] && a > b); };
    if (k > 0 && k < (int64_t)allowed.size()) {
        std::partial_sort(allowed.begin(), allowed.begin() + k, allowed.end(), [&](int64_t a, int64_t b) { return less(b, a); });
        allowed.resize(k);
    }
    std::make_heap(allowed.begin(), allowed.end(), less);
    const float first = logits[allowed[0]] / (float)temperature;
    if (!std::isfinite(first)) return -1;
    const auto probability = [&](int64_t a) { return std::exp((double)(logits[a] / (float)temperature) - (double)first); };
    double sum = 0;
    for (const int64_t a : allowed) sum += probability(a);
    if (p >= 1) {  // the nucleus is all: as many are taken from the heap as the draw needs
        double cumulated = 0;
        for (auto end = allowed.end();; end--) {
            const int64_t a = allowed[0];
            const double more = probability(a);
            cumulated += more;
            if (cumulated > chance * sum || end - allowed.begin() == 1 || !(more > 0)) return a;
            std::pop_heap(allowed.begin(), end, less);
        }
    }
    std::sort_heap(allowed.begin(), allowed.end(), less);  // the likeliest last
    std::reverse(allowed.begin(), allowed.end());
    std::vector<double> cumulated;
    for (double all = 0; cumulated.size() < allowed.size();) {
        const double more = probability(allowed[cumulated.size()]);
        if (!cumulated.empty() && (all >= p * sum || !(more > 0))) break;
        cumulated.push_back(all += more);
    }
    size_t rank = 0;
    while (rank + 1 < cumulated.size() && cumulated[rank] <= chance * cumulated.back()) rank++;
    return allowed[rank];
}

// Logarithm of the probability of class 0 among n.
inline double log_first(const float* logits, int64_t n) {
    const double top = *std::max_element(logits, logits + n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += std::exp((double)logits[i] - top);
    return (double)logits[0] - top - std::log(sum);
}

}  // namespace

extern "C" {

int64_t head_size() { return sizeof(Head); }
int64_t rules_size() { return sizeof(Rules); }

// ids (batch, G) -> h (batch, D): an event of each of as many pieces, or with `in_time` successive events of one. Returns 0, or 1 with nothing read or written where an id lies outside the vocabulary.
// Scratch memory as for decode_step; `wide` holds the width of the heads too.
int64_t event_read(const Block* blocks, int64_t count, const float* embedding, const float* norm, int64_t vocabulary,
                   const int64_t* ids, float* h, int64_t batch, int64_t D,
                   float* x, float* normed, float* wide, float* mid, float* small, float* scores, int64_t team, int64_t in_time) {
    for (int64_t i = 0; i < batch * G; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary) return 1;
#pragma omp parallel num_threads(team)
    {
        const Scratch s{x, normed + thread() * batch * D, wide, mid, small, scores};
        read(blocks, count, embedding, norm, ids, h, s, batch, D, in_time);
    }
    return 0;
}

// told (batch, D) -> logits (batch, classes) of one part.
void event_head(const Head* head, const float* told, float* logits, int64_t batch, int64_t D,
                float* x, float* normed, float* wide, float* mid, float* small, float* scores, int64_t team) {
#pragma omp parallel num_threads(team)
    predict(*head, told, logits, Scratch{x, normed + thread() * batch * D, wide, mid, small, scores}, batch, D);
}

// Draws the next event of one piece from h (D,), which comes after the last whole one, and reads it: ids (G,) are written, h
// and the rules moved on. `chances` (G,) are in [0, 1), `logits` holds the most classes of a part, `log_end` gets the logarithm of
// the probability that the model gives to the end of the piece, before rules and temperature. Returns how many ids were
// written: G, or 1 for the end of the piece, which is not read; -1 where logits are not finite, -2 where nothing is allowed.
int64_t event_draw(const Block* blocks, int64_t count, const float* embedding, const float* norm, const Head* heads,
                   float* h, Rules* rules, const Choice* choice, const double* chances, int64_t* ids, float* told, float* logits, double* log_end,
                   int64_t D, float* x, float* normed, float* wide, float* mid, float* small, float* scores, int64_t team) {
    int64_t written = 0;
    std::memcpy(told, h, D * sizeof(float));
    std::vector<int64_t> allowed;
#pragma omp parallel num_threads(team)
    {
        const Scratch s{x, normed + thread() * D, wide, mid, small, scores};
        for (int part = 0; part < G && written == part; part++) {
            const Head& k = heads[part];
            predict(k, told, logits, s, 1, D);
#pragma omp single
            {
                if (part == TIME) *log_end = log_first(logits, k.out.rows);
                allow(*rules, *choice, part, k.out.rows, allowed);
                tilt(*rules, *choice, part, k.out.rows, logits);
                const int64_t drawn = draw(logits, allowed, choice->temperature[part], choice->top_k[part], choice->top_p[part], chances[part]);
                if (drawn < 0) written = drawn;
                else {
                    ids[written++] = k.start + drawn;
                    follow(*rules, *choice, part, drawn);
                    if (part == WHAT && drawn >= KEYS) ids[written++] = NONE, ids[written++] = NONE;
                    if (k.condition) for (int64_t d = 0; d < D; d++) told[d] += k.condition[drawn * D + d];
                    if (ids[0] == EOS) written = -EOS;  // ends the loop
                }
            }
            if (written != part + 1) break;
        }
        if (written == G) read(blocks, count, embedding, norm, ids, h, s, 1, D, false);
    }
    rules->waited = 0;  // the next event begins at the instant of this one
    return written == -EOS ? 1 : written;
}
}
