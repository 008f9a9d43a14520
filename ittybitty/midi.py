"""MIDI files to notes in seconds, and back.

Reading merges every track of pitched instruments into one piano, leaves drums out, applies the tempo map and turns
the sustain controller into held stretches. Writing follows the beats of a performance that has them. What the file says of notes is kept as it stands, overlaps included
(`notes.without_overlaps` resolves them; writing does so because MIDI cannot tell two strikes of one key apart).

symusic [1] parses; it takes some damaged files for good ones (a missing track, a wrong division, a cut inside a long
chunk), so the chunks are counted here first.

Left out: tracks, programs, lyrics, metre; the soft and sostenuto pedals; files of type 2 (several songs in one) and
SMPTE time, which are refused.

[1] Liao et al. 2024, symusic. [2] MIDI Manufacturers Association 1996, Standard MIDI Files 1.0.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import MidiError
from .notes import HIGHEST_PITCH, LOWEST_PITCH, NOTE, PEDAL, Performance, without_overlaps
from .paths import atomic_path

SUSTAIN = 64  # controller number
PEDAL_DOWN = 64  # controller values from here on hold the pedal
DEFAULT_TEMPO = 500_000  # microseconds a quarter note until a file says otherwise: 120 BPM

TICKS_PER_QUARTER = 960  # of written files without beats; with slow beats more, so that no tick is longer
MOST_TICKS = 32_000  # a quarter: MIDI has 15 bits for it
LONGEST_QUARTER = 16.0  # s; MIDI has 24 bits for its microseconds
TICKS_PER_SECOND = TICKS_PER_QUARTER * 1_000_000 // DEFAULT_TEMPO  # 1,920: a tick is 0.52 ms


def read_midi(path: str | Path) -> Performance:
    """Notes and pedal of a MIDI file, in seconds; MidiError says what is wrong with the file.

    Notes off the piano's keyboard are left out with a warning; a note of length zero is given one tick.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise MidiError(f"{path}: is a folder; give a MIDI file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MidiError(f"{path}: no such file; check the name") from None
    except OSError as error:
        raise MidiError(f"{path}: cannot be read ({error.strerror or error})") from None
    return read_midi_bytes(data, str(path))


def read_midi_bytes(data: bytes, name: str) -> Performance:
    """The same from a file's content; `name` is what errors call it."""
    from symusic import Score

    data = _checked(data, name)
    try:
        score = Score.from_midi(data, sanitize_data=True)
    except Exception as error:  # symusic raises RuntimeError, or whatever its core threw
        raise MidiError(f"{name}: is cut short or damaged ({_first_line(error)}); get a whole copy") from None
    pitched = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    if not pitched:
        only = "only drums" if any(len(track.notes) for track in score.tracks) else "no notes"
        raise MidiError(f"{name}: holds {only}; give a file with notes of a pitched instrument")
    clock = _Clock(score.tempos.numpy(), score.ticks_per_quarter)
    notes = _on_keyboard(_notes([track.notes.numpy() for track in pitched], clock, name), name)
    pedals = [_held(track.controls.numpy(), _last_release(track.notes.numpy())) for track in pitched]
    return Performance(notes, _pedals(np.concatenate(pedals), clock))


def _checked(data: bytes, name: str) -> bytes:
    """The bytes from the header on, if header and chunks are those of a whole file of type 0 or 1 [2]."""
    if not data:
        raise MidiError(f"{name}: is empty; give a MIDI file")
    if data[:4] == b"RIFF" and b"MThd" in data[:64]:  # .rmi: the same file in an envelope
        data = data[data.index(b"MThd") :]
    if data[:4] != b"MThd":
        raise MidiError(f"{name}: is not a MIDI file (it does not start with MThd)")
    if len(data) < 14:
        raise MidiError(f"{name}: is cut short within its header; get a whole copy")
    kind, tracks, division = (int.from_bytes(data[i : i + 2], "big") for i in (8, 10, 12))
    if kind == 2:
        raise MidiError(f"{name}: is a type 2 file (several songs in one); save the song you want as type 0 or 1")
    if kind > 2:
        raise MidiError(f"{name}: claims MIDI type {kind}, which does not exist; the file is damaged")
    if division & 0x8000:
        raise MidiError(f"{name}: counts time in SMPTE frames; save it with ticks per quarter note")
    if division == 0:
        raise MidiError(f"{name}: has 0 ticks per quarter note; the file is damaged")
    found = sum(tag == b"MTrk" for tag in _chunks(data, name))
    if found < tracks:
        raise MidiError(f"{name}: is cut short: {found} of {tracks} tracks are there; get a whole copy")
    return data


def _chunks(data: bytes, name: str) -> Iterator[bytes]:
    """The tag of each chunk after the header; trailing bytes that are no chunk end the file."""
    start = 8 + int.from_bytes(data[4:8], "big")
    while start + 8 <= len(data) and data[start : start + 4].isalnum():
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")
        if end > len(data):
            raise MidiError(f"{name}: is cut short: {end - len(data)} bytes are missing; get a whole copy")
        yield data[start : start + 4]
        start = end


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("MiniMidi: ").rstrip("!") if str(error) else type(error).__name__


class _Clock:
    """Ticks to seconds through the tempo map."""

    def __init__(self, tempos: dict[str, np.ndarray], ticks_per_quarter: int):
        ticks, lengths = tempos["time"].astype("i8"), tempos["mspq"].astype("f8")  # mspq: microseconds a quarter
        keep = lengths > 0  # a tempo of 0 would stop time
        self.ticks = np.concatenate([[0], ticks[keep]])
        self.seconds_per_tick = np.concatenate([[DEFAULT_TEMPO], lengths[keep]]) * 1e-6 / ticks_per_quarter
        spans = np.diff(self.ticks) * self.seconds_per_tick[:-1]
        self.seconds = np.concatenate([[0.0], np.cumsum(spans)])

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        at = np.searchsorted(self.ticks, ticks, side="right") - 1
        return self.seconds[at] + (ticks - self.ticks[at]) * self.seconds_per_tick[at]


def _notes(tracks: list[dict[str, np.ndarray]], clock: _Clock, name: str) -> np.ndarray:
    """All tracks' notes as one sorted NOTE array."""
    onset, length, pitch, velocity = (
        np.concatenate([track[key] for track in tracks]).astype("i8")
        for key in ("time", "duration", "pitch", "velocity")
    )
    if onset.min() < 0 or length.min() < 0 or (onset + length).max() >= 2**31:  # symusic counts in 32 bits
        raise MidiError(f"{name}: lasts over 2 billion ticks; it is damaged, or cut it into shorter files")
    notes = np.empty(len(onset), NOTE)
    notes["onset"] = clock(onset)
    notes["duration"] = clock(onset + np.maximum(length, 1)) - notes["onset"]
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
            f"{name}: {lost} of {len(notes)} notes lie off the piano (A0 to C8) and are left out", stacklevel=4
        )
        return notes[inside]
    return notes


def _last_release(notes: dict[str, np.ndarray]) -> int:
    return int((notes["time"].astype("i8") + notes["duration"]).max())


def _held(controls: dict[str, np.ndarray], end: int) -> np.ndarray:
    """(n, 2) ticks at which one track's pedal goes down and up; one never released is released at `end`."""
    sustain = controls["number"] == SUSTAIN
    down = controls["value"][sustain] >= PEDAL_DOWN
    changes = controls["time"][sustain][np.diff(down, prepend=False)].astype("i8")  # down, up, down, ...
    if len(changes) % 2:
        changes = np.append(changes, max(end, int(changes[-1])))
    return changes.reshape(-1, 2)


def _pedals(held: np.ndarray, clock: _Clock) -> np.ndarray:
    """PEDAL array of (n, 2) ticks, joined where stretches of several tracks overlap."""
    held = _united(held[held[:, 1] > held[:, 0]])
    pedals = np.empty(len(held), PEDAL)
    pedals["onset"] = clock(held[:, 0])
    pedals["duration"] = clock(held[:, 1]) - pedals["onset"]
    return pedals


def _united(spans: np.ndarray) -> np.ndarray:
    """(n, 2) spans sorted, those that overlap made one; spans that only touch stay two (the foot went up and down)."""
    spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
    if len(spans) < 2:
        return spans
    reach = np.maximum.accumulate(spans[:, 1])
    fresh = np.concatenate([[True], spans[1:, 0] >= reach[:-1]])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(spans) - 1)
    return np.stack([spans[fresh, 0], reach[last]], axis=1)


def write_midi(performance: Performance, path: str | Path) -> None:
    """One piano track on a clock of 120 BPM, 0.52 ms a tick; OutputError when the path cannot be written.

    Where the performance has beats, each of them is a quarter note and the file's tempo follows them, so that its beats
    fall where the performance's do; before the first the quarters are about half a second long, after the last exactly.
    Overlaps are resolved and every note lasts at least one tick, so reading the file gives the same notes and
    pedal within one tick. ValueError for times before 0 or pitches that MIDI does not have.
    """
    data = midi_bytes(performance)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def midi_bytes(performance: Performance) -> bytes:
    """What `write_midi` writes."""
    from symusic import ControlChange, Note, Score, Tempo, Track

    clock = _Quarters(performance.beats)
    notes = _whole_ticks(performance, clock)
    score, track = Score(clock.ticks), Track("Piano")
    for tick, length in clock.tempos():
        score.tempos.append(Tempo(tick, mspq=length))
    track.notes = Note.from_numpy(
        notes["onset"].astype("i4"),
        notes["duration"].astype("i4"),
        notes["pitch"].astype("i1"),
        notes["velocity"].astype("i1"),
    )
    for down, up in _pedal_ticks(performance.pedals, clock):
        track.controls.append(ControlChange(int(down), SUSTAIN, 127))
        track.controls.append(ControlChange(int(up), SUSTAIN, 0))
    score.tracks.append(track)
    return score.dumps_midi()


class _Quarters:
    """Seconds to ticks of a file that is written: a quarter note a beat, or 120 a minute without beats."""

    def __init__(self, beats: np.ndarray | None):
        times = np.empty(0) if beats is None else np.asarray(beats, float)
        times = times[np.isfinite(times) & (times >= 0)]
        usual = DEFAULT_TEMPO * 1e-6
        if len(times):
            before = np.linspace(0, times[0], max(1, round(times[0] / usual)) + 1) if times[0] > 0 else np.zeros(1)
            times = np.concatenate([before, times[1:]])
            parts = np.ceil(np.diff(times) / LONGEST_QUARTER).astype(int).clip(1)  # a gap too long for one quarter
            times = np.interp(np.arange(parts.sum() + 1), np.concatenate([[0], np.cumsum(parts)]), times)
        # whole microseconds from the beginning, so that nothing drifts, and at least one a quarter
        self.micros = np.unique(np.rint(times * 1e6).astype("i8")) if len(times) else np.zeros(1, "i8")
        longest = int(np.diff(self.micros).max(initial=DEFAULT_TEMPO))
        self.ticks = min(MOST_TICKS, TICKS_PER_QUARTER * -(-longest // DEFAULT_TEMPO))  # a quarter

    def __call__(self, seconds: np.ndarray) -> np.ndarray:
        """Whole ticks of seconds, as floats."""
        micros = np.asarray(seconds, float) * 1e6
        after = np.maximum(micros - self.micros[-1], 0) / DEFAULT_TEMPO
        return np.rint((np.interp(micros, self.micros, np.arange(len(self.micros))) + after) * self.ticks)

    def tempos(self) -> list[tuple[int, int]]:
        """(tick, microseconds a quarter) of each change."""
        lengths = np.append(np.diff(self.micros), DEFAULT_TEMPO)
        changes = np.flatnonzero(np.diff(lengths, prepend=0))
        return [(int(i) * self.ticks, int(lengths[i])) for i in changes]


def _whole_ticks(performance: Performance, clock: _Quarters) -> np.ndarray:
    """Notes with onset and duration in ticks, none overlapping another of its pitch."""
    notes = performance.notes.copy()
    if len(notes):
        if not (
            np.isfinite(notes["onset"]).all() and np.isfinite(notes["duration"]).all() and notes["onset"].min() >= 0
        ):
            raise ValueError("every onset must be 0 s or later: shift() the performance first")
        if not (notes["pitch"].min() >= 0 and notes["pitch"].max() <= 127):
            raise ValueError("pitches must lie within 0..127")
    release = clock(notes["onset"] + notes["duration"])
    notes["onset"] = clock(notes["onset"])
    notes["duration"] = np.maximum(release - notes["onset"], 1)
    notes["velocity"] = np.clip(notes["velocity"], 1, 127)
    return without_overlaps(Performance(notes)).notes


def _pedal_ticks(pedals: np.ndarray, clock: _Quarters) -> np.ndarray:
    """(n, 2) ticks of pedal down and up; the foot is up for at least a tick between two stretches."""
    spans = np.stack([pedals["onset"], pedals["onset"] + pedals["duration"]], axis=1)
    spans = _united(clock(np.maximum(spans, 0)).astype("i8"))
    spans[:-1, 1] = np.minimum(spans[:-1, 1], spans[1:, 0] - 1)
    return spans[spans[:, 1] > spans[:, 0]]
