// Handles what a person plays: every key sounds, in "Call and response" the model answers, and a recording can become the beginning.

import { Duet } from "./duet.js";
import { ComputerKeys, connectMidi, ScreenKeys } from "./keyboard.js";
import { performance as music } from "./notes.js";

const $ = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;
const INVITATIONS = {
  duet: "Play a phrase and pause: the model answers. Press a key to end its answer.",
  record: "Play; then press “Use as the beginning”.",
  free: "Play: nothing is recorded, and the model does not answer.",
};

export class Hands {
  /** `parts`: engine, sound, player, later, settings() -> options, choose(seed), show(music or null), complain(error). */
  constructor(parts) {
    Object.assign(this, parts);
    this.voices = new Map();
    this.sustained = new Set(); // keys released while the pedal is down
    this.pedalDown = false;
    this.duet = new Duet({
      engine: this.engine,
      sound: this.sound,
      options: () => this.settings(),
      heard: (piece, answering) => this.heard(piece, answering),
      light: (pitch, on) => this.screen.light(pitch, on),
      now: seconds,
      later: this.later,
      trouble: this.complain,
    });
    this.screen = new ScreenKeys($("keys"), this);
    new ComputerKeys(this);
    this.wire();
    this.change();
  }

  get mode() {
    return document.querySelector("input[name=mode]:checked").value;
  }

  wire() {
    $("lower").addEventListener("click", () => this.screen.shift(-1));
    $("higher").addEventListener("click", () => this.screen.shift(1));
    for (const input of document.querySelectorAll("input[name=mode]")) input.addEventListener("change", () => this.change());
    $("pause").addEventListener("input", () => this.readSettings());
    $("answer").addEventListener("input", () => this.readSettings());
    $("take-seed").addEventListener("click", () => this.takeSeed());
    $("start-over").addEventListener("click", () => {
      this.change();
      this.show(null);
      $("keys").querySelector("button")?.focus(); // this button is disabled now
    });
    $("midi").addEventListener("click", () => this.connect().catch(this.complain));
    $("midi-out").addEventListener("change", (event) => {
      this.player.pause();
      this.quiet();
      this.sound.output = this.access?.outputs.get(event.target.value) ?? null;
    });
  }

  readSettings() {
    this.duet.pause = this.mode === "duet" ? Number($("pause").value) : Infinity;
    this.duet.length = Number($("answer").value);
    $("pause-value").textContent = `${Number($("pause").value).toFixed(1)} s`;
    $("answer-value").textContent = `${$("answer").value} notes`;
  }

  /** Begins anew in the chosen mode; what was recorded is forgotten. */
  change() {
    this.duet.end();
    this.readSettings();
    $("duet-settings").hidden = this.mode !== "duet";
    for (const id of ["take-seed", "start-over"]) {
      $(id).hidden = this.mode === "free";
      $(id).disabled = true;
    }
    if (this.mode !== "free") this.duet.start();
    else this.duet.clear();
    this.tell(INVITATIONS[this.mode]);
  }

  tell(words) {
    $("duet-line").textContent = words;
  }

  /** Ends an answer of the model, since something else is to sound. */
  quiet() {
    this.duet.quiet();
  }

  /** `device`: the name of the MIDI input, where the key is one of a MIDI keyboard. */
  async down(pitch, velocity, device = null) {
    this.player.pause(); // only one thing sounds at a time
    this.screen.light(pitch, true);
    this.duet.down(pitch, velocity);
    this.voices.get(pitch)?.kill();
    this.voices.delete(pitch);
    if (device && this.sound.output?.name === device) return; // an instrument sounds by itself what is played on it
    const token = {};
    this.voices.set(pitch, { kill() {}, release: () => (token.gone = true) });
    if (!(await this.sound.resume())) return this.complain(new Error("The browser gives no sound yet: press a key once more."));
    $("trouble").textContent = "";
    const voice = this.sound.strike(pitch, velocity);
    if (voice && token.gone) voice.release(this.sound.now() + 0.1);
    else if (voice) this.voices.set(pitch, voice);
  }

  up(pitch) {
    this.screen.light(pitch, false);
    this.duet.up(pitch);
    if (this.pedalDown) this.sustained.add(pitch);
    else this.damp(pitch);
  }

  damp(pitch) {
    this.voices.get(pitch)?.release(this.sound.now());
    this.voices.delete(pitch);
  }

  pedal(down) {
    this.pedalDown = down;
    this.duet.pedal(down);
    if (down) return;
    this.sustained.forEach((pitch) => this.duet.keys.has(pitch) || this.damp(pitch));
    this.sustained.clear();
  }

  heard(piece, answering) {
    this.show(piece);
    for (const id of ["take-seed", "start-over"]) $(id).disabled = !piece.notes.length;
    const part = this.duet.from > 0 ? ` It answers from the last ${piece.notes.length} notes.` : "";
    if (this.mode === "duet") this.tell(answering ? "The model plays; press a key to take over." : `Your turn: play, and pause for an answer.${part}`);
    if (this.duet.latency !== null) $("keys").dataset.latency = this.duet.latency.toFixed(3);
  }

  /** Makes the recorded music the beginning that the model continues. */
  takeSeed() {
    this.quiet();
    const { notes, pedals } = this.duet.seed();
    const first = notes[0].onset;
    const from = ({ isNew, ...item }) => ({ ...item, onset: item.onset - first });
    this.choose({ title: "What you played", licence: "recorded on this page", music: music(notes.map(from), pedals.map(from).filter(({ onset }) => onset >= 0)) });
    this.change();
    $("make").focus();
  }

  async connect() {
    this.access = await connectMidi(this, (access) => {
      const chosen = $("midi-out").value, outputs = [...access.outputs.values()];
      $("midi-out").replaceChildren(new Option("this page’s piano", ""), ...outputs.map(({ id, name }) => new Option(name, id)));
      $("midi-out").value = outputs.some(({ id }) => id === chosen) ? chosen : "";
      this.sound.output = access.outputs.get($("midi-out").value) ?? null;
      $("midi-out").disabled = !outputs.length;
      const names = [...access.inputs.values()].map(({ name }) => name);
      $("midi-line").textContent = names.length ? `Listening to ${names.join(", ")}.` : "No MIDI keyboard is plugged in.";
    });
  }
}
