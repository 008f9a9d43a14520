// Which id may come next, and how its logits are tilted: tokenizers/events/grammar.py, with its names. States are plain objects that are never changed.

import { moved, near, slope } from "./hold.js";
import { BOS, DURATION, EOS, KEYS, NONE, TIME, VELOCITY, WHAT } from "./model.js";

const BEGIN = -1, END = 4;
const NO_KEY = -1, EVERY_KEY = KEYS; // the highest key struck at this instant; EVERY_KEY: no more notes here
const PEDAL_DOWN = KEYS, PEDAL_UP = KEYS + 1;
const NOTHING = { place: BEGIN, waited: false, highest: NO_KEY, pedal: false, fresh: false, isNote: false, silent: 0, now: 0, recent: [], notes: 0, means: [0, 0, 0] };
const FEWEST = 10; // notes among which a key's share counts, at least

export class EventGrammar {
  /**
   * `longest`: ticks that a silence, the time since the last note onset, stays below; `max_share`: of the notes of the last
   * `span` ticks that one key may have. Both limits stand with the tokenizer's tables.
   */
  constructor(tokenizer, { longest, span, max_share, hold, ticks_per_second }) {
    const { first_ids, sizes, vocab_size, times, loudness } = tokenizer;
    Object.assign(this, { loudness, figures: hold, rate: ticks_per_second, steps: times.map((time) => Math.log2(1 + time)) });
    Object.assign(this, { first: first_ids, sizes, size: vocab_size, times, longest, span, maxShare: max_share });
    this.pedals = sizes[WHAT] > KEYS;
  }

  start(ids = []) {
    return ids.reduce((state, id) => this.advance(state, id), NOTHING);
  }

  /** (V,) 1 for each id that may come next; none after EOS. */
  mask(state) {
    const allowed = new Uint8Array(this.size), { first, sizes } = this;
    if (state.place === BEGIN) allowed[BOS] = 1;
    if (state.place === BEGIN || state.place === TIME) {
      const stuck = state.highest >= KEYS - 1 && !this.movable(state); // nothing more can happen at this instant
      const below = this.times.filter((time) => state.silent + time < this.longest).length; // classes short enough
      allowed.fill(1, first[TIME] + stuck, first[TIME] + Math.max(below, stuck + 1));
      allowed[EOS] = state.place === TIME;
    } else if (state.place === WHAT) {
      const movable = this.movable(state), barred = this.barred(state), lowest = state.waited ? 0 : state.highest + 1;
      for (let key = lowest; key < KEYS; key++) allowed[first[WHAT] + key] = !barred(key);
      if (!movable && !allowed.includes(1)) allowed.fill(1, first[WHAT] + lowest, first[WHAT] + KEYS);
      if (movable) allowed[first[WHAT] + (state.pedal ? PEDAL_UP : PEDAL_DOWN)] = 1;
    } else if (state.place === DURATION || state.place === VELOCITY) {
      if (state.isNote) allowed.fill(1, first[state.place], first[state.place] + sizes[state.place]);
      else allowed[NONE] = 1;
    }
    return allowed;
  }

  /** key -> would it have too large a share of the notes of the last 15 s if struck now? */
  barred(state) {
    const counts = new Array(KEYS).fill(1), struck = state.recent.filter(([tick]) => tick > state.now - this.span);
    for (const [, key] of struck) counts[key]++;
    const notes = struck.length + 1;
    return (key) => notes >= FEWEST && counts[key] > this.maxShare * notes;
  }

  /** What music is held to that begins after `state`; null for nothing. */
  hold(state, strength) {
    return near(state.means, state.notes, strength, this.rate, this.figures);
  }

  /** Logits (V,) of the next id, tilted towards what the piece is held to. */
  tilted(logits, state, held) {
    const at = { [TIME]: 0, [WHAT]: 1, [VELOCITY]: 2 }[state.place];
    if (!held || at === undefined || (state.place === VELOCITY && !state.isNote)) return logits;
    const steep = slope(held, state.means, at, this.figures), mean = state.means[at], start = this.first[state.place];
    if (!steep) return logits;
    const changed = Float32Array.from(logits), centre = at ? mean : Math.log2(1 + mean);
    const values = at === 0 ? this.steps : at === 1 ? Array.from({ length: KEYS }, (_, key) => key) : this.loudness;
    values.forEach((value, i) => (changed[start + i] = logits[start + i] + steep * (value - centre)));
    return changed;
  }

  /** May the pedal move now? */
  movable(state) {
    return this.pedals && state.silent + 1 < this.longest && !(state.pedal && state.fresh && !state.waited);
  }

  advance(state, id) {
    const first = this.first;
    if (id === EOS) return { ...state, place: END };
    if (id === BOS) return { ...NOTHING, place: TIME };
    if (id >= first[TIME] && id < first[WHAT]) {
      if (id === first[TIME]) return { ...state, place: WHAT, waited: false };
      const wait = this.times[id - first[TIME]], silent = state.silent + wait, now = state.now + wait;
      return { ...state, place: WHAT, waited: true, highest: NO_KEY, fresh: false, silent, now };
    }
    if (id >= first[WHAT] && id < first[DURATION]) {
      const what = id - first[WHAT];
      if (what < KEYS) {
        const recent = [...state.recent.filter(([tick]) => tick > state.now - this.span), [state.now, what]];
        const notes = state.notes + 1;
        const means = moved(moved(state.means, 0, state.silent, notes, this.figures), 1, what, notes, this.figures);
        return { ...state, place: DURATION, isNote: true, highest: what, silent: 0, recent, notes, means };
      }
      const down = what === PEDAL_DOWN;
      return { ...state, place: DURATION, isNote: false, pedal: down, fresh: down, highest: EVERY_KEY };
    }
    if (id === NONE ? state.place === DURATION : id >= first[DURATION] && id < first[VELOCITY]) {
      return { ...state, place: VELOCITY };
    }
    if (id >= first[VELOCITY]) {
      const means = moved(state.means, 2, this.loudness[id - first[VELOCITY]], Math.max(state.notes, 1), this.figures);
      return { ...state, place: TIME, waited: false, means };
    }
    if (id === NONE && state.place === VELOCITY) return { ...state, place: TIME, waited: false };
    return state; // padding
  }
}
