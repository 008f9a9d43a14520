// A performance as plain objects, with the operations of notes.py that the page needs. All are pure.
//
//   {notes: [{onset s, duration s, pitch, velocity}], pedals: [{onset s, duration s}]}, notes sorted by (onset, pitch)
//
// A note that the model made has isNew too: the roll shows it in another colour.

export const LOWEST_PITCH = 21; // A0
export const HIGHEST_PITCH = 108; // C8

export function performance(notes = [], pedals = []) {
  return {
    notes: notes.map((note) => ({ ...note })).sort((a, b) => a.onset - b.onset || a.pitch - b.pitch),
    pedals: pedals.map((pedal) => ({ ...pedal })).sort((a, b) => a.onset - b.onset),
  };
}

/** Second at which the last key is released; pedal is not counted. */
export function endOf({ notes }) {
  return notes.reduce((end, note) => Math.max(end, note.onset + note.duration), 0);
}

/** Everything `seconds` later. */
export function shift({ notes, pedals }, seconds) {
  const move = (item) => ({ ...item, onset: item.onset + seconds });
  return { notes: notes.map(move), pedals: pedals.map(move) };
}

/** Notes whose onset lies in [start, end), with the pedal cut to that span; times stay absolute. */
export function between({ notes, pedals }, start, end) {
  const cut = pedals.map(({ onset, duration }) => {
    const from = Math.max(onset, start);
    return { onset: from, duration: Math.min(onset + duration, end) - from };
  });
  return {
    notes: notes.filter(({ onset }) => onset >= start && onset < end),
    pedals: cut.filter(({ duration }) => duration > 0),
  };
}

/** Both on one time line; pedal stretches that touch are made one. */
export function join(first, second) {
  const both = performance([...first.notes, ...second.notes], [...first.pedals, ...second.pedals]);
  const pedals = [];
  for (const { onset, duration } of both.pedals) {
    const last = pedals.at(-1);
    if (last && onset <= last.onset + last.duration + 1e-6) {
      last.duration = Math.max(last.onset + last.duration, onset + duration) - last.onset;
    } else {
      pedals.push({ onset, duration });
    }
  }
  return { notes: both.notes, pedals };
}

/** Notes with the durations one hears: held by the pedal, cut when the same key is struck again (audio.py's `sounding`). */
export function sounding({ notes, pedals }) {
  const struck = new Map(); // pitch -> the onset that follows
  return [...notes]
    .reverse()
    .map((note) => {
      let end = note.onset + note.duration;
      for (const pedal of pedals) {
        if (pedal.onset <= end && pedal.onset + pedal.duration > end) end = pedal.onset + pedal.duration;
      }
      end = Math.min(end, struck.get(note.pitch) ?? Infinity);
      struck.set(note.pitch, note.onset);
      return { ...note, duration: Math.max(end - note.onset, 0.02) };
    })
    .reverse();
}
