// Logits -> the next id: sampling.py, with its order: mask, the k likeliest, temperature, the nucleus, one uniform number.
//
// The uniform numbers are those of torch.Generator, so that a seed number gives the same music here and in Python.

/** The likeliest id within the mask. */
export function greedy(logits, mask) {
  let best = -1;
  for (let id = 0; id < logits.length; id++) {
    if (mask[id] && logits[id] > (best < 0 ? -Infinity : logits[best])) best = id;
  }
  if (best < 0) throw new Error("no id can be drawn: the sequence has ended, or the weights are damaged");
  return best;
}

/** One id; temperature 0 is greedy. `random` gives uniform numbers in [0, 1). topK 0 and topP 1 are off. */
export function sample(logits, mask, random, { temperature = 1, topK = 0, topP = 1 } = {}) {
  const chance = random(); // one number an id, also where there is no choice
  if (!(temperature > 0)) return greedy(logits, mask);
  const ids = [];
  for (let id = 0; id < logits.length; id++) if (mask[id] && logits[id] > -Infinity) ids.push(id);
  if (!ids.length) return greedy(logits, mask);
  ids.sort((a, b) => logits[b] - logits[a]);
  if (topK > 0) ids.length = Math.min(topK, ids.length);
  const cold = Math.fround(temperature);
  const highest = Math.fround(logits[ids[0]] / cold);
  const cumulated = new Float64Array(ids.length);
  let sum = 0;
  ids.forEach((id, rank) => (cumulated[rank] = sum += Math.exp(Math.fround(logits[id] / cold) - highest)));
  let kept = 1; // the fewest likeliest ids whose probability reaches topP
  while (kept < ids.length && cumulated[kept - 1] < topP * sum) kept++;
  const wanted = chance * cumulated[kept - 1];
  let rank = 0;
  while (rank < kept - 1 && cumulated[rank] <= wanted) rank++;
  return ids[rank];
}

/** How one part of an event is drawn: time (0), what (1), duration (2) or velocity (3); config.py's `of_part`, and 0 is greedy. */
export function ofPart(part, options) {
  const { temperature = 1, topK = 0, topP = 1 } = options;
  const name = { 0: "time", 2: "expression", 3: "expression" }[part];
  if (!name || !(temperature > 0)) return { temperature, topK, topP };
  return { temperature: options[`${name}Temperature`] || temperature, topK, topP: options[`${name}TopP`] || topP };
}

const N = 624, M = 397;

/** Uniform doubles as torch.Generator().manual_seed(seed) gives them: Mersenne Twister (Matsumoto and Nishimura 1998). */
export function generator(seed) {
  const words = new Uint32Array(N);
  words[0] = seed >>> 0;
  for (let i = 1; i < N; i++) words[i] = Math.imul(1812433253, words[i - 1] ^ (words[i - 1] >>> 30)) + i;
  let at = N;
  const next = () => {
    if (at === N) {
      for (let i = 0; i < N; i++) {
        const y = (words[i] & 0x80000000) | (words[(i + 1) % N] & 0x7fffffff);
        words[i] = words[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = words[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
  return () => {
    const high = next() & 0x1fffff, low = next(); // 53 bits
    return (high * 2 ** 32 + low) * 2 ** -53;
  };
}
