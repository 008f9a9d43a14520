// The page: beginning, settings, takes and player; what is played on the keys is in hands.js.

import { Clock } from "./clock.js";
import { Engine, startWorker } from "./engine.js";
import { Hands } from "./hands.js";
import { checkSize, readMidi, writeMidi } from "./midi.js";
import { between, endOf, performance as music, shift } from "./notes.js";
import { Player } from "./player.js";
import { Roll } from "./roll.js";
import { ending } from "./seeds.js";
import { render, Sound } from "./sound.js";
import { linkOf, loadSeed, loadTakes, readLink, saveSeed, saveTakes, unpack } from "./store.js";
import { TakeList } from "./takes.js";
import { changeTheme, followTheme } from "./theme.js";
import { writeWav } from "./wav.js";

const $ = (id) => document.getElementById(id);
const told = JSON.parse($("document").textContent);
const script = $("worker").textContent;
const soundWorker = startWorker(script); // computes tones while the other one runs the model
const engine = new Engine(startWorker(script), told, $("weights").textContent);
const sound = new Sound(soundWorker);

const MOST_TAKES = 12;
const SEED_SECONDS = 30, SEED_NOTES = 1000; // of a file's end, as in the playground
const STORE = `ittybitty ${told.name}`, STORED_SEED = `${STORE} beginning`;
const NARROW = matchMedia("(max-width: 860px)"); // as in page.css
const CORPORA = { maestro: "MAESTRO v3.0.0", asap: "ASAP", embedded: "works in the public domain" };
const DRAWN = 10000; // seed numbers that the page draws are below this; any other can be typed
const SLIDERS = ["temperature", "topK", "topP", "hold", "notes"];
const MOST_CHOICES = Math.max(...told.tokenizer.sizes); // ids that are ever drawn from at once: a larger top-k changes nothing

const seeds = told.seeds.map(({ title, licence, ...rows }) => ({ title, licence, music: unpack(rows) }));
// shown: a take, else played: what was played on the keys, else the seed; before: the takes before some were removed
// begin: second of the seed at which new music begins, null for its end; read: how many of its notes the model reads, where these are not all
const state = { seed: seeds[0], begin: null, read: null, takes: loadTakes(STORE), shown: null, played: null, jobs: [], made: 0, before: null };
state.made = Math.max(0, ...state.takes.map(({ id }) => id));

const roll = new Roll($("roll"), { seek: (second) => player.seek(second).catch(complain) });
const { later } = new Clock();
const player = new Player(sound, () => follow(), later);
const list = new TakeList($("takes"), { show: listen, goOn, keep, save: saveMidi, drop });
let hands = null;

// ------------------------------------------------------------------ what is shown

function complain(error) {
  $("trouble").textContent = error.message ?? String(error);
}

function say(words) {
  $("status").textContent = words;
}

const beginning = () => (state.begin === null ? state.seed.music : between(state.seed.music, -Infinity, state.begin)); // what is continued
const shownMusic = () => state.shown?.music ?? state.played ?? beginning();
const shownSeam = () => state.shown?.seam ?? 0;
const shownTitle = () => state.shown?.title ?? (state.played ? "What you played" : state.seed.title);

/** Shows a take, or the seed. */
function show(take, at = 0) {
  hands?.quiet();
  Object.assign(state, { shown: take, played: null });
  player.load(shownMusic(), { growing: Boolean(take?.growing), at });
  refresh();
}

/** Shows what is played on the keys, with the cursor at its end; null shows the seed. */
function showPlayed(piece) {
  if (!piece) return show(null);
  Object.assign(state, { shown: null, played: piece });
  player.load(piece, { at: Infinity });
  refresh();
}

/** Plays what is shown; nothing else goes on sounding. */
function play(from) {
  $("trouble").textContent = "";
  hands.quiet();
  return player.play(from);
}

function refresh(anew = false) {
  roll.show(shownMusic(), shownSeam());
  list.render(state.takes, state.shown, anew);
  $("roll-title").textContent = state.shown || state.played ? shownTitle() : "Beginning";
  $("no-takes").hidden = state.takes.length > 0;
  tellRemoved();
  $("halt").hidden = !state.jobs.length;
  const { notes } = beginning(), seconds = endOf({ notes });
  const licence = state.seed.licence.replace(/^./, (letter) => letter.toUpperCase());
  const part = state.read === null ? "" : ` The model reads the last ${count(state.read, "note")}; it cannot read more at once.`;
  $("seed-line").textContent = notes.length
    ? `${count(notes.length, "note")}, ${seconds.toFixed(0)} s. ${licence}.${part}`
    : "The model begins a piece of its own.";
  $("hear-seed").disabled = !notes.length;
  const nothing = !shownMusic().notes.length;
  for (const id of ["play", "stop", "save-midi", "save-wav"]) $(id).disabled = nothing;
  follow();
}

const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

function follow() {
  const { position, playing, end = 0 } = player, growing = state.shown?.growing && !playing;
  roll.moveTo(position, growing ? end : position);
  $("play").textContent = playing ? "Pause" : "Play";
  $("time").textContent = `${position.toFixed(1)} of ${end.toFixed(1)} s`;
  const slider = $("roll");
  slider.setAttribute("aria-valuemax", end.toFixed(1));
  slider.setAttribute("aria-valuenow", position.toFixed(1));
  slider.setAttribute("aria-valuetext", `${position.toFixed(1)} of ${end.toFixed(1)} seconds`);
  if (playing && !follow.frame) {
    follow.frame = requestAnimationFrame(() => {
      follow.frame = 0;
      follow();
    });
  }
}

// ------------------------------------------------------------------ settings

function settings() {
  const values = Object.fromEntries(SLIDERS.map((name) => [name, Number($(name).value)]));
  return { ...values, seed: Math.max(0, Math.min(2 ** 31 - 1, Math.round(Number($("number").value)) || 0)) };
}

function setSettings(values) {
  for (const name of SLIDERS) if (name in values) $(name).value = values[name];
  if ("seed" in values) {
    $("number").value = values.seed;
    $("fresh").checked = false;
  }
  const { temperature, topK, topP, hold, notes } = settings();
  $("temperature-value").textContent = temperature ? temperature.toFixed(2) : "0 (greedy)";
  $("topK-value").textContent = topK || "off";
  $("topP-value").textContent = topP < 1 ? topP.toFixed(2) : "off";
  $("hold-value").textContent = hold ? hold.toFixed(1) : "off";
  $("notes-value").textContent = notes;
}

function drawNumber() {
  $("number").value = Math.floor(DRAWN * Math.random());
}

/** Names this model's own settings for some parts of a note, which hold until a slider is moved. */
function tellParts() {
  const { timeTemperature, timeTopP, expressionTemperature, expressionTopP } = engine.defaults;
  const own = (temperature, topP) => [temperature && `temperature ${temperature.toFixed(2)}`, topP && `top-p ${topP.toFixed(2)}`].filter(Boolean).join(" and ");
  const time = own(timeTemperature, timeTopP), expression = own(expressionTemperature, expressionTopP);
  const untouched = [timeTemperature, timeTopP, expressionTemperature, expressionTopP].every((value) => value === 1);
  const sentences = untouched
    ? ["they apply to the keys only; times, lengths and loudness are drawn from the model’s own probabilities"]
    : [time && `the time between notes is drawn with ${time}`, expression && `length and loudness of notes are drawn with ${expression}`].filter(Boolean);
  $("parts-line").hidden = !sentences.length;
  $("parts-line").textContent = `Until you change temperature or top-p, ${sentences.join(", and ")}.`;
}

// ------------------------------------------------------------------ seeds

/** Lets new music begin at a second of the seed; at its end, where the second is null or not inside it. */
function beginAt(second) {
  const { notes } = state.seed.music, slider = $("begin"), tenths = (seconds) => Math.ceil(10 * seconds - 1e-6) / 10;
  slider.min = tenths((notes[0]?.onset ?? 0) + 0.1);
  slider.max = tenths(endOf({ notes }));
  $("begin-row").hidden = Number(slider.min) >= Number(slider.max);
  state.begin = second === null || !(second > (notes[0]?.onset ?? Infinity)) || second >= Number(slider.max) ? null : second;
  slider.value = state.begin ?? slider.max;
  const words = state.begin === null ? "its end" : `${state.begin.toFixed(1)} s`;
  $("begin-value").textContent = words;
  slider.setAttribute("aria-valuetext", words);
}

/** Lets the model read the beginning, so that its continuation begins at once. */
function read() {
  const { seed, begin } = state;
  state.read = null;
  engine.read(beginning(), { told: ({ whole, notes }) => tellRead(seed, begin, whole ? null : notes) });
}

/** `begin`: where new music begins unless the slider is moved. */
function choose(seed, begin = seed.begin ?? null) {
  state.seed = seed;
  beginAt(begin);
  $("trouble").textContent = "";
  const known = seeds.indexOf(seed);
  const option = $("seed").querySelector("option[value=own]");
  option.hidden = known >= 0;
  if (known < 0) option.textContent = seed.title;
  $("seed").value = known < 0 ? "own" : known;
  saveSeed(STORED_SEED, known < 0 ? seed : null);
  read();
  show(null);
}

/** Tells how much of the seed the model reads, where that is not all of it. */
function tellRead(seed, begin, notes) {
  if (state.seed !== seed || state.begin !== begin) return;
  state.read = notes;
  refresh();
}

async function readFile(file) {
  $("trouble").textContent = "";
  try {
    if (!file) return;
    checkSize(file.size, file.name);
    const bytes = new Uint8Array(await file.arrayBuffer());
    const piece = readMidi(bytes, file.name), { start, taken } = lastPart(piece), from = ending(piece);
    const part = taken.notes.length < piece.notes.length ? `the last ${endOf(taken).toFixed(0)} s of your own file` : "your own file";
    choose({ title: file.name, licence: `${part}; it stays on this device`, music: taken, begin: from === null ? null : from - start });
    const words = from === null ? "" : " Its last chords sound like the end of a piece, so the new music begins before them. Move the slider to the right to begin after them.";
    say(`${file.name} is the beginning now.${words}`);
  } catch (error) {
    complain(error);
  }
}

/** The last 30 seconds, or 1,000 notes, of a piece from second `start` on; the first note taken is at second 0. */
function lastPart(piece) {
  const last = piece.notes.at(-1).onset, onsets = piece.notes.map(({ onset }) => onset);
  const start = onsets.find((onset) => onset >= Math.max(last + 2 - SEED_SECONDS, onsets.at(-SEED_NOTES) ?? 0)) ?? last;
  return { start, taken: shift(between(piece, start, Infinity), -start) };
}

// ------------------------------------------------------------------ takes

async function make(number) {
  $("trouble").textContent = "";
  if ($("fresh").checked) drawNumber();
  const { seed } = state, chosen = { ...settings(), from: state.begin }, begun = beginning();
  const source = music(begun.notes, begun.pedals);
  const fresh = Array.from({ length: number }, (_, i) => newTake(seed, source, { ...chosen, seed: chosen.seed + i }));
  say(source.notes.length ? "The model reads the beginning …" : "The model begins …");
  state.before = null;
  makeRoom(number);
  state.takes = [...fresh, ...state.takes];
  show(fresh[0], fresh[0].seam);
  if (NARROW.matches) $("stage").scrollIntoView();
  const running = fresh.map((take) => grow(take, source));
  if ($("at-once").checked) play($("from-seam").checked ? fresh[0].seam : 0).catch(complain);
  await Promise.all(running);
}

/** Removes the oldest takes where there would be too many; the button above the list brings them back. */
function makeRoom(number) {
  const finished = state.takes.filter(({ growing }) => !growing).sort((a, b) => a.id - b.id);
  const old = finished.slice(0, Math.max(0, state.takes.length + number - MOST_TAKES));
  if (!old.length) return;
  state.before = state.takes;
  state.takes = state.takes.filter((take) => !old.includes(take));
}

/** Names the takes that the button above the list brings back. */
function tellRemoved() {
  const removed = (state.before ?? []).filter((take) => !state.takes.includes(take));
  $("undo").hidden = !removed.length;
  $("undo").textContent = removed.length > 1 ? `Bring back ${removed.length} removed takes` : `Bring back ${removed[0]?.title ?? ""}`;
}

function newTake(seed, source, chosen) {
  const id = ++state.made;
  const words = `${seed.title} · temperature ${chosen.temperature.toFixed(2)} · seed number ${chosen.seed}`;
  return { id, title: `Take ${id}`, words, music: source, seam: source.notes.at(-1)?.onset ?? 0, settings: chosen, piece: seeds.includes(seed) ? seed.title : "", growing: true };
}

async function grow(take, source) {
  let begun = false;
  const job = engine.continue(source, take.settings, ({ joined, done }) => {
    if (!begun) say(`${take.title} is being generated …`);
    begun = true;
    update(take, joined, !done);
  });
  state.jobs.push(Object.assign(job, { take }));
  refresh();
  try {
    const result = await job.result;
    if (!result) return remove(take); // stopped before its first note
    take.stopped = Boolean(result.stopped);
    update(take, result.joined, false);
    say(result.stopped ? `${take.title} was stopped.` : `${take.title}: ${count(result.fresh.notes.length, "note")} in ${result.seconds.toFixed(1)} s.`);
  } catch (error) {
    remove(take);
    complain(error);
  } finally {
    state.jobs = state.jobs.filter((one) => one !== job);
    if (!store()) say("This browser keeps no takes when the page is closed: save those that you like as MIDI.");
    refresh();
  }
}

function update(take, joined, growing) {
  Object.assign(take, { music: joined, growing });
  if (take === state.shown) player.grow(joined, growing);
  refresh();
}

function listen(take) {
  show(take, $("from-seam").checked ? take.seam : 0);
  play(player.at).catch(complain);
  if (NARROW.matches) $("stage").scrollIntoView();
}

function goOn(take) {
  const notes = take.music.notes.map(({ isNew, ...note }) => note);
  choose({ title: take.title, licence: "a take of this page", music: music(notes, take.music.pedals) });
  say(`${take.title} is the beginning now: press “Continue it” to go on from its end.`);
  $("make").focus();
}

function keep(take) {
  state.before = state.takes;
  state.takes = state.takes.filter((one) => one === take || one.growing);
  store();
  show(take, take.seam);
}

/** Removes a take because its button was pressed: that can be undone. */
function drop(take) {
  const before = take.growing ? null : state.takes;
  remove(take);
  state.before = before;
  refresh();
  (before ? $("undo") : $("make")).focus(); // the button that was pressed is gone
}

function remove(take) {
  state.jobs.filter((job) => job.take === take).forEach((job) => job.cancel());
  state.takes = state.takes.filter((one) => one !== take);
  store();
  if (take === state.shown) show(null);
  else refresh();
}

function undo() {
  state.takes = [...state.takes.filter((take) => !state.before.includes(take)), ...state.before];
  state.before = null;
  store();
  refresh();
  $("takes").querySelector("button")?.focus();
}

function store() {
  return saveTakes(STORE, state.takes.filter(({ growing }) => !growing));
}

// ------------------------------------------------------------------ files and links

function save(bytes, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const fileName = (title) => `itty-bitty-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}`;

function saveMidi(take = null) {
  save(writeMidi(take?.music ?? shownMusic()), `${fileName(take?.title ?? shownTitle())}.mid`, "audio/midi");
}

async function saveWav() {
  say("Writing the sound …");
  await sound.all;
  save(writeWav(await render(shownMusic(), sound.tones), 44100), `${fileName(shownTitle())}.wav`, "audio/wav");
  say("The sound is written.");
}

async function copyLink() {
  const { piece, settings: chosen } = state.shown ?? { piece: seeds.includes(state.seed) ? state.seed.title : "", settings: { ...settings(), from: state.begin } };
  const link = location.href.split("#")[0] + linkOf(piece, chosen);
  try {
    await navigator.clipboard.writeText(link);
    say(`The link is copied. ${whatOf(piece)}`);
  } catch {
    prompt("Copy this link:", link);
    say(whatOf(piece));
  }
}

/** What a link to a piece holds, and for whom. */
function whatOf(piece) {
  const holds = piece ? "It holds the piece, the settings and the seed number." : "It holds the settings and the seed number, but not your own beginning: send that as a MIDI file.";
  return location.protocol === "file:" ? `${holds} It leads to this file on this device; put the file on a web server to share it.` : holds;
}

function followLink() {
  const { piece, settings: chosen } = readLink(location.hash, MOST_CHOICES);
  setSettings(chosen);
  const seed = seeds.find(({ title }) => title === piece);
  if (seed) choose(seed, chosen.from ?? null);
  if (Object.keys(chosen).length) say("These are the settings of the link: press “Continue it” to hear its take.");
}

// ------------------------------------------------------------------ the page starts

function wire() {
  const click = (id, act) => $(id).addEventListener("click", () => Promise.resolve(act()).catch(complain));
  click("make", () => make(1));
  click("make-four", () => make(4));
  click("halt", () => {
    [...state.jobs].reverse().forEach((job) => job.cancel());
    $("make").focus(); // the button that was pressed is hidden now
  });
  click("usual", () => setSettings(usual()));
  click("undo", undo);
  click("play", () => (player.playing ? player.pause() : play(player.at === 0 && $("from-seam").checked ? shownSeam() : undefined)));
  addEventListener("keydown", (event) => {
    if (event.key !== " " || event.repeat || ![document.body, $("roll")].includes(event.target)) return;
    event.preventDefault(); // the page would scroll
    $("play").click();
  });
  click("stop", () => {
    hands.quiet();
    player.stop();
  });
  click("hear-seed", () => {
    show(null);
    return play(0);
  });
  click("save-midi", () => saveMidi());
  click("save-wav", saveWav);
  click("copy-link", copyLink);
  click("choose-file", () => $("file").click());
  $("file").addEventListener("change", (event) => {
    readFile(event.target.files[0]);
    event.target.value = "";
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("drop");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("drop")); // out of the window
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("drop");
    readFile(event.dataTransfer.files[0]);
  });
  addEventListener("pagehide", () => {
    player.pause(); // an instrument would go on sounding
    hands.quiet();
  });
  $("seed").addEventListener("change", (event) => event.target.value !== "own" && choose(seeds[event.target.value]));
  $("begin").addEventListener("input", () => {
    beginAt(Number($("begin").value));
    show(null);
  });
  $("begin").addEventListener("change", read);
  for (const name of SLIDERS) $(name).addEventListener("input", () => setSettings({}));
  $("number").addEventListener("input", () => ($("fresh").checked = false)); // a number that was typed stays
  addEventListener("hashchange", followLink);
  new ResizeObserver(() => $("controls").style.setProperty("--tall", `${$("controls").offsetHeight}px`)).observe($("controls"));
  click("theme", () => {
    changeTheme();
    refresh(true);
  });
}

const usual = () => Object.fromEntries(SLIDERS.filter((name) => name !== "notes").map((name) => [name, engine.defaults[name]]));

function about() {
  const corpora = told.trained_on.map(({ corpus, licence }) => `${CORPORA[corpus] ?? corpus} (${licence})`).join(", ");
  const licences = [...new Set(told.trained_on.map(({ licence }) => licence))].join(", ");
  $("about-model").textContent =
    `The model “${told.name}” has ${(told.parameters / 1e6).toFixed(1)} million parameters, in blocks ${told.model.pattern} ` +
    `(M Mamba, F feed-forward, A sparse attention). Its weights are rounded to 8 bits. ` +
    (corpora ? `It was trained on ${corpora}; its weights carry that licence: ${licences}.` : "It is not recorded what it was trained on, so the licence of its weights is not known.");
}

for (const [i, { title }] of seeds.entries()) $("seed").append(new Option(title, i));
$("seed").append(Object.assign(new Option("", "own"), { hidden: true }));
seeds.push({ title: "Nothing: a piece from silence", licence: "", music: music() });
$("seed").append(new Option(seeds.at(-1).title, seeds.length - 1));
$("topK").max = MOST_CHOICES;
setSettings(usual());
drawNumber();
tellParts();
wire();
about();
$("settings").open = !NARROW.matches; // on a phone the music comes first
followTheme(() => refresh(true));
hands = new Hands({ engine, sound, player, later, settings, choose, show: showPlayed, complain });
const kept = loadSeed(STORED_SEED);
choose(kept?.music.notes.length ? kept : state.seed);
followLink();
engine.ready.then(() => {
  for (const id of ["make", "make-four"]) $(id).disabled = false;
  document.documentElement.dataset.ready = "yes";
  if ($("status").textContent === "Loading the model …") say("Ready.");
}, complain);

/** For tests and for teachers: resolves to the notes that follow `notes`. A note is {onset, duration, pitch, velocity}; temperature 0 is greedy. */
window.ittybitty = {
  async continue(notes, { pedals = [], ...options } = {}) {
    await engine.ready;
    const { fresh } = await engine.continue(music(notes, pedals), options).result;
    return fresh.notes.map(({ onset, duration, pitch, velocity }) => ({ onset, duration, pitch, velocity }));
  },
};
