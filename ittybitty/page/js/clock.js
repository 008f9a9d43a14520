// Timers that a tab in the background does not slow down: they run in a worker of their own, whose timers keep their pace.

import { startWorker } from "./engine.js";

const SCRIPT = "onmessage = ({ data: [id, ms] }) => setTimeout(() => postMessage(id), ms);";

export class Clock {
  constructor() {
    this.worker = startWorker(SCRIPT);
    this.waiting = new Map(); // id -> what is to be done
    this.number = 0;
    this.worker.onmessage = ({ data: id }) => {
      const act = this.waiting.get(id);
      this.waiting.delete(id);
      act?.();
    };
  }

  /** Calls `act` after `ms` milliseconds; returns a function that cancels this. */
  later = (ms, act) => {
    const id = ++this.number;
    this.waiting.set(id, act);
    this.worker.postMessage([id, Math.max(0, ms)]);
    return () => this.waiting.delete(id);
  };
}
