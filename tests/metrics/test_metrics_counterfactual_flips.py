"""Flip rates by hand, and what cannot be compared."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ssae_debias.metrics import flip_rate, wilson


def test_rates_by_hand() -> None:
    before, after = ["n", "n", "s", "s", "s"], ["n", "s", "s", "n", "s"]
    report = flip_rate(before, after, groups=["F", "F", "F", "M", "M"], level=0.9)
    assert report.overall == wilson(2, 5, 0.9)
    assert report.groups["flip_rate"].to_dict() == pytest.approx({"F": 1 / 3, "M": 1 / 2})
    assert report.groups["n"].to_dict() == {"F": 3, "M": 2}
    assert json.loads(json.dumps(report.to_dict()))["groups"]["M"]["mean"] == 0.5


def test_both_directions_count_the_same() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.integers(3, size=(2, 100))
    assert flip_rate(before, after).overall == flip_rate(after, before).overall


def test_without_groups_the_table_is_empty() -> None:
    report = flip_rate([1, 0], [1, 0])
    assert report.overall.mean == 0.0
    assert report.groups.empty


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="one length"):
        flip_rate([1, 0], [1])
    with pytest.raises(ValueError, match="at least 1"):
        flip_rate([], [])
    with pytest.raises(ValueError, match="groups has 1 rows"):
        flip_rate([1, 0], [1, 0], groups=["F"])
