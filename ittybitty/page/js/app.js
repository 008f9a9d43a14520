// The page: seed, settings, takes, transport; what is played on the keys is in hands.js.

import { Engine, startWorker } from "./engine.js";
import { Hands } from "./hands.js";
import { checkSize, readMidi, writeMidi } from "./midi.js";
import { between, endOf, performance as music, shift } from "./notes.js";
import { Player } from "./player.js";
import { Roll } from "./roll.js";
import { render, Sound } from "./sound.js";
import { linkOf, loadTakes, readLink, saveTakes, unpack } from "./store.js";
import { TakeList } from "./takes.js";
import { writeWav } from "./wav.js";

const $ = (id) => document.getElementById(id);
const told = JSON.parse($("document").textContent);
const script = $("worker").textContent;
const soundWorker = startWorker(script); // tones are computed beside the model, not in its way
const engine = new Engine(startWorker(script), told, $("weights").textContent);
const sound = new Sound(soundWorker);

const MOST_TAKES = 12;
const SEED_SECONDS = 30, SEED_NOTES = 1000; // of a file's end, as in the playground
const STORE = `ittybitty ${told.name}`;
const SLIDERS = ["temperature", "topK", "topP", "notes"];
const MOST_CHOICES = Math.max(...told.tokenizer.sizes); // ids that are ever drawn from at once: a larger top-k changes nothing

const seeds = told.seeds.map(({ title, licence, ...rows }) => ({ title, licence, music: unpack(rows) }));
const state = { seed: seeds[0], takes: loadTakes(STORE), shown: null, jobs: [], made: 0 };
state.made = Math.max(0, ...state.takes.map(({ id }) => id));

const roll = new Roll($("roll"), { seek: (second) => player.seek(second).catch(complain) });
const player = new Player(sound, () => follow());
const list = new TakeList($("takes"), { show: listen, goOn, keep, save: saveMidi, drop });

// ------------------------------------------------------------------ what is shown

function complain(error) {
  $("trouble").textContent = error.message ?? String(error);
}

function say(words) {
  $("status").textContent = words;
}

const shownMusic = () => state.shown?.music ?? state.seed.music;
const shownSeam = () => state.shown?.seam ?? 0;

function show(take, at = 0) {
  state.shown = take;
  player.load(shownMusic(), { growing: Boolean(take?.growing), at });
  refresh();
}

function refresh(anew = false) {
  roll.show(shownMusic(), shownSeam());
  list.render(state.takes, state.shown, anew);
  $("roll-title").textContent = state.shown?.title ?? "Beginning";
  $("no-takes").hidden = state.takes.length > 0;
  $("halt").disabled = !state.jobs.length;
  const { notes } = state.seed.music, seconds = endOf(state.seed.music);
  $("seed-line").textContent = notes.length
    ? `${notes.length} notes, ${seconds.toFixed(0)} s; ${state.seed.licence}.`
    : "A piece from nothing.";
  $("hear-seed").disabled = !notes.length;
  const nothing = !shownMusic().notes.length;
  for (const id of ["play", "stop", "save-midi", "save-wav"]) $(id).disabled = nothing;
  follow();
}

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
  if ("seed" in values) $("number").value = values.seed;
  const { temperature, topK, topP, notes } = settings();
  $("temperature-value").textContent = temperature ? temperature.toFixed(2) : "0 (greedy)";
  $("topK-value").textContent = topK || "off";
  $("topP-value").textContent = topP < 1 ? topP.toFixed(2) : "off";
  $("notes-value").textContent = notes;
}

function another() {
  $("number").value = crypto.getRandomValues(new Uint32Array(1))[0] % 100000;
}

// ------------------------------------------------------------------ seeds

function choose(seed) {
  state.seed = seed;
  const known = seeds.indexOf(seed);
  const option = $("seed").querySelector("option[value=own]");
  option.hidden = known >= 0;
  if (known < 0) option.textContent = seed.title;
  $("seed").value = known < 0 ? "own" : known;
  show(null);
}

async function readFile(file) {
  $("trouble").textContent = "";
  try {
    if (!file) return;
    checkSize(file.size, file.name);
    const bytes = new Uint8Array(await file.arrayBuffer());
    choose({ title: file.name, licence: "your own file, it stays on this device", music: ending(readMidi(bytes, file.name)) });
    say(`${file.name} is the beginning now.`);
  } catch (error) {
    complain(error);
  }
}

/** The last 30 seconds, or 1,000 notes, from second 0 on. */
function ending(piece) {
  const last = piece.notes.at(-1).onset, onsets = piece.notes.map(({ onset }) => onset);
  const start = onsets.find((onset) => onset >= Math.max(last + 2 - SEED_SECONDS, onsets.at(-SEED_NOTES) ?? 0)) ?? last;
  return shift(between(piece, start, Infinity), -start);
}

// ------------------------------------------------------------------ takes

async function make(count) {
  $("trouble").textContent = "";
  const { seed } = state, chosen = settings();
  const source = music(seed.music.notes.map(({ isNew, ...note }) => note), seed.music.pedals);
  const fresh = Array.from({ length: count }, (_, i) => newTake(seed, source, { ...chosen, seed: chosen.seed + i }));
  state.takes = [...fresh, ...state.takes].slice(0, MOST_TAKES);
  show(fresh[0], fresh[0].seam);
  const running = fresh.map((take) => grow(take, source));
  if ($("at-once").checked) player.play($("from-seam").checked ? fresh[0].seam : 0).catch(complain);
  await Promise.all(running);
}

function newTake(seed, source, chosen) {
  const id = ++state.made;
  const words = `${seed.title} · temperature ${chosen.temperature.toFixed(2)} · seed number ${chosen.seed}`;
  return { id, title: `Take ${id}`, words, music: source, seam: source.notes.at(-1)?.onset ?? 0, settings: chosen, piece: seeds.includes(seed) ? seed.title : "", growing: true };
}

async function grow(take, source) {
  const job = engine.continue(source, take.settings, ({ joined, done }) => update(take, joined, !done));
  state.jobs.push(Object.assign(job, { take }));
  refresh();
  try {
    const result = await job.result;
    if (!result) return drop(take); // stopped before its first note
    take.stopped = Boolean(result.stopped);
    update(take, result.joined, false);
    if (!result.stopped) say(`${take.title}: ${result.fresh.notes.length} notes in ${result.seconds.toFixed(1)} s.`);
  } catch (error) {
    drop(take);
    complain(error);
  } finally {
    state.jobs = state.jobs.filter((one) => one !== job);
    if (!saveTakes(STORE, state.takes.filter(({ growing }) => !growing))) say("This browser keeps no takes: save those you like as MIDI.");
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
  player.play(player.at).catch(complain);
}

function goOn(take) {
  choose({ title: take.title, licence: "a take of this page", music: take.music });
  say(`${take.title} is the beginning now: Continue goes on from its end.`);
}

function keep(take) {
  state.takes = state.takes.filter((one) => one === take || one.growing);
  saveTakes(STORE, state.takes.filter(({ growing }) => !growing));
  show(take);
}

function drop(take) {
  state.jobs.filter((job) => job.take === take).forEach((job) => job.cancel());
  state.takes = state.takes.filter((one) => one !== take);
  saveTakes(STORE, state.takes.filter(({ growing }) => !growing));
  if (take === state.shown) show(null);
  else refresh();
}

// ------------------------------------------------------------------ files and links

function save(bytes, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const fileName = (take) => `itty-bitty-${(take?.title ?? state.seed.title).toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;

function saveMidi(take = state.shown) {
  save(writeMidi(take?.music ?? state.seed.music), `${fileName(take)}.mid`, "audio/midi");
}

async function saveWav() {
  say("Writing the sound …");
  await sound.all;
  save(writeWav(await render(shownMusic(), sound.tones), 44100), `${fileName(state.shown)}.wav`, "audio/wav");
  say("The sound is written.");
}

async function copyLink() {
  const { piece, settings: chosen } = state.shown ?? { piece: seeds.includes(state.seed) ? state.seed.title : "", settings: settings() };
  const link = location.href.split("#")[0] + linkOf(piece, chosen);
  try {
    await navigator.clipboard.writeText(link);
    say("The link is copied: it carries piece, settings and seed number.");
  } catch {
    prompt("The link, to be copied:", link);
  }
}

function followLink() {
  const { piece, settings: chosen } = readLink(location.hash, MOST_CHOICES);
  setSettings(chosen);
  const seed = seeds.find(({ title }) => title === piece);
  if (seed) choose(seed);
  if (Object.keys(chosen).length) say("Settings of the link: press Continue to hear its take.");
}

// ------------------------------------------------------------------ the beginning

function wire() {
  const click = (id, act) => $(id).addEventListener("click", () => Promise.resolve(act()).catch(complain));
  click("make", () => make(1));
  click("make-four", () => make(4));
  click("halt", () => [...state.jobs].reverse().forEach((job) => job.cancel()));
  click("another", another);
  click("play", () => (player.playing ? player.pause() : player.play(player.at === 0 && $("from-seam").checked ? shownSeam() : undefined)));
  click("stop", () => player.stop());
  click("hear-seed", () => {
    show(null);
    return player.play(0);
  });
  click("save-midi", () => saveMidi());
  click("save-wav", saveWav);
  click("copy-link", copyLink);
  click("choose-file", () => $("file").click());
  $("file").addEventListener("change", (event) => {
    readFile(event.target.files[0]);
    event.target.value = "";
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    readFile(event.dataTransfer.files[0]);
  });
  $("seed").addEventListener("change", (event) => event.target.value !== "own" && choose(seeds[event.target.value]));
  for (const name of SLIDERS) $(name).addEventListener("input", () => setSettings({}));
  addEventListener("hashchange", followLink);
  click("theme", theme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => refresh(true));
}

function theme() {
  const root = document.documentElement, dark = getComputedStyle(root).colorScheme === "dark" || (getComputedStyle(root).colorScheme === "light dark" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "light" : "dark";
  refresh(true);
}

function about() {
  const corpora = told.trained_on.map(({ corpus, licence }) => `${corpus} (${licence})`).join(", ");
  const licences = [...new Set(told.trained_on.map(({ licence }) => licence))].join(", ");
  $("about-model").textContent =
    `The model “${told.name}” has ${(told.parameters / 1e6).toFixed(1)} million parameters, in blocks ${told.model.pattern} ` +
    `(M Mamba, F feed-forward, A sparse attention), rounded to 8 bits. ` +
    (corpora ? `It was trained on ${corpora}; its weights carry that licence: ${licences}.` : "What it was trained on is not recorded, and so no licence of its weights is known.");
}

for (const [i, { title }] of seeds.entries()) $("seed").append(new Option(title, i));
$("seed").append(Object.assign(new Option("", "own"), { hidden: true }));
seeds.push({ title: "Nothing: a piece from silence", licence: "", music: music() });
$("seed").append(new Option(seeds.at(-1).title, seeds.length - 1));
$("topK").max = MOST_CHOICES;
const { temperature, topK, topP } = engine.defaults;
setSettings({ temperature, topK, topP });
wire();
about();
new Hands({ engine, sound, player, settings, choose, show: (piece) => roll.show(piece, 0), say, complain });
followLink();
show(state.shown);
engine.ready.then(() => {
  for (const id of ["make", "make-four"]) $(id).disabled = false;
  document.documentElement.dataset.ready = "yes";
  if ($("status").textContent === "Loading the model …") say("Ready.");
}, complain);

/** For tests and for teachers: notes in, the notes that follow out; a note is {onset, duration, pitch, velocity}, temperature 0 is greedy. */
window.ittybitty = {
  async continue(notes, { pedals = [], ...options } = {}) {
    await engine.ready;
    const { fresh } = await engine.continue(music(notes, pedals), options).result;
    return fresh.notes.map(({ onset, duration, pitch, velocity }) => ({ onset, duration, pitch, velocity }));
  },
};
