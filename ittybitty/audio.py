"""Notes -> sound: a small piano made of one sampled tone a key, offline, with pedal and dynamics.

The tones come from symusic's synthesizer [1] and the General MIDI SoundFont TimGM6mb.sf2 that pretty_midi [2] carries.
That synthesizer ignores velocity and pedal, holds the loop of a sample at full level and cuts the last release
(measured with symusic 0.5.9), so it is asked for one tone a key, and what makes a piano of them is added here:

    velocity   amplitude (v / 127)^2, the GM curve of 40 log10(v / 127) dB [3]
    pedal      a note rings until the pedal comes up, or until its key is struck again
    string     a held tone dies away, bass strings slower than treble
    damper     a released tone fades within 0.2 s

[1] https://github.com/Yikai-Liao/symusic  [2] https://github.com/craffel/pretty-midi
[3] MMA, General MIDI Level 2 1.2a, section 3.3.1

Left out: room, stereo (the SoundFont is mono), and the darker colour of a softly struck string.
"""

from __future__ import annotations

import importlib.util
import io
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import MidiError, OutputError
from .notes import HIGHEST_PITCH, LOWEST_PITCH, Performance
from .paths import atomic_path

SAMPLE_RATE = 44_100  # Hz
PEAK_DBFS = -3.0  # loudest sample of a written file
TONE_SECONDS = 10.0  # a string is taken to be silent after that
RELEASE_SECONDS = 0.2  # a damper's fade
BLOCK_SECONDS = 20.0  # music that is in memory at once
WAV_LIMIT = 2**32 - 64  # bytes a RIFF file can hold


def soundfont() -> Path:
    """TimGM6mb.sf2 in the installed pretty_midi; found without importing it."""
    spec = importlib.util.find_spec("pretty_midi")
    path = Path(spec.origin).with_name("TimGM6mb.sf2") if spec else None
    if path is None or not path.is_file():
        raise OutputError("no sound: the SoundFont TimGM6mb.sf2 is missing; install it with: pip install pretty_midi")
    return path


def render(performance: Performance, sample_rate: int = SAMPLE_RATE, peak_dbfs: float | None = PEAK_DBFS) -> np.ndarray:
    """Mono float32 samples (n,) from second 0 to the end of the last release.

    The loudest sample lies at `peak_dbfs`; None leaves the level as played, which may pass 1. MidiError for no notes.
    """
    samples = np.concatenate(list(_blocks(performance, sample_rate)))
    if peak_dbfs is not None:
        samples *= _gain(float(np.abs(samples).max()), peak_dbfs)
    return samples


def write_wav(
    performance: Performance, path: str | Path, sample_rate: int = SAMPLE_RATE, peak_dbfs: float = PEAK_DBFS
) -> dict[str, float]:
    """16-bit PCM mono WAV, written atomically; {"peak_dbfs", "rms_dbfs", "seconds", "sample_rate"} as measured in it.

    `peak_dbfs` is held within [-20, -1]. Long pieces are rendered twice, block by block, instead of being kept in memory.
    """
    _check_length(performance, sample_rate, path)
    with atomic_path(Path(path)) as temporary, open(temporary, "wb") as file:
        return _write(performance, file, sample_rate, peak_dbfs)


def render_bytes(performance: Performance, sample_rate: int = 22_050, peak_dbfs: float = PEAK_DBFS) -> bytes:
    """The same WAV as bytes, small enough to be embedded in a page: 44 kB a second of music at 22,050 Hz."""
    _check_length(performance, sample_rate, "the sound")
    file = io.BytesIO()
    _write(performance, file, sample_rate, peak_dbfs)
    return file.getvalue()


def sounding(performance: Performance) -> np.ndarray:
    """The notes with the durations one hears: held by the pedal, cut when the same key is struck again."""
    notes, pedals = performance.notes.copy(), performance.pedals
    end = notes["onset"] + notes["duration"]
    if len(pedals):
        lifted = np.maximum.accumulate(pedals["onset"] + pedals["duration"])
        last = np.searchsorted(pedals["onset"], end, side="right") - 1
        end = np.where(last >= 0, np.maximum(end, lifted[last]), end)
    order = np.lexsort((notes["onset"], notes["pitch"]))
    same = notes["pitch"][order[1:]] == notes["pitch"][order[:-1]]
    struck_again = np.where(same, notes["onset"][order[1:]], np.inf)
    end[order[:-1]] = np.minimum(end[order[:-1]], struck_again)
    notes["duration"] = end - notes["onset"]
    return notes


def _blocks(performance: Performance, rate: int) -> Iterator[np.ndarray]:
    """Consecutive stretches of samples; a block's tones that ring on are carried into the next."""
    if not len(performance):
        raise MidiError("there are no notes to play: give a performance with at least one note")
    notes = sounding(performance)
    notes = notes[np.argsort(notes["onset"], kind="stable")]
    notes["onset"] -= min(0.0, float(notes["onset"][0]))
    total = int(np.ceil((_ring(notes) + RELEASE_SECONDS) * rate))
    block, tail = int(BLOCK_SECONDS * rate), int((TONE_SECONDS + RELEASE_SECONDS) * rate) + 2
    tones: dict[int, np.ndarray] = {}
    starts = np.round(notes["onset"] * rate).astype(np.int64)
    edges = np.searchsorted(starts, np.arange(0, total + block, block))
    carried = np.zeros(block + tail, np.float32)
    for index, begin in enumerate(range(0, total, block)):
        for i in range(edges[index], edges[index + 1]):
            pitch = _key(int(notes["pitch"][i]))
            if pitch not in tones:
                tones[pitch] = _tone(pitch, rate)
            _strike(carried, int(starts[i]) - begin, tones[pitch], float(notes["duration"][i]), int(notes["velocity"][i]), rate)
        yield carried[: min(block, total - begin)].copy()
        carried[:tail] = carried[block:]
        carried[tail:] = 0


def _strike(into: np.ndarray, start: int, tone: np.ndarray, duration: float, velocity: int, rate: int) -> None:
    """Adds one key's tone to `into`, damped after `duration` seconds."""
    fade = int(RELEASE_SECONDS * rate)
    held = min(max(int(duration * rate), int(0.02 * rate)), len(tone) - fade)
    level = np.float32((velocity / 127) ** 2)
    into[start : start + held] += level * tone[:held]
    damped = tone[held : held + fade] * np.linspace(1, 0, fade, dtype=np.float32) ** 2
    into[start + held : start + held + fade] += level * damped


def _tone(pitch: int, rate: int) -> np.ndarray:
    """One key struck and held: the SoundFont's tone with the decay of a string laid over its endless loop."""
    from symusic import Note, Score, Synthesizer, Track

    seconds = TONE_SECONDS + RELEASE_SECONDS
    score, track = Score(480, ttype="second"), Track(program=0, is_drum=False, name="piano", ttype="second")
    track.notes.append(Note(0.0, seconds + 0.1, pitch, 127, ttype="second"))
    score.tracks.append(track)
    tone = np.asarray(Synthesizer(str(soundfont()), rate, 0).render(score, stereo=False), np.float32)
    tone = np.ascontiguousarray(tone.reshape(-1)[: int(seconds * rate)])
    # Time constants from about 4 s at A0 to 0.5 s at C8: treble strings are short and light.
    constant = 4.0 * 2 ** (-(pitch - LOWEST_PITCH) / 29)
    return tone * np.exp(-np.arange(len(tone), dtype=np.float32) / (constant * rate)).astype(np.float32)


def _key(pitch: int) -> int:
    """The key that sounds for a pitch: notes beyond the 88 keys are folded in by octaves, so that nothing is silent."""
    if pitch < LOWEST_PITCH:
        return pitch + 12 * -((pitch - LOWEST_PITCH) // 12)
    return pitch - 12 * -((HIGHEST_PITCH - pitch) // 12) if pitch > HIGHEST_PITCH else pitch


def _ring(notes: np.ndarray) -> float:
    """Second at which the last tone has died away or been damped."""
    return float((notes["onset"] + np.clip(notes["duration"], 0.02, TONE_SECONDS)).max())


def _gain(peak: float, peak_dbfs: float) -> float:
    if not peak > 0:
        raise OutputError("the sound is silent: every note's velocity is 0; give velocities of 1 to 127")
    return 10 ** (min(max(peak_dbfs, -20.0), -1.0) / 20) / peak


def _check_length(performance: Performance, rate: int, path: str | Path) -> None:
    seconds = performance.end + TONE_SECONDS + 1
    if 2 * seconds * rate > WAV_LIMIT:
        raise OutputError(f"{path}: {seconds / 3600:.1f} hours do not fit into a WAV file; render a shorter part")


def _write(performance: Performance, file, rate: int, peak_dbfs: float) -> dict[str, float]:
    kept: list[np.ndarray] = []
    peak, count = 0.0, 0
    for block in _blocks(performance, rate):  # the level of the whole must be known before the first sample is written
        peak, count = max(peak, float(np.abs(block).max())), count + len(block)
        if count < 120 * rate:  # two minutes are kept instead of being rendered again
            kept.append(block)
    gain = _gain(peak, peak_dbfs)
    blocks = kept if sum(map(len, kept)) == count else _blocks(performance, rate)
    loudest, energy = 0, 0.0
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.setnframes(count)
        for block in blocks:
            samples = np.round(block * (gain * 32768)).astype("<i2")
            loudest = max(loudest, int(np.abs(samples.astype(np.int32)).max()))
            energy += float(np.square(samples.astype(np.float64)).sum())
            wav.writeframesraw(samples.tobytes())
    return {
        "peak_dbfs": round(_dbfs(loudest), 2),
        "rms_dbfs": round(_dbfs((energy / count) ** 0.5), 2),
        "seconds": round(count / rate, 3),
        "sample_rate": rate,
    }


def _dbfs(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 1e-9) / 32768))
