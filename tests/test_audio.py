"""What a listener may rely on: loud enough, never clipped, dynamics, pedal, and a file that any player opens."""

import io
import wave

import numpy as np
import pytest

from ittybitty import audio
from ittybitty.errors import MidiError, OutputError
from ittybitty.notes import Performance


def piece(notes=60, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (i * 0.2, rng.uniform(0.05, 1.0), int(rng.integers(21, 109)), int(rng.integers(1, 128))) for i in range(notes)
    ]
    return Performance.of(rows, [(1.0, 2.0), (4.0, 0.5)])


def samples_of(path_or_bytes):
    with wave.open(path_or_bytes, "rb") as file:
        assert (file.getsampwidth(), file.getnchannels()) == (2, 1)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def level(performance, start=0.0, end=None, rate=11_025):
    samples = audio.render(performance, rate, loudness=None)
    part = samples[int(start * rate) : None if end is None else int(end * rate)]
    return float(np.sqrt(np.mean(part**2)))


@pytest.mark.parametrize(
    "performance",
    [
        Performance.of([(0, 0.001, 60, 1)]),  # one soft, short note
        Performance.of([(0.0, 3.0, p, 127) for p in range(21, 109)]),  # every key at once
        Performance.of([(0.0, 0.5, 2, 90), (0.0, 0.5, 127, 90)]),  # beyond the keyboard
        piece(),
    ],
    ids=["soft", "loud", "out_of_range", "piece"],
)
def test_a_written_file_is_neither_silent_nor_clipped(performance, tmp_path):
    measured = audio.write_wav(performance, tmp_path / "out.wav", 22_050)
    samples, rate = samples_of(str(tmp_path / "out.wav"))
    peak = 20 * np.log10(np.abs(samples.astype(int)).max() / 32768)
    assert -20 <= peak < -1 and abs(peak - measured["peak_dbfs"]) < 0.01
    rms = 20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2)) / 32768)
    assert -60 < rms < -6 and abs(rms - measured["rms_dbfs"]) < 0.01
    assert abs(len(samples) / rate - measured["seconds"]) < 1e-3


@pytest.mark.parametrize("wanted, bound", [(0.0, -1.0), (-60.0, -20.0), (-9.0, -9.0)])
def test_no_sample_exceeds_the_peak(wanted, bound, tmp_path):
    measured = audio.write_wav(piece(30), tmp_path / "a.wav", 11_025, loudness=-14, peak_dbfs=wanted)
    assert measured["peak_dbfs"] <= bound + 0.01


@pytest.mark.parametrize("velocity", [20, 60, 120])
def test_music_is_as_loud_as_a_listener_expects(velocity, tmp_path):
    """The peak alone says little: a piano's attacks stand far above its mean level."""
    from pyloudnorm import Meter

    music = Performance.of((0.15 * i, 0.4, 48 + 7 * i % 36, velocity + i % 7) for i in range(100))
    measured = audio.write_wav(music, tmp_path / "a.wav", 22_050)
    samples, rate = samples_of(str(tmp_path / "a.wav"))
    assert Meter(rate).integrated_loudness(samples / 32768) == pytest.approx(audio.LOUDNESS, abs=0.5)
    assert measured["lufs"] == pytest.approx(audio.LOUDNESS, abs=0.5) and measured["peak_dbfs"] < -1


def test_one_loud_chord_is_not_crushed_to_make_the_rest_loud():
    soft = [(1.0 * i, 0.9, 60 + i % 12, 15) for i in range(60)]
    chord = [(30.0, 1.0, pitch, 127) for pitch in (36, 48, 60, 64, 67, 72)]
    alone = audio.render(Performance.of(soft + chord), 11_025, loudness=None)
    levelled = audio.render(Performance.of(soft + chord), 11_025)
    quiet = slice(5 * 11_025, 25 * 11_025)
    gain = np.sqrt(np.mean(levelled[quiet] ** 2) / np.mean(alone[quiet] ** 2))
    crushed = gain * np.abs(alone).max() / np.abs(levelled).max()
    assert 1 < crushed <= 10 ** (audio.MOST_LIMITED / 20) * 1.001


def test_the_limiter_leaves_alone_what_is_far_from_an_attack():
    quiet = 0.1 * np.sin(np.arange(30_000) / 10).astype(np.float32)
    loud = quiet.copy()
    loud[14_990:15_010] = 1.3
    blocks = [loud[:9_000], loud[9_000:27_000], loud[27_000:]]
    limited = np.concatenate(list(audio._limited(blocks, 0.8, 500)))
    whole = np.concatenate(list(audio._limited([loud], 0.8, 500)))
    assert np.abs(limited).max() <= 0.8 and np.allclose(limited, whole, atol=1e-6)
    assert np.array_equal(limited[:13_900], quiet[:13_900]) and np.array_equal(limited[16_100:], quiet[16_100:])
    factor = limited[14_000:16_000] / loud[14_000:16_000]
    assert np.abs(np.diff(factor)).max() < 0.01  # no jump that one would hear as a click


def test_every_key_sounds():
    for pitch in (21, 40, 60, 84, 108):
        assert level(Performance.of([(0, 0.5, pitch, 100)])) > 1e-3


def test_velocity_is_heard():
    soft, loud = (level(Performance.of([(0, 1, 60, v)])) for v in (32, 127))
    assert 20 * np.log10(loud / soft) == pytest.approx(40 * np.log10(127 / 32), abs=0.1)


def test_pedal_holds_a_released_note():
    notes = [(0, 0.2, 48, 100)]
    dry, held = Performance.of(notes), Performance.of(notes, [(0.1, 2.0)])
    assert audio.sounding(held)["duration"][0] == pytest.approx(2.1)
    assert len(audio.render(held, 11_025)) > len(audio.render(dry, 11_025)) + 11_025
    assert level(held, 1.0, 1.5) > 1e-3


def test_pedal_after_the_release_holds_nothing():
    assert audio.sounding(Performance.of([(0, 0.2, 48, 100)], [(0.5, 2.0)]))["duration"][0] == pytest.approx(0.2)


def test_a_key_struck_again_ends_its_first_note():
    again = Performance.of([(0, 0.2, 48, 100), (1.0, 0.2, 48, 100), (1.0, 0.2, 50, 100)], [(0.1, 5.0)])
    assert audio.sounding(again)["duration"] == pytest.approx([1.0, 4.1, 4.1])


def test_a_held_note_dies_away():
    long = Performance.of([(0, 9, 60, 100)])
    assert level(long, 0, 1) > 3 * level(long, 4, 5) > 0


def test_blocks_join_without_a_seam(monkeypatch):
    whole = audio.render(piece(), 8_000, loudness=None)
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 1.7)
    assert np.allclose(whole, audio.render(piece(), 8_000, loudness=None), atol=1e-6)


def test_the_last_release_is_in_the_file(tmp_path):
    performance = Performance.of([(0.0, 1.0, 60, 80)])
    assert audio.write_wav(performance, tmp_path / "a.wav", 11_025)["seconds"] == pytest.approx(1.2, abs=0.01)
    assert np.abs(audio.render(performance, 11_025)[-20:]).max() < 0.01


def test_bytes_are_the_same_file(tmp_path):
    audio.write_wav(piece(), tmp_path / "a.wav", 11_025)
    data = audio.render_bytes(piece(), 11_025)
    assert data == (tmp_path / "a.wav").read_bytes()
    assert samples_of(io.BytesIO(data))[1] == 11_025


def test_pieces_that_are_rendered_twice_come_out_alike():
    long = Performance.of([(t, 0.5, 60, 80) for t in range(0, 130, 5)])
    samples, rate = samples_of(io.BytesIO(audio.render_bytes(long, 8_000)))
    assert np.abs(samples[int(125 * rate) :].astype(int)).max() > 10_000


def test_no_notes_is_an_error_and_leaves_no_file(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"before")
    with pytest.raises(MidiError, match="no notes"):
        audio.write_wav(Performance(), tmp_path / "a.wav")
    assert (tmp_path / "a.wav").read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_what_no_wav_can_hold_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="hours"):
        audio.write_wav(Performance.of([(1e6, 1, 60, 80)]), tmp_path / "a.wav")
    with pytest.raises(OutputError, match="folder"):
        audio.write_wav(piece(2), tmp_path)
