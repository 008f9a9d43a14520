// Call and response: what is played is recorded; after a pause the model answers, and a key that is pressed ends the answer.
//
// The model reads the music while it is played, so that the answer is ready when the pause ends. Times are seconds of `now()`.

import { performance, shift, sounding } from "./notes.js";

const READ_AFTER = 0.12; // s after the last key is released, when the model begins to write the answer
const SOON = 0.03; // s from the end of the pause to the first note of the answer
const READ_EVERY = 1.5; // s between two readings of music that has no rest
const MOST = 400, KEPT = 200; // notes: when there are more than MOST, the last KEPT are kept, so that few readings start anew
const PUMP = 20; // ms between two looks at an answer that sounds
const AHEAD = 0.06; // s that a note is handed on before it sounds; an answer can be taken back until then

export class Duet {
  /**
   * `engine`: read(seed, how), continue(seed, options, grow); `sound`: now(), strike(); `heard(seed, answering)` is told the music
   * so far; `light(pitch, on)` shows the answer's keys; `options()` gives temperature and so on; `later(ms, act)` is a timer
   * and returns a function that cancels it; `trouble(error)` is told why there is no answer.
   */
  constructor({ engine, sound, options, heard, light, now, later, trouble }) {
    Object.assign(this, { engine, sound, options, heard, light, now, later, trouble });
    this.pause = 1; // s
    this.length = 24; // notes of an answer
    this.on = false;
    this.clear();
  }

  /** Forgets the music. */
  clear() {
    this.quiet();
    Object.assign(this, { notes: [], pedals: [], keys: new Map(), pressed: null, started: null, latency: null, from: 0, read: 0 });
  }

  start() {
    this.clear();
    this.on = true;
  }

  end() {
    this.quiet();
    this.on = false;
  }

  /** Ends the answer, and the wait for one. */
  quiet() {
    this.cancelWait?.();
    this.cancelWait = null;
    this.stopAnswer();
  }

  wait(seconds, act) {
    this.cancelWait?.();
    this.cancelWait = this.later(1000 * seconds, act);
  }

  /** Seconds since the first key. */
  time() {
    return this.now() - this.started;
  }

  down(pitch, velocity) {
    if (!this.on) return;
    this.quiet();
    this.started ??= this.now();
    const note = { onset: this.time(), duration: 0.05, pitch, velocity };
    this.keys.set(pitch, note);
    this.notes.push(note);
  }

  up(pitch) {
    const note = this.keys.get(pitch);
    if (!this.on || !note) return;
    note.duration = Math.max(0.02, this.time() - note.onset);
    this.keys.delete(pitch);
    this.heard(this.seed(), false);
    if (!this.keys.size) this.rest();
    else if (this.now() - this.read > READ_EVERY) this.readAlong();
  }

  /** Lets the model read what comes before the earliest key that is still down: that part cannot change any more. */
  readAlong() {
    this.read = this.now();
    const until = Math.min(...[...this.keys.values()].map(({ onset }) => onset));
    this.engine.read(this.seed(until), { urgent: true });
  }

  pedal(down) {
    if (!this.on || this.started === null) return;
    if (down) this.pressed ??= { onset: this.time(), duration: 0 };
    else if (this.pressed) this.pedals.push({ ...this.pressed, duration: Math.max(0.02, this.time() - this.pressed.onset) });
    if (!down) this.pressed = null;
  }

  /** The recorded music before `until`, with its oldest part left out where it is long; its first second is 0. */
  seed(until = Infinity) {
    if (this.notes.filter(({ onset }) => onset >= this.from).length > MOST) this.from = Math.floor(this.notes.at(-KEPT).onset);
    const held = this.pressed ? [{ ...this.pressed, duration: Math.max(0.02, this.time() - this.pressed.onset) }] : [];
    const inside = ({ onset }) => onset >= this.from && onset < until;
    const pedals = [...this.pedals, ...held, ...this.answeredPedals()].filter(inside);
    return shift(performance(this.notes.filter(inside), pedals), -this.from);
  }

  /** No key is down: the model writes an answer soon, and it sounds after the pause. */
  rest() {
    if (this.pause === Infinity) return; // the music is only recorded
    const released = this.now();
    this.wait(Math.min(READ_AFTER, this.pause), () => {
      this.ask();
      this.wait(released + this.pause - this.now(), () => this.answer(released + this.pause));
    });
  }

  /** Asks the model for the answer; it sounds only when the pause ends. */
  ask() {
    // notes and pedals as the model wrote them; voices: one for each note that was handed on; begin: when its second `first` sounds
    const draft = { notes: [], pedals: [], ends: [], voices: [], first: null, begin: null, done: false };
    this.draft = draft;
    const job = this.engine.continue(this.seed(), { ...this.options(), notes: this.length, urgent: true }, ({ fresh }) => {
      draft.notes = fresh.notes;
      draft.pedals = fresh.pedals ?? [];
      draft.ends = sounding(fresh.pedals ? fresh : { ...fresh, pedals: [] }).map(({ onset, duration }) => onset + duration);
    });
    draft.cancel = job.cancel;
    job.result.then(
      () => (draft.done = true),
      (error) => {
        draft.done = true;
        this.trouble?.(error);
      },
    );
  }

  answer(due) {
    if (!this.draft) return;
    this.draft.due = due;
    this.heard(this.seed(), true);
    this.pump();
  }

  /** Hands on the notes of the answer that sound next, and releases those that end. */
  pump() {
    const { draft } = this, now = this.now();
    if (!draft) return;
    if (draft.first === null && draft.notes.length) {
      draft.first = draft.notes[0].onset;
      draft.begin = now + SOON;
      this.latency = draft.begin - draft.due;
    }
    for (let next = draft.voices.length; next < draft.notes.length; next = draft.voices.length) {
      const at = this.at(draft.notes[next].onset);
      if (at > now + AHEAD) break;
      if (at < now) draft.begin += now - at; // the model was slower than the music: all that follows comes later
      this.strike(draft, draft.notes[next], Math.max(at, now));
    }
    draft.voices.forEach((one, i) => this.follow(draft, one, i, now));
    const over = draft.done && draft.voices.length === draft.notes.length && draft.voices.every((one, i) => one.released && now >= this.endOf(draft, one, i));
    if (over) {
      this.stopAnswer();
      this.heard(this.seed(), false);
    } else {
      this.wait(PUMP / 1000, () => this.pump());
    }
  }

  /** When a second of the draft sounds, on the clock of `now()`. */
  at(second) {
    return this.draft.begin + second - this.draft.first;
  }

  /** The audio clock's time of a time of `now()`. */
  audio(at) {
    return this.sound.now() + at - this.now();
  }

  strike(draft, { duration, pitch, velocity }, at) {
    const note = { onset: at - this.started, duration, pitch, velocity, isNew: true };
    draft.voices.push({ note, voice: this.sound.strike(pitch, velocity, this.audio(at)), at, struck: false, up: false, released: false });
  }

  /** Shows and records a note when it sounds, and releases it where key and pedal are up. */
  follow(draft, one, i, now) {
    if (!one.struck && now >= one.at) {
      one.struck = true;
      this.notes.push(one.note);
      this.light(one.note.pitch, true);
      this.heard(this.seed(), true);
    }
    if (one.struck && !one.up && now >= one.at + one.note.duration) {
      one.up = true;
      this.light(one.note.pitch, false);
    }
    const end = this.endOf(draft, one, i);
    if (!one.released && one.struck && now >= end - AHEAD) {
      one.released = true;
      one.voice?.release(this.audio(Math.max(end, now)));
    }
  }

  /** When note i of the answer ends, on the clock of `now()`; the pedal may hold it. */
  endOf(draft, { at }, i) {
    return at + draft.ends[i] - draft.notes[i].onset;
  }

  /** The pedal of the answer, as far as it has sounded. */
  answeredPedals() {
    const { draft } = this;
    if (!draft?.voices.length) return [];
    const until = this.time();
    return draft.pedals
      .map(({ onset, duration }) => ({ onset: this.at(onset) - this.started, duration }))
      .filter(({ onset }) => onset < until)
      .map(({ onset, duration }) => ({ onset, duration: Math.max(0.02, Math.min(duration, until - onset)) }));
  }

  /** Ends the answer; what has sounded of it stays part of the music. */
  stopAnswer() {
    const { draft } = this;
    if (!draft) return;
    this.pedals.push(...this.answeredPedals());
    this.draft = null;
    draft.cancel();
    for (const { note, voice, at, struck, up, released } of draft.voices) {
      if (!released) voice?.kill();
      if (!struck || up) continue;
      this.light(note.pitch, false);
      note.duration = Math.max(0.02, this.now() - at);
    }
  }
}
