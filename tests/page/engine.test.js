// Compares the page's engine with Python: tests/page/test_page.py writes Python's results, and the script must give the same.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { changed } from "../../ittybitty/page/js/engine.js";
import { EventGrammar } from "../../ittybitty/page/js/grammar.js";
import { Continuation, Listener, makePrompt, Reading } from "../../ittybitty/page/js/generate.js";
import { EOS, EventModel } from "../../ittybitty/page/js/model.js";
import { erf } from "../../ittybitty/page/js/numbers.js";
import { generator, greedy } from "../../ittybitty/page/js/sampling.js";
import { ending } from "../../ittybitty/page/js/seeds.js";
import { EventTokenizer } from "../../ittybitty/page/js/tokens.js";
import { fromBase64, Weights } from "../../ittybitty/page/js/weights.js";

const told = JSON.parse(readFileSync(process.env.PAGE_FIXTURES, "utf8"));

function player({ document, weights }) {
  const model = new EventModel(new Weights(document.weights, fromBase64(weights)), document.model);
  const tokenizer = new EventTokenizer(document.tokenizer);
  const grammar = new EventGrammar(tokenizer, document.tokenizer);
  return { model, tokenizer, grammar, listener: new Listener(model) };
}

function performanceOf({ notes, pedals }) {
  return {
    notes: notes.map(([onset, duration, pitch, velocity]) => ({ onset, duration, pitch, velocity })),
    pedals: pedals.map(([onset, duration]) => ({ onset, duration })),
  };
}

const rowsOf = ({ notes, pedals }) => ({
  notes: notes.map(({ onset, duration, pitch, velocity }) => [onset, duration, pitch, velocity]),
  pedals: pedals.map(({ onset, duration }) => [onset, duration]),
});

function close(found, expected, tolerance, what) {
  assert.equal(found.length, expected.length, what);
  found.forEach((value, i) => {
    const wanted = expected[i] ?? -Infinity; // JSON has no infinity
    const same = value === wanted || Math.abs(value - wanted) <= tolerance;
    assert.ok(same, `${what}: ${value} at ${i}, and Python has ${wanted}`);
  });
}

function samePerformance(found, expected, what) {
  const rows = rowsOf(found);
  for (const part of ["notes", "pedals"]) {
    assert.equal(rows[part].length, expected[part].length, `${what}: ${part}`);
    rows[part].forEach((row, i) => close(row, expected[part][i], 1e-9, `${what}: ${part} ${i}`));
  }
}

test("the error function is exact to float32", () => {
  told.erf.forEach(([x, y]) => assert.ok(Math.abs(erf(x) - y) < 2e-8, `erf(${x})`));
});

test("uniform random numbers are those of torch", () => {
  told.uniform.forEach(({ seed, numbers }) => {
    const random = generator(seed);
    numbers.forEach((number) => assert.equal(random(), number));
  });
});

test("an ending is found where Python finds it", () => {
  told.endings.forEach(({ music, begins }, i) => assert.equal(ending(performanceOf(music)), begins, `piece ${i}`));
  assert.ok(told.endings.some(({ begins }) => begins === null) && told.endings.some(({ begins }) => begins > 0));
});

for (const { name, tables, pieces, slow, drone } of told.encodings) {
  test(`${name}: a silence is limited as in Python, also where the pedal moves in it`, () => {
    const tokenizer = new EventTokenizer(tables), grammar = new EventGrammar(tokenizer, tables);
    let state = grammar.start();
    slow.ids.forEach((id, i) => {
      assert.deepEqual(Array.from(grammar.mask(state)).flatMap((one, at) => (one ? [at] : [])), slow.allowed[i], `before id ${i}`);
      state = grammar.advance(state, id);
    });
    const onsets = tokenizer.decode(slow.ids).notes.map(({ onset }) => onset);
    assert.ok(onsets.length > 1 && onsets.every((onset, i) => onset - (onsets[i - 1] ?? 0) < tables.longest / tables.ticks_per_second));
  });

  test(`${name}: a key's share is limited as in Python`, () => {
    const grammar = new EventGrammar(new EventTokenizer(tables), tables);
    let state = grammar.start(), limited = 0;
    drone.ids.forEach((id, i) => {
      const allowed = grammar.mask(state);
      assert.deepEqual(Array.from(allowed).flatMap((one, at) => (one ? [at] : [])), drone.allowed[i], `before id ${i}`);
      limited += allowed[tables.first_ids[1] + 39] && !allowed[tables.first_ids[1] + 40];
      state = grammar.advance(state, id);
    });
    assert.ok(limited > 20);
  });

  test(`${name}: ids are Python's, and decode to Python's notes`, () => {
    const tokenizer = new EventTokenizer(tables);
    pieces.forEach(({ music, ids, decoded }, i) => {
      assert.deepEqual(tokenizer.encode(performanceOf(music)), ids, `piece ${i}`);
      samePerformance(tokenizer.decode(ids), decoded, `piece ${i}`);
    });
  });

  test(`${name}: prompts are cut where Python cuts them`, () => {
    const tokenizer = new EventTokenizer(tables);
    for (const { prompts, music } of pieces) {
      for (const { promptSeconds, promptTokens, ids, start, join } of prompts) {
        const found = makePrompt(performanceOf(music), tokenizer, { promptSeconds, promptTokens });
        assert.deepEqual(found.ids, ids);
        close([found.start, found.join], [start, join], 1e-9, "start and join");
      }
    }
  });

  test(`${name}: the grammar allows what Python's allows`, () => {
    const tokenizer = new EventTokenizer(tables);
    const grammar = new EventGrammar(tokenizer, tables);
    for (const { ids, allowed } of pieces) {
      let state = grammar.start();
      ids.forEach((id, i) => {
        const found = Array.from(grammar.mask(state)).flatMap((one, at) => (one ? [at] : []));
        assert.deepEqual(found, allowed[i], `before id ${i}`);
        state = grammar.advance(state, id);
      });
    }
  });
}

const TIE = 1e-3; // a lead in logits that rounding may turn round

told.shipped.takes.forEach(({ music, prompt, ids, leads }, number) => {
  const parts = player(told.shipped), { model, grammar } = parts;

  test(`the shipped model, seed ${number}: at each of 256 greedy notes the choice is that of Python in 8 bits`, () => {
    const state = model.initState();
    let logits = model.prefill(prompt, state), rules = grammar.start(prompt);
    ids.forEach((id, i) => {
      const mask = grammar.mask(rules);
      mask[EOS] = 0;
      const found = greedy(logits, mask);
      assert.ok(found === id || leads[i] < TIE, `id ${i}: ${found} in place of ${id}, which leads by ${leads[i]}`);
      rules = grammar.advance(rules, id);
      logits = model.step(id, state);
    });
  });

  test(`the shipped model, seed ${number}: 256 greedy notes are Python's, up to the first tie if there is one`, () => {
    const { prompt: listening } = told.shipped.document;
    const made = new Continuation(parts, performanceOf(music), { ...listening, notes: 256, temperature: 0, promptTokens: prompt.length });
    while (!made.done) made.step();
    assert.deepEqual(made.prompt.ids, prompt);
    const differs = made.ids.findIndex((id, i) => id !== ids[i]);
    assert.ok(differs < 0 ? made.ids.length === ids.length : leads[differs] < TIE, `id ${differs} differs, no tie`);
  });
});

test("settings and notes that make no sense are refused in one line", () => {
  const parts = player(told.models[0]), seed = performanceOf(told.models[0].continuations[0].seed);
  const good = { ...told.models[0].document.prompt, notes: 5 };
  const bad = [{ notes: 0 }, { notes: NaN }, { temperature: -1 }, { topP: 0 }, { topP: 1.5 }, { topK: -1 }];
  for (const one of bad) assert.throws(() => new Continuation(parts, seed, { ...good, ...one }), /^Error: \w+ is [^\n]+: give [^\n]+$/);
  assert.throws(() => new Continuation(parts, { notes: [{ pitch: 60 }], pedals: [] }, good), /^Error: note 0 lacks a number[^\n]+$/);
});

for (const one of told.models) {
  test(`${one.name}: logits are those of the Python model in 8 bits`, () => {
    const { model } = player(one);
    const state = model.initState();
    one.ids.forEach((id, i) => close(Array.from(model.step(id, state)), one.logits[i], 1e-4, `after id ${i}`));
  });

  for (const { seed, options, ids, fresh, joined } of one.continuations) {
    test(`${one.name}: ${options.notes} notes at temperature ${options.temperature}, seed ${options.seed}, are Python's`, () => {
      const made = new Continuation(player(one), performanceOf(seed), options);
      while (!made.done) made.step();
      assert.deepEqual(made.ids, ids);
      const result = made.result();
      samePerformance(result.fresh, fresh, "the new music");
      samePerformance(result.joined, joined, "seed and new music");
    });
  }

  test(`${one.name}: notes come as they are in the result, and a seed that is read again gives the same`, () => {
    const { seed, options } = one.continuations.at(-1);
    const parts = player(one);
    const takes = [0, 1].map(() => {
      const made = new Continuation(parts, performanceOf(seed), options);
      const heard = [];
      while (!made.done) heard.push(made.step());
      const { fresh } = made.result();
      const key = ({ onset, pitch }) => `${onset.toFixed(6)} ${pitch}`;
      assert.deepEqual(heard.filter(Boolean).map(key).sort(), fresh.notes.map(key).sort());
      return made.ids;
    });
    assert.deepEqual(takes[0], takes[1]);
    assert.deepEqual(takes[0], one.continuations.at(-1).ids);
  });

  test(`${one.name}: two continuations that take turns are as each of them alone`, () => {
    const { seed, options, ids } = one.continuations.at(-1), parts = player(one);
    const both = [0, 1].map((i) => new Continuation(parts, performanceOf(seed), { ...options, seed: options.seed + i }));
    while (both.some(({ done }) => !done)) both.filter(({ done }) => !done).forEach((made) => made.step());
    assert.deepEqual(both[0].ids, ids);
  });

  test(`${one.name}: a seed is read in many steps, and the page is told how much of it is read`, () => {
    const { seed, options } = one.continuations.at(-1), parts = player(one), piece = performanceOf(seed);
    const whole = new Reading(parts, piece, options);
    let steps = 0;
    for (; !whole.done; steps++) whole.step();
    assert.ok(whole.whole && steps > 2, `${steps} steps`);
    const part = new Reading(parts, piece, { ...options, promptTokens: 40 });
    assert.ok(!part.whole && part.notes > 0 && part.notes < whole.notes);
  });

  test(`${one.name}: music that goes on is read on, and not from the beginning`, () => {
    const parts = player(one);
    let steps = 0;
    const counted = { ...parts.model, prefill: (ids, state) => ((steps += ids.length), parts.model.prefill(ids, state)) };
    counted.initState = () => parts.model.initState();
    const listener = new Listener(counted);
    const read = (ids) => {
      for (const reading = listener.after(ids); ; ) {
        const { done, value } = reading.next();
        if (done) return value;
      }
    };
    read(one.ids.slice(0, 81));
    const before = steps;
    const { h } = read(one.ids.slice(0, 101));
    assert.ok(steps - before <= 32, `${steps - before} ids were read again`);
    const fresh = parts.model.initState();
    parts.model.prefill(one.ids.slice(0, 101), fresh);
    close(Array.from(h), Array.from(fresh.h), 0, "h");
  });
}

test("a temperature that is moved holds for every part of a note", () => {
  const usual = { temperature: 0.97, topP: 0.98, timeTemperature: 1, timeTopP: 1, expressionTemperature: 1, expressionTopP: 1 };
  assert.deepEqual(changed(usual, { temperature: 0.97, topP: 0.98 }), usual);
  assert.deepEqual(changed(usual, { temperature: 0.5 }), { temperature: 0.5, topP: 0.98, timeTopP: 1, expressionTopP: 1 });
  assert.equal(changed(usual, { topP: 0.9, timeTopP: 0.99 }).timeTopP, 0.99);
});
