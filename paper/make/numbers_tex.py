"""Generates every number of the paper's text as a LaTeX macro: \\val and a name, with the file that it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ittybitty.evaluation.ears import faults
from ittybitty.tokenizers.events import hold

from .claims import claims
from .factors_numbers import factors_numbers, larger_numbers
from .number import Number, percent
from .passes import passes_numbers
from .published import published_rows
from .results import (
    BEATS,
    HYBRID,
    MIXERS,
    MODEL,
    NOTES,
    PROTOCOLS,
    STAGES,
    WHOLE,
    common_pieces,
    music_read,
    on_pieces,
    overtakes,
    paired,
    settings,
    uniform_bits,
)
from .scaling import LEAST, enough, law, points

SPLITS = ("train", "validation", "test")
SMALL = "vocabulary_size_bpe-512"
DIFFERENCES = {  # macro and its decimals -> two results, and how far the bits of one are from those of the other
    ("ScalingMore", 1): ("collapse_no-scaling", "all_rows_hybrid"),
    ("SmoothingLess", 1): ("collapse_no-smoothing", "all_rows_hybrid"),
    ("SmallVocabularyLess", 2): (SMALL, "all_rows_hybrid"),
    ("NoMergingLess", 2): ("vocabulary_size_bpe-0", "all_rows_hybrid"),
}


def numbers(results: Mapping) -> list[Number]:
    """Every number of the text, in the order of the paper."""
    trained = results["trained"]
    return [
        *_numbers("maestro.json", _data(results["maestro"]["splits"])),
        *_numbers("tokenizer_settings.json", _code(results["tokenizer_settings"])),
        *_numbers("complexity_mixers.json", _complexity(results["complexity_mixers"])),
        *_numbers(f"runs/{HYBRID}/config.json", _shape(trained[HYBRID]["config"])),
        *_numbers(
            f"pretrained/{MODEL}/config.json",
            [("MambaAloneBlocks", f"{len(trained[MODEL]['config']['model'].pattern)}")],
        ),
        *_numbers(f"pretrained/{MODEL}/log.jsonl", _training(trained[MODEL]["log"])),
        *_numbers(f"runs/{HYBRID}/log.jsonl", [("HybridHours", hours(trained[HYBRID]["log"]))]),
        *_numbers(
            f"evaluate_{MODEL}.json",
            _evaluation(results[f"evaluate_{MODEL}"], trained[MODEL]["config"]["model"].vocab_size),
        ),
        *_whole(results),
        *_notes(results),
        *_published(results),
        *factors_numbers(results),
        *larger_numbers(results),
        *_scaling(results),
        *_claims(results),
        *_numbers(f"ears_{NOTES}.json", _ears(results[f"ears_{NOTES}"])),
        *_numbers("passes_*.json", passes_numbers(results)),
        Number("DriftPieces", f"{results['drift_pianists']['pieces']}", "drift_pianists.json"),
        Number("HoldHorizon", f"{hold.HORIZON}", "../../ittybitty/tokenizers/events/hold.py"),
        *_numbers(f"two_sample_{MODEL}.json", _recognised("Remi", results[f"two_sample_{MODEL}"])),
        *_numbers(f"two_sample_{NOTES}.json", _recognised("Notes", results[f"two_sample_{NOTES}"])),
        *_numbers(f"two_sample_{NOTES}.json", _doubted(results[f"two_sample_{NOTES}"])),
        *_numbers(f"two_sample_{NOTES}-not-held.json", _free(results[f"two_sample_{NOTES}-not-held"])),
        *(
            number
            for protocol in PROTOCOLS
            for number in _numbers(f"leak_{protocol}.json", _claim(results[f"leak_{protocol}"]))
        ),
        *_numbers("leak_windows.json", _leak(results["leak_windows"])),
        *_numbers("baseline_xz.json", [("XzBits", f"{results['baseline_xz']['bits_per_note']:.2f}")]),
        *_numbers("baseline_ngram.json", [("NgramBits", f"{results['baseline_ngram']['bits_per_note']:.2f}")]),
        *_numbers("all_rows_hybrid.json", _tenth(results["all_rows_hybrid"], common_pieces(results))),
        *_rivals(results),
        *_seeds(results),
        *_numbers(f"position_{MODEL}.json", _position(results[f"position_{MODEL}"])),
        *_numbers(f"position_{NOTES}.json", _longer_past(results[f"position_{NOTES}"])),
        *_numbers(f"memorisation_{MODEL}.json", _copied(results[f"memorisation_{MODEL}"])),
        *(number for name in BEATS for number in _numbers(f"{name}.json", _beat_model(name, results[name]))),
    ]


def _numbers(source: str, pairs: Iterable[tuple[str, str]]) -> Iterator[Number]:
    return (Number(name, text, source) for name, text in pairs)


def _data(splits: Mapping) -> Iterator[tuple[str, str]]:
    for split in SPLITS:
        yield f"{split.title()}Pieces", f"{splits[split]['pieces']:,}"
    total = {key: sum(splits[split][key] for split in SPLITS) for key in ("pieces", "notes", "hours")}
    yield "AllPieces", f"{total['pieces']:,}"
    yield "AllHours", f"{total['hours']:.0f}"
    yield "AllNotes", f"{total['notes'] / 1e6:.2f} million"


def _code(result: Mapping) -> Iterator[tuple[str, str]]:
    chosen, published = settings(result, "remi"), settings(result, "remi-published")
    yield "SettingsPieces", f"{len(result['pieces'])}"
    yield "BaseTokensPerNote", f"{chosen['tokens_per_note']:.2f}"
    yield "GridError", f"{chosen['onset_error_ms']:.1f}"
    yield "PublishedDrift", f"{published['late_at_end_s']:.1f}"


def _complexity(result: Mapping) -> Iterator[tuple[str, str]]:
    rows, lengths = result["mixers"], result["lengths"]
    yield "LengthFrom", f"{lengths[0]:,}"
    yield "LengthFitted", f"{result['fitted_from']:,}"
    yield "LengthTo", f"{lengths[-1]:,}"
    yield "MixerWidth", f"{result['width']}"
    yield "MixerHeads", f"{result['heads']}"
    yield "MixerTurns", f"{result['turns']}"
    yield "MixerThreads", f"{result['threads']}"
    yield "Torch", result["provenance"]["torch"].partition("+")[0]
    yield "FusedTimeExponent", f"{rows['fused']['time_exponent']:.2f}"
    yield "FusedMemoryExponent", f"{rows['fused']['memory_exponent']:.2f}"
    for key, (name, *_) in MIXERS.items():
        if key != "mamba":
            yield f"{name}TimesMamba", ratio(rows[key]["seconds"][-1] / rows["mamba"]["seconds"][-1])
    yield "AttentionMemoryTimesMamba", ratio(rows["attention"]["bytes"][-1] / rows["mamba"]["bytes"][-1])
    yield "MambaOvertakesDense", overtakes(lengths, rows["mamba"]["seconds"], rows["attention"]["seconds"])
    yield "MambaOvertakesFused", overtakes(lengths, rows["mamba"]["seconds"], rows["fused"]["seconds"])


def ratio(value: float) -> str:
    """Two figures: machines are too noisy for more."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _shape(configs: Mapping) -> Iterator[tuple[str, str]]:
    model, data, train = configs["model"], configs["data"], configs["train"]
    yield "Vocabulary", f"{model.vocab_size:,}"
    for letter, name in (("M", "MambaBlocks"), ("F", "FeedForwardBlocks"), ("A", "AttentionBlocks")):
        yield name, f"{model.pattern.count(letter)}"
    yield "Window", f"{model.attn_window}"
    yield "Stride", f"{model.attn_stride}"
    yield "Reach", f"{model.attn_reach:,}"
    yield "Cache", f"{model.attn_window + model.attn_reach // model.attn_stride + 1}"
    yield "Context", f"{data.context:,}"
    yield "StackWidth", f"{model.d_model}"
    yield "Batch", f"{train.batch_size}"
    yield "Smoothing", f"{train.label_smoothing:g}"


def _training(log: list[dict]) -> Iterator[tuple[str, str]]:
    trained = [record for record in log if "tokens" in record]
    yield "Steps", f"{trained[-1]['step']:,}"
    yield "Tokens", f"{trained[-1]['tokens'] / 1e6:.1f} million"
    yield "Hours", hours(log)


def hours(log: list[dict]) -> str:
    """How long a training took."""
    return f"{max(record.get('seconds', 0) for record in log) / 3600:.1f}"


def _evaluation(result: Mapping, vocabulary: int) -> Iterator[tuple[str, str]]:
    yield "BitsPerNote", f"{result['bits_per_note']:.2f}"
    yield "BitsLow", f"{result['ci95'][0]:.2f}"
    yield "BitsHigh", f"{result['ci95'][1]:.2f}"
    yield "UniformBits", f"{uniform_bits(result, vocabulary):.1f}"
    yield "Pieces", f"{result['pieces']}"
    yield "Notes", f"{result['notes']:,}"


def _whole(results: Mapping) -> Iterator[Number]:
    """What the rivals of a whole pass need, and what they need more than the first, piece by piece."""
    base = WHOLE["Mamba"]
    for name, row in ((name, row) for name, row in WHOLE.items() if row != base and row in results):
        if name == "Llama":
            bits = on_pieces(results[row], common_pieces(results))[0]
            yield Number(f"Whole{name}", f"{bits:.2f}", f"{row}.json")
        for bound, value in zip(("More", "Low", "High"), paired(results[row], results[base])):
            yield Number(f"Whole{name}{bound}", f"{value:.2f}", f"{row}.json, {base}.json")


def _notes(results: Mapping) -> Iterator[Number]:
    """The model that takes one step per note, and what shorter windows bring to a row of its kind."""
    name, base = f"evaluate_{NOTES}", WHOLE["Mamba"]
    result, (passes, minutes) = results[name], music_read(results)
    yield from _numbers(f"{name}.json", _notes_evaluation(result))
    for bound, value in zip(("Less", "LessLow", "LessHigh"), paired(results[base], result)):
        yield Number(f"Notes{bound}", f"{value:.2f}", f"{base}.json, {name}.json")
    logs = f"pretrained/{NOTES}/log.jsonl, runs/{STAGES}*/log.jsonl"
    yield Number("NotesPasses", f"{passes:.1f}", logs)
    yield Number("NotesMinutes", f"{minutes:.0f}", logs)
    yield Number("NotesStages", f"{len(results['trained'][NOTES]['ends'])}", logs)
    configs = results["trained"][NOTES]["config"]
    longest = configs["data"].context // len(configs["model"].events)
    yield Number("NotesWindow", f"{longest:,}", f"pretrained/{NOTES}/config.json")
    yield from _held_out(results)
    short, mamba = "notes_notes-mamba-short", "notes_notes-mamba"
    steps = [results[row]["training"]["steps"] for row in (short, mamba)]
    yield Number("NotesShortTimes", f"{steps[0] / steps[1]:.0f}", f"{short}.json, {mamba}.json")


def _held_out(results: Mapping) -> Iterator[Number]:
    """The shipped models on the test split."""
    for name, label in ((NOTES, "Notes"), (MODEL, "Remi")):
        row = results[f"test_{name}"]
        for bound, value in zip(("Bits", "Low", "High"), (row["bits_per_note"], *row["ci95"])):
            yield Number(f"Test{label}{bound}", f"{value:.2f}", f"test_{name}.json")


def _notes_evaluation(result: Mapping) -> Iterator[tuple[str, str]]:
    yield "NotesParameters", f"{result['parameters'] / 1e6:.1f} million"
    yield "NotesBits", f"{result['bits_per_note']:.2f}"
    yield "NotesLow", f"{result['ci95'][0]:.2f}"
    yield "NotesHigh", f"{result['ci95'][1]:.2f}"
    yield "NotesPedalError", f"{result['pedal_error_ms']:.0f}"
    for what in ("pitch", "time", "duration", "velocity", "pedal"):
        yield f"Notes{what.title()}", f"{result['bits_per_note_by_attribute'][what]:.2f}"


def _published(results: Mapping) -> Iterator[Number]:
    """Tokens per note of the performance encoding, and the best published figure in both units."""
    for split, name in (("validation", "PerformanceTokens"), ("test", "PerformanceTokensTest")):
        source = f"performance_tokens_{split}"
        yield Number(name, f"{results[source]['tokens_per_note']:.4f}", f"{source}.json")
    counted = "performance_tokens_validation"
    yield Number("OrderBits", f"{results[counted]['order_bits_per_note_at_most']:.2f}", f"{counted}.json")
    best = min((row for row in published_rows(results) if "cite" in row), key=lambda row: row["bits_per_note"])
    yield Number("PublishedBest", f"{best['bits_per_note']:.1f}", "../published.yaml, performance_tokens_*.json")
    for name, source in (("Performance", "performance_notes-hybrid"), ("Carried", "performance_from-tiny")):
        ours = results[source]
        for bound, value in zip(("Bits", "Low", "High"), (ours["bits_per_note_as_performance"], *ours["ci95"])):
            yield Number(f"{name}{bound}", f"{value:.2f}", f"{source}.json")
    yield Number("CarriedPasses", f"{ours['training']['passes']:.1f}", f"{source}.json")
    for part, bits in ours["bits_per_note_by_part"].items():
        yield Number(f"Carried{part.title()}", f"{bits:.2f}", f"{source}.json")
    yield Number("PublishedBestNats", f"{best['nats_per_token']:.2f}", "../published.yaml")


def _scaling(results: Mapping) -> Iterator[Number]:
    """The runs behind the power law and, where there are enough of them, its exponents."""
    files, done, rows = "scaling_*.json", points(results), results["recipes"]["scaling"].rows
    yield Number("ScalingRuns", f"{len(done)}", files)
    yield Number("ScalingPlanned", f"{len(rows)}", "../experiments/scaling.yaml")
    yield Number("ScalingPieces", f"{rows[0].settings['pieces']}", "../experiments/scaling.yaml")
    yield Number("ScalingLeast", f"{LEAST}", "make/scaling.py")
    found = law(results)["law"] if enough(results) else None
    for name, key in (("SizeExponent", "a"), ("NotesExponent", "b"), ("Deviation", "deviation")):
        yield Number(f"Scaling{name}", f"{found[key]:.2f}" if found else "not fitted", files)


def _claims(results: Mapping) -> Iterator[Number]:
    """How many former claims there are, and how many of them have a second result."""
    rows = claims(results)
    yield Number("ClaimsAll", f"{len(rows)}", "make/claims.py")
    yield Number(
        "ClaimsTested", f"{sum(row['after'] is not None for row in rows)}", "factors_small_*.json, claims_*.json"
    )
    fallen = sum(row["verdict"] in ("refuted", "reversed") for row in rows)
    yield Number("ClaimsFallen", f"{fallen}", "factors_small_*.json, claims_*.json, passes_*.json")


def _ears(result: Mapping) -> Iterator[tuple[str, str]]:
    """Openings, how sure the share of matched ones is, and where the two faults begin."""
    yield "EarsOpenings", f"{result['matching']['openings']}"
    for bound, value in zip(("Low", "High"), result["matching"]["accuracy_ci95"]):
        yield f"EarsMatched{bound}", percent(value)
    yield "StuckShare", percent(faults.STUCK_SHARE)
    yield "StuckSeconds", f"{faults.STUCK_SECONDS:.0f}"
    yield "SilentSeconds", f"{faults.SILENCE:.0f}"


def _recognised(name: str, result: Mapping) -> Iterator[tuple[str, str]]:
    yield f"TwoSample{name}", percent(result["fit"]["accuracy"])
    yield f"TwoSample{name}Alone", percent(result["accuracy"])


def _doubted(result: Mapping) -> Iterator[tuple[str, str]]:
    """What the two-sample test of the shipped model rests on: pieces, its interval, and the control's."""
    yield "TwoSamplePieces", f"{result['pieces']}"
    for name, found in (("Notes", result["fit"]), ("Control", result["control"])):
        for bound, value in zip(("Low", "High"), found["ci95"]):
            yield f"TwoSample{name}{bound}", percent(value)


def _free(result: Mapping) -> Iterator[tuple[str, str]]:
    """The two-sample test of the shipped model where it is not held to its seed."""
    yield "TwoSampleFree", percent(result["fit"]["accuracy"])
    for bound, value in zip(("Low", "High"), result["fit"]["ci95"]):
        yield f"TwoSampleFree{bound}", percent(value)


def _claim(result: Mapping) -> Iterator[tuple[str, str]]:
    name = result["protocol"].title()
    yield f"{name}Claimed", f"{result['claimed_bits_per_note']:.1f}"
    yield f"{name}True", f"{result['bits_per_note']:.1f}"


def _leak(result: Mapping) -> Iterator[tuple[str, str]]:
    settings = result["settings"]
    yield "LeakPieces", f"{settings['training_pieces']}"
    yield "LeakHeldOut", f"{result['pieces']}"
    yield "LeakSteps", f"{result['training']['steps']:,}"
    yield "LeakParameters", f"{result['parameters'] / 1e6:.1f} million"
    yield "LeakContext", f"{settings['set']['data.context']}"
    yield "LeakStride", f"{settings['set']['data.stride']}"
    yield "LeakCopies", f"{settings['set']['data.copies']}"


def _tenth(result: Mapping, pieces: Iterable[str]) -> Iterator[tuple[str, str]]:
    trained = result["training"]
    yield "TenthParameters", f"{trained['parameters'] / 1e6:.1f} million"
    yield "TenthShare", percent(trained["passes"])
    yield "TenthTokens", f"{trained['tokens'] / 1e6:.1f} million"
    yield "TenthPieces", f"{len(list(pieces))}"
    yield "TenthNotes", f"{result['notes']:,}"


def _rivals(results: Mapping) -> Iterator[Number]:
    """The comparison in words: what each needs, and what one needs more than another on the same pieces."""
    late, soon = "all_rows_llama-1024", "all_rows_mamba"
    yield Number("TenthLlama", f"{results[late]['bits_per_note']:.2f}", f"{late}.json")
    for (name, places), (row, base) in DIFFERENCES.items():
        more = abs(paired(results[row], results[base])[0])
        yield Number(name, f"{more:.{places}f}", f"{row}.json, {base}.json")
    spent = [results[row]["bits_per_note_by_attribute"]["time"] for row in (late, soon)]
    yield Number("LlamaMoreTime", f"{spent[0] - spent[1]:.1f}", f"{late}.json, {soon}.json")
    size = results[SMALL]["settings"]["set"]["model.vocab_size"]
    yield Number("SmallVocabulary", f"{size}", f"{SMALL}.json")


def _seeds(results: Mapping) -> Iterator[Number]:
    """How far a second seed moved each of three rows."""
    for name, row in (("Mamba", "mamba"), ("Hybrid", "hybrid"), ("LlamaSmall", "llama-512")):
        second, first = f"seeds_{row}-1", f"all_rows_{row}"
        moved = abs(paired(results[second], results[first])[0])
        yield Number(f"Seed{name}Moves", f"{moved:.2f}", f"{second}.json, {first}.json")


def _position(result: Mapping) -> Iterator[tuple[str, str]]:
    gains = [abs(one["windowed_bits_per_note"] - one["bits_per_note"]) for one in result["bins"]]
    yield "PositionPieces", f"{result['pieces']}"
    yield "PositionLength", f"{result['length']:,}"
    yield "PositionBins", f"{len(gains)}"
    yield "PositionGain", f"{max(gains):.3f}"
    yield "PositionTimes", f"{result['length'] / result['trained_context']:.0f}"


def _longer_past(result: Mapping) -> Iterator[tuple[str, str]]:
    """What a past beyond the windows of evaluation is worth to the shipped model."""
    yield "PositionNotesPieces", f"{result['pieces']}"
    yield "PositionNotesWindow", f"{result['windowed']['context']:,}"
    best = max(result["bins"], key=lambda one: one["windowed_bits_per_note"] - one["bits_per_note"])
    yield "PositionNotesGain", f"{best['windowed_bits_per_note'] - best['bits_per_note']:.3f}"


def _copied(result: Mapping) -> Iterator[tuple[str, str]]:
    yield "TrainingNotes", f"{result['training_notes'] / 1e6:.2f} million"
    for name, whose in (("Truth", "truth"), ("Others", "other_humans")):
        found = result["longest"]["pitch and time"][whose]
        yield f"{name}Longest", f"{found['longest']}"
        yield f"{name}Mean", f"{found['mean']:.1f}"


def _beat_model(name: str, result: Mapping) -> Iterator[tuple[str, str]]:
    spent = result["bits_per_note_by_attribute"]
    if name == "beats_base":
        yield "BeatBaseBits", f"{result['bits_per_note']:.2f}"
        yield "BeatTokens", f"{result['training']['tokens'] / 1e6:.1f} million"
        yield "BeatParameters", f"{result['parameters'] / 1e6:.1f} million"
        yield "BeatPieces", f"{result['pieces']}"
        yield "BeatDrift", f"{result['onset_error_ms'] / 1e3:.1f}"
        yield "BeatPatternBits", f"{spent['duration']:.1f}"
        yield "BeatPitch", f"{spent['pitch']:.1f}"
    else:
        yield "BeatRemiSame", f"{spent['pitch'] + spent['time'] + spent['duration']:.2f}"
        yield "BeatRemiPitch", f"{spent['pitch']:.1f}"


def macros(results: Mapping) -> str:
    """The text of numbers.tex."""
    lines = ["% Made by notebooks/12_figures.ipynb from recorded results: change those, never this file."]
    lines += [f"\\newcommand{{\\val{n.name}}}{{{n.text}}}  % {n.source}" for n in numbers(results)]
    return "\n".join(lines) + "\n"
