// The worker: the model runs here, so that the page never stutters. Jobs run one after the other, a few events at a time; jobs
// whose options say `urgent` (call and response) run before all others.
//
//   in   {type: "model", document, weights}   {type: "continue", id, seed, options}   {type: "read", id, seed, options}
//        {type: "cancel", id}                 {type: "tones", wanted: [{key, layer}]}
//   out  {type: "ready"}   {type: "grown", id, fresh, joined, done, seconds}   {type: "read", id, whole, notes}
//        {type: "trouble", id, message}       {type: "tone", key, layer, samples}

import { Continuation, Listener, Reading } from "./generate.js";
import { EventGrammar } from "./grammar.js";
import { EventModel } from "./model.js";
import { tone } from "./piano.js";
import { EventTokenizer } from "./tokens.js";
import { fromBase64, Weights } from "./weights.js";

const TURN = 30; // ms that a job computes before messages are read again
const REPORT = 120; // ms between two reports of one job

let parts = null; // {model, tokenizer, grammar, listener}
const jobs = []; // {id, type, seed, options, began, reported, made}, the current one first
const tones = [];

// A message of the worker to itself: unlike a timer, it is not slowed down in a tab in the background.
const turns = new MessageChannel();
let waiting = false;

function awake() {
  if (waiting) return;
  waiting = true;
  turns.port2.postMessage(null);
}

turns.port1.onmessage = () => {
  waiting = false;
  if (jobs.length && parts) work(jobs[0]);
  else if (tones.length) make(tones.shift());
  if (jobs.length || tones.length) awake();
};

function work(job) {
  const until = performance.now() + TURN;
  try {
    job.made ??= job.type === "read" ? reading(job) : new Continuation(parts, job.seed, job.options);
    while (!job.made.done && performance.now() < until) job.made.step();
    const { done } = job.made, now = performance.now();
    if (done) jobs.splice(jobs.indexOf(job), 1);
    if (job.type === "read") return;
    if (done || now - job.reported > (job.made.found < 8 ? 0 : REPORT)) {
      job.reported = now;
      postMessage({ type: "grown", id: job.id, ...job.made.result(), done, seconds: (now - job.began) / 1000 });
    }
  } catch (error) {
    jobs.splice(jobs.indexOf(job), 1);
    postMessage({ type: "trouble", id: job.id, message: String(error.message ?? error) });
  }
}

/** Begins to read a seed; tells whether all of it is read, or how many of its last notes. */
function reading({ id, seed, options }) {
  const made = new Reading(parts, seed, options);
  postMessage({ type: "read", id, whole: made.whole, notes: made.notes });
  return made;
}

/** Puts a job behind those that are as urgent. */
function queue(job) {
  const behind = job.options.urgent ? jobs.findIndex(({ options }) => !options.urgent) : -1;
  jobs.splice(behind < 0 ? jobs.length : behind, 0, job);
}

function make({ key, layer }) {
  const samples = tone(key, layer);
  postMessage({ type: "tone", key, layer, samples }, [samples.buffer]);
}

const ANSWERS = {
  model({ document, weights }) {
    const model = new EventModel(new Weights(document.weights, fromBase64(weights)), document.model);
    const tokenizer = new EventTokenizer(document.tokenizer);
    const grammar = new EventGrammar(tokenizer, document.tokenizer);
    parts = { model, tokenizer, grammar, listener: new Listener(model) };
    postMessage({ type: "ready" });
  },
  continue({ type, id, seed, options }) {
    queue({ type, id, seed, options, began: performance.now(), reported: 0 });
  },
  /** Reads a seed before its continuation is asked for; only the seed of the latest request is read, unless reading has begun. */
  read({ type, id, seed, options }) {
    const old = jobs.findIndex((job) => job.type === "read" && !job.made && !job.options.urgent === !options.urgent);
    if (old >= 0) jobs.splice(old, 1);
    queue({ type, id, seed, options });
  },
  cancel({ id }) {
    const at = jobs.findIndex((job) => job.id === id);
    if (at >= 0) jobs.splice(at, 1);
  },
  tones({ wanted }) {
    tones.push(...wanted);
  },
};

onmessage = ({ data }) => {
  try {
    ANSWERS[data.type](data);
  } catch (error) {
    postMessage({ type: "trouble", id: data.id, message: String(error.message ?? error) });
  }
  awake();
};
