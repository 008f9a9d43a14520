// What is kept when the page is closed: takes and a beginning of one's own in the browser's storage, and settings in a link.

const round = (value) => Math.round(1000 * value) / 1000;
const pack = ({ notes, pedals }) => ({
  notes: notes.map(({ onset, duration, pitch, velocity, isNew }) => [round(onset), round(duration), pitch, velocity, isNew ? 1 : 0]),
  pedals: pedals.map(({ onset, duration }) => [round(onset), round(duration)]),
});

/** The performance of lists of numbers, as seeds and stored takes have them. */
export function unpack({ notes, pedals }) {
  return {
    notes: notes.map(([onset, duration, pitch, velocity, isNew]) => ({ onset, duration, pitch, velocity, ...(isNew ? { isNew: true } : {}) })),
    pedals: pedals.map(([onset, duration]) => ({ onset, duration })),
  };
}

/** The takes that were kept; none where the browser keeps nothing, or what it kept is damaged. */
export function loadTakes(name) {
  try {
    const found = JSON.parse(localStorage.getItem(name)) ?? [];
    return found.map((take) => ({ ...take, music: unpack(take.music) })).filter(({ music }) => music.notes.length);
  } catch {
    return [];
  }
}

/** Keeps the takes; returns false where the browser keeps nothing. */
export function saveTakes(name, takes) {
  try {
    localStorage.setItem(name, JSON.stringify(takes.map((take) => ({ ...take, music: pack(take.music) }))));
    return true;
  } catch {
    return false; // no storage, or no room in it
  }
}

/** Keeps a beginning of one's own {title, licence, music}, or forgets it where there is none. */
export function saveSeed(name, seed) {
  try {
    if (seed) localStorage.setItem(name, JSON.stringify({ ...seed, music: pack(seed.music) }));
    else localStorage.removeItem(name);
  } catch {
    // no storage, or no room in it: the beginning is lost when the page is closed
  }
}

/** The beginning that was kept, or null. */
export function loadSeed(name) {
  try {
    const seed = JSON.parse(localStorage.getItem(name));
    return seed && { ...seed, music: unpack(seed.music) };
  } catch {
    return null;
  }
}

const NUMBERS = { temperature: [0, 2], topK: [0, Infinity], topP: [0.01, 1], hold: [0, 4], notes: [10, 1000], seed: [0, 2 ** 31 - 1], from: [0, Infinity] };

/** "#piece=…&seed=7&temperature=0.9": the settings that give the same take again. */
export function linkOf(piece, settings) {
  const words = new URLSearchParams(piece ? { piece } : {});
  for (const name of Object.keys(NUMBERS)) {
    const known = Number.isFinite(settings[name]) && (piece || name !== "from"); // a second of a beginning that the link does not hold
    if (known) words.set(name, settings[name]);
  }
  return `#${words}`;
}

/** {piece, settings} of a link; what is no number or out of range is left out. A top-k above `mostChoices` becomes that. */
export function readLink(hash, mostChoices = Infinity) {
  const words = new URLSearchParams(hash.replace(/^#/, "")), settings = {};
  for (const [name, [least, most]] of Object.entries(NUMBERS)) {
    const value = Number(words.get(name));
    if (words.get(name) && value >= least && value <= most) settings[name] = value;
  }
  if ("topK" in settings) settings.topK = Math.min(settings.topK, mostChoices);
  return { piece: words.get("piece"), settings };
}
