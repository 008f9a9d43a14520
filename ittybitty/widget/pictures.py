"""The chart of what comes next, the player and lines of text, as HTML that fetches nothing.

Colours and sizes are set in page.css, and page.js does the animation. The piano roll has a module of its own (roll.py).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from ..config import GenerationConfig
from .next_token import NextToken, Offered

ROWS = 12  # tokens in the chart of a model of tokens
ROWS_OF_A_PART = 6  # values in the chart of each part of an event
BEFORE_THE_SEAM = 2.0  # s of the seed that are played before the new music, so that the listener hears what it follows


def chart(offered: Offered, config: GenerationConfig) -> str:
    """The likeliest ids of each part of the answer: the model's own probability, and the one that `config` draws from."""
    legend = (
        '<p class="ib-legend"><i class="ib-own"></i> the model alone <i class="ib-drawn"></i> after the sliders</p>'
    )
    rows = ROWS if len(offered) == 1 else ROWS_OF_A_PART
    parts = "".join(f'<div class="ib-part">{_heading(part)}{_bars(part, rows, config)}</div>' for part in offered)
    return f'{legend}<div class="ib-parts{" ib-many" if len(offered) > 1 else ""}">{parts}</div>'


def _heading(part: NextToken) -> str:
    if not part.title:
        return ""
    given = f" <small>{escape(part.given)}</small>" if part.given else ""
    return f"<h3>{escape(part.title)}{given}</h3>"


def _bars(part: NextToken, rows: int, config: GenerationConfig) -> str:
    plain, drawn = part.shares(), part.drawn(config)
    shown = part.likeliest(rows)
    scale = 100 / max(float(plain[shown].max()), float(drawn[shown].max()))
    names = {id: escape(part.names[id]) for id in shown}
    bars = "".join(
        f'<li class="{"" if drawn[id] else "ib-cut"}"><span class="ib-name" title="{names[id]}">{names[id]}</span>'
        f'<span class="ib-bars"><i class="ib-own" style="width:{plain[id] * scale:.2f}%"></i>'
        f'<i class="ib-drawn" style="width:{drawn[id] * scale:.2f}%"></i></span>'
        f'<span class="ib-share">{f"{100 * drawn[id]:.1f}%" if drawn[id] else "cut"}</span></li>'
        for id in shown
    )
    return f'<ol class="ib-chart">{bars}</ol>'


def player(name: str, midi: bytes, wav: bytes | None, trouble: str = "", seam: float | None = None) -> str:
    """The sound, and links to download both files; all of it lies in the page. `seam` is where the new music begins (s)."""
    keep = f'<a class="ib-keep" download="{escape(name)}.mid" href="{_data("audio/midi", midi)}">MIDI</a>'
    heard = ""
    if wav:
        heard = sound(wav, f"Listen to {name.replace('-', ' ')}")
        if seam is not None:
            start = max(0.0, seam - BEFORE_THE_SEAM)
            hint = f"starts {BEFORE_THE_SEAM:g} s before the new music"
            heard += f'<button type="button" class="ib-keep ib-from" data-at="{start:.3f}" title="{hint}">Play the new part</button>'
        keep += f'<a class="ib-keep ib-wav" download="{escape(name)}.wav" href="#">WAV</a>'
    return (
        f'<div class="ib-player">{heard}<span class="ib-keeps">Download {keep}</span></div>{line(trouble, "trouble")}'
    )


def sound(wav: bytes, label: str, plays: bool = False) -> str:
    """An audio element; with `plays` it starts by itself, for a sound that a person has just asked for."""
    begin = " autoplay" if plays else ""
    source = _data("audio/wav", wav)
    return f'<audio controls preload="auto"{begin} src="{source}" aria-label="{escape(label)}"></audio>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def progress(share: float, text: str) -> str:
    """A progress bar, and its meaning as text."""
    percent = 100 * min(max(share, 0.0), 1.0)
    bar = f'<div class="ib-bar"><i style="width:{percent:.1f}%"></i></div>'
    return f'<div class="ib-progress">{bar}<span role="status">{escape(text)}</span></div>'


def line(text: str, kind: str = "note") -> str:
    """One line of text, or nothing for an empty one; screen readers read out the kind "trouble"."""
    role = ' role="alert"' if kind == "trouble" else ""
    return f'<p class="ib-{kind}"{role}>{escape(text)}</p>' if text else ""


def settings(words: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]] = ()) -> str:
    """The settings of a take as HTML; those that differ from `other` are marked."""
    differing = {pair for pair in words if other and pair not in other}
    plain = {pair: escape(" ".join(filter(None, pair))) for pair in words}
    shown = (f"<b>{plain[pair]}</b>" if pair in differing else plain[pair] for pair in words)
    return f'<p class="ib-settings">{" · ".join(shown)}</p>'
