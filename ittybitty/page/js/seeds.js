// Finds the last chords that end a piece, after which a model expects silence. The rule and the names are those of seeds.py.

import { endOf } from "./notes.js";

const CHORD = 0.06; // s within which strikes count as one onset
const HELD = 2.0; // s that a last chord sounds at least
const TIMES = 6.0; // times the usual gap between onsets that it sounds at least
const SLOWER = 1.5; // times the usual gap: what counts as slowing down
const USUAL = 20.0; // s before the last onset, less LAST, whose gaps are the usual ones
const LAST = 4.0;
const LONGEST = 12.0; // s before the last onset: where an ending begins at the earliest
const FEWEST = 12; // onsets that a seed must have, so that something is left to go on from

/** Second at which the ending begins; null where the music does not end in one. */
export function ending(music) {
  const all = [...new Set(music.notes.map(({ onset }) => onset))].sort((a, b) => a - b);
  const onsets = all.filter((onset, i) => i === 0 || onset - all[i - 1] > CHORD);
  if (onsets.length < FEWEST) return null;
  const gaps = onsets.slice(1).map((onset, i) => onset - onsets[i]), last = onsets.at(-1);
  const usualGaps = gaps.filter((_, i) => onsets[i] > last - USUAL && onsets[i] < last - LAST);
  const usual = median(usualGaps.length ? usualGaps : gaps);
  const slow = gaps.map((gap) => gap >= SLOWER * usual);
  if (soundsUntil(music, last) - last < Math.max(HELD, TIMES * usual) || !slow.slice(-2).some(Boolean)) return null;
  let begins = onsets.length - 1; // index of the onset with which the ending begins
  while (begins > Math.floor(FEWEST / 2) && slow.slice(begins - 2, begins).some(Boolean) && onsets[begins - 1] >= last - LONGEST) begins--;
  return onsets[begins];
}

/** Second at which what is struck at `last` falls silent: keys and pedal are up. */
function soundsUntil(music, last) {
  const end = endOf(music);
  return music.pedals
    .filter(({ onset, duration }) => onset <= end && onset + duration > last)
    .reduce((latest, { onset, duration }) => Math.max(latest, onset + duration), end);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
