// Call and response: what is played is written down; after a pause the model answers, and whoever plays on takes over.
//
// While one plays, the model reads along, so that the answer is there when the pause ends. Times are seconds of `now()`.

import { performance, shift } from "./notes.js";

const READ_AFTER = 0.12; // s without a key, after which the model reads what it heard so far
const SOON = 0.03; // s from the end of the pause to the first note of the answer
const READ_EVERY = 1.5; // s between two readings of music that goes on without a rest
const MOST = 400, KEPT = 200; // notes: of more than MOST the last KEPT are remembered, so that what was read stays good for long

export class Duet {
  /**
   * `engine`: read(seed), continue(seed, options, grow); `sound`: now(), strike(); `heard(seed, answering)` is told what there is;
   * `light(pitch, on)` shows the answer's keys; `options()` gives temperature and so on.
   */
  constructor({ engine, sound, options, heard, light, now }) {
    Object.assign(this, { engine, sound, options, heard, light, now });
    this.pause = 1; // s
    this.length = 24; // notes of an answer
    this.on = false;
    this.clear();
  }

  clear() {
    this.stopAnswer();
    clearTimeout(this.waiting);
    Object.assign(this, { notes: [], pedals: [], keys: new Map(), pressed: null, started: null, latency: null, from: 0, read: 0 });
  }

  start() {
    this.clear();
    this.on = true;
  }

  end() {
    this.stopAnswer();
    clearTimeout(this.waiting);
    this.on = false;
  }

  /** Second since the first key of all. */
  time() {
    return this.now() - this.started;
  }

  down(pitch, velocity) {
    if (!this.on) return;
    this.started ??= this.now();
    this.stopAnswer();
    clearTimeout(this.waiting);
    const note = { onset: this.time(), duration: 0.05, pitch, velocity };
    this.keys.set(pitch, note);
    this.notes.push(note);
  }

  up(pitch) {
    const note = this.keys.get(pitch);
    if (!this.on || !note) return;
    note.duration = Math.max(0.02, this.time() - note.onset);
    this.keys.delete(pitch);
    if (!this.keys.size) this.rest();
    else if (this.now() - this.read > READ_EVERY) this.readAlong();
  }

  /** What comes before the earliest key that is still down will not change: the model may read it. */
  readAlong() {
    this.read = this.now();
    const until = Math.min(...[...this.keys.values()].map(({ onset }) => onset));
    this.engine.read(this.seed(until));
  }

  pedal(down) {
    if (!this.on || this.started === null) return;
    if (down) this.pressed ??= { onset: this.time(), duration: 0 };
    else if (this.pressed) this.pedals.push({ ...this.pressed, duration: Math.max(0.02, this.time() - this.pressed.onset) });
    if (!down) this.pressed = null;
  }

  /** What was played and is remembered, from second 0 on, the held pedal included. */
  seed(until = Infinity) {
    if (this.notes.filter(({ onset }) => onset >= this.from).length > MOST) this.from = Math.floor(this.notes.at(-KEPT).onset);
    const held = this.pressed ? [{ ...this.pressed, duration: Math.max(0.02, this.time() - this.pressed.onset) }] : [];
    const inside = ({ onset }) => onset >= this.from && onset < until;
    return shift(performance(this.notes.filter(inside), [...this.pedals, ...held].filter(inside)), -this.from);
  }

  /** No key is down: read along soon, answer after the pause. */
  rest() {
    this.heard(this.seed(), false);
    if (this.pause === Infinity) return; // nobody answers
    const released = this.now();
    this.waiting = setTimeout(() => {
      this.ask();
      this.waiting = setTimeout(() => this.answer(released + this.pause), Math.max(0, 1000 * (released + this.pause - this.now())));
    }, 1000 * Math.min(READ_AFTER, this.pause));
  }

  /** Has the model write the answer ahead; it sounds only when the pause ends. */
  ask() {
    const draft = { notes: [], first: null };
    this.draft = draft;
    const job = this.engine.continue(this.seed(), { ...this.options(), notes: this.length }, ({ fresh }) => {
      draft.notes = fresh.notes;
      draft.changed?.();
    });
    draft.cancel = job.cancel;
    job.result.catch(() => {});
  }

  answer(due) {
    const draft = this.draft;
    if (!draft) return;
    let played = 0;
    draft.played = [];
    draft.changed = () => {
      for (; played < draft.notes.length; played++) this.schedule(draft, draft.notes[played], due);
    };
    draft.changed();
    this.heard(this.seed(), true);
  }

  /** Plays one note of the answer, as far from the first one as the model has it. */
  schedule(draft, { onset, duration, pitch, velocity }, due) {
    if (draft.first === null) {
      draft.first = onset;
      draft.begin = this.now() + SOON;
      this.latency = draft.begin - due;
    }
    const at = Math.max(draft.begin + onset - draft.first, this.now());
    const note = { onset: at - this.started, duration, pitch, velocity, isNew: true };
    const voice = this.sound.strike(pitch, velocity, this.sound.now() + at - this.now());
    voice?.release(this.sound.now() + at - this.now() + duration);
    const timers = [
      setTimeout(() => this.sounded(note, pitch), 1000 * (at - this.now())),
      setTimeout(() => this.light(pitch, false), 1000 * (at - this.now() + duration)),
    ];
    draft.played.push({ note, voice, timers, at });
  }

  sounded(note, pitch) {
    this.notes.push(note);
    this.light(pitch, true);
    this.heard(this.seed(), true);
  }

  /** The answer ends here; what has sounded of it stays part of the music. */
  stopAnswer() {
    const draft = this.draft;
    this.draft = null;
    if (!draft) return;
    draft.cancel();
    draft.changed = null;
    for (const { note, voice, timers, at } of draft.played ?? []) {
      timers.forEach(clearTimeout);
      this.light(note.pitch, false);
      if (at + note.duration <= this.now()) continue;
      voice?.kill();
      note.duration = Math.max(0.02, this.now() - at);
    }
  }
}
