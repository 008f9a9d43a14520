// What is played: every key sounds; with "Record a beginning" it becomes the seed, with "Call and response" the model answers.

import { Duet } from "./duet.js";
import { ComputerKeys, connectMidi, ScreenKeys } from "./keyboard.js";
import { performance as music } from "./notes.js";

const $ = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;

export class Hands {
  constructor(parts) {
    Object.assign(this, parts); // engine, sound, player, settings, choose, show, say, complain
    this.voices = new Map();
    this.sustained = new Set(); // keys let go while the pedal is down
    this.pedalDown = false;
    this.duet = new Duet({
      engine: this.engine,
      sound: this.sound,
      options: () => this.settings(),
      heard: (piece, answering) => this.heard(piece, answering),
      light: (pitch, on) => this.screen.light(pitch, on),
      now: seconds,
    });
    this.screen = new ScreenKeys($("keys"), this);
    new ComputerKeys(this);
    this.wire();
  }

  get mode() {
    return document.querySelector("input[name=mode]:checked").value;
  }

  wire() {
    $("lower").addEventListener("click", () => this.screen.shift(-1));
    $("higher").addEventListener("click", () => this.screen.shift(1));
    for (const input of document.querySelectorAll("input[name=mode]")) input.addEventListener("change", () => this.change());
    for (const [id, unit, part] of [["pause", " s", "pause"], ["answer", " notes", "length"]]) {
      const read = () => {
        this.duet[part] = Number($(id).value);
        $(`${id}-value`).textContent = $(id).value + unit;
      };
      $(id).addEventListener("input", read);
      read();
    }
    $("take-seed").addEventListener("click", () => this.takeSeed());
    $("midi").addEventListener("click", () => this.connect().catch(this.complain));
    $("midi-out").addEventListener("change", (event) => {
      this.player.pause();
      this.sound.output = this.access?.outputs.get(event.target.value) ?? null;
    });
  }

  change() {
    this.duet.end();
    $("duet-settings").hidden = this.mode !== "duet";
    $("take-seed").hidden = this.mode === "free";
    $("take-seed").disabled = true;
    if (this.mode !== "free") this.duet.start();
    if (this.mode === "record") this.duet.pause = Infinity;
    else this.duet.pause = Number($("pause").value);
    this.tell(
      {
        free: "Keys only sound.",
        record: "Play; then press “Use as the beginning”.",
        duet: "Play a phrase and pause: the model answers. Play on to take over.",
      }[this.mode],
    );
  }

  tell(words) {
    $("duet-line").textContent = words;
  }

  async down(pitch, velocity) {
    this.player.pause(); // only one thing sounds at a time
    this.screen.light(pitch, true);
    this.duet.down(pitch, velocity);
    this.voices.get(pitch)?.kill();
    const token = {};
    this.voices.set(pitch, { kill() {}, release: () => (token.gone = true) });
    if (!(await this.sound.resume())) return this.complain(new Error("The browser gives no sound yet: press a key once more."));
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
    $("take-seed").disabled = !piece.notes.length;
    if (this.mode === "duet") this.tell(answering ? "The model plays; play on to take over." : "Listening …");
    if (this.duet.latency !== null) $("keys").dataset.latency = this.duet.latency.toFixed(3);
  }

  takeSeed() {
    const { notes, pedals } = this.duet.seed();
    const first = notes[0].onset;
    const from = (item) => ({ ...item, onset: item.onset - first });
    document.querySelector("input[name=mode][value=free]").checked = true;
    this.choose({ title: "What you played", licence: "yours", music: music(notes.map(from), pedals.map(from).filter(({ onset }) => onset >= 0)) });
    this.change();
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
