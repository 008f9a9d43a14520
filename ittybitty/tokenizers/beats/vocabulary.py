"""The 4,789 ids of the beat encoding, in the published ranges [1], and what each means.

    0–2047     full-beat patterns        3584–3711  MIDI pitch
    2048–3071  half-beat patterns        3712–4223  velocity codes
    3072–3583  quarter-beat patterns     4224–4735  reserved: 256 of them spell the exact escape
    4736–4785  a beat and its tempo, 50 bins of 10 beats a minute
    4786 BOS   4787 EOS   4788 PAD

    BOS, then for each beat its tempo, then for each sounding pitch from low to high: pitch, 1 full-beat or 2 half-beat or
    4 quarter-beat codes, and with velocity 1 velocity code; EOS

An escape id spells four frames, two bits each; three of them stand where one quarter-beat code would.

[1] Published model card of backbone_base_kmeans, "Vocab layout (4789 total)".
Left out: names for the 256 reserved ids that nothing uses; no sequence has them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .grid import FASTEST, FRAMES, HELD, PITCHES, SILENT, SLOWEST, STRUCK

LEVELS = (2048, 1024, 512)  # codes of full, half and quarter beats
SPANS = (FRAMES, FRAMES // 2, FRAMES // 4)  # frames a code of each level tells

L1, L2, L3 = 0, 2048, 3072
PITCH = 3584
VELOCITY, VELOCITIES = 3712, 512
ESCAPE, ESCAPES, ESCAPE_FRAMES = 4224, 256, 4
TEMPO, TEMPOS, TEMPO_WIDTH = 4736, 50, 10.0  # beats a minute
BOS, EOS, PAD = 4786, 4787, 4788
SIZE = 4789

TYPES = ("L1", "L2", "L3", "Pitch", "Velocity", "Escape", "Reserved", "Tempo", "BOS", "EOS", "PAD")
SAYS = dict.fromkeys(
    ("L1", "L2", "L3", "Escape"), "duration"
)  # a pattern says onset and duration within its beat at once
SAYS |= {"Pitch": "pitch", "Velocity": "velocity", "Tempo": "time"}


def _types() -> np.ndarray:
    bounds = (L1, L2, L3, PITCH, VELOCITY, ESCAPE, ESCAPE + ESCAPES, TEMPO, BOS, EOS, PAD, SIZE)
    return np.repeat(np.arange(len(TYPES)), np.diff(bounds))


TYPE_OF = _types()  # (4789,) index into TYPES
OF = {name: index for index, name in enumerate(TYPES)}


def tempo_bins(tempos: np.ndarray) -> np.ndarray:
    """Tempo ids of beats a minute; 500 itself belongs to the last bin, 10 (less a rounding) to the second."""
    tempos = np.clip(tempos, SLOWEST, np.nextafter(FASTEST, 0))
    return TEMPO + (tempos / TEMPO_WIDTH).astype(int)


def seconds_of(tempo_ids: ArrayLike) -> np.ndarray:
    """Seconds of a beat of each tempo id: those of the middle of its bin."""
    return 60 / ((np.asarray(tempo_ids) - TEMPO + 0.5) * TEMPO_WIDTH)


def escape_ids(states: np.ndarray) -> np.ndarray:
    """(n, 12) states of quarter beats as (n, 3) escape ids."""
    return ESCAPE + states.reshape(len(states), -1, ESCAPE_FRAMES).astype(int) @ 4 ** np.arange(ESCAPE_FRAMES)


def escaped_states(ids: np.ndarray) -> np.ndarray:
    """(n,) escape ids as (n, 4) states; 3, which no frame is, reads as silence."""
    states = (np.asarray(ids)[:, None] - ESCAPE) // 4 ** np.arange(ESCAPE_FRAMES) % 4
    return np.where(states > STRUCK, SILENT, states).astype(np.uint8)


def picture(states: np.ndarray) -> str:
    """States as text: x struck, - held, . silent."""
    return "".join({SILENT: ".", HELD: "-", STRUCK: "x"}[int(state)] for state in states)


def name(id: int) -> str:
    """A readable name without the codebook, such as Pitch_60 or Tempo_120-130."""
    kind = TYPES[TYPE_OF[id]]
    if kind == "Tempo":
        low = int((id - TEMPO) * TEMPO_WIDTH)
        return f"Tempo_{low}-{low + int(TEMPO_WIDTH)}"
    starts = {"L1": L1, "L2": L2, "L3": L3, "Pitch": PITCH, "Velocity": VELOCITY, "Escape": ESCAPE, "Reserved": ESCAPE}
    return f"{kind}_{id - starts[kind]}" if kind in starts else kind


assert PITCH + PITCHES == VELOCITY and len(TYPE_OF) == SIZE  # the ranges follow one another without a gap
