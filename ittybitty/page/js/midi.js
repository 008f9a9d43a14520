// MIDI files: read as one piano (midi.py), and written so that every key is released before it is struck again.

import { HIGHEST_PITCH, LOWEST_PITCH, performance } from "./notes.js";

export const LARGEST = 2 ** 20; // bytes: more than any piece of MAESTRO has; as widget/seeds.py
const DRUMS = 9; // the channel of General MIDI's percussion
const SUSTAIN = 64;
const TICKS = 960; // a second of a written file: 480 a quarter at 120 a minute

/** Refuses a file by its size (bytes), before it is read. */
export function checkSize(size, name) {
  if (size > LARGEST) {
    throw new Error(`${name} has ${(size / 2 ** 20).toFixed(1)} MiB; choose a MIDI file of at most ${LARGEST / 2 ** 20} MiB.`);
  }
}

/** The performance of a file's bytes; an Error whose text says what is wrong with it, and what to do. */
export function readMidi(bytes, name = "this file") {
  checkSize(bytes.length, name);
  const { division, events } = chunks(bytes, name);
  const seconds = clock(events, division);
  const music = perform(events, seconds);
  if (!music.notes.length) {
    const drums = events.some(({ status }) => status === (0x90 | DRUMS));
    throw new Error(`${name} holds ${drums ? "only a drum track" : "no piano notes"}; choose a file with notes of a piano.`);
  }
  return music;
}

function text(bytes, at) {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}

/** {division, events: [{tick, order, status, data}]} of all tracks, in the order of time. */
function chunks(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = text(bytes, 0) === "RIFF" && text(bytes, 8) === "RMID" ? 20 : 0; // .rmi: a MIDI file in a RIFF chunk
  if (text(bytes, at) !== "MThd" || bytes.length < at + 14) {
    throw new Error(`${name} is not a MIDI file; choose one that ends in .mid or .midi.`);
  }
  const division = view.getInt16(at + 12), events = [];
  at += 8 + view.getUint32(at + 4);
  while (at + 8 <= bytes.length) {
    const size = view.getUint32(at + 4), end = Math.min(at + 8 + size, bytes.length); // a file that was cut short is read as far as it goes
    if (text(bytes, at) === "MTrk") track(bytes.subarray(at + 8, end), events);
    at += 8 + size;
  }
  events.sort((a, b) => a.tick - b.tick || a.order - b.order);
  return { division, events };
}

function track(bytes, events) {
  let at = 0, tick = 0, status = 0;
  const number = () => {
    let value = 0, byte;
    do value = value * 128 + ((byte = bytes[at++]) & 127);
    while (byte > 127 && at < bytes.length);
    return value;
  };
  while (at < bytes.length) {
    tick += number();
    if (bytes[at] > 127) status = bytes[at++];
    if (status === 0xff) {
      const kind = bytes[at++], size = number();
      if (kind === 0x51) events.push({ tick, order: events.length, status, data: bytes.subarray(at, at + 3) });
      if (kind === 0x2f) return;
      at += size;
    } else if (status === 0xf0 || status === 0xf7) {
      at += number();
    } else if (status >= 0x80) {
      const size = (status & 0xe0) === 0xc0 ? 1 : 2; // program and pressure have one byte of data
      events.push({ tick, order: events.length, status, data: bytes.subarray(at, at + size) });
      at += size;
    } else {
      return; // data without a status: damaged from here on
    }
  }
}

/** tick -> second, by the file's tempos. */
function clock(events, division) {
  if (division < 0) {
    const rate = -(division >> 8) * (division & 255); // frames a second, ticks a frame
    return (tick) => tick / rate;
  }
  const changes = [{ tick: 0, second: 0, length: 0.5 / division }];
  for (const { tick, status, data } of events) {
    if (status !== 0xff || data.length < 3) continue;
    const last = changes.at(-1), microseconds = (data[0] << 16) | (data[1] << 8) | data[2];
    changes.push({ tick, second: last.second + (tick - last.tick) * last.length, length: microseconds / 1e6 / division });
  }
  let at = 0;
  return (tick) => {
    while (at + 1 < changes.length && changes[at + 1].tick <= tick) at++;
    while (changes[at].tick > tick) at--;
    return changes[at].second + (tick - changes[at].tick) * changes[at].length;
  };
}

function perform(events, seconds) {
  const notes = [], pedals = [], held = new Map(), pressed = new Map(); // "channel pitch" -> note; channel -> second
  let now = 0;
  const release = (key) => {
    const note = held.get(key);
    if (note) note.duration = Math.max(now - note.onset, 0.001);
    held.delete(key);
  };
  for (const { tick, status, data } of events) {
    const kind = status & 0xf0, channel = status & 15, key = `${channel} ${data[0]}`;
    now = seconds(tick);
    if (status === 0xff || channel === DRUMS) continue;
    if (kind === 0x80 || kind === 0x90) release(key);
    if (kind === 0x90 && data[1] > 0 && data[0] >= LOWEST_PITCH && data[0] <= HIGHEST_PITCH) {
      held.set(key, { onset: now, duration: 0, pitch: data[0], velocity: data[1] });
      notes.push(held.get(key));
    }
    if (kind === 0xb0 && data[0] === SUSTAIN) {
      const down = data[1] >= 64;
      if (down && !pressed.has(channel)) pressed.set(channel, now);
      if (!down && pressed.has(channel)) {
        pedals.push({ onset: pressed.get(channel), duration: now - pressed.get(channel) });
        pressed.delete(channel);
      }
    }
  }
  for (const key of [...held.keys()]) release(key); // keys that are never released end with the file
  for (const onset of pressed.values()) pedals.push({ onset, duration: now - onset });
  return performance(notes, pedals.filter(({ duration }) => duration > 0));
}

/** Bytes of a MIDI file of one track. */
export function writeMidi({ notes, pedals }) {
  const events = []; // [tick, rank, bytes]: at one tick releases come first
  const again = new Map();
  for (const { onset, duration, pitch, velocity } of [...notes].reverse()) {
    const end = Math.min(onset + duration, again.get(pitch) ?? Infinity);
    again.set(pitch, onset);
    const start = Math.round(onset * TICKS);
    events.push([start, 2, [0x90, pitch, velocity]], [Math.max(Math.round(end * TICKS), start + 1), 0, [0x80, pitch, 64]]);
  }
  for (const { onset, duration } of pedals) {
    events.push([Math.round(onset * TICKS), 1, [0xb0, SUSTAIN, 127]], [Math.round((onset + duration) * TICKS), 0, [0xb0, SUSTAIN, 0]]);
  }
  events.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2][1] - b[2][1]);
  const body = [0, 0xff, 0x51, 3, 0x07, 0xa1, 0x20, 0, 0xc0, 0]; // 120 a minute, a grand piano
  let before = 0;
  for (const [tick, , bytes] of events) {
    body.push(...variable(tick - before), ...bytes);
    before = tick;
  }
  body.push(0, 0xff, 0x2f, 0);
  const size = [24, 16, 8, 0].map((bits) => (body.length >> bits) & 255);
  const head = [...bytesOf("MThd"), 0, 0, 0, 6, 0, 0, 0, 1, (TICKS / 2) >> 8, (TICKS / 2) & 255];
  return Uint8Array.from([...head, ...bytesOf("MTrk"), ...size, ...body]);
}

const bytesOf = (letters) => Array.from(letters, (letter) => letter.charCodeAt(0));

/** A number in groups of seven bits, all but the last marked. */
function variable(value) {
  const found = [value & 127];
  while ((value >>= 7)) found.unshift((value & 127) | 128);
  return found;
}
