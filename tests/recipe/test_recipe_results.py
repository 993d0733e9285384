"""Scores of seeds to rows: means, and intervals that hold both the seeds and the evaluation texts."""

from __future__ import annotations

import numpy as np
import pytest

from ssae_debias.metrics import seeds_interval, wilson
from ssae_debias.recipe.bench import Sets
from ssae_debias.recipe.results import SeedScore, summarise

SETS = Sets(
    *(np.arange(n) for n in (50, 40, 20, 400)),
    cells={"a/M": np.arange(100), "a/F": np.arange(25)},
)


def row(values: list[float]):
    scores = [SeedScore(v, 0.5, {"a/M": 0.9, "a/F": v}, {"linear": 0.6, "mlp": 0.6}) for v in values]
    return summarise("original", scores, [SETS] * len(scores), 1.0)


def test_seeds_that_agree_still_leave_the_texts_chance() -> None:
    worst = row([0.8, 0.8, 0.8]).worst_group_accuracy
    texts = wilson(20, 25)  # the worst group is the one of 25
    assert (worst.mean, worst.low, worst.high) == pytest.approx((0.8, texts.low, texts.high))


def test_half_widths_add_in_squares() -> None:
    values = [0.60, 0.72, 0.84]
    worst = row(values).worst_group_accuracy
    seeds, texts = seeds_interval(values), wilson(18, 25)
    assert worst.mean == pytest.approx(0.72)
    assert worst.mean - worst.low == pytest.approx(np.hypot(0.72 - seeds.low, 0.72 - texts.low))
    assert worst.low >= 0
    assert worst.high <= 1


def test_a_larger_set_is_known_better() -> None:
    found = row([0.8, 0.8])
    width = lambda e: e.high - e.low  # noqa: E731
    assert width(found.task_accuracy) < width(found.worst_group_accuracy)
    assert found.groups["a/F"]["n"] == 25


def test_the_worst_group_is_taken_seed_by_seed() -> None:
    scores = [
        SeedScore(0.9, 0.5, {"a/M": 0.5, "a/F": 0.9}, {"linear": 0.6, "mlp": 0.6}),
        SeedScore(0.9, 0.5, {"a/M": 0.9, "a/F": 0.7}, {"linear": 0.6, "mlp": 0.6}),
    ]
    assert summarise(
        "original", scores, [SETS] * len(scores), 1.0
    ).worst_group_accuracy.mean == pytest.approx(0.6)


def test_seeds_that_are_folds_know_a_group_by_all_its_texts() -> None:
    folds = [
        Sets(*(np.arange(n) for n in (50, 40, 20, 400)), cells={"a/M": np.arange(first, first + 10)})
        for first in (0, 10, 20)
    ]
    scores = [SeedScore(0.9, 0.5, {"a/M": v}, {"linear": 0.6, "mlp": 0.6}) for v in (0.7, 0.8, 0.9)]
    assert summarise("original", scores, folds, 1.0).groups["a/M"]["n"] == 30
