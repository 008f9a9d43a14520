// The step of models/attention.py, with its letters: H heads, w last steps that are seen, landmarks every s steps up to r back.

import { multiply } from "./numbers.js";

export class SparseAttention {
  constructor(weights, name, config) {
    this.qkv = weights.matrix(`${name}.qkv.weight`); // (3 D, D)
    this.out_proj = weights.matrix(`${name}.out.weight`);
    this.D = this.out_proj.rows;
    this.H = config.n_heads;
    this.w = config.attn_window;
    this.s = config.attn_stride;
    this.marks = config.attn_reach / this.s + 1;
    this.r = config.attn_reach;
    this.kind = config.attn_bias;
    this.bias = this.kind === "learned" ? weights.vector(`${name}.bias`) : null; // (H, w + 1)
    this.q = new Float32Array(3 * this.D);
    this.y = new Float32Array(this.D);
    this.out = new Float32Array(this.D);
    this.scores = new Float32Array(this.w + this.marks);
    this.slots = new Int32Array(this.w + this.marks); // of the rings, those that are seen
    this.distances = new Int32Array(this.w + this.marks);
  }

  /** Rings of the last w keys and values, then of the last r / s + 1 landmarks; each slot is one row of D. */
  initState() {
    const size = (this.w + this.marks) * this.D;
    return { keys: new Float32Array(size), values: new Float32Array(size), position: 0 };
  }

  step(x, state) {
    const { D, H, q, y } = this;
    multiply(this.qkv, x, q); // q, k, v (D,) each
    const seen = this.remember(state);
    const d = D / H, factor = 1 / Math.sqrt(d);
    y.fill(0);
    for (let head = 0; head < H; head++) {
      const first = head * d;
      const total = this.weigh(head, first, d, factor, seen, state.keys);
      for (let i = 0; i < seen; i++) {
        const weight = this.scores[i] / total;
        for (let j = 0, at = this.slots[i] * D + first; j < d; j++, at++) y[first + j] += weight * state.values[at];
      }
    }
    return multiply(this.out_proj, y, this.out);
  }

  /** exp(score - highest) of the seen keys for one head, in `scores`; their sum is returned. */
  weigh(head, first, d, factor, seen, keys) {
    const { D, q, slots, scores } = this;
    let highest = -Infinity;
    for (let i = 0; i < seen; i++) {
      let sum = 0;
      for (let j = 0, at = slots[i] * D + first; j < d; j++, at++) sum += q[first + j] * keys[at];
      scores[i] = sum * factor + this.relativeBias(head, this.distances[i]);
      if (scores[i] > highest) highest = scores[i];
    }
    let total = 0;
    for (let i = 0; i < seen; i++) total += scores[i] = Math.exp(scores[i] - highest);
    return total;
  }

  relativeBias(head, distance) {
    if (this.kind === "learned") return this.bias[head * (this.w + 1) + Math.min(distance, this.w)];
    return this.kind === "alibi" ? -(2 ** ((-8 / this.H) * (head + 1))) * distance : 0;
  }

  /** Writes this step's key and value into the rings and lists the slots that may be read; how many they are. */
  remember(state) {
    const { D, w, s, r, marks, q } = this;
    const t = state.position++;
    const write = (slot) => {
      state.keys.set(q.subarray(D, 2 * D), slot * D);
      state.values.set(q.subarray(2 * D), slot * D);
    };
    write(t % w);
    if (t % s === s - 1) write(w + (Math.floor(t / s) % marks));
    let seen = 0;
    const see = (slot, distance) => {
      this.slots[seen] = slot;
      this.distances[seen++] = distance;
    };
    for (let distance = 0; distance < w && distance <= t; distance++) see((t - distance) % w, distance);
    const newest = Math.floor((t + 1) / s) - 1; // index of the newest landmark, -1 before the first
    for (let index = newest; index >= 0 && index > newest - marks; index--) {
      const distance = t - (index * s + s - 1);
      if (distance >= w && distance <= r) see(w + (index % marks), distance);
    }
    return seen;
  }
}
