// The list of takes: each with a small piano roll and its buttons.

import { Roll } from "./roll.js";

/** A take: {id, title, words, music, seam, growing}. `acts`: show, keep, goOn, save, drop, each told the take. */
export class TakeList {
  constructor(element, acts) {
    Object.assign(this, { element, acts });
    this.cards = new Map(); // id -> {card, roll, line}
  }

  /** `anew`: draws the rolls again too, since their colours may have changed. */
  render(takes, shown, anew = false) {
    for (const [id, { card }] of this.cards) {
      if (takes.some((take) => take.id === id)) continue;
      card.remove();
      this.cards.delete(id);
    }
    takes.forEach((take, place) => {
      const made = this.cards.get(take.id) ?? this.build(take), { card, roll, line, buttons } = made;
      if (this.element.children[place] !== card) this.element.insertBefore(card, this.element.children[place] ?? null);
      const count = take.music.notes.filter(({ isNew }) => isNew).length;
      card.classList.toggle("shown", take === shown);
      buttons.show.setAttribute("aria-pressed", String(take === shown));
      line.textContent = `${take.words} · ${count} new notes${take.growing ? " so far" : ""}${take.stopped ? " (stopped)" : ""}`;
      for (const name of ["keep", "goOn", "save"]) buttons[name].disabled = take.growing;
      if (anew || made.music !== take.music) roll.show((made.music = take.music), take.seam);
    });
  }

  build(take) {
    const card = document.createElement("li"), title = document.createElement("h3"), line = document.createElement("p");
    const canvas = document.createElement("canvas"), row = document.createElement("div"), top = document.createElement("div");
    title.textContent = take.title;
    line.className = "quiet";
    row.className = "row";
    top.className = "row title";
    canvas.setAttribute("aria-hidden", "true");
    const words = { show: "Listen", save: "MIDI", goOn: "Go on from here", keep: "Keep only this", drop: "Remove" };
    const buttons = {};
    for (const [name, word] of Object.entries(words)) {
      const button = (buttons[name] = document.createElement("button"));
      button.type = "button";
      button.textContent = word;
      button.setAttribute("aria-label", `${word}: ${take.title}`);
      button.addEventListener("click", () => this.acts[name](take));
      row.append(button);
    }
    buttons.drop.textContent = "×"; // in a corner, away from the others; its label says what it does
    top.append(title, buttons.drop);
    canvas.addEventListener("click", () => this.acts.show(take));
    card.append(top, canvas, line, row);
    const made = { card, line, buttons, roll: new Roll(canvas, { small: true }) };
    this.cards.set(take.id, made);
    return made;
  }
}
