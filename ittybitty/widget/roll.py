"""A piano roll as HTML: notes, pedal lane, the line between seed and new music, and the line that follows the sound.

All notes of one colour and one of four loudnesses are one SVG path with a stroke for each note, so that two thousand notes
take 40 kB and can be drawn again several times a second. Labels are HTML beside the picture, so that they keep their size
on a phone. Colours and sizes are set in page.css; page.js moves the line that follows the sound.

Left out: bars and note values. A performance has none.
"""

from __future__ import annotations

import numpy as np

from ..notes import NOTE, Performance

LOWEST, HIGHEST = 33, 93  # MIDI pitches that are always shown: A1 to A6
LOUDNESSES = 4
WIDTH = 1000  # width of a roll in its own units
NO_NOTES = np.empty(0, NOTE)


def roll(seed: Performance, new: np.ndarray = NO_NOTES, pedals: np.ndarray | None = None, end: float = 0.0) -> str:
    """Seed and new notes (a NOTE array) from second 0 to the last release, or to `end` if that is later.

    `pedals` (a PEDAL array) is the pedal of seed and new music. None shows that of the seed alone: the pedal of the new music
    is not known before the take is complete.
    """
    notes = np.concatenate([seed.notes, new])
    pedals = seed.pedals if pedals is None else pedals
    span = max(end, 4.0, float((notes["onset"] + notes["duration"]).max(initial=0.0)))
    low = min([LOWEST, *(notes["pitch"].tolist())]) - 1
    high = max([HIGHEST, *(notes["pitch"].tolist())]) + 1
    octaves = list(range(12 * (low // 12 + 1), high + 1, 12))
    seam = float(new["onset"].min()) if len(new) else None
    keys = "".join(
        f'<b style="top:{100 * (high - pitch + 0.5) / (high - low):.1f}%">C{pitch // 12 - 1}</b>' for pitch in octaves
    )
    seconds = "".join(f'<b style="left:{100 * at / span:.2f}%">{at:g} s</b>' for at in _ticks(span))
    line = "" if seam is None else f'<i class="ib-seam" style="left:{100 * seam / span:.2f}%"></i>'
    return (
        f'<div class="ib-roll" role="img" aria-label="{_label(seed, new, pedals, span)}">'
        f'<div class="ib-keys">{keys}</div><b class="ib-pedal-name" title="sustain pedal">Ped.</b><div class="ib-field">'
        f"{_notes(seed, new, octaves, span, low, high)}{_lane(pedals, span, seam)}{line}"
        f'<i class="ib-head" data-span="{span:.3f}"></i></div><div class="ib-seconds">{seconds}</div></div>'
    )


def _label(seed: Performance, new: np.ndarray, pedals: np.ndarray, span: float) -> str:
    return (
        f"Piano roll: {count(len(seed), 'note')} of the seed, {count(len(new), 'new note')}, "
        f"pedal pressed {count(len(pedals), 'time')}, {span:.0f} seconds"
    )


def count(number: int, noun: str) -> str:
    """ "1 note", "2,000 notes"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _notes(seed: Performance, new: np.ndarray, octaves: list[int], span: float, low: int, high: int) -> str:
    """A line for each C, and a path for each colour and loudness."""
    lines = "".join(f"M0 {high - pitch + 0.5:g}h{WIDTH}" for pitch in octaves)
    paths = f'<path class="ib-octave" d="{lines}"/>'
    for kind, part in (("seed", seed.notes), ("new", new)):
        level = np.clip(part["velocity"].astype(int) * LOUDNESSES // 128, 0, LOUDNESSES - 1)
        for loudness in range(LOUDNESSES):
            drawn = _strokes(part[level == loudness], span, high)
            paths += f'<path class="ib-{kind} ib-v{loudness}" d="{drawn}"/>' if drawn else ""
    box = f'viewBox="0 0 {WIDTH} {high - low}" preserveAspectRatio="none" aria-hidden="true"'
    return f'<svg class="ib-notes" {box}>{paths}</svg>'


def _strokes(notes: np.ndarray, span: float, high: int) -> str:
    left, length = notes["onset"] / span * WIDTH, np.maximum(notes["duration"] / span * WIDTH, 1.0)
    return "".join(f"M{x:.1f} {high - int(pitch) + 0.5:g}h{w:.1f}" for x, w, pitch in zip(left, length, notes["pitch"]))


def _lane(pedals: np.ndarray, span: float, seam: float | None) -> str:
    """The pedal lane: a stroke for each time that the pedal is down, in the colour of new music from the seam on."""
    paths = ""
    for kind in ("seed", "new"):
        is_new = pedals["onset"] >= (np.inf if seam is None else seam)
        part = pedals[is_new == (kind == "new")]
        left = np.minimum(part["onset"] / span, 1.0) * WIDTH
        length = np.minimum(part["duration"] / span * WIDTH, WIDTH - left)
        drawn = "".join(f"M{x:.1f} 0.5h{max(w, 1.0):.1f}" for x, w in zip(left, length))
        paths += f'<path class="ib-{kind}" d="{drawn}"/>' if drawn else ""
    return f'<svg class="ib-pedal" viewBox="0 0 {WIDTH} 1" preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'


def _ticks(span: float) -> list[float]:
    """At most seven round seconds, none too near to the right edge for its label."""
    step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if span / s <= 7), 1200)
    return [at for at in np.arange(0, span, step).tolist() if at < 0.95 * span]
