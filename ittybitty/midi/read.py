"""Reads a MIDI file as notes in seconds.

All tracks of pitched instruments are merged into one piano, drums are left out, the tempo map is applied, and the sustain
controller becomes intervals of held pedal. Notes are kept as they are in the file, overlaps included
(`notes.without_overlaps` resolves them).

symusic [1] parses. It accepts some damaged files (a missing track, a wrong division, a cut inside a long
chunk), so the chunks are checked first (chunks.py). A piece of a corpus must be complete. Of a damaged seed (`repair=True`),
the readable part is used (repair.py).

Left out: tracks, programs, lyrics; the soft and sostenuto pedals.

[1] Liao et al. 2024, symusic.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np

from ..errors import MidiError
from ..notes import HIGHEST_PITCH, LOWEST_PITCH, NOTE, PEDAL, Performance, TempoMap, united
from .chunks import whole
from .repair import repaired

SUSTAIN = 64  # controller number
PEDAL_DOWN = 64  # controller values of at least this hold the pedal
LARGEST = 256 << 20  # bytes of a file; a day of playing is a few of them


def read_midi(path: str | Path, repair: bool = False) -> Performance:
    """Notes and pedal of a MIDI file, in seconds; MidiError says what is wrong with the file.

    Notes outside the piano's keyboard are left out with a warning; a note of length zero lasts one tick. With `repair`, as for
    a seed, the readable part of a damaged file is used, and one warning says what was repaired. Tempo and time signatures
    that are not MIDI's defaults (120, 4/4) are kept in `tempo_map`.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise MidiError(f"{path}: is a folder; give a MIDI file")
    try:
        if not path.is_file() and path.exists():  # a device or a pipe, which may have no end
            raise MidiError(f"{path}: is not a regular file; give a MIDI file")
        if path.stat().st_size > LARGEST:
            raise MidiError(f"{path}: has more than {LARGEST >> 20} MiB; give a MIDI file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise MidiError(f"{path}: no such file; check the name") from None
    except OSError as error:
        raise MidiError(f"{path}: cannot be read ({error.strerror or error})") from None
    return read_midi_bytes(data, str(path), repair)


def read_midi_bytes(data: bytes, name: str, repair: bool = False) -> Performance:
    """The same from the content of a file; errors name it `name`."""
    if not repair:
        return _performance(whole(data, name), name)
    try:
        better, faults = repaired(data, name)
        performance = _performance(better, name)
    except MidiError:
        with contextlib.suppress(MidiError):  # nothing was recovered, but symusic may still read the original
            return _performance(whole(data, name), name)
        raise
    if faults:
        warnings.warn(f"{name}: is damaged and was repaired: {'; '.join(faults)}", stacklevel=3)
    return performance


def _performance(data: bytes, name: str) -> Performance:
    """The performance that symusic reads from a complete file."""
    from symusic import Score

    try:
        score = Score.from_midi(data, sanitize_data=True)
    except Exception:  # symusic raises RuntimeError or another exception of its core, with unhelpful messages
        raise MidiError(f"{name}: is cut short or damaged; get a whole copy") from None
    pitched = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    if not pitched:
        only = "only drums" if any(len(track.notes) for track in score.tracks) else "no notes"
        raise MidiError(f"{name}: holds {only}; give a file with notes of a pitched instrument")
    clock = _tempo_map(score)
    notes = _on_keyboard(_notes([track.notes.numpy() for track in pitched], clock, name), name)
    pedals = [_held(track.controls.numpy(), _last_release(track.notes.numpy())) for track in pitched]
    kept = clock if clock.says_something else None
    return Performance(notes, _pedals(np.concatenate(pedals), clock), tempo_map=kept)


def _tempo_map(score) -> TempoMap:
    """The tempos and time signatures of a symusic score."""
    tempos, metres = score.tempos.numpy(), score.time_signatures.numpy()
    return TempoMap(
        score.ticks_per_quarter,
        tuple(sorted(zip(tempos["time"].tolist(), tempos["mspq"].tolist()), key=lambda change: change[0])),
        tuple(zip(*(metres[name].tolist() for name in ("time", "numerator", "denominator")))),
    )


def _notes(tracks: list[dict[str, np.ndarray]], clock: TempoMap, name: str) -> np.ndarray:
    """All tracks' notes as one sorted NOTE array."""
    onset, length, pitch, velocity = (
        np.concatenate([track[key] for track in tracks]).astype("i8")
        for key in ("time", "duration", "pitch", "velocity")
    )
    if onset.min() < 0 or length.min() < 0 or (onset + length).max() >= 2**31:  # symusic counts in 32 bits
        raise MidiError(f"{name}: lasts over 2 billion ticks; it is damaged, or cut it into shorter files")
    notes = np.empty(len(onset), NOTE)
    notes["onset"] = clock.seconds(onset)
    notes["duration"] = clock.seconds(onset + np.maximum(length, 1)) - notes["onset"]
    notes["pitch"] = pitch
    notes["velocity"] = np.clip(velocity, 1, 127)
    return notes[np.lexsort((notes["velocity"], notes["duration"], pitch, notes["onset"]))]


def _on_keyboard(notes: np.ndarray, name: str) -> np.ndarray:
    inside = (notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH)
    lost = len(notes) - int(inside.sum())
    if lost == len(notes):
        raise MidiError(f"{name}: none of its {lost} notes lies on a piano (A0 to C8); transpose it")
    if lost:
        warnings.warn(
            f"{name}: {lost} of {len(notes)} notes lie off the piano (A0 to C8) and are left out", stacklevel=5
        )
        return notes[inside]
    return notes


def _last_release(notes: dict[str, np.ndarray]) -> int:
    return int((notes["time"].astype("i8") + notes["duration"]).max())


def _held(controls: dict[str, np.ndarray], end: int) -> np.ndarray:
    """(n, 2) ticks at which one track's pedal goes down and up; a pedal that is never released is released at `end`."""
    sustain = controls["number"] == SUSTAIN
    down = controls["value"][sustain] >= PEDAL_DOWN
    changes = controls["time"][sustain][np.diff(down, prepend=False)].astype("i8")  # down, up, down, ...
    if len(changes) % 2:
        changes = np.append(changes, max(end, int(changes[-1])))
    return changes.reshape(-1, 2)


def _pedals(held: np.ndarray, clock: TempoMap) -> np.ndarray:
    """PEDAL array of (n, 2) ticks, merged where intervals of several tracks overlap."""
    held = united(held[held[:, 1] > held[:, 0]])
    pedals = np.empty(len(held), PEDAL)
    pedals["onset"] = clock.seconds(held[:, 0])
    pedals["duration"] = clock.seconds(held[:, 1]) - pedals["onset"]
    return pedals
