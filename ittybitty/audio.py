"""Renders notes to sound: a small piano from one sampled tone per key, offline, with pedal and dynamics.

The tones come from symusic's synthesizer [1] and the General MIDI SoundFont TimGM6mb.sf2 that pretty_midi [2] contains.
That synthesizer ignores velocity and pedal, holds the loop of a sample at full level and cuts the last release
(measured with symusic 0.5.9). So it renders only one tone per key, and this module adds what a piano needs:

    velocity   amplitude (v / 127)^2, the GM curve of 40 log10(v / 127) dB [3]
    pedal      a note rings until the pedal comes up, or until its key is struck again
    string     a held tone decays, bass strings slower than treble
    damper     a released tone fades within 0.2 s

A piano's attacks are some 25 dB above its mean level, so a file that is normalised by its peak sounds soft. This module
normalises the loudness instead, measured as in broadcasting [4]. A limiter with look-ahead reduces what would exceed the
peak, slowly enough that no distortion is heard.

[1] https://github.com/Yikai-Liao/symusic  [2] https://github.com/craffel/pretty-midi
[3] MMA, General MIDI Level 2 1.2a, section 3.3.1
[4] ITU-R BS.1770-4; Steinmetz and Reiss 2021, pyloudnorm

Left out: reverberation, stereo (the SoundFont is mono), and the darker tone of a softly struck string.
"""

from __future__ import annotations

import importlib.util
import io
import wave
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from .errors import MidiError, OutputError
from .notes import HIGHEST_PITCH, LOWEST_PITCH, Performance
from .paths import atomic_path

SAMPLE_RATE = 44_100  # Hz
LOUDNESS = -18.0  # LUFS of a written file: streaming services use -14, but for music with fewer attacks
PEAK_DBFS = -1.5  # no sample of a written file is above this
MOST_LIMITED = 10.0  # dB by which the limiter may reduce the loudest attack; a piece that would need more stays softer
LOOK_AHEAD = 0.05  # s before and after an attack over which the limiter moves
TONE_SECONDS = 10.0  # a string is treated as silent after that
RELEASE_SECONDS = 0.2  # a damper's fade
BLOCK_SECONDS = 20.0  # the length of music that is in memory at once
WAV_LIMIT = 2**32 - 64  # bytes a RIFF file can hold


def soundfont() -> Path:
    """Path of TimGM6mb.sf2 in the installed pretty_midi, found without importing it; OutputError if it is missing."""
    spec = importlib.util.find_spec("pretty_midi")
    path = Path(spec.origin).with_name("TimGM6mb.sf2") if spec and spec.origin else None
    if path is None or not path.is_file():
        raise OutputError("no sound: the SoundFont TimGM6mb.sf2 is missing; install it with: pip install pretty_midi")
    return path


def render(performance: Performance, sample_rate: int = SAMPLE_RATE, loudness: float | None = LOUDNESS) -> np.ndarray:
    """Mono float32 samples (n,) from second 0 to the end of the last release, as loud as a written file.

    `loudness` in LUFS; None keeps the level as played, which may exceed 1. MidiError if there are no notes.
    """
    if loudness is None:
        return np.concatenate(list(_blocks(performance, sample_rate)))
    return np.concatenate(list(_levelled(performance, sample_rate, loudness, PEAK_DBFS)))


def write_wav(
    performance: Performance,
    path: str | Path,
    sample_rate: int = SAMPLE_RATE,
    loudness: float = LOUDNESS,
    peak_dbfs: float = PEAK_DBFS,
) -> dict[str, float]:
    """Write a 16-bit PCM mono WAV file atomically; returns its {"lufs", "peak_dbfs", "rms_dbfs", "seconds", "sample_rate"}.

    `loudness` is clipped to [-40, -14] and `peak_dbfs` to [-20, -1]. Long pieces are rendered twice, block by block,
    instead of being kept in memory.
    """
    _check_length(performance, sample_rate, path)
    with atomic_path(Path(path)) as temporary, open(temporary, "wb") as file:
        return _write(performance, file, sample_rate, loudness, peak_dbfs)


def render_bytes(performance: Performance, sample_rate: int = 22_050, loudness: float = LOUDNESS) -> bytes:
    """The same WAV file as bytes, small enough to be embedded in a page: 44 kB per second of music at 22,050 Hz."""
    _check_length(performance, sample_rate, "the sound")
    file = io.BytesIO()
    _write(performance, file, sample_rate, loudness, PEAK_DBFS)
    return file.getvalue()


def sounding(performance: Performance) -> np.ndarray:
    """The notes with the durations that are heard: prolonged by the pedal, cut when the same key is struck again."""
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
    """Consecutive blocks of samples; tones that last longer than a block continue in the next one."""
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
            _strike(
                carried,
                int(starts[i]) - begin,
                tones[pitch],
                float(notes["duration"][i]),
                int(notes["velocity"][i]),
                rate,
            )
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
    """One key struck and held: the SoundFont's tone, multiplied by the decay of a string because its loop never ends."""
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
    """The key that sounds for a pitch: notes beyond the 88 keys are moved by octaves, so that no note is silent."""
    if pitch < LOWEST_PITCH:
        return pitch + 12 * -((pitch - LOWEST_PITCH) // 12)
    return pitch - 12 * -((HIGHEST_PITCH - pitch) // 12) if pitch > HIGHEST_PITCH else pitch


def _ring(notes: np.ndarray) -> float:
    """Second at which the last tone has decayed or been damped."""
    return float((notes["onset"] + np.clip(notes["duration"], 0.02, TONE_SECONDS)).max())


def _levelled(performance: Performance, rate: int, loudness: float, peak_dbfs: float) -> Iterator[np.ndarray]:
    """Blocks at the wanted loudness, none above the peak; the whole is measured before the first block is returned."""
    ceiling = 10 ** (min(max(peak_dbfs, -20.0), -1.0) / 20)
    meter, kept, peak, count = _Loudness(rate), [], 0.0, 0
    for block in _blocks(performance, rate):
        meter.add(block)
        peak, count = max(peak, float(np.abs(block).max())), count + len(block)
        if count < 120 * rate:  # up to two minutes are kept in memory instead of being rendered again
            kept.append(block)
    if not peak > 0:
        raise OutputError("the sound is silent: every note's velocity is 0; give velocities of 1 to 127")
    gain = 10 ** ((min(max(loudness, -40.0), -14.0) - meter.lufs) / 20)
    gain = min(gain, ceiling / peak * 10 ** (MOST_LIMITED / 20))
    blocks = kept if sum(map(len, kept)) == count else _blocks(performance, rate)
    return _limited((block * np.float32(gain) for block in blocks), ceiling, int(LOOK_AHEAD * rate))


def _limited(blocks: Iterable[np.ndarray], ceiling: float, reach: int) -> Iterator[np.ndarray]:
    """Blocks with no sample above `ceiling`: each sample's factor is the minimum within `reach`, then the mean over it.

    All values in that mean are minima over windows that contain the sample, so the mean is low enough for it, too.
    """
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    past = np.empty(0, np.float32)
    for block, following in pairwise(chain(blocks, [np.empty(0, np.float32)])):
        seen = np.concatenate([past, block, following[: 2 * reach]])
        if float(np.abs(seen).max(initial=0.0)) > ceiling:
            need = np.minimum(1.0, ceiling / np.maximum(np.abs(seen.astype(np.float64)), ceiling))
            factor = uniform_filter1d(
                minimum_filter1d(need, 2 * reach + 1, mode="nearest"), 2 * reach + 1, mode="nearest"
            )
            factor = factor[len(past) : len(past) + len(block)]
            yield np.clip(block * factor, -ceiling, ceiling).astype(np.float32)  # clips only rounding errors
        else:
            yield block
        past = block[-2 * reach :]


class _Loudness:
    """Integrated loudness [4] of consecutive blocks; its windows of 400 ms do not cross blocks.

    The gate is 50 LU below the loudest window, not at -70 LUFS, because the measured samples have no absolute level yet.
    """

    def __init__(self, rate: int):
        from pyloudnorm import Meter

        self._meter, self._shortest = Meter(rate), int(0.4 * rate) + 1
        self._windows: list[float] = []

    def add(self, block: np.ndarray) -> None:
        self._meter.integrated_loudness(np.pad(block, (0, max(0, self._shortest - len(block)))))
        self._windows += self._meter.blockwise_loudness

    @property
    def lufs(self) -> float:
        windows = np.array(self._windows)
        windows = windows[windows > windows.max() - 50]
        gate = _mean_level(windows) - 10
        return _mean_level(windows[windows > gate])


def _mean_level(levels: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(10 ** (levels / 10)))) if len(levels) else -np.inf


def _check_length(performance: Performance, rate: int, path: str | Path) -> None:
    seconds = performance.end + TONE_SECONDS + 1
    if 2 * seconds * rate > WAV_LIMIT:
        raise OutputError(f"{path}: {seconds / 3600:.1f} hours do not fit into a WAV file; render a shorter part")


def _write(performance: Performance, file, rate: int, loudness: float, peak_dbfs: float) -> dict[str, float]:
    meter, loudest, energy, count = _Loudness(rate), 0, 0.0, 0
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        for block in _levelled(performance, rate, loudness, peak_dbfs):
            samples = np.round(block * 32768).astype("<i2")
            meter.add(block)
            loudest = max(loudest, int(np.abs(samples.astype(np.int32)).max()))
            energy += float(np.square(samples.astype(np.float64)).sum())
            count += len(samples)
            wav.writeframesraw(samples.tobytes())
    return {
        "lufs": round(meter.lufs, 2),
        "peak_dbfs": round(_dbfs(loudest), 2),
        "rms_dbfs": round(_dbfs((energy / count) ** 0.5), 2),
        "seconds": round(count / rate, 3),
        "sample_rate": rate,
    }


def _dbfs(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 1e-9) / 32768))
