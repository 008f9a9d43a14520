// The page's other parts without a browser: MIDI files, WAV, links, the player, and call and response.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Duet } from "../../ittybitty/page/js/duet.js";
import { readMidi, writeMidi } from "../../ittybitty/page/js/midi.js";
import { performance as music, sounding } from "../../ittybitty/page/js/notes.js";
import { RATE, tone } from "../../ittybitty/page/js/piano.js";
import { Hands } from "../../ittybitty/page/js/hands.js";
import { Player } from "../../ittybitty/page/js/player.js";
import { opacity } from "../../ittybitty/page/js/roll.js";
import { Sound } from "../../ittybitty/page/js/sound.js";
import { linkOf, readLink } from "../../ittybitty/page/js/store.js";
import { writeWav } from "../../ittybitty/page/js/wav.js";

const told = JSON.parse(readFileSync(process.env.PAGE_FIXTURES, "utf8"));
const note = (onset, pitch, duration = 0.2, velocity = 80) => ({ onset, duration, pitch, velocity });

test("a MIDI file that Python wrote is read as Python reads it", () => {
  for (const { bytes, music: expected } of told.files) {
    const { notes, pedals } = readMidi(Uint8Array.from(bytes));
    assert.equal(notes.length, expected.notes.length);
    notes.forEach(({ onset, duration, pitch, velocity }, i) => {
      const [at, length, key, loudness] = expected.notes[i];
      assert.deepEqual([pitch, velocity], [key, loudness]);
      assert.ok(Math.abs(onset - at) < 2e-3 && Math.abs(duration - length) < 3e-3, `note ${i}`);
    });
    assert.equal(pedals.length, expected.pedals.length);
  }
});

test("what is written is read again, and a key is released before it is struck again", () => {
  const written = music([note(0, 60, 2), note(1, 60), note(1, 64)], [{ onset: 0.5, duration: 1 }]);
  const read = readMidi(writeMidi(written));
  const rows = read.notes.map(({ onset, duration, pitch }) => [onset, duration, pitch].map((x) => Math.round(1000 * x) / 1000));
  assert.deepEqual(rows, [[0, 1, 60], [1, 0.2, 60], [1, 0.2, 64]]);
  assert.deepEqual(read.pedals, [{ onset: 0.5, duration: 1 }]);
});

test("a file that is cut short is read as far as it goes, and other bytes are refused in one line", () => {
  const whole = writeMidi(music([note(0, 60), note(1, 62), note(2, 64)]));
  assert.ok(readMidi(whole.subarray(0, whole.length - 12)).notes.length >= 2);
  for (const bytes of [new Uint8Array(0), new Uint8Array(100), whole.subarray(0, 10), whole.subarray(0, 24)]) {
    assert.throws(() => readMidi(bytes, "x.mid"), /^Error: x\.mid [^\n]+$/);
  }
});

test("a large file is refused in one line that names its size and the limit", () => {
  for (const size of [2 ** 20 + 1, 20 * 2 ** 20]) {
    assert.throws(() => readMidi(new Uint8Array(size), "x.mid"), /^Error: x\.mid has (1|20)\.0 MiB; [^\n]+ at most 1 MiB\.$/);
  }
});

test("tempo changes move what follows", () => {
  const head = [..."MThd"].map((c) => c.charCodeAt(0)), track = [..."MTrk"].map((c) => c.charCodeAt(0));
  const first = [0, 0x90, 60, 64, 96, 60, 0], tempo = [0, 0xff, 0x51, 3, 0x0f, 0x42, 0x40]; // 60 a minute from here on
  const body = [...first, ...tempo, 0, 0x90, 62, 64, 96, 62, 0, 0, 0xff, 0x2f, 0];
  const file = Uint8Array.from([...head, 0, 0, 0, 6, 0, 0, 0, 1, 0, 96, ...track, 0, 0, 0, body.length, ...body]);
  assert.deepEqual(readMidi(file).notes.map(({ onset, duration }) => [onset, duration]), [[0, 0.5], [0.5, 1]]);
});

test("the pedal holds a note until it comes up, or until its key is struck again", () => {
  const heard = sounding(music([note(0, 60), note(0, 64), note(1, 60)], [{ onset: 0.1, duration: 1.9 }]));
  assert.deepEqual(heard.map(({ duration }) => duration), [1, 2, 1]);
});

test("a WAV file says what it holds", () => {
  const bytes = writeWav([Float32Array.of(0, 1, -2), Float32Array.of(0.5, 0, 0)], 44100), view = new DataView(bytes.buffer);
  assert.equal(bytes.length, 44 + 12);
  assert.deepEqual([22, 34].map((at) => view.getUint16(at, true)), [2, 16]);
  assert.deepEqual([0, 1, 2, 4].map((i) => view.getInt16(44 + 2 * i, true)), [0, 16384, 32767, -32767]);
});

test("a tone sounds at its key's pitch, and a loud one is brighter", () => {
  const [soft, loud] = [0, 1].map((layer) => tone(69, layer));
  const power = (samples, frequency) => {
    let [re, im] = [0, 0];
    for (let i = 0; i < RATE; i++) {
      re += samples[i] * Math.cos((2 * Math.PI * frequency * i) / RATE);
      im += samples[i] * Math.sin((2 * Math.PI * frequency * i) / RATE);
    }
    return re * re + im * im;
  };
  assert.ok(power(soft, 440) > 100 * Math.max(power(soft, 415.3), power(soft, 466.2)));
  assert.ok(power(loud, 1320) / power(loud, 440) > 2 * (power(soft, 1320) / power(soft, 440)));
  assert.ok(loud.every((value) => Math.abs(value) <= 0.91));
});

test("the quietest note stands out from the paper, in both themes", () => {
  const style = readFileSync(new URL("../../ittybitty/page/page.css", import.meta.url), "utf8");
  const rgb = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
  const linear = (value) => (value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(colour[i]), 0);
  for (const theme of style.match(/^:root.*$/gm)) {
    const colour = (name) => rgb(theme.match(new RegExp(`--${name}: (#[0-9a-f]{6})`))[1]);
    for (const name of ["seed", "new"]) {
      const paper = colour("paper"), shown = colour(name).map((value, i) => opacity(1) * value + (1 - opacity(1)) * paper[i]);
      const [low, high] = [luminance(shown), luminance(paper)].sort((a, b) => a - b);
      assert.ok((high + 0.05) / (low + 0.05) >= 3, `${name} on ${theme.slice(0, 30)}`);
    }
  }
});

test("a link carries settings, and nothing out of range", () => {
  const settings = { temperature: 0.85, topK: 12, topP: 0.9, notes: 200, seed: 77 };
  assert.deepEqual(readLink(linkOf("Rag in F", settings)), { piece: "Rag in F", settings });
  assert.deepEqual(readLink(linkOf("Rag in F", { ...settings, from: 5.2 })).settings, { ...settings, from: 5.2 });
  assert.deepEqual(readLink(linkOf("", { ...settings, from: 5.2 })).settings, settings); // a second of what the link does not hold
  assert.deepEqual(readLink("#temperature=9&topK=x&seed=-1&notes=50"), { piece: null, settings: { notes: 50 } });
  assert.deepEqual(readLink("#topK=9999", 271).settings, { topK: 271 }); // no more ids than the vocabulary has
});

/** A clock that a test moves on: `run` does what is due, in order, with what follows from it. */
class FakeClock {
  time = 0;
  waiting = [];
  now = () => this.time;
  later = (ms, act) => {
    const one = { at: this.time + ms / 1000, act };
    this.waiting.push(one);
    return () => (this.waiting = this.waiting.filter((other) => other !== one));
  };

  async run(seconds) {
    const end = this.time + seconds;
    for (;;) {
      await new Promise(setImmediate); // promises that are settled by now
      const next = this.waiting.reduce((best, one) => (one.at <= end && !(best?.at <= one.at) ? one : best), null);
      if (!next) break;
      this.waiting = this.waiting.filter((one) => one !== next);
      this.time = Math.max(this.time, next.at);
      next.act();
    }
    this.time = end;
  }
}

function fakeSound(clock) {
  const struck = [], killed = [], released = [];
  const strike = (pitch, velocity, when) => {
    struck.push({ pitch, when });
    return { release: (at) => released.push({ pitch, at }), kill: () => killed.push(pitch) };
  };
  return { struck, killed, released, strike, now: clock.now, resume: async () => true, ahead: 0.1 };
}

const pitches = (sound) => sound.struck.map(({ pitch }) => pitch);
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} is not ${b}`);

test("the player hands every note on once, in time, and seeks", async () => {
  const clock = new FakeClock(), sound = fakeSound(clock), player = new Player(sound, () => {}, clock.later);
  player.load(music([note(0, 60), note(0.1, 62), note(0.2, 64), note(5, 65)]));
  await player.play(0);
  await clock.run(0.6);
  assert.deepEqual(pitches(sound), [60, 62, 64]);
  near(sound.struck[2].when - sound.struck[0].when, 0.2);
  await player.seek(4.9);
  await clock.run(0.3);
  assert.equal(pitches(sound).at(-1), 65);
  player.stop();
  assert.ok(sound.killed.includes(65) && player.position === 0 && !player.playing);
});

test("a long note is released when it ends and not before, so that a pause leaves nothing to come", async () => {
  const clock = new FakeClock(), sound = fakeSound(clock), player = new Player(sound, () => {}, clock.later);
  player.load(music([note(0, 60, 2), note(3, 62)]));
  await player.play(0);
  await clock.run(1.5);
  assert.deepEqual(sound.released, []);
  await clock.run(1);
  near(sound.released[0].at - sound.struck[0].when, 2);
  player.stop();
});

test("an instrument is never told to release a key before it is told to press it", () => {
  const sent = [], output = { send: (data, at) => sent.push({ status: data[0], at }) };
  const sound = Object.assign(Object.create(Sound.prototype), { context: { currentTime: 1 }, piano: {}, output });
  sound.strike(60, 80, 1.1).kill(); // pressed in a tenth of a second, and taken back at once
  assert.deepEqual(sent.map(({ status }) => status), [0x90, 0x80]);
  assert.ok(sent[1].at >= sent[0].at);
});

test("the cursor waits for a model that is slower than the music", async () => {
  const clock = new FakeClock(), sound = fakeSound(clock), player = new Player(sound, () => {}, clock.later);
  player.load(music([note(0, 60), note(0.1, 62)]), { growing: true });
  await player.play(0);
  await clock.run(0.5);
  assert.ok(player.playing && player.position < 0.3);
  player.grow(music([note(0, 60), note(0.1, 62), note(0.2, 64)]), false);
  await clock.run(0.4);
  assert.deepEqual(pitches(sound), [60, 62, 64]);
  player.stop();
});

test("timers of a tab in the background may come once a second, and no note is late", async () => {
  const clock = new FakeClock(), sound = fakeSound(clock);
  const player = new Player(sound, () => {}, (ms, act) => clock.later(Math.max(ms, 1000), act));
  Object.defineProperty(sound, "ahead", Object.getOwnPropertyDescriptor(Sound.prototype, "ahead"));
  globalThis.document = { hidden: true };
  player.load(music(Array.from({ length: 40 }, (_, i) => note(0.25 * i, 40 + i))));
  await player.play(0);
  const begun = clock.now();
  await clock.run(9);
  assert.equal(sound.struck.length >= 36, true);
  sound.struck.forEach(({ when }, i) => near(when, begun + 0.08 + 0.25 * i));
  player.stop();
});

/** Call and response with a model that answers at once with `notes` and `pedals`, from half a second after the last note. */
function duetWith(answer, more = {}) {
  const clock = new FakeClock(), sound = fakeSound(clock), asked = [], lit = new Set(), told = [];
  const engine = {
    cancelled: 0,
    read() {},
    continue(seed, options, grow) {
      asked.push({ seed, options });
      grow({ fresh: answer(seed.notes.at(-1).onset + 0.5) });
      return { result: Promise.resolve(), cancel: () => engine.cancelled++ };
    },
    ...more,
  };
  const duet = new Duet({
    engine,
    sound,
    options: () => ({ seed: 4 }),
    heard: (piece, answering) => told.push({ piece, answering }),
    light: (pitch, on) => (on ? lit.add(pitch) : lit.delete(pitch)),
    now: clock.now,
    later: clock.later,
  });
  Object.assign(duet, { pause: 0.3, length: 3 });
  duet.start();
  return { clock, sound, asked, lit, told, engine, duet };
}

test("the model answers after the pause, and a key that is pressed takes over", async () => {
  const answer = (at) => ({ notes: [note(at, 70, 0.1), note(at + 0.1, 71, 0.1), note(at + 9, 72, 0.1)], pedals: [] });
  const { clock, sound, asked, lit, engine, duet } = duetWith(answer);
  duet.down(60, 90);
  await clock.run(0.05);
  duet.up(60);
  const released = clock.now();
  await clock.run(0.2);
  assert.equal(sound.struck.length, 0); // the answer is written already, and silent until the pause ends
  assert.deepEqual([asked.length, asked[0].options.notes, asked[0].seed.notes[0].pitch], [1, 3, 60]);
  assert.ok(asked[0].options.urgent); // it does not wait for takes that are generated
  await clock.run(0.15);
  assert.deepEqual([...lit], [70]);
  await clock.run(0.55);
  assert.deepEqual(pitches(sound), [70, 71]); // what sounds later is not handed on yet: it could not be taken back
  assert.ok(sound.struck[0].when - released >= 0.3 && duet.latency < 0.3);
  near(sound.struck[1].when - sound.struck[0].when, 0.1);
  duet.down(64, 90);
  await clock.run(10);
  assert.deepEqual(pitches(sound), [70, 71]);
  assert.deepEqual(duet.notes.map(({ pitch }) => pitch), [60, 70, 71, 64]); // 72 was never heard
  assert.ok(engine.cancelled === 1 && !lit.has(70));
  duet.end();
});

test("a note of the answer that sounds when a key is pressed ends there", async () => {
  const { clock, sound, duet } = duetWith((at) => ({ notes: [note(at, 70, 5)], pedals: [] }));
  duet.down(60, 90);
  duet.up(60);
  await clock.run(1.33);
  duet.down(64, 90);
  assert.deepEqual(sound.killed, [70]);
  near(duet.notes[1].duration, 1); // of the 5 s, as many as were heard
  duet.end();
});

test("the pedal of the answer holds its notes, and the model is told of it", async () => {
  const { clock, sound, duet, told } = duetWith((at) => ({ notes: [note(at, 70, 0.1), note(at + 1, 71, 0.1)], pedals: [{ onset: at, duration: 2 }] }));
  duet.down(60, 90);
  duet.up(60);
  await clock.run(5);
  const ends = Object.fromEntries(sound.released.map(({ pitch, at }) => [pitch, at - sound.struck[0].when]));
  near(ends[70], 2);
  near(ends[71], 2);
  const { pedals } = duet.seed();
  assert.equal(pedals.length, 1);
  near(pedals[0].duration, 2);
  assert.equal(told.at(-1).answering, false); // the answer is over, and the player's turn has come
  duet.end();
});

test("an answer that fails is told", async () => {
  const wrong = [];
  const { clock, duet } = duetWith(null, {
    continue: () => ({ result: Promise.reject(new Error("no weights")), cancel() {} }),
  });
  duet.trouble = ({ message }) => wrong.push(message);
  duet.down(60, 90);
  duet.up(60);
  await clock.run(2);
  assert.deepEqual(wrong, ["no weights"]);
  duet.end();
});

test("music that is only recorded is not answered", async () => {
  const { clock, duet } = duetWith(null, { continue: () => assert.fail("nobody asked") });
  duet.pause = Infinity;
  duet.down(60, 90);
  duet.up(60);
  await clock.run(5);
  assert.equal(duet.seed().notes.length, 1);
  duet.end();
});

test("call and response says from how many notes the model answers, where that is not all", () => {
  const { duet } = duetWith(() => ({ notes: [], pedals: [] })), told = [];
  globalThis.document = { getElementById: () => ({}), querySelector: () => ({ value: "duet" }) };
  const hands = Object.assign(Object.create(Hands.prototype), { duet, show() {}, tell: (words) => told.push(words) });
  duet.started = 0;
  const played = (count) => {
    duet.notes = Array.from({ length: count }, (_, i) => note(0.5 * i, 60));
    hands.heard(duet.seed(), false);
    return told.at(-1);
  };
  assert.equal(played(400), "Your turn: play, and pause for an answer.");
  assert.match(played(401), /It answers from the last 2\d\d notes\.$/);
  duet.end();
});

test("what is played on an instrument is not sent back to it", async () => {
  const sent = [];
  globalThis.document = { getElementById: () => ({}), querySelector: () => ({ value: "free" }) };
  const hands = Object.assign(Object.create(Hands.prototype), {
    player: { pause() {} },
    screen: { light() {} },
    duet: { down() {} },
    voices: new Map(),
    sound: { output: { name: "Stage piano" }, resume: async () => true, strike: (pitch) => (sent.push(pitch), null) },
  });
  await hands.down(60, 80, "Stage piano");
  assert.deepEqual(sent, []);
  await hands.down(60, 80, "Silent keyboard");
  await hands.down(62, 80); // a key on the screen
  assert.deepEqual(sent, [60, 62]);
});
