// Generates the continuation of a seed note by note; the counterpart of generation.py, with its names.

import { between, endOf, join, performance, shift } from "./notes.js";
import { BOS, copyOf, EOS, G } from "./model.js";
import { generator, ofPart, sample } from "./sampling.js";

const BAR_SECONDS = 2; // prompts start on a bar of the clock
const SNAPSHOTS = 6; // readings of a seed that are kept

/**
 * The part of a seed that the model reads: {ids, start, join}. Second 0 of the ids is second `start` of the seed; `join` is the
 * onset of the seed's last note. The part is the last `promptSeconds` or `promptTokens`, whichever is shorter, and at least
 * the last note.
 */
export function makePrompt(seed, tokenizer, { promptSeconds, promptTokens }) {
  if (!seed.notes.length) return { ids: [BOS], start: 0, join: 0 };
  const onsets = [...new Set(seed.notes.map(({ onset }) => onset))];
  const joinAt = onsets.at(-1);
  const end = Math.min(endOf(seed), joinAt + promptSeconds / 2);
  const begin = onsets.findIndex((onset) => onset >= end - promptSeconds);
  const cut = (index) => {
    const start = index ? Math.floor(onsets[index] / BAR_SECONDS) * BAR_SECONDS : 0;
    const part = between(seed, index ? onsets[index] : -Infinity, Infinity);
    return { ids: encode(shift(part, -start), tokenizer, index === 0), start, join: joinAt };
  };
  let low = begin < 0 ? onsets.length - 1 : begin, high = onsets.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cut(middle).ids.length <= promptTokens) high = middle;
    else low = middle + 1;
  }
  return cut(low);
}

/** Ids up to the last note: a pedal that is down there stays down, and its end is left to the continuation. */
function encode(part, tokenizer, bos) {
  const last = part.notes.at(-1).onset;
  const pedals = part.pedals
    .filter(({ onset }) => onset <= last)
    .map(({ onset, duration }) => ({ onset, duration: onset + duration > last ? last - onset + 4 * BAR_SECONDS : duration }));
  const ids = tokenizer.encode(performance(part.notes, pedals), { bos, eos: false });
  const reader = tokenizer.reader();
  let length = Number(bos);
  ids.forEach((id, i) => {
    if (reader.feed(id).note) length = i + 1;
  });
  return ids.slice(0, length);
}

const EVENTS = 4; // that are read between two chances to do something else

/** Reads prompts, and remembers what it read: a prompt that begins as an earlier one did costs only what is new in it. */
export class Listener {
  constructor(model) {
    this.model = model;
    this.known = []; // {ids, state}, the newest last
  }

  /** A state after `ids` that the caller may change, and the logits that follow, which the model's next step overwrites. */
  *read(ids) {
    const state = copyOf(yield* this.after(ids.slice(0, -1)));
    return { state, logits: this.model.step(ids.at(-1), state) };
  }

  /** The state after `ids`, kept for later; not to be changed. A generator, so that the worker can answer messages meanwhile. */
  *after(ids) {
    const begins = ({ ids: known }) => known.length <= ids.length && known.every((id, i) => id === ids[i]);
    const found = this.known.filter(begins).reduce((best, one) => (one.ids.length > (best?.ids.length ?? -1) ? one : best), null);
    if (found?.ids.length === ids.length) return found.state;
    const state = found ? copyOf(found.state) : this.model.initState();
    const fresh = ids.slice(found?.ids.length ?? 0);
    const early = fresh.length - (fresh.length % 4) - 8; // the last events of music that is still played may change
    if (early > 0) {
      yield* this.prefill(fresh.slice(0, early), state);
      this.keep(ids.slice(0, ids.length - fresh.length + early), copyOf(state));
    }
    yield* this.prefill(fresh.slice(Math.max(early, 0)), state);
    this.keep(ids, state);
    return state;
  }

  *prefill(ids, state) {
    for (let at = 0; at < ids.length; at += G * EVENTS) {
      this.model.prefill(ids.slice(at, at + G * EVENTS), state);
      yield;
    }
  }

  keep(ids, state) {
    this.known.push({ ids, state });
    if (this.known.length > SNAPSHOTS) this.known.shift();
  }
}

/** Yields new ids without end; the end of a piece is never drawn. */
export function* generateIds(model, tokenizer, { state, logits }, promptIds, grammar, options) {
  const random = generator(options.seed ?? 0);
  let rules = grammar.start(promptIds);
  const held = grammar.hold(rules, options.hold ?? 0);
  for (;;) {
    const mask = grammar.mask(rules);
    mask[EOS] = 0;
    const id = sample(grammar.tilted(logits, rules, held), mask, random, ofPart(rules.place, options));
    yield id;
    rules = grammar.advance(rules, id);
    logits = model.step(id, state);
  }
}

/** A seed that is read step by step, all of it (`whole`) or its last `notes` notes: `step()` until `done`. */
export class Reading {
  constructor({ tokenizer, listener }, seed, options) {
    const { ids } = makePrompt(seed, tokenizer, options);
    this.whole = ids[0] === BOS;
    this.notes = tokenizer.decode(ids).notes.length;
    this.done = false;
    this.source = listener.after(ids.slice(0, -1));
  }

  step() {
    this.done = this.source.next().done;
  }
}

/** One continuation that is made step by step: `step()` until `done`, then `result()`. */
export class Continuation {
  /**
   * `options`: notes (how many), temperature, topK, topP, seed, promptSeconds, promptTokens; and timeTemperature, timeTopP,
   * expressionTemperature, expressionTopP where a part of an event is drawn in a way of its own; and hold, how firmly pace,
   * register and loudness are held near those of the seed (0: not at all).
   */
  constructor({ model, tokenizer, grammar, listener }, seed, options) {
    check(seed, options);
    Object.assign(this, { tokenizer, seed, options });
    this.prompt = makePrompt(seed, tokenizer, options);
    this.ids = [];
    this.found = 0; // notes so far
    this.reader = tokenizer.reader();
    this.prompt.ids.forEach((id) => this.reader.feed(id));
    this.source = this.begin(model, grammar, listener);
  }

  /** Reads the seed, for which it yields null several times, then yields new ids without end. */
  *begin(model, grammar, listener) {
    const reading = listener.read(this.prompt.ids);
    let read = reading.next();
    for (; !read.done; read = reading.next()) yield null;
    yield* generateIds(model, this.tokenizer, read.value, this.prompt.ids, grammar, this.options);
  }

  get done() {
    return this.found >= this.options.notes;
  }

  /** Draws one event; the note that it is, at the seed's own times, or null for a movement of the pedal, or while the seed is read. */
  step() {
    for (;;) {
      const id = this.source.next().value;
      if (id === null) return null;
      this.ids.push(id);
      const { note, pedal } = this.reader.feed(id);
      if (pedal) return null;
      if (note) {
        this.found++;
        return { ...note, onset: Math.max(note.onset + this.prompt.start, this.prompt.join) };
      }
    }
  }

  /** {fresh, joined}: the new music, and seed and new music on one time line. The pedal is the new music's from its first note on. */
  result() {
    const { tokenizer, prompt, ids, seed, options } = this;
    const old = new Set(tokenizer.decode(prompt.ids).notes.map(strike));
    const decoded = tokenizer.decode([...prompt.ids, ...ids]);
    const whole = shift(decoded, prompt.start);
    const fresh = whole.notes.filter((_, i) => !old.has(strike(decoded.notes[i])));
    fresh.forEach((note) => Object.assign(note, { onset: Math.max(note.onset, prompt.join), isNew: true }));
    const notes = performance(fresh).notes.slice(0, options.notes);
    if (!notes.length) return { fresh: performance(), joined: seed };
    const takesOver = notes[0].onset;
    const music = { notes, pedals: between(whole, takesOver, endOf({ notes })).pedals };
    const before = { notes: seed.notes, pedals: between(seed, -Infinity, takesOver).pedals };
    return { fresh: music, joined: join(before, music) };
  }
}

/** Refuses, in one line, options and notes that make no sense (config.py's GenerationConfig). */
function check({ notes }, options) {
  const rules = {
    notes: [options.notes >= 1, "1 or more"],
    temperature: [options.temperature === undefined || (options.temperature >= 0 && options.temperature <= 10), "0 (greedy) to 10"],
    topK: [options.topK === undefined || options.topK >= 0, "0 (off) or more"],
    hold: [options.hold === undefined || (options.hold >= 0 && options.hold <= 100), "0 (off) to 100"],
    topP: [options.topP === undefined || (options.topP > 0 && options.topP <= 1), "above 0, at most 1 (1 is off)"],
  };
  for (const [name, [good, hint]] of Object.entries(rules)) {
    if (!good) throw new Error(`${name} is ${options[name]}: give ${hint}`);
  }
  const wrong = notes.findIndex(({ onset, duration, pitch, velocity }) => ![onset, duration, pitch, velocity].every(Number.isFinite));
  if (wrong >= 0) throw new Error(`note ${wrong} lacks a number: give onset, duration, pitch and velocity`);
}

/** A key that identifies a note whatever its length. */
function strike({ onset, pitch }) {
  return `${Math.round(1e4 * onset)} ${pitch}`;
}
