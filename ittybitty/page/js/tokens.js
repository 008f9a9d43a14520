// Performance <-> ids, four ids an event: tokenizers/events/grid.py and tokenizer.py, with their names.
//
// The classes of time, duration and velocity come from Python as tables (tokenizer_tables in document.py).

import { LOWEST_PITCH, performance } from "./notes.js";
import { BOS, DURATION, EOS, G, KEYS, NONE, TIME, VELOCITY, WHAT } from "./model.js";

const PEDAL_DOWN = KEYS, PEDAL_UP = KEYS + 1;
const AFTER_ALL = 2 ** 52; // a tick after all music

export class EventTokenizer {
  /** `tables`: ticks_per_second, exact, times, lengths, loudness, pedal, pedal_step, first_ids, vocab_size. */
  constructor(tables) {
    Object.assign(this, tables);
  }

  /** Ids: BOS, four for each event, EOS, unless told otherwise. */
  encode(music, { bos = true, eos = true } = {}) {
    const events = quantise(music, this);
    const waits = silences(events, this);
    const first = this.first_ids;
    const body = events.flatMap(({ what, duration, velocity }, i) => [
      first[TIME] + waits[i],
      first[WHAT] + what,
      what < KEYS ? first[DURATION] + duration : NONE,
      what < KEYS ? first[VELOCITY] + velocity : NONE,
    ]);
    return [...(bos ? [BOS] : []), ...body, ...(eos ? [EOS] : [])];
  }

  /** The performance in seconds; specials are passed over, and an event cut off at the end is left out. */
  decode(ids) {
    const reader = this.reader();
    const notes = [], moves = [];
    for (const id of ids) {
      const { note, pedal } = reader.feed(id);
      if (note) notes.push(note);
      if (pedal) moves.push(pedal);
    }
    return performance(notes, pedals(moves, notes, this.ticks_per_second));
  }

  reader() {
    return new EventReader(this);
  }
}

/** Ids -> notes one id at a time: a note is given with the last id of its event. */
export class EventReader {
  constructor(tokenizer) {
    this.tokenizer = tokenizer;
    this.tick = 0;
    this.event = [];
    this.pedal = false; // held down
  }

  /** Second of the last event that has begun. */
  get clock() {
    return this.tick / this.tokenizer.ticks_per_second;
  }

  /** {note} or {pedal: {tick, down}} that this id completes, or {}. */
  feed(id) {
    const { first_ids: first, times, lengths, loudness, ticks_per_second: rate } = this.tokenizer;
    if (id >= first[TIME] && id < first[WHAT]) {
      this.event = [id];
      this.tick += times[id - first[TIME]];
    } else if (this.event.length) {
      this.event.push(id);
    }
    if (this.event.length < G) return {};
    const what = this.event[WHAT] - first[WHAT];
    const [duration, velocity] = [this.event[DURATION] - first[DURATION], this.event[VELOCITY] - first[VELOCITY]];
    this.event = [];
    if (what < 0 || what >= KEYS) {
      this.pedal = what === PEDAL_DOWN;
      return { pedal: { tick: this.tick, down: this.pedal } };
    }
    return {
      note: {
        onset: this.tick / rate,
        duration: lengths[Math.max(0, duration)] / rate,
        pitch: what + LOWEST_PITCH,
        velocity: loudness[Math.max(0, velocity)],
      },
    };
  }
}

/** Stretches of the pedal in seconds (to_performance): a pedal that is never lifted is lifted with the last note. */
function pedals(moves, notes, rate) {
  const turns = moves.filter(({ down }, i) => down !== (i ? moves[i - 1].down : false));
  const press = turns.filter(({ down }) => down).map(({ tick }) => tick);
  const release = turns.filter(({ down }) => !down).map(({ tick }) => tick);
  if (press.length > release.length) {
    const last = notes.reduce((end, n) => Math.max(end, Math.round((n.onset + n.duration) * rate)), 0);
    release.push(Math.max(last, press.at(-1) + 1));
  }
  return press
    .map((tick, i) => {
      const early = release[i] === press[i + 1] && release[i] > tick ? 0.25 : 0; // the dampers must come down
      return { onset: tick / rate, duration: (release[i] - early - tick) / rate };
    })
    .filter(({ duration }) => duration > 0);
}

/** Index of the closest of the rising `values`; the upper one in the middle. */
export function closest(values, wanted) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  const right = Math.min(low, values.length - 1), left = Math.max(right - 1, 0);
  return Math.abs(wanted - values[left]) < Math.abs(values[right] - wanted) ? left : right;
}

const ticksOf = (seconds, rate) => Math.floor(seconds * rate + 0.5);

/** Events {time in ticks, what, duration class, velocity class} in order. Notes off the piano are dropped. */
function quantise(music, grid) {
  const rate = grid.ticks_per_second;
  const strikes = oneStrike(
    music.notes
      .filter(({ pitch }) => pitch >= LOWEST_PITCH && pitch < LOWEST_PITCH + KEYS)
      .map(({ onset, duration, pitch, velocity }) => ({
        onset: ticksOf(Math.max(onset, 0), rate),
        duration: Math.max(ticksOf(duration, rate), 1),
        pitch,
        velocity,
      })),
  );
  let latest = 0;
  const moves = (grid.pedal ? music.pedals : []).flatMap(({ onset, duration }) =>
    [onset, onset + duration].map((second) => (latest = Math.max(latest, ticksOf(Math.max(second, 0), rate)))),
  );
  return arrange(strikes, moves, grid);
}

/** Sorted by (onset, pitch); of two strikes of a key at one tick the longer stays, and the louder. */
function oneStrike(notes) {
  notes.sort((a, b) => a.onset - b.onset || a.pitch - b.pitch || b.duration - a.duration);
  const kept = [];
  for (const note of notes) {
    const last = kept.at(-1);
    if (last && last.onset === note.onset && last.pitch === note.pitch) last.velocity = Math.max(last.velocity, note.velocity);
    else kept.push(note);
  }
  return kept;
}

/** Notes and pedal movements in turn (down first), in ticks, as events in order. */
function arrange(strikes, moves, grid) {
  const instants = [...new Set(strikes.map(({ onset }) => onset))];
  const rank = new Map(instants.map((onset, i) => [onset, i]));
  const placed = strikes.map(({ onset, duration, pitch, velocity }) => ({
    place: 2 * rank.get(onset),
    time: onset,
    what: pitch - LOWEST_PITCH,
    duration: closest(grid.lengths, duration),
    velocity: closest(grid.loudness, velocity),
  }));
  for (const { time, down, gap } of coarse(moves, instants, grid.pedal_step)) {
    placed.push({ place: 2 * gap + 1, time, what: down ? PEDAL_DOWN : PEDAL_UP, duration: -1, velocity: -1 });
  }
  return placed.sort((a, b) => a.place - b.place); // stable: notes by pitch, movements by time
}

/** Pedal movements rounded to `step` ticks after the last onset before them, never past the next one (grid.py's _coarse). */
function coarse(moves, instants, step) {
  const lastBefore = (tick) => instants.findLastIndex((onset) => onset <= tick);
  const after = (tick) => instants[lastBefore(tick) + 1] ?? AFTER_ALL;
  const times = moves.map((tick) => {
    const start = instants[lastBefore(tick)] ?? 0, room = Math.floor((after(tick) - start) / step);
    return start + Math.min(Math.floor((tick - start + Math.floor(step / 2)) / step), room) * step;
  });
  const kept = [];
  for (let i = 0; i < times.length; i += 2) {
    let [press, release] = times.slice(i, i + 2);
    if (release <= press) {
      const room = Math.min(after(release), times[i + 2] ?? AFTER_ALL);
      release = Math.max(release, press + step); // moved apart where there is room, dropped where not
      if (release > room) continue;
    }
    kept.push({ time: press, down: true }, { time: release, down: false });
  }
  return kept.map((move) => ({ ...move, gap: lastBefore(move.time) })); // at an onset: after its notes
}

/** Classes of the time since the event before; the waits after a rounded one make up for the rounding. */
function silences(events, grid) {
  const wait = events.map(({ time }, i) => time - (i ? events[i - 1].time : 0));
  const long = wait.map((ticks, i) => (ticks >= grid.exact ? i : -1)).filter((i) => i >= 0);
  for (const i of long) {
    const rounded = grid.times[closest(grid.times, wait[i])];
    const error = wait[i] <= grid.times.at(-1) ? rounded - wait[i] : 0;
    wait[i] = rounded;
    catchUp(wait, events, i + 1, error, grid.exact);
  }
  return wait.map((ticks) => closest(grid.times, ticks));
}

/** Shortens (lengthens, where `error` is below 0) the waits before notes from `first` on, each by at most half. */
function catchUp(wait, events, first, error, exact) {
  for (let i = first; i < wait.length && error !== 0; i++) {
    if (events[i].what >= KEYS) continue;
    if (wait[i] >= exact) {
      wait[i] = Math.max(exact, wait[i] - error); // rounded in its turn
      return;
    }
    const most = error > 0 ? Math.floor(wait[i] / 2) : Math.floor((wait[i] + 1) / 2);
    const change = Math.min(most, Math.abs(error)) * Math.sign(error);
    wait[i] -= change;
    error -= change;
  }
}
