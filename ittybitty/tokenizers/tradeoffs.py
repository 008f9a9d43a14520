"""Measures what an encoding costs and what it keeps: `encodings_table` for every encoding, `settings_table` for the settings of REMI.

A finer grid and more attributes reproduce the music more exactly and take more tokens per note. MAESTRO has no metre, so
beats and bars themselves gain nothing. Notebook 02 shows both tables and explains what was concluded from them.

Left out of the settings: byte pairs. They shorten all rows by a similar factor and lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import pedal_error, round_trip_error
from ..notes import Performance
from . import grid, make_tokenizer
from .protocol import Tokenizer
from .remi import VARIANTS, PianoTokenizer, Settings

COARSE = (
    (0, 1, 24),
    (1, 4, 12),
    (4, 8, 4),
    (8, 16, 2),
)  # a long note mostly ends while the pedal is down, where its end is not heard

ROWS: dict[str, Settings] = {
    "8 positions a beat": Settings(((0, 4, 8), (4, 12, 4)), pedal=False),
    "12 positions": Settings(((0, 4, 12), (4, 12, 4)), pedal=False),
    "16 positions": Settings(((0, 4, 16), (4, 12, 4)), pedal=False),
    "24 positions": Settings(((0, 4, 24), (4, 12, 4)), pedal=False),
    "24 positions, 64 velocities": Settings(((0, 4, 24), (4, 12, 4)), velocities=64, pedal=False),
    "24 positions, rests": Settings(((0, 4, 24), (4, 12, 4)), pedal=False),
    "24 positions, pedal (remi)": VARIANTS["remi"],
    "24 positions, pedal, coarse long durations": Settings(COARSE),
    "32 positions, pedal": Settings(((0, 4, 32), (4, 12, 4))),
    "8 positions, pedal, tempo, metre (remi-published)": VARIANTS["remi-published"],
}
WITH_RESTS = {"24 positions, rests"}


@dataclass(frozen=True)
class _RoundTrip:
    """A performance after a round trip, and the number of base tokens that it took."""

    decoded: Performance
    tokens: int


# The encodings of the systems' table: a name of tokenizers.VARIANTS, and how many ids it learns (None: it learns none).
ENCODINGS: tuple[tuple[str, int | None], ...] = (
    ("pitch-string", 629),
    ("pitch-string", 1279),
    ("remi-rests", None),
    ("remi", None),
    ("remi", 512),
    ("remi", 1024),
    ("remi", 2000),
    ("remi-published", 2000),
    ("notes", None),
    ("notes-fine", None),
)


def encodings_table(
    performances: Iterable[Performance],
    training: Sequence[Performance],
    encodings: Iterable[tuple[str, int | None]] = ENCODINGS,
) -> list[dict]:
    """One dict for each encoding, trained on `training`: ids, tokens per note, what it keeps, and round-trip errors on `performances`.

    `keys_kept` is the share of notes that come back as the key that was struck. Errors are means over notes, None for what
    the encoding does not keep: onset and duration in ms, velocity in MIDI steps, `late_at_end_s` how many seconds the last note
    of a piece is off.
    """
    performances = [p for p in performances if len(p)]
    rows = []
    for variant, size in encodings:
        tokenizer = make_tokenizer(variant)
        rows.append(_encoding_row(tokenizer if size is None else tokenizer.train(training, size), size, performances))
    return rows


def _encoding_row(tokenizer: Tokenizer, size: int | None, performances: list[Performance]) -> dict:
    encoded = [tokenizer.encode(tokenizer.prepare(p)) for p in performances]
    decoded = [tokenizer.decode(ids) for ids in encoded]
    notes = np.array([len(p) for p in performances])
    row = {
        "encoding": tokenizer.variant + (f", {size:,}" if size else ""),
        "ids": tokenizer.vocab_size,
        "tokens_per_note": round(sum(map(len, encoded)) / int(notes.sum()), 3),
        "keeps": list(tokenizer.keeps),
        "notes_decoded": round(sum(map(len, decoded)) / int(notes.sum()), 4),
    }
    errors = [round_trip_error(original, other) for original, other in zip(performances, decoded)]
    if "onset" in tokenizer.keeps:
        kept = sum(error["notes"] - error["notes_lost"] for error in errors)
        late = round(float(np.mean([abs(_last_onset(p) - _last_onset(d)) for p, d in zip(performances, decoded)])), 3)
    else:
        pitches: Any = tokenizer  # pitch strings, the one encoding without onsets, count their keys
        kept, late = sum(pitches.keys_kept(p) for p in performances), None
    row["keys_kept"] = round(kept / int(notes.sum()), 4)
    for kind, key in (("onset", "onset_error_ms"), ("duration", "duration_error_ms"), ("velocity", "velocity_error")):
        mean = float(np.average([error[key] for error in errors], weights=notes))
        row[key] = round(mean, 3) if kind in tokenizer.keeps else None
    moved = [pedal_error(p, d)["pedal_error_ms"] for p, d in zip(performances, decoded)]
    known = [error for error in moved if error is not None]
    row["pedal_error_ms"] = round(float(np.mean(known)), 3) if known and "pedal" in tokenizer.keeps else None
    return {**row, "late_at_end_s": late}


def settings_table(performances: Iterable[Performance], rows: dict[str, Settings] | None = None) -> list[dict]:
    """One dict for each row: its settings, base tokens, tokens a note, and mean round-trip errors over all notes.

    Errors are onset and duration in ms, velocity in MIDI steps, `notes_lost` a count, `late_at_end_s` how many seconds the
    last note of a piece is off (mean over pieces): where that is large, a decoded piece drifts.
    """
    performances = [p for p in performances if len(p)]
    return [_row(name, settings, performances) for name, settings in (rows or ROWS).items()]


def _row(name: str, settings: Settings, performances: list[Performance]) -> dict:
    round_trips = _with_rests if name in WITH_RESTS else _without_rests
    size, trips = round_trips(settings, performances)
    errors = [round_trip_error(original, c.decoded) for original, c in zip(performances, trips)]
    notes = np.array([len(p) for p in performances])
    means = {
        key: round(float(np.average([error[key] for error in errors], weights=notes)), 3)
        for key in ("onset_error_ms", "duration_error_ms", "velocity_error")
    }
    late = [abs(_last_onset(original) - _last_onset(c.decoded)) for original, c in zip(performances, trips)]
    return {
        "settings": name,
        "base_tokens": size,
        "tokens_per_note": round(sum(c.tokens for c in trips) / int(notes.sum()), 3),
        **means,
        "notes_lost": int(sum(error["notes_lost"] for error in errors)),
        "late_at_end_s": round(float(np.mean(late)), 3),
        "pedal": settings.pedal,
    }


def _last_onset(performance: Performance) -> float:
    return float(performance.notes["onset"].max()) if len(performance) else 0.0


def _without_rests(settings: Settings, performances: list[Performance]) -> tuple[int, list[_RoundTrip]]:
    tokenizer = PianoTokenizer(settings)
    encoded = [tokenizer.encode_base(p) for p in performances]
    return tokenizer.vocab_size, [_RoundTrip(tokenizer.decode(ids), len(ids)) for ids in encoded]


def _with_rests(settings: Settings, performances: list[Performance]) -> tuple[int, list[_RoundTrip]]:
    """By miditok itself, since our own arrays write no rests."""
    from miditok import REMI

    tokenizer = PianoTokenizer(settings)
    config = settings.miditok().config
    config.use_rests, config.beat_res_rest = True, {(0, 1): 8, (1, 12): 4}
    miditok, trips = REMI(config), []
    for performance in performances:
        ticks = grid.quantise(performance, tokenizer.vocabulary)
        tokens = miditok.encode(to_score(ticks, tokenizer.vocabulary.positions_per_beat))
        length = len(tokens[0].ids)  # before decoding, which takes the list apart
        notes = miditok.decode(tokens).to("second").tracks[0].notes
        trips.append(_RoundTrip(Performance.of((n.time, n.duration, n.pitch, n.velocity) for n in notes), length))
    return len(miditok.vocab), trips


def to_score(ticks: grid.Ticks, ticks_per_quarter: int) -> Any:
    """Quantised notes and pedal as a symusic.Score at 120 beats a minute in 4/4, which is what miditok reads."""
    from symusic import Note, Pedal, Score, Tempo, TimeSignature, Track

    score, track = Score(ticks_per_quarter), Track()
    score.tempos.append(Tempo(0, 60.0 * grid.BEATS_PER_SECOND))
    score.time_signatures.append(TimeSignature(0, grid.BEATS_PER_BAR, 4))
    times = [a.astype(np.int32) for a in (ticks.onset, ticks.duration, ticks.press, ticks.release - ticks.press)]
    track.notes = Note.from_numpy(*times[:2], ticks.pitch.astype(np.int8), ticks.velocity.astype(np.int8))
    track.pedals = Pedal.from_numpy(*times[2:])
    score.tracks.append(track)
    return score
