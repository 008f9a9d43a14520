// The stack of models/hybrid.py and the heads of models/events.py: ids one by one -> logits over all ids.
//
// G = 4 ids an event (time, what, duration, velocity). The last id of an event runs the backbone once; any other id only
// moves on to the next head. Names of tensors are those of the PyTorch state dict.

import { SparseAttention } from "./attention.js";
import { Mamba } from "./mamba.js";
import { addRow, gelu, multiply, rmsNorm } from "./numbers.js";

const G = 4;
const [TIME, WHAT, DURATION, VELOCITY] = [0, 1, 2, 3];
const [PAD, NONE, BOS, EOS] = [0, 1, 2, 3];
const KEYS = 88;

class FeedForward {
  constructor(weights, name) {
    this.up = weights.matrix(`${name}.up.weight`);
    this.down = weights.matrix(`${name}.down.weight`);
    this.inner = new Float32Array(this.up.rows);
    this.out = new Float32Array(this.down.rows);
  }

  initState() {
    return null;
  }

  step(x) {
    multiply(this.up, x, this.inner);
    for (let i = 0; i < this.inner.length; i++) this.inner[i] = gelu(this.inner[i]);
    return multiply(this.down, this.inner, this.out);
  }
}

const MIXERS = { M: Mamba, F: FeedForward, A: SparseAttention };

/** x + mixer(norm(x)) for each letter of the pattern. */
class Stack {
  constructor(weights, config) {
    this.blocks = Array.from(config.pattern.replaceAll(" ", ""), (letter, i) => ({
      norm: weights.vector(`backbone.blocks.${i}.norm.weight`),
      mixer: new MIXERS[letter](weights, `backbone.blocks.${i}.mixer`, config),
    }));
    this.normed = new Float32Array(config.d_model);
  }

  initState() {
    return this.blocks.map((block) => block.mixer.initState());
  }

  step(x, state) {
    this.blocks.forEach(({ norm, mixer }, i) => {
      const y = mixer.step(rmsNorm(x, norm, this.normed), state[i]);
      for (let j = 0; j < x.length; j++) x[j] += y[j];
    });
    return x;
  }
}

/** One of the four heads: out(h + inner(h)), inner a norm and two matrices with a GELU between them. */
class Head {
  constructor(weights, part) {
    this.norm = weights.vector(`head.inner.${part}.0.weight`);
    this.up = weights.matrix(`head.inner.${part}.1.weight`); // (2 D, D)
    this.down = weights.matrix(`head.inner.${part}.3.weight`); // (D, 2 D)
    this.out = weights.matrix(`head.out.${part}.weight`); // (classes, D)
    this.bias = weights.vector(`head.out.${part}.bias`);
    this.classes = this.out.rows;
    this.h = new Float32Array(this.down.rows);
    this.inner = new Float32Array(this.up.rows);
    this.residual = new Float32Array(this.down.rows);
    this.logits = new Float32Array(this.classes);
  }

  forward(h) {
    multiply(this.up, rmsNorm(h, this.norm, this.h), this.inner);
    for (let i = 0; i < this.inner.length; i++) this.inner[i] = gelu(this.inner[i]);
    multiply(this.down, this.inner, this.residual);
    for (let j = 0; j < h.length; j++) this.h[j] = h[j] + this.residual[j];
    return multiply(this.out, this.h, this.logits, this.bias);
  }
}

/** EventModel of models/events.py. */
export class EventModel {
  constructor(weights, config) {
    this.config = config;
    this.embedding = weights.matrix("embedding.weight");
    this.backbone = new Stack(weights, config);
    this.norm = weights.vector("norm.weight");
    this.heads = [TIME, WHAT, DURATION, VELOCITY].map((part) => new Head(weights, part));
    this.condition = [TIME, WHAT, DURATION].map((part) => weights.matrix(`head.condition.${part}.weight`));
    const first = (part) => EOS + 1 + config.events.slice(0, part).reduce((a, b) => a + b, 0);
    this.starts = [EOS, first(WHAT), first(DURATION), first(VELOCITY)]; // id of class 0 of each part
    this.logits = new Float32Array(config.vocab_size);
  }

  /** The state before any id: the backbone's state, its last output h, `told` (h with the ids of the current event added), these ids. */
  initState() {
    const D = this.config.d_model;
    return { backbone: this.backbone.initState(), h: new Float32Array(D), told: new Float32Array(D), ids: [] };
  }

  /** Reads one id; `state` moves on in place; logits (V,) of the next id, -Infinity where none can stand. */
  step(id, state) {
    if (!this.tell(id, state)) {
      const part = state.ids.length;
      addRow(this.condition[part], this.classOf(id, part), state.told);
      state.ids.push(id);
    }
    return this.next(state);
  }

  /** Reads ids without asking for the logits between them; logits after the last one. */
  prefill(ids, state) {
    ids.forEach((id) => {
      if (!this.tell(id, state)) {
        addRow(this.condition[state.ids.length], this.classOf(id, state.ids.length), state.told);
        state.ids.push(id);
      }
    });
    return this.next(state);
  }

  /** Runs the backbone where `id` completes an event; whether it did. */
  tell(id, state) {
    if (id !== BOS && state.ids.length < VELOCITY) return false;
    const event = id === BOS ? [BOS] : [...state.ids, id];
    const x = new Float32Array(this.config.d_model);
    for (const one of event) if (one !== PAD) addRow(this.embedding, one, x);
    rmsNorm(this.backbone.step(x, state.backbone), this.norm, state.h);
    state.told.set(state.h);
    state.ids = [];
    return true;
  }

  next(state) {
    const part = state.ids.length;
    this.logits.fill(-Infinity);
    const pedal = part >= DURATION && state.ids[WHAT] - this.starts[WHAT] >= KEYS;
    if (pedal || (part === VELOCITY && state.ids[DURATION] === NONE)) {
      this.logits[NONE] = 0; // a pedal movement has neither duration nor velocity
    } else {
      this.logits.set(this.heads[part].forward(state.told), this.starts[part]);
    }
    return this.logits;
  }

  /** Class of an id within a part; any class for an id of another part. */
  classOf(id, part) {
    return Math.min(Math.max(id - this.starts[part], 0), this.heads[part].classes - 1);
  }
}

/** A copy of a state, so that several takes can continue from one reading of the seed. */
export function copyOf(state) {
  return structuredClone(state);
}

export { BOS, DURATION, EOS, G, KEYS, NONE, PAD, TIME, VELOCITY, WHAT };
