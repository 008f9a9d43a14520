// Plays a performance, through the piano or a MIDI output: play, pause, stop, seek, while the music may still be growing.
//
// The page has one player, so only one take sounds at a time. Notes are handed to the audio clock a little ahead of time [1].
//
// [1] Chris Wilson 2013, A tale of two clocks, web.dev.

import { endOf, sounding } from "./notes.js";

const TICK = 50; // ms between two looks at what sounds next
const START = 0.08; // s from a press to the first sound
const TAIL = 1.2; // s that the last note may ring

export class Player {
  /**
   * `sound`: {now() s, strike(pitch, velocity, when) -> voice, resume() -> Promise, ahead s}. `changed` is called on every
   * change; `later(ms, act)` is a timer that returns a function to cancel it.
   */
  constructor(sound, changed, later) {
    Object.assign(this, { sound, changed, later });
    this.music = null;
    this.voices = [];
    this.playing = false;
    this.at = 0; // s, the place in the music while nothing sounds
  }

  /** Takes another piece, at second `at`; what sounds ends. */
  load(music, { growing = false, at = 0 } = {}) {
    this.pause();
    this.setMusic(music, growing);
    this.at = Math.min(at, this.end);
    this.changed();
  }

  /** The same piece, longer than before. */
  grow(music, growing) {
    this.setMusic(music, growing);
    this.changed();
  }

  setMusic(music, growing) {
    this.music = music;
    this.growing = growing;
    this.notes = sounding(music);
    this.end = endOf({ notes: this.notes });
    this.last = music.notes.at(-1)?.onset ?? 0;
  }

  get position() {
    return this.playing ? Math.max(this.from, this.sound.now() - this.base) : this.at;
  }

  async play(from = this.position >= this.end ? 0 : this.position) {
    if (!this.music) return;
    this.silence();
    const turn = (this.turn = Symbol("turn")); // who presses twice while the sound wakes up gets one piece
    if (!(await this.sound.resume())) throw new Error("The browser gives no sound yet: press Play once more.");
    if (turn !== this.turn) return;
    this.from = from;
    const first = this.notes.findIndex(({ onset }) => onset >= from);
    this.next = first < 0 ? this.notes.length : first; // the note that is handed on next; new ones come behind it
    this.base = this.sound.now() + START - from; // time of the clock at second 0 of the music
    this.playing = true;
    this.tick();
    this.changed();
  }

  pause() {
    this.turn = null;
    if (!this.playing) return;
    this.at = Math.min(this.position, this.end);
    this.silence();
    this.changed();
  }

  stop() {
    this.pause();
    this.at = 0;
    this.changed();
  }

  async seek(second) {
    const to = Math.max(0, Math.min(second, this.end ?? 0)), playing = this.playing;
    this.pause();
    this.at = to;
    this.changed();
    if (playing) await this.play(to);
  }

  silence() {
    this.cancel?.();
    this.playing = false;
    for (const { voice } of this.voices) voice.kill();
    this.voices = [];
  }

  tick() {
    const now = this.sound.now(), position = now - this.base;
    if (this.growing && position > this.last) this.base += position - this.last; // the cursor waits for the model
    const until = now - this.base + this.sound.ahead;
    for (; this.next < this.notes.length && this.notes[this.next].onset < until; this.next++) {
      const note = this.notes[this.next], when = Math.max(this.base + note.onset, now);
      const voice = this.sound.strike(note.pitch, note.velocity, when);
      if (!voice) continue;
      this.voices.push({ voice, end: when + note.duration, released: false });
    }
    for (const one of this.voices) {
      if (one.released || one.end > now + this.sound.ahead) continue;
      one.released = true; // only now: what was sent to a MIDI output cannot be taken back
      one.voice.release(one.end);
    }
    this.voices = this.voices.filter(({ end }) => end + TAIL > now);
    if (!this.growing && position > this.end + TAIL / 2) this.stop();
    else this.cancel = this.later(TICK, () => this.tick());
  }
}
