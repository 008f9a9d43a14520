// The page's side of the worker: continuations as promises, with reports while they grow.

/** Starts a worker from the script that the page carries; a blob, since a page on disk may load no other file. */
export function startWorker(script) {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(url);
  URL.revokeObjectURL(url);
  return worker;
}

/** Settings with some of them changed: config.py's `changed`. A temperature or top-p that differs holds for every part of a note. */
export function changed(usual, options) {
  const settings = { ...usual };
  for (const name of ["temperature", "topP"]) {
    if ((options[name] ?? usual[name]) === usual[name]) continue;
    for (const part of ["time", "expression"]) delete settings[part + name[0].toUpperCase() + name.slice(1)];
  }
  return { ...settings, ...options };
}

export class Engine {
  constructor(worker, document, weights) {
    this.worker = worker;
    this.defaults = { ...document.prompt, ...document.sampling, notes: 100, seed: 1 };
    this.jobs = new Map();
    this.readings = new Map(); // id -> who is told
    this.number = 0;
    this.ready = new Promise((resolve, reject) => {
      this.started = resolve;
      this.failed = reject;
    });
    worker.onmessage = ({ data }) => this.hear(data);
    worker.onerror = (event) => this.failed(new Error(event.message || "the page's worker cannot be started"));
    worker.postMessage({ type: "model", document, weights });
  }

  /** {result: Promise of {fresh, joined, seconds}, cancel()}; `grow` is called with what there is so far. */
  continue(seed, options, grow = () => {}) {
    const id = ++this.number;
    const result = new Promise((resolve, reject) => this.jobs.set(id, { resolve, reject, grow, last: null }));
    this.worker.postMessage({ type: "continue", id, seed, options: changed(this.defaults, options) });
    const cancel = () => {
      this.worker.postMessage({ type: "cancel", id });
      const job = this.jobs.get(id);
      if (job) job.resolve(job.last && { ...job.last, stopped: true });
      this.jobs.delete(id);
    };
    return { result, cancel };
  }

  /** Lets the model read a seed before its continuation is asked for; `told` is called with {whole, notes}: how much of it is read. */
  read(seed, { urgent = false, told = () => {} } = {}) {
    if (!seed.notes.length) return;
    const id = ++this.number;
    this.readings.clear(); // nobody waits for earlier ones
    this.readings.set(id, told);
    this.worker.postMessage({ type: "read", id, seed, options: { ...this.defaults, urgent } });
  }

  hear(data) {
    if (data.type === "ready") this.started();
    if (data.type === "read") this.readings.get(data.id)?.(data);
    const job = this.jobs.get(data.id);
    if (data.type === "trouble" && !job) this.failed(new Error(data.message));
    if (!job) return;
    if (data.type === "grown") {
      job.last = data;
      job.grow(data);
    }
    if (data.type === "trouble") job.reject(new Error(data.message));
    if (data.done) job.resolve(data);
    if (data.done || data.type === "trouble") this.jobs.delete(data.id);
  }
}
