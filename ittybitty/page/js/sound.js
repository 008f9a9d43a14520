// Where sound comes from: the page's own piano by Web Audio, or a MIDI output. Both are called in the same way.

import { endOf, sounding } from "./notes.js";
import { LAYERS, Piano, TONE_KEYS, Tones } from "./piano.js";
import { stayAwake } from "./wake.js";

const WAKE = 1500; // ms that a browser is given to start its sound

export class Sound {
  constructor(worker) {
    this.tones = new Tones();
    this.context = null;
    this.output = null; // a MIDIOutput, where one is chosen
    this.first = new Promise((resolve) => (this.heard = resolve)); // the first tone is ready
    this.all = new Promise((resolve) => (this.complete = resolve));
    worker.addEventListener("message", ({ data }) => {
      if (data.type !== "tone") return;
      this.tones.add(data.key, data.layer, data.samples);
      this.heard();
      if (this.tones.keys.size === TONE_KEYS.length) this.complete();
    });
    const middle = [...TONE_KEYS].sort((a, b) => Math.abs(a - 63) - Math.abs(b - 63)); // those most played first
    worker.postMessage({ type: "tones", wanted: middle.flatMap((key) => LAYERS.map((layer) => ({ key, layer }))) });
  }

  /** s that the player hands notes on before they sound. What was sent to a MIDI output cannot be taken back; a tab in the
   * background may be slow, so there it is more. */
  get ahead() {
    if (this.output) return 0.15;
    return document.hidden ? 2.5 : 0.6;
  }

  now() {
    return this.context ? this.context.currentTime : 0;
  }

  /** Wakes the audio context, which a browser allows only after a touch or a key; whether it runs. */
  async resume() {
    if (navigator.audioSession) navigator.audioSession.type = "playback"; // an iPhone's silent switch does not mute music
    stayAwake();
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    this.piano ??= new Piano(this.context, this.tones);
    const late = new Promise((resolve) => setTimeout(resolve, WAKE));
    await Promise.race([Promise.all([this.context.resume(), this.first]), late]);
    return this.context.state === "running";
  }

  strike(pitch, velocity, when = this.now()) {
    if (!this.piano) return null;
    return this.output ? midiVoice(this.output, pitch, velocity, this.clock(when), (at) => this.clock(at)) : this.piano.strike(pitch, velocity, when);
  }

  /** A second of the audio clock as the milliseconds that MIDI is timed in. */
  clock(when) {
    return performance.now() + 1000 * (when - this.now());
  }
}

function midiVoice(output, pitch, velocity, when, clock) {
  output.send([0x90, pitch, velocity], when);
  const off = [0x80, pitch, 64];
  return {
    release: (at) => output.send(off, clock(at)),
    kill: () => output.send(off, Math.max(when, performance.now())), // not before the key goes down, which may be sent for later
  };
}

/** Two channels of the whole piece, as the page plays it. */
export async function render(music, tones, rate = 44100) {
  const notes = sounding(music), seconds = endOf({ notes }) + 1.5;
  const context = new OfflineAudioContext(2, Math.ceil(seconds * rate), rate);
  const piano = new Piano(context, tones);
  for (const { onset, duration, pitch, velocity } of notes) piano.strike(pitch, velocity, onset)?.release(onset + duration);
  const buffer = await context.startRendering();
  return [0, 1].map((channel) => buffer.getChannelData(channel));
}
