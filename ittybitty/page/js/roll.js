// The piano roll on a canvas: seed and new notes in two colours, the pedal below, the place where the new music begins (seam), a cursor. A click seeks.

import { endOf } from "./notes.js";

const LEAST = 9; // pixels a second; what is longer than the canvas is shown in part
const PEDAL = 12, AXIS = 18; // pixels

const FAINTEST = 0.75; // opacity at which a note still stands out from the paper (3:1) in both themes

/** Loud notes are darker (and higher) than quiet ones. */
export function opacity(velocity) {
  return FAINTEST + ((1 - FAINTEST) * velocity) / 127;
}

export class Roll {
  /** `seek` is called with the second that was clicked, or reached by keys. A small roll has neither axis nor cursor. */
  constructor(canvas, { seek = null, small = false } = {}) {
    Object.assign(this, { canvas, seek, small });
    this.music = { notes: [], pedals: [] };
    this.seam = 0;
    this.position = 0;
    this.follow = 0; // the second that should be in view
    this.probe = canvas.appendChild(document.createElement("i")); // resolves the style's colours, which a canvas cannot
    new ResizeObserver(() => this.draw()).observe(canvas);
    if (seek) {
      canvas.addEventListener("click", (event) => this.seek(this.secondAt(event.offsetX)));
      canvas.addEventListener("keydown", (event) => this.key(event));
    }
  }

  show(music, seam) {
    this.music = music;
    this.seam = seam;
    this.end = Math.max(endOf(music), 1);
    const pitches = music.notes.map(({ pitch }) => pitch);
    this.low = Math.min(48, ...pitches) - 2;
    this.high = Math.max(76, ...pitches) + 2;
    this.draw();
  }

  moveTo(position, follow = position) {
    this.position = position;
    this.follow = follow;
    this.draw();
  }

  /** Seconds in view. */
  get view() {
    const width = this.canvas.clientWidth || 1;
    const span = this.small ? this.end : Math.min(this.end, width / LEAST);
    const start = Math.max(0, Math.min(this.follow - 0.35 * span, this.end - span));
    return { start, span, width };
  }

  secondAt(x) {
    const { start, span, width } = this.view;
    return start + (x / width) * span;
  }

  key(event) {
    const to = { ArrowLeft: this.position - 1, ArrowRight: this.position + 1, Home: 0, End: this.end }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.seek(to);
  }

  draw() {
    const { canvas } = this, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || this.end === undefined) return;
    const sharp = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(height * sharp);
    context.scale(sharp, sharp);
    const ink = this.colours();
    const { start, span } = this.view, x = (second) => ((second - start) / span) * width;
    const floor = height - PEDAL * (this.small ? 0.5 : 1) - (this.small ? 0 : AXIS);
    this.grid(context, ink, x, floor, width, height, start, span);
    this.pedals(context, ink, x, floor);
    this.notes(context, ink, x, floor, start, start + span);
    if (this.seam > 0) {
      context.setLineDash([4, 4]);
      line(context, ink("soft"), x(this.seam), 0, x(this.seam), floor, 1);
      context.setLineDash([]);
    }
    if (!this.small) line(context, ink("ink"), x(this.position), 0, x(this.position), floor + PEDAL, 2);
  }

  /** name -> colour, as the style has it at this moment. */
  colours() {
    const known = {};
    return (name) => {
      if (!known[name]) {
        this.probe.style.color = `var(--${name})`;
        known[name] = getComputedStyle(this.probe).color;
      }
      return known[name];
    };
  }

  grid(context, ink, x, floor, width, height, start, span) {
    const row = floor / (this.high - this.low);
    for (let pitch = 12 * Math.ceil(this.low / 12); pitch < this.high; pitch += 12) {
      line(context, ink("edge"), 0, floor - (pitch - this.low) * row, width, floor - (pitch - this.low) * row, 1);
      if (!this.small) write(context, ink("soft"), `C${pitch / 12 - 1}`, 4, floor - (pitch - this.low) * row - 3);
    }
    if (this.small) return;
    const wanted = (span * 70) / width, step = [1, 2, 5, 10, 15, 30, 60, 120].find((seconds) => seconds >= wanted) ?? 300;
    for (let second = step * Math.ceil(start / step); second <= start + span; second += step) {
      line(context, ink("edge"), x(second), floor + PEDAL, x(second), floor + PEDAL + 4, 1);
      if (x(second) < width - 24) write(context, ink("soft"), `${second} s`, x(second) + 3, height - 4);
    }
  }

  pedals(context, ink, x, floor) {
    const { notes } = this.music;
    let last = 0; // the note before the pedal moves, or the first one: the pedal has its colour
    for (const { onset, duration } of this.music.pedals) {
      while (last + 1 < notes.length && notes[last + 1].onset <= onset + 1e-6) last++;
      context.fillStyle = ink(notes[last]?.isNew ? "new" : "seed");
      context.globalAlpha = FAINTEST;
      const high = this.small ? 3 : PEDAL - 5;
      context.fillRect(x(onset), floor + 3, Math.max(1, x(onset + duration) - x(onset) - 1), high);
    }
    context.globalAlpha = 1;
  }

  notes(context, ink, x, floor, first, last) {
    const row = floor / (this.high - this.low), most = Math.max(2, Math.min(row * 0.9, 9));
    for (const { onset, duration, pitch, velocity, isNew } of this.music.notes) {
      if (onset > last || onset + duration < first) continue;
      context.fillStyle = ink(isNew ? "new" : "seed");
      context.globalAlpha = opacity(velocity);
      const high = most * (0.6 + (0.4 * velocity) / 127);
      const y = floor - (pitch - this.low + 0.5) * row - high / 2;
      context.fillRect(x(onset), y, Math.max(1.5, x(onset + duration) - x(onset) - 0.5), high);
    }
    context.globalAlpha = 1;
  }
}

function line(context, colour, x1, y1, x2, y2, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

function write(context, colour, words, x, y) {
  context.fillStyle = colour;
  context.font = "11px system-ui, sans-serif";
  context.fillText(words, x, y);
}
