"""A classifier tells apart what differs and nothing else, on pieces that it has not seen."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ittybitty import experiments
from ittybitty.errors import ConfigError, CorpusError
from ittybitty.evaluation import two_sample
from ittybitty.notes import Performance


def noise(seed: int, n: int = 120, d: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_excerpts_that_do_not_differ_are_classified_no_better_than_by_chance():
    found = two_sample.accuracy(noise(0, 300), noise(1, 300))
    assert 0.4 < found["accuracy"] < 0.6 and found["ci95"][0] < 0.5 < found["ci95"][1]


def test_excerpts_that_differ_in_one_feature_are_classified():
    shifted = noise(1)
    shifted[:, 7] += 3.0
    found = two_sample.accuracy(noise(0), shifted)
    assert found["accuracy"] > 0.85 and found["ci95"][0] > 0.8 and found["pieces"] == 120


def test_the_group_that_differs_is_named():
    played, made = noise(0), noise(1)
    start = sum(len(names) for names in list(two_sample.GROUPS.values())[:2])
    assert list(two_sample.GROUPS)[2] == "velocity"
    made[:, start] += 4.0
    found = two_sample.compare(played, made, noise(2))
    groups = {name: one["accuracy"] for name, one in found["by_group"].items()}
    assert max(groups, key=groups.get) == "velocity" and groups["velocity"] > 0.9
    assert all(value < 0.65 for name, value in groups.items() if name != "velocity")


def test_a_continuation_that_leaves_its_opening_is_recognised_by_its_distance_from_it():
    """Neither set differs as a set; only next to their openings do they."""
    openings = 3 * noise(0)
    played, made = openings + 0.1 * noise(1), 3 * noise(2)
    found = two_sample.compare(played, made, openings)
    assert found["accuracy"] < 0.65 and found["fit"]["accuracy"] > 0.9


def test_features_of_a_piece_in_two_parts_never_help_themselves():
    """Each piece has a mark of its own, the same in both excerpts with opposite labels elsewhere: a classifier that had seen
    one excerpt of a piece would be wrong about the other, so only held-out pieces give chance."""
    marks = np.eye(60)
    assert two_sample.told_apart(marks, marks).mean() <= 0.5


def test_logistic_regression_finds_the_penalised_optimum():
    x, random = noise(3, 200, 3), np.random.default_rng(4)
    y = (x @ [1.0, -2.0, 0.0] + random.normal(size=200) > 0).astype(float)
    weights = two_sample.fit_logistic(x, y)

    def loss(w):
        score = x @ w[:-1] + w[-1]
        return np.logaddexp(0, score).sum() - (y * score).sum() + 0.5 * (w[:-1] ** 2).sum()

    assert all(loss(weights) < loss(weights + step) for step in 1e-2 * np.concatenate([np.eye(4), -np.eye(4)]))


def test_an_excerpt_without_notes_has_no_features():
    assert np.isnan(two_sample.features(Performance(), 60.0)).all()
    played = Performance.of([(0.1 * i, 0.1, 60 + i % 12, 60 + i % 30) for i in range(600)])
    found = two_sample.features(played, 60.0)
    assert len(found) == 24 and np.isfinite(found).all()


def test_too_few_pieces_and_the_pianists_themselves_are_refused():
    with pytest.raises(CorpusError, match="too few"):
        two_sample.compare(noise(0, 9), noise(1, 9), noise(2, 9))
    with pytest.raises(ConfigError, match="give a model"):
        two_sample.two_sample("pianists", None)


@pytest.mark.slow
def test_a_row_of_the_recipe_is_measured_and_recorded(tmp_path):
    place = tmp_path / "two.yaml"
    rows = {"tiny": {"model": "tiny"}}
    place.write_text(
        json.dumps(
            {
                "question": "?",
                "kind": "two-sample",
                "opening": 5,
                "seconds": 5,
                "split": "train",
                "pieces": 12,
                "rows": rows,
            }
        )
    )
    recipe = experiments.read_recipe(place)
    [done] = experiments.run(recipe, "embedded", tmp_path / "runs", tmp_path / "results", say=lambda line: None)
    found = json.loads((tmp_path / "results" / "two_tiny.json").read_text())
    assert done["state"] == "recorded" and found["pieces"] + found["without_notes"] == 12
    assert 0 <= found["accuracy"] <= 1 and set(found["by_group"]) == set(two_sample.GROUPS)
    assert found["plan"] == {"pieces": 12, "opening": 5.0, "seconds": 5.0}
