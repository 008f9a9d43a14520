"""Piano roll, chart of the next token and player as HTML that needs nothing else: no script, font or style from elsewhere.

A roll is one SVG whose notes are a few paths (a stroke a note, four loudnesses of two colours), so that two thousand
notes are 40 kB and can be drawn anew several times a second. Labels are HTML beside it: they keep their size when
the picture is squeezed onto a phone. Colours and sizes are those of page.css.

Left out: the pedal, which is in what is heard and downloaded.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from ..notes import Performance
from .next_token import NextToken

LOWEST, HIGHEST = 33, 93  # keys that are always shown: A1 to A6
LOUDNESSES = 4
ROWS = 12  # tokens in the chart
WIDTH = 1000  # of a roll, in its own units


def roll(seed: Performance, new: np.ndarray, end: float = 0.0) -> str:
    """Seed and new notes (a NOTE array) from second 0 to the last release, or to `end` if that is later."""
    notes = np.concatenate([seed.notes, new])
    span = max(end, 4.0, float((notes["onset"] + notes["duration"]).max(initial=0.0)))
    low = min([LOWEST, *(notes["pitch"].tolist())]) - 1
    high = max([HIGHEST, *(notes["pitch"].tolist())]) + 1
    height = high - low
    octaves = range(12 * (low // 12 + 1), high + 1, 12)
    lines = "".join(f"M0 {high - pitch + 0.5:g}h{WIDTH}" for pitch in octaves)
    paths = f'<path class="ib-octave" d="{lines}"/>'
    for kind, part in (("seed", seed.notes), ("new", new)):
        level = np.clip(part["velocity"].astype(int) * LOUDNESSES // 128, 0, LOUDNESSES - 1)
        for loudness in range(LOUDNESSES):
            drawn = _strokes(part[level == loudness], span, high)
            paths += f'<path class="ib-{kind} ib-v{loudness}" d="{drawn}"/>' if drawn else ""
    seam = ""
    if len(new):
        seam = f'<i class="ib-seam" style="left:{100 * float(new["onset"].min()) / span:.2f}%"></i>'
    keys = "".join(
        f'<b style="top:{100 * (high - pitch + 0.5) / height:.1f}%">C{pitch // 12 - 1}</b>' for pitch in octaves
    )
    seconds = "".join(f'<b style="left:{100 * at / span:.2f}%">{at:g} s</b>' for at in _ticks(span))
    label = f"Piano roll: {len(seed)} notes of the seed, {len(new)} new notes, {span:.0f} seconds"
    return (
        f'<div class="ib-roll" role="img" aria-label="{label}"><div class="ib-keys">{keys}</div><div class="ib-field">'
        f'<svg viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'
        f'{seam}<i class="ib-head" data-span="{span:.3f}"></i></div><div class="ib-seconds">{seconds}</div></div>'
    )


def _strokes(notes: np.ndarray, span: float, high: int) -> str:
    left, length = notes["onset"] / span * WIDTH, np.maximum(notes["duration"] / span * WIDTH, 1.0)
    return "".join(f"M{x:.1f} {high - int(pitch) + 0.5:g}h{w:.1f}" for x, w, pitch in zip(left, length, notes["pitch"]))


def _ticks(span: float) -> list[float]:
    """A handful of round seconds, the last not at the very edge."""
    step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if span / s <= 7), 1200)
    return [at for at in np.arange(0, span, step).tolist() if at < 0.95 * span]


def chart(offered: NextToken, temperature: float, top_k: int, top_p: float) -> str:
    """The likeliest tokens, each with the model's own share and the one it is drawn with."""
    plain, drawn = offered.shares(), offered.shares(temperature, top_k, top_p)
    shown = offered.likeliest(ROWS)
    scale = 100 / max(float(plain[shown].max()), float(drawn[shown].max()))
    names = {id: escape(offered.names[id]) for id in shown}
    rows = "".join(
        f'<li class="{"" if drawn[id] else "ib-cut"}"><span class="ib-name" title="{names[id]}">{names[id]}</span>'
        f'<span class="ib-bars"><i class="ib-own" style="width:{plain[id] * scale:.2f}%"></i>'
        f'<i class="ib-drawn" style="width:{drawn[id] * scale:.2f}%"></i></span>'
        f'<span class="ib-share">{f"{100 * drawn[id]:.1f}%" if drawn[id] else "cut"}</span></li>'
        for id in shown
    )
    legend = (
        '<p class="ib-legend"><i class="ib-own"></i> the model alone <i class="ib-drawn"></i> after the sliders</p>'
    )
    return f'{legend}<ol class="ib-chart">{rows}</ol>'


# Where scripts in attributes are forbidden, the line that moves over the roll and the WAV button do nothing, the rest works.
_FOLLOW = (
    "var h=this.closest('.ib-take').querySelector('.ib-head');"
    "h.style.left=Math.min(100,100*this.currentTime/h.dataset.span)+'%';h.classList.add('ib-on')"
)
_SAME_SOUND = "this.href=this.closest('.ib-player').querySelector('audio').src"  # megabytes that are not sent twice


def player(name: str, midi: bytes, wav: bytes | None, trouble: str = "") -> str:
    """Sound in place and both files to keep, all inside the page."""
    keep = f'<a class="ib-keep" download="{escape(name)}.mid" href="{_data("audio/midi", midi)}">MIDI</a>'
    sound = ""
    if wav:
        sound = f'<audio controls preload="auto" src="{_data("audio/wav", wav)}" ontimeupdate="{_FOLLOW}" aria-label="Listen"></audio>'
        keep += f'<a class="ib-keep" download="{escape(name)}.wav" href="#" onclick="{_SAME_SOUND}">WAV</a>'
    return (
        f'<div class="ib-player">{sound}<span class="ib-keeps">Download {keep}</span></div>{line(trouble, "trouble")}'
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def progress(share: float, text: str) -> str:
    """A bar and what it means."""
    percent = 100 * min(max(share, 0.0), 1.0)
    bar = f'<div class="ib-bar"><i style="width:{percent:.1f}%"></i></div>'
    return f'<div class="ib-progress">{bar}<span role="status">{escape(text)}</span></div>'


def line(text: str, kind: str = "note") -> str:
    """One line of text; a trouble is read out by screen readers."""
    role = ' role="alert"' if kind == "trouble" else ""
    return f'<p class="ib-{kind}"{role}>{escape(text)}</p>' if text else ""


def settings(words: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]] = ()) -> str:
    """Settings of a take, those that differ from the other's marked."""
    differing = {pair for pair in words if other and pair not in other}
    plain = {pair: escape(" ".join(filter(None, pair))) for pair in words}
    shown = (f"<b>{plain[pair]}</b>" if pair in differing else plain[pair] for pair in words)
    return f'<p class="ib-settings">{" · ".join(shown)}</p>'
