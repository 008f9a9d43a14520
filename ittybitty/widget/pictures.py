"""Chart of what comes next, player and lines of text as HTML that needs nothing else: no font or style from elsewhere.

Colours and sizes are those of page.css; what moves by itself is page.js. The piano roll has a module of its own (roll.py).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from .next_token import NextToken, Offered

ROWS = 12  # tokens in the chart
ROWS_OF_A_PART = 6  # where an event has several parts


def chart(offered: Offered, temperature: float, top_k: int, top_p: float) -> str:
    """For each part of the answer the likeliest ids, with the model's own share and the one it is drawn with."""
    legend = (
        '<p class="ib-legend"><i class="ib-own"></i> the model alone <i class="ib-drawn"></i> after the sliders</p>'
    )
    rows = ROWS if len(offered) == 1 else ROWS_OF_A_PART
    lists = (f"{_heading(part)}{_bars(part, rows, temperature, top_k, top_p)}" for part in offered)
    return f'{legend}<div class="ib-parts{" ib-many" if len(offered) > 1 else ""}">{_each(lists)}</div>'


def _heading(part: NextToken) -> str:
    if not part.title:
        return ""
    given = f" <small>{escape(part.given)}</small>" if part.given else ""
    return f"<h3>{escape(part.title)}{given}</h3>"


def _each(parts) -> str:
    return "".join(f'<div class="ib-part">{part}</div>' for part in parts)


def _bars(part: NextToken, count: int, temperature: float, top_k: int, top_p: float) -> str:
    plain, drawn = part.shares(), part.shares(temperature, top_k, top_p)
    shown = part.likeliest(count)
    scale = 100 / max(float(plain[shown].max()), float(drawn[shown].max()))
    names = {id: escape(part.names[id]) for id in shown}
    rows = "".join(
        f'<li class="{"" if drawn[id] else "ib-cut"}"><span class="ib-name" title="{names[id]}">{names[id]}</span>'
        f'<span class="ib-bars"><i class="ib-own" style="width:{plain[id] * scale:.2f}%"></i>'
        f'<i class="ib-drawn" style="width:{drawn[id] * scale:.2f}%"></i></span>'
        f'<span class="ib-share">{f"{100 * drawn[id]:.1f}%" if drawn[id] else "cut"}</span></li>'
        for id in shown
    )
    return f'<ol class="ib-chart">{rows}</ol>'


BEFORE_THE_SEAM = 2.0  # s: one hears what the new music answers to


def player(name: str, midi: bytes, wav: bytes | None, trouble: str = "", seam: float | None = None) -> str:
    """Sound in place and both files to keep, all inside the page; `seam` is where the new music begins, in seconds."""
    keep = f'<a class="ib-keep" download="{escape(name)}.mid" href="{_data("audio/midi", midi)}">MIDI</a>'
    heard = ""
    if wav:
        heard = sound(wav, f"Listen to {name.replace('-', ' ')}")
        if seam is not None:
            start = max(0.0, seam - BEFORE_THE_SEAM)
            hint = f"plays from {BEFORE_THE_SEAM:g} s before the new music on"
            heard += f'<button type="button" class="ib-keep ib-from" data-at="{start:.3f}" title="{hint}">Play the new part</button>'
        keep += f'<a class="ib-keep ib-wav" download="{escape(name)}.wav" href="#">WAV</a>'
    return (
        f'<div class="ib-player">{heard}<span class="ib-keeps">Download {keep}</span></div>{line(trouble, "trouble")}'
    )


def sound(wav: bytes, label: str, plays: bool = False) -> str:
    """An audio element; `plays` for one that was asked for by a press."""
    begin = " autoplay" if plays else ""
    source = _data("audio/wav", wav)
    return f'<audio controls preload="auto"{begin} src="{source}" aria-label="{escape(label)}"></audio>'


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
