// A piano made of sines: tones computed once, then played by Web Audio with velocity, pedal and a little room.
//
// A string of fundamental f has partials n f √(1 + B n²), stiffer and so less harmonic towards the treble (Fletcher and
// Rossing 1998, The Physics of Musical Instruments, section 12.3). The hammer leaves out partials that have a node where it
// strikes (an eighth of the string), and a soft blow excites the high ones less: two layers, soft and loud, are mixed by velocity.
// Two strings a key, slightly apart, give the quick first decay and the slow second one. Left out: resonance of other strings.

export const RATE = 32000; // Hz of the computed tones
const STEP = 3; // a tone every so many keys; those between are played faster or slower
export const TONE_KEYS = Array.from({ length: 30 }, (_, i) => 21 + STEP * i);
export const LAYERS = [0, 1]; // soft, loud

/** Samples (n,) of one key struck and held. */
export function tone(key, layer) {
  const f = 440 * 2 ** ((key - 69) / 12);
  const height = (key - 21) / 87; // 0 … 1 along the keyboard
  const seconds = 7.5 - 5.5 * height;
  const samples = new Float32Array(Math.round(seconds * RATE));
  const B = 1e-4 * 2 ** Math.abs((key - 45) / 9);
  const bright = layer ? 0.62 - 0.2 * height : 0.4 - 0.16 * height;
  const decay = 4.2 * 2 ** (-4.2 * height); // s, of the fundamental
  for (let n = 1; n <= 40; n++) {
    const partial = n * f * Math.sqrt(1 + B * n * n);
    if (partial > 0.45 * RATE || partial > 9000) break;
    const strength = Math.abs(Math.sin((Math.PI * n) / 8.3)) * bright ** (0.55 * (n - 1)) / Math.sqrt(n);
    if (strength < 3e-4) continue;
    const life = decay / (1 + 0.22 * (n - 1) + 0.012 * (n - 1) ** 2);
    addPartial(samples, partial * 0.99985, 0.62 * strength, 0.55 * life, n);
    addPartial(samples, partial * 1.00017, 0.38 * strength, 1.6 * life, n + 0.4);
  }
  addKnock(samples, layer, height);
  return finish(samples, 0.9);
}

/** A decaying sine, by rotating a vector: two products a sample instead of a sine. */
function addPartial(samples, frequency, strength, life, phase) {
  const angle = (2 * Math.PI * frequency) / RATE, shrink = Math.exp(-1 / (life * RATE));
  const c = Math.cos(angle) * shrink, s = Math.sin(angle) * shrink;
  let x = strength * Math.cos(1.7 * phase), y = strength * Math.sin(1.7 * phase);
  const end = Math.min(samples.length, Math.ceil(life * RATE * 8));
  for (let i = 0; i < end; i++) {
    samples[i] += y;
    [x, y] = [x * c - y * s, x * s + y * c];
  }
}

/** The hammer's knock: a short burst of filtered noise, always the same for one key. */
function addKnock(samples, layer, height) {
  let word = 12345 + Math.round(1000 * height), low = 0;
  const level = (layer ? 0.11 : 0.05) * (0.7 + height), life = 0.012 * RATE;
  for (let i = 0; i < 6 * life; i++) {
    word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
    low += (0.12 + 0.2 * height) * (word / 2 ** 31 - 1 - low);
    samples[i] += level * low * Math.exp(-i / life);
  }
}

/** A short rise instead of a click, a fade at the end, and one peak for all tones. */
function finish(samples, peak) {
  let highest = 0;
  for (const value of samples) highest = Math.max(highest, Math.abs(value));
  const rise = Math.round(0.0015 * RATE), fade = Math.round(0.3 * RATE), size = samples.length;
  for (let i = 0; i < size; i++) {
    samples[i] *= (peak / highest) * Math.min(1, (i + 1) / rise) * Math.min(1, (size - i) / fade);
  }
  return samples;
}

/** Tones as they come from the worker, shared by every audio context. */
export class Tones {
  constructor() {
    this.made = new Map(); // "key layer" -> AudioBuffer
    this.keys = new Set(); // of which both layers are there
  }

  add(key, layer, samples) {
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: RATE, numberOfChannels: 1 });
    buffer.copyToChannel(samples, 0);
    this.made.set(`${key} ${layer}`, buffer);
    if (LAYERS.every((one) => this.made.has(`${key} ${one}`))) this.keys.add(key);
  }

  /** The nearest key that is ready. */
  nearest(pitch) {
    let best = null;
    for (const key of this.keys) if (best === null || Math.abs(key - pitch) < Math.abs(best - pitch)) best = key;
    return best;
  }
}

/** The piano in one audio context (live, or offline for a WAV file). */
export class Piano {
  constructor(context, tones) {
    Object.assign(this, { context, tones });
    this.out = new GainNode(context, { gain: 0.5 });
    const limiter = new DynamicsCompressorNode(context, { threshold: -14, knee: 10, ratio: 5, attack: 0.003, release: 0.2 });
    const room = new ConvolverNode(context, { buffer: roomOf(context) });
    const wet = new GainNode(context, { gain: 0.22 });
    this.out.connect(limiter);
    this.out.connect(room).connect(wet).connect(limiter);
    limiter.connect(context.destination);
  }

  /** Strikes a key at `when` (s of the context); the voice has release(at) and kill(). Null before any tone is there. */
  strike(pitch, velocity, when) {
    const key = this.tones.nearest(pitch);
    if (key === null) return null;
    const { context } = this;
    const loud = Math.min(1, Math.max(0, (velocity - 20) / 90)), level = 0.08 + 0.92 * (velocity / 127) ** 1.7;
    const damper = new GainNode(context, { gain: 1 });
    const pan = new StereoPannerNode(context, { pan: Math.max(-0.5, Math.min(0.5, (pitch - 62) / 90)) });
    const sources = LAYERS.map((layer) => {
      const source = new AudioBufferSourceNode(context, {
        buffer: this.tones.made.get(`${key} ${layer}`),
        playbackRate: 2 ** ((pitch - key) / 12),
      });
      source.connect(new GainNode(context, { gain: level * (layer ? loud : 1 - loud) })).connect(damper);
      source.start(when);
      return source;
    });
    damper.connect(pan).connect(this.out);
    const fade = (at, constant) => {
      damper.gain.cancelScheduledValues(at);
      damper.gain.setTargetAtTime(0, at, constant);
      sources.forEach((source) => source.stop(at + 8 * constant));
    };
    return {
      release: (at) => fade(Math.max(at, when + 0.03), pitch > 88 ? 0.25 : 0.07), // the highest strings have no dampers
      kill: () => fade(context.currentTime, 0.02),
    };
  }
}

const rooms = new Map(); // sample rate -> impulse response

/** A second of decaying noise in two channels: the room. */
function roomOf(context) {
  if (!rooms.has(context.sampleRate)) {
    const length = Math.round(1.1 * context.sampleRate);
    const buffer = new AudioBuffer({ length, sampleRate: context.sampleRate, numberOfChannels: 2 });
    let word = 99;
    for (const channel of [0, 1]) {
      const samples = buffer.getChannelData(channel);
      let low = 0;
      for (let i = 0; i < length; i++) {
        word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
        low += 0.35 * (word / 2 ** 31 - 1 - low);
        samples[i] = low * Math.exp((-5 * i) / length);
      }
    }
    rooms.set(context.sampleRate, buffer);
  }
  return rooms.get(context.sampleRate);
}
