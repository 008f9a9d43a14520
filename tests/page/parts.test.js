// The page's other parts without a browser: MIDI files, WAV, links, the player, and call and response.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Duet } from "../../ittybitty/page/js/duet.js";
import { readMidi, writeMidi } from "../../ittybitty/page/js/midi.js";
import { performance as music, sounding } from "../../ittybitty/page/js/notes.js";
import { RATE, tone } from "../../ittybitty/page/js/piano.js";
import { Player } from "../../ittybitty/page/js/player.js";
import { linkOf, readLink } from "../../ittybitty/page/js/store.js";
import { writeWav } from "../../ittybitty/page/js/wav.js";

const told = JSON.parse(readFileSync(process.env.PAGE_FIXTURES, "utf8"));
const note = (onset, pitch, duration = 0.2, velocity = 80) => ({ onset, duration, pitch, velocity });
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const seconds = () => globalThis.performance.now() / 1000;

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

test("a file that is cut short is read as far as it goes, and rubbish is refused in one line", () => {
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

test("a link carries settings, and nothing out of range", () => {
  const settings = { temperature: 0.85, topK: 12, topP: 0.9, notes: 200, seed: 77 };
  assert.deepEqual(readLink(linkOf("Rag in F", settings)), { piece: "Rag in F", settings });
  assert.deepEqual(readLink("#temperature=9&topK=x&seed=-1&notes=50"), { piece: null, settings: { notes: 50 } });
  assert.deepEqual(readLink("#topK=9999", 271).settings, { topK: 271 }); // no more ids than the vocabulary has
});

function fakeSound() {
  const struck = [], killed = [];
  const strike = (pitch, velocity, when) => {
    struck.push({ pitch, when });
    return { release() {}, kill: () => killed.push(pitch) };
  };
  return { struck, killed, strike, now: seconds, resume: async () => true, ahead: 0.1 };
}

globalThis.document = { hidden: false };

test("the player hands every note on once, in time, and seeks", async () => {
  const sound = fakeSound(), player = new Player(sound, () => {});
  player.load(music([note(0, 60), note(0.1, 62), note(0.2, 64), note(5, 65)]));
  await player.play(0);
  await sleep(0.6);
  assert.deepEqual(sound.struck.map(({ pitch }) => pitch), [60, 62, 64]);
  assert.ok(Math.abs(sound.struck[2].when - sound.struck[0].when - 0.2) < 1e-6);
  await player.seek(4.9);
  await sleep(0.3);
  assert.equal(sound.struck.at(-1).pitch, 65);
  player.stop();
  assert.ok(sound.killed.includes(65) && player.position === 0 && !player.playing);
});

test("the cursor waits for a model that is slower than the music", async () => {
  const sound = fakeSound(), player = new Player(sound, () => {});
  player.load(music([note(0, 60), note(0.1, 62)]), { growing: true });
  await player.play(0);
  await sleep(0.5);
  assert.ok(player.playing && player.position < 0.3);
  player.grow(music([note(0, 60), note(0.1, 62), note(0.2, 64)]), false);
  await sleep(0.4);
  assert.deepEqual(sound.struck.map(({ pitch }) => pitch), [60, 62, 64]);
  player.stop();
});

test("the model answers after the pause, and whoever plays on takes over", async () => {
  const sound = fakeSound(), asked = [], lit = [];
  let cancelled = 0;
  const engine = {
    read() {},
    continue(seed, options, grow) {
      asked.push({ seed, options });
      const last = seed.notes.at(-1).onset;
      grow({ fresh: { notes: [note(last + 0.5, 70, 0.1), note(last + 0.6, 71, 0.1), note(last + 9, 72, 0.1)] } });
      return { result: Promise.resolve(), cancel: () => cancelled++ };
    },
  };
  const duet = new Duet({ engine, sound, options: () => ({ seed: 4 }), heard() {}, light: (pitch) => lit.push(pitch), now: seconds });
  Object.assign(duet, { pause: 0.3, length: 3 });
  duet.start();
  duet.down(60, 90);
  await sleep(0.05);
  duet.up(60);
  const released = seconds();
  await sleep(0.2);
  assert.equal(sound.struck.length, 0); // asked already, and silent until the pause ends
  assert.deepEqual([asked.length, asked[0].options.notes, asked[0].seed.notes[0].pitch], [1, 3, 60]);
  await sleep(0.7);
  assert.deepEqual(sound.struck.map(({ pitch }) => pitch), [70, 71, 72]);
  assert.ok(sound.struck[0].when - released >= 0.3 && duet.latency < 0.3);
  assert.ok(Math.abs(sound.struck[1].when - sound.struck[0].when - 0.1) < 1e-6);
  duet.down(64, 90);
  assert.deepEqual(duet.notes.map(({ pitch }) => pitch), [60, 70, 71, 64]); // 72 was never heard
  assert.ok(cancelled === 1 && sound.killed.includes(72) && lit.includes(70));
  duet.end();
});

test("who only records is not answered", async () => {
  const engine = { read() {}, continue: () => assert.fail("nobody asked") };
  const duet = new Duet({ engine, sound: fakeSound(), options: () => ({}), heard() {}, light() {}, now: seconds });
  duet.pause = Infinity;
  duet.start();
  duet.down(60, 90);
  duet.up(60);
  await sleep(0.3);
  assert.equal(duet.seed().notes.length, 1);
  duet.end();
});
