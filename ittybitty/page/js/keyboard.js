// Ways to play: keys on the screen, the computer's keys, a MIDI keyboard. All of them call down(pitch, velocity) and up(pitch).

const NAMES = ["C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B"];
const BLACK = [1, 3, 6, 8, 10];
const COMPUTER = Array.from("AWSEDFTGYHUJKOLP", (letter) => `Key${letter}`); // semitones from C up, arranged as the keys of a piano are
const VELOCITY = 80;

/** "C4", "C sharp 4" */
export function nameOf(pitch) {
  const name = NAMES[pitch % 12];
  return `${name}${name.length > 1 ? " " : ""}${Math.floor(pitch / 12) - 1}`;
}

/** Keys on the screen in `element`; pointers, and the focus moved by arrows with Enter or the space bar. */
export class ScreenKeys {
  constructor(element, hands) {
    Object.assign(this, { element, hands });
    this.low = null; // lowest pitch that is shown; about middle C until it is moved
    this.held = new Map(); // pointer -> pitch
    element.addEventListener("pointerdown", (event) => this.point(event));
    element.addEventListener("pointermove", (event) => this.held.has(event.pointerId) && this.point(event));
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
      element.addEventListener(kind, (event) => this.lift(event.pointerId));
    }
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("keyup", (event) => [" ", "Enter"].includes(event.key) && this.lift("key"));
    element.addEventListener("focusout", () => this.lift("key"));
    new ResizeObserver(() => this.build()).observe(element);
  }

  /** As many octaves as there is room for. */
  build() {
    const octaves = Math.max(1, Math.min(4, Math.floor(this.element.clientWidth / 250)));
    this.low ??= 60 - 12 * Math.floor(octaves / 2);
    if (octaves === this.octaves && this.low === this.built) return;
    Object.assign(this, { octaves, built: this.low });
    const whites = 7 * octaves + 1;
    this.element.style.setProperty("--whites", whites);
    let white = 0;
    this.keys = Array.from({ length: 12 * octaves + 1 }, (_, i) => {
      const key = document.createElement("button"), black = BLACK.includes(i % 12);
      key.type = "button";
      key.className = black ? "black" : "white";
      key.dataset.pitch = this.low + i;
      key.tabIndex = i === 0 ? 0 : -1;
      key.setAttribute("aria-label", nameOf(this.low + i));
      key.style.setProperty("--at", black ? white : white++);
      if (i % 12 === 0) key.textContent = `C${(this.low + i) / 12 - 1}`;
      return key;
    });
    this.element.replaceChildren(...this.keys);
  }

  shift(octaves) {
    this.low = Math.max(24, Math.min(108 - 12 * this.octaves, this.low + 12 * octaves));
    this.build();
  }

  /** Moves by octaves until `pitch` is among the keys that are shown. */
  reveal(pitch) {
    while (pitch < this.low && this.low > 24) this.shift(-1);
    while (pitch > this.low + 12 * this.octaves && this.low < 108 - 12 * this.octaves) this.shift(1);
  }

  point(event) {
    const key = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-pitch]");
    if (!key || !this.element.contains(key)) return;
    const pitch = Number(key.dataset.pitch);
    if (this.held.get(event.pointerId) === pitch) return;
    if (event.type === "pointerdown") this.element.setPointerCapture(event.pointerId);
    this.lift(event.pointerId);
    const box = key.getBoundingClientRect(), depth = (event.clientY - box.top) / box.height; // lower down is louder
    this.press(event.pointerId, pitch, Math.round(50 + 60 * Math.max(0, Math.min(1, depth))));
  }

  key(event) {
    const at = this.keys.indexOf(document.activeElement);
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (move && this.keys[at + move]) {
      event.preventDefault();
      this.keys[at].tabIndex = -1;
      this.keys[at + move].tabIndex = 0;
      this.keys[at + move].focus();
    }
    if ([" ", "Enter"].includes(event.key)) {
      event.preventDefault();
      if (!event.repeat && at >= 0) this.press("key", Number(this.keys[at].dataset.pitch), VELOCITY);
    }
  }

  press(who, pitch, velocity) {
    this.held.set(who, pitch);
    this.hands.down(pitch, velocity);
  }

  lift(who) {
    if (!this.held.has(who)) return;
    this.hands.up(this.held.get(who));
    this.held.delete(who);
  }

  /** Shows a key as held, whoever holds it. */
  light(pitch, on) {
    this.keys?.find((key) => Number(key.dataset.pitch) === pitch)?.classList.toggle("on", on);
  }
}

/**
 * The keys A W S E D … of the computer as keys from C up; X and Z move by an octave. They are known by their place, since
 * keyboards of other languages have other letters there. They do nothing while a field or a list has the focus.
 */
export class ComputerKeys {
  constructor(hands) {
    this.base = 60;
    this.held = new Map();
    addEventListener("keydown", (event) => {
      if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input[type=number], select")) return;
      const { code } = event, step = COMPUTER.indexOf(code);
      if (code === "KeyZ" || code === "KeyX") {
        this.base = Math.max(24, Math.min(96, this.base + (code === "KeyX" ? 12 : -12)));
        hands.screen.reveal(this.base);
      }
      if (step < 0 || this.held.has(code)) return;
      this.held.set(code, this.base + step);
      hands.down(this.base + step, VELOCITY);
    });
    const lift = (code) => {
      if (this.held.has(code)) hands.up(this.held.get(code));
      this.held.delete(code);
    };
    addEventListener("keyup", (event) => lift(event.code));
    addEventListener("blur", () => [...this.held.keys()].forEach(lift)); // a key that is released elsewhere is not reported here
  }
}

/** Listens to every MIDI input, also to those that are plugged in later. Resolves to the MIDIAccess. */
export async function connectMidi(hands, changed) {
  if (!navigator.requestMIDIAccess) {
    throw new Error(
      "This browser has no Web MIDI: Safari and the browsers of iPhone and iPad lack it, Chrome, Edge and Firefox on other " +
        "systems have it. The keys on the screen and of the computer play too.",
    );
  }
  const access = await navigator.requestMIDIAccess().catch(() => {
    throw new Error("The browser did not allow MIDI; allow it in the settings of this page, and connect again.");
  });
  const listen = () => {
    for (const input of access.inputs.values()) input.onmidimessage = ({ data }) => hear(data, hands, input);
    changed(access);
  };
  access.onstatechange = listen;
  listen();
  return access;
}

function hear([status, pitch, value], hands, input) {
  const kind = status & 0xf0;
  if (kind === 0x90 && value > 0) hands.down(pitch, value, input.name);
  else if (kind === 0x80 || kind === 0x90) hands.up(pitch);
  else if (kind === 0xb0 && pitch === 64) hands.pedal(value >= 64);
}
