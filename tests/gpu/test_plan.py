"""The plan of a visit: its shares, what refuses to begin, and figures that follow from the code."""

from __future__ import annotations

import pytest
import visits

from ittybitty import systems
from ittybitty.errors import ConfigError, TokenizerError
from ittybitty.gpu import bound, floors, forecast, plan, run


@pytest.mark.parametrize("seconds", [120, 540, 3600])
def test_shares_add_up_to_the_budget_and_keep_their_limits(seconds):
    steps = plan.steps(seconds)
    assert [step.title for step in steps] == ["unpack", "check", "race", "train hybrid", "train notes-hybrid", "home"]
    assert sum(step.seconds for step in steps) == pytest.approx(seconds)
    assert all(step.seconds <= plan.LIMITS.get(step.name, seconds) for step in steps)
    assert sum(step.seconds for step in steps if step.name == "train") >= seconds / 2


def test_a_budget_that_sees_no_checkpoint_is_refused_and_the_one_that_is_named_would_do():
    with pytest.raises(ConfigError, match="too short for one checkpoint") as refused:
        plan.steps(30)
    enough = float(str(refused.value).partition("give ")[2].split()[0])
    assert plan.steps(enough + 1)
    with pytest.raises(ConfigError, match="each row once"):
        plan.steps(540, ("hybrid", "hybrid"))


def test_a_second_visit_warms_up_shortly_and_settings_win():
    assert plan.configs("hybrid", "small")["train"].warmup == plan.WARM_UP
    assert plan.configs("hybrid", "small", again=True)["train"].warmup == plan.WARM_UP_AGAIN
    assert plan.configs("hybrid", "small", settings={"train.batch_size": "7"})["train"].batch_size == 7


@pytest.mark.parametrize("row", plan.ROWS)
def test_operations_on_paper_are_six_times_the_parameters_that_multiply(row):
    """Forward and backward are 6 operations a parameter and step, but for embeddings, the convolution and the scan."""
    configs, batch = systems.build(row, "small"), 4
    steps = floors.steps_of_backbone(configs, batch)
    products = [
        k for k in floors.kernels(configs, batch) if k.operations and k.name != "Muon" and "scores" not in k.name
    ]
    parameters = sum(k.operations for k in products) / (6 * steps)
    assert parameters == pytest.approx(systems.parameter_count(row, "small"), rel=0.06)


def test_a_step_takes_longer_with_more_windows_and_on_a_slower_card():
    configs = systems.build("hybrid", "small")
    one, two = (floors.expected(configs, batch, floors.CARDS["h100"]) for batch in (16, 32))
    assert one["ms"] < two["ms"] < 2.01 * one["ms"]
    assert floors.expected(configs, 16, floors.CARDS["t4"])["ms"] > 5 * one["ms"]
    assert one["ms"] == pytest.approx(sum(kernel["ms"] for kernel in one["kernels"]))


def test_bytes_of_the_scan_are_those_that_its_launches_are_given():
    """Counted from the tensors that triton_scan.Scan allocates and hands to its kernels, in half precision."""
    B, L, E, N = 2, 64, 96, 16
    row, read = B * L * E * 2, B * L * N * 2
    states, shares = B * -(-L // floors.CHUNK) * E * N * 4, -(-E // floors.CHANNELS) * B * L * N * 4
    forward = (
        3 * row + 2 * (read + 2 * 2 * read) + row + states
    )  # u, Δ, z; B and C, converted, and in; y and states out
    backward = 4 * row + 2 * 2 * read + states + 3 * row + 2 * 2 * shares  # shares are written, and read to be summed
    counted = floors.scan(1, B * L, E, N)
    assert counted.bytes == pytest.approx(forward + backward + 2 * read)
    assert counted.least < counted.bytes
    assert floors.scan(1, B * L, E, N, forward_only=True).bytes == pytest.approx(forward)


def test_bytes_of_the_convolution_are_those_that_its_launches_are_given():
    B, L, E, K = 2, 128, 96, 4
    row, sums = B * L * E * 2, B * L // floors.CONV_ROWS * (K + 1) * E * 4
    assert floors.convolution(1, B * L, E, K).bytes == pytest.approx(5 * row + 2 * sums)


def test_constants_on_paper_are_those_of_the_kernels():
    triton_scan = pytest.importorskip("ittybitty.models.triton_scan", reason="Triton has no wheel for this system")
    from ittybitty.models import triton_conv

    assert (triton_scan.CHUNK, triton_scan.blocks(16)[1]) == (floors.CHUNK, floors.CHANNELS)
    assert triton_conv.ROWS == floors.CONV_ROWS


def test_the_plan_says_which_mark_is_met_on_paper():
    """300,000 tokens/s are far below the floors' rate; the scan's instructions take longer than its bytes."""
    on_h100 = floors.expected(plan.configs("hybrid", "small"), 32, floors.CARDS["h100"])
    assert on_h100["tokens_per_second"] > 3 * forecast.MARK["tokens_per_second"]
    (scan,) = (kernel for kernel in on_h100["kernels"] if "scan" in kernel["kernel"])
    assert scan["bound"] == "instructions" and scan["ms"] > forecast.MARK["scan"] * scan["least_ms"]
    first, line = forecast.marks(on_h100)[1:]
    assert first.startswith("scan: ") and "not met" in first
    assert "no kernel" in line and f"{bound.bound(floors.CARDS['h100'])['times']:.2f}" in line


def test_no_scan_of_16_states_in_half_precision_is_within_one_and_a_half_times_its_least_traffic_on_an_h100():
    """Counted anew, per step and channel: 15 multiply-adds and 2 exponentials a state, at 128 and 16 a clock and multiprocessor."""
    card, N = floors.CARDS["h100"], 16
    clocks = 11 * 2 / (3.0e12 / (132 * 1.76e9))  # 11 numbers of two bytes
    states, rows, sums = 15 * N + 2 * N, 42 + 9, (4 * N / 4 + 2 * N * 31 / 32 + N) / 3  # three channels a lane at most
    assert bound.channels_of_a_lane(N) == 3
    found = bound.bound(card)
    assert found["instructions"] == pytest.approx((states + rows + sums) / 128)
    assert found["times"] == pytest.approx((states + rows + sums) / 128 / clocks)
    assert found["times"] > found["special"] / clocks > forecast.MARK["scan"]  # the exponentials alone take longer
    assert found["arithmetic"] < found["special"] < found["instructions"]
    assert found["memory"] == pytest.approx(
        13 / 11 * clocks
    )  # y before the gate is written and read, which is cheaper here


def test_bounds_of_the_scan_are_below_what_its_kernels_take_and_memory_binds_float32_and_the_t4():
    for key, card in floors.CARDS.items():
        counted = floors.scan(1, 1024, 1024, 16)
        ours = counted.seconds(card) / (counted.least / card.bandwidth)
        assert 1 <= bound.bound(card)["times"] < ours
        assert bound.bound(card, floors.FULL)["times"] == 1, key
    assert bound.bound(floors.CARDS["t4"])["times"] == 1
    assert bound.bound(floors.CARDS["h100"], N=4)["times"] < forecast.MARK["scan"]  # fewer states would do


def test_plan_prints_steps_and_figures_and_what_was_measured(tmp_path, performance):
    pack = visits.packed(tmp_path, performance)
    found = forecast.foreseen(pack, 540, preset="nano", out=tmp_path / "out")
    text = forecast.report(found)
    assert "train notes-hybrid" in text and "selective scan" in text and "nothing yet" in text
    work = tmp_path / "out.work"
    work.mkdir()
    way = {
        "tokens_per_second": 1234.5,
        "notes_per_second": 500.0,
        "path": "chunked",
        "precision": "float32",
        "batch": 4,
        "mode": "eager",
    }
    race = {"floors": {}, "rows": {"hybrid": {"fastest": way, "scan": {"both_ms": 3.0, "least_ms": 2.0}}}}
    (work / "race.json").write_text(__import__("json").dumps(race))
    text = forecast.report(forecast.foreseen(pack, 540, preset="nano", out=tmp_path / "out"))
    assert "1,234 tokens/s" in text and "1.50 times its floor" in text


def test_tokens_of_another_tokenizer_are_refused_before_anything_runs(tmp_path, performance):
    pack = visits.packed(tmp_path, performance)
    with pytest.raises(TokenizerError, match="llama-512 needs|lstm-pitch needs those of pitch-string"):
        run.run(pack, tmp_path / "out", 300, "nano", ("lstm-pitch",), cpu=True)
    with pytest.raises(TokenizerError, match="no packed tokens"):
        run.run(tmp_path, tmp_path / "out", 300, "nano", cpu=True)
    assert not (tmp_path / "out").exists()


def test_no_card_is_one_line_with_the_command_that_rehearses(tmp_path, performance, monkeypatch):
    monkeypatch.setattr(run, "_has_card", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device is here; rehearse on a CPU with: ittybitty gpu run .* --cpu"):
        run.run(visits.packed(tmp_path, performance), tmp_path / "out", 300)


def test_a_full_disk_is_named_before_anything_runs(tmp_path, performance, monkeypatch):
    from ittybitty.errors import OutputError

    usage = run.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(OutputError, match="MB free, and checkpoints need"):
        run.run(visits.packed(tmp_path, performance), tmp_path / "out", 300, "nano", cpu=True)
