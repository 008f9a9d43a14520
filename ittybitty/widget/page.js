/* What the browser adds to the page: names for screen readers, a line on the roll that follows the sound, one player at a
   time, keyboard focus that is not lost, a message when the server is gone, and takes that survive a reload.

   browser.py runs this with `this` set to the style element inside the page. The only request is one that asks whether
   Voilà's server is still there. Where scripts are forbidden, the page works without what is listed above. */
"use strict";
const start = this;
const EVERY = 4000, PATIENCE = 15000, SOON = 6000; // ms: between two pings, until an answer is overdue, the same after a press
const NARROW = 820; // px of the page's width, as in page.css

function begin() {
  const root = start.closest(".ib");
  if (!root) { if (start.isConnected) setTimeout(begin, 50); return; }
  if (root.dataset.live) return;
  root.dataset.live = "yes";
  const find = (selector) => root.querySelector(selector);
  const tidy = readable(root, find);
  const focus = focused(root, find);
  const alive = serverWatch(root, find);
  listening(root);
  keeping(root, find);
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; tidy(); focus(); }, 0);
  }).observe(root, { subtree: true, childList: true, characterData: true, attributes: true,
    attributeFilter: ["disabled", "aria-valuenow", "aria-valuetext", "class"] });
  tidy();
  root.addEventListener("click", (event) => {
    if (!event.target.closest(".ib-generate")) return;
    alive.pressed();
    if (root.clientWidth <= NARROW) show(find(".ib-stage"));
  });
}

function show(element) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

/* Names, values and states for screen readers that ipywidgets leaves out. */
function readable(root, find) {
  const put = (element, name, value) => { if (element && element.getAttribute(name) !== value) element.setAttribute(name, value); };
  const units = { Notes: " notes", Seconds: " seconds" };
  root.addEventListener("focusout", decimal, true);
  root.addEventListener("keydown", (event) => { if (event.key === "Enter") decimal(event); }, true);
  function decimal(event) { // "1,2" is 1.2
    const readout = event.target.closest?.(".widget-readout");
    if (readout && /^\s*\d+,\d+\s*$/.test(readout.textContent)) readout.textContent = readout.textContent.trim().replace(",", ".");
  }
  return () => {
    for (const slider of root.querySelectorAll(".widget-hslider")) {
      const name = slider.querySelector(".widget-label")?.textContent, readout = slider.querySelector(".widget-readout");
      const handle = slider.querySelector(".noUi-handle"), shown = readout?.textContent.trim() ?? "";
      put(handle, "aria-label", name);
      if (/^[\d.]+$/.test(shown) && document.activeElement !== readout) {
        put(handle, "aria-valuenow", String(Number(shown)));
        put(handle, "aria-valuetext", shown + (units[name] ?? ""));
      }
      put(readout, "role", "textbox");
      put(readout, "aria-label", `${name}, typed`);
    }
    for (const button of root.querySelectorAll(".widget-toggle-button, .widget-toggle-buttons button")) {
      put(button, "aria-pressed", String(button.classList.contains("mod-active")));
    }
    const upload = find(".ib-upload");
    if (upload?.tagName === "BUTTON") put(upload, "aria-label", "Your own MIDI file");
  };
}

/* A button that is disabled loses the focus to the page; here the button that can be pressed next gets it. */
function focused(root, find) {
  let last = null;
  root.addEventListener("focusin", (event) => { last = event.target; });
  const lost = () => document.activeElement === document.body || document.activeElement === null || document.activeElement.disabled;
  return () => {
    const generate = find(".ib-generate"), stop = find(".ib-stop"), listen = find(".ib-listen-line audio");
    if (!generate || !lost()) return;
    if (last === generate && generate.disabled && !stop.disabled) stop.focus({ preventScroll: true });
    else if ((last === stop || last === generate) && stop.disabled && !generate.disabled) generate.focus({ preventScroll: true });
    else if (last?.closest(".ib-listen") && listen) listen.focus({ preventScroll: true });
  };
}

/* Sound: one player at a time, and a line on the roll that follows it. A press on the roll moves the player there. */
function listening(root) {
  const card = (element) => element.closest(".ib-take, .ib-preview");
  const move = (audio) => {
    const head = card(audio)?.querySelector(".ib-head");
    if (!head) return;
    head.style.left = `${Math.min(100, (100 * audio.currentTime) / head.dataset.span)}%`;
    head.classList.add("ib-on");
  };
  const follow = (audio) => {
    move(audio);
    if (!audio.paused && audio.isConnected) requestAnimationFrame(() => follow(audio));
  };
  root.addEventListener("play", (event) => {
    for (const other of document.querySelectorAll(".ib audio")) if (other !== event.target) other.pause();
    follow(event.target);
  }, true);
  for (const kind of ["seeked", "timeupdate"]) root.addEventListener(kind, (event) => move(event.target), true);
  root.addEventListener("click", (event) => {
    const from = event.target.closest(".ib-from"), wav = event.target.closest(".ib-wav"), field = event.target.closest(".ib-field");
    const audio = (from ?? wav ?? field) && card(event.target)?.querySelector("audio");
    if (!audio) { if (wav) event.preventDefault(); return; }
    if (wav) wav.href = audio.src; // so that megabytes are not sent twice
    if (from) { audio.currentTime = Number(from.dataset.at); audio.play(); }
    if (field) {
      const box = field.getBoundingClientRect();
      audio.currentTime = ((event.clientX - box.left) / box.width) * field.querySelector(".ib-head").dataset.span;
    }
  });
}

/* Asks server and kernel every few seconds for an answer; without one the page says so, and Generate is disabled. */
function serverWatch(root, find) {
  const voila = document.body.dataset.voila ? `${document.body.dataset.baseUrl}static/voila.js` : null;
  const banner = document.createElement("p");
  banner.className = "ib-trouble ib-gone-line";
  banner.setAttribute("role", "alert");
  banner.hidden = true;
  find(".ib-controls").append(banner);
  let asked = 0, generate = null, was = false;
  function gone(why) {
    if (!banner.hidden) return;
    banner.textContent = why;
    banner.hidden = false;
    generate = find(".ib-generate");
    was = generate.disabled;
    generate.disabled = true;
  }
  function back() {
    asked = 0;
    if (banner.hidden) return;
    banner.hidden = true;
    banner.textContent = "";
    if (generate.disabled) generate.disabled = was;
  }
  async function ask() {
    if (document.hidden) { asked = 0; return; }
    if (voila) {
      try { await fetch(voila, { method: "HEAD", cache: "no-store" }); }
      catch { gone("The playground's server is gone. Start it again (ittybitty playground) and reload this page: your takes come back."); return; }
    }
    if (!asked) asked = Date.now();
    try { find(".ib-ping").click(); } catch { /* a closed connection gives no answer, which is noticed below */ }
    late(PATIENCE);
  }
  function late(patience) {
    if (asked && Date.now() - asked > patience) {
      gone("The playground does not answer: its kernel is busy, or it has ended. If this stays, start it again and reload this page.");
    }
  }
  new MutationObserver(back).observe(find(".ib-answer"), { subtree: true, childList: true, characterData: true });
  setInterval(ask, EVERY);
  ask();
  return { pressed() { ask(); setTimeout(() => late(SOON - 500), SOON); } };
}

/* Takes survive a reload of the page, in this tab only. In a notebook the kernel still has them, so nothing is kept. */
function keeping(root, find) {
  if (!document.body.dataset.voila) return;
  const KEY = "ittybitty takes";
  const read = () => { try { return JSON.parse(sessionStorage.getItem(KEY)) ?? []; } catch { return []; } };
  const kept = find(".ib-kept");
  new MutationObserver(() => {
    const script = kept.querySelector("script");
    if (!script) return;
    const take = JSON.parse(script.textContent), most = Number(script.dataset.most);
    let takes = [...read().filter((other) => other.take !== take.take), take].slice(-most);
    while (takes.length) {
      try { sessionStorage.setItem(KEY, JSON.stringify(takes)); return; }
      catch { takes = takes.slice(1); } // the browser has no more room
    }
  }).observe(kept, { subtree: true, childList: true });
  const text = find(".ib-back textarea");
  if (!text || !read().length) return;
  text.value = JSON.stringify(read());
  for (const kind of ["input", "change"]) text.dispatchEvent(new Event(kind, { bubbles: true }));
}

begin();
