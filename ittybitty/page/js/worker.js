// The worker: the model runs here, so that the page never stutters. Jobs run one after the other, a few events at a time; a job
// whose options say `urgent` (an answer in call and response) runs before all others.
//
//   in   {type: "model", document, weights}   {type: "continue", id, seed, options}   {type: "read", seed, options}
//        {type: "cancel", id}                 {type: "tones", wanted: [{key, layer}]}
//   out  {type: "ready"}   {type: "grown", id, fresh, joined, done, seconds}   {type: "trouble", id, message}
//        {type: "tone", key, layer, samples}

import { Continuation, Listener, makePrompt } from "./generate.js";
import { EventGrammar } from "./grammar.js";
import { EventModel } from "./model.js";
import { tone } from "./piano.js";
import { EventTokenizer } from "./tokens.js";
import { fromBase64, Weights } from "./weights.js";

const TURN = 30; // ms that a job computes before messages are read again
const REPORT = 120; // ms between two reports of one job

let parts = null; // {model, tokenizer, grammar, listener}
const jobs = []; // {id, seed, options, began, reported, made}, the current one first
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
    job.made ??= new Continuation(parts, job.seed, job.options);
    while (!job.made.done && performance.now() < until) job.made.step();
    const { done } = job.made, now = performance.now();
    if (done) jobs.splice(jobs.indexOf(job), 1);
    if (done || now - job.reported > (job.made.found < 8 ? 0 : REPORT)) {
      job.reported = now;
      postMessage({ type: "grown", id: job.id, ...job.made.result(), done, seconds: (now - job.began) / 1000 });
    }
  } catch (error) {
    jobs.splice(jobs.indexOf(job), 1);
    postMessage({ type: "trouble", id: job.id, message: String(error.message ?? error) });
  }
}

function make({ key, layer }) {
  const samples = tone(key, layer);
  postMessage({ type: "tone", key, layer, samples }, [samples.buffer]);
}

const ANSWERS = {
  model({ document, weights }) {
    const model = new EventModel(new Weights(document.weights, fromBase64(weights)), document.model);
    const tokenizer = new EventTokenizer(document.tokenizer);
    const grammar = new EventGrammar(tokenizer, document.tokenizer.longest);
    parts = { model, tokenizer, grammar, listener: new Listener(model) };
    postMessage({ type: "ready" });
  },
  continue({ id, seed, options }) {
    const job = { id, seed, options, began: performance.now(), reported: 0 };
    if (options.urgent) jobs.unshift(job);
    else jobs.push(job);
  },
  /** Reads a seed before its continuation is asked for. */
  read({ seed, options }) {
    if (parts && seed.notes.length) parts.listener.after(makePrompt(seed, parts.tokenizer, options).ids.slice(0, -1));
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
