"""The curve of what more latents buy: where it starts, where it ends, and on which rows it is read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_audit import found_with, named_groups, other_attribute, planted, read_as_is

from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.measuring import Evaluation, measure
from ssae_debias.audit.tradeoff import MAX_ROWS, _rows, numbers, tradeoff
from ssae_debias.audit.variants import Part, changed_rows


@given(st.integers(0, 5000))
def test_numbers_grow_to_all(n: int) -> None:
    points = numbers(n)
    assert points[0] == 0
    assert points[-1] == n
    assert all(one < other for one, other in pairwise(points))
    assert len(points) <= 15
    assert all(other <= 2 * one + 1 for one, other in pairwise(points[1:]))


def setting(n: int) -> tuple[Part, Evaluation]:
    data = planted(n)
    groups = named_groups(np.array(["F", "M"])[data.a])
    part = Part(data.X, other_attribute(data), data.y, groups)
    return part, Evaluation(data.y, groups, ("no", "yes"), changed_rows(data.X, part.counterfactual))


def table(*ablated: int) -> pd.DataFrame:
    decision = ["ablate" if latent in ablated else "keep" for latent in range(8)]
    score = [8 - latent for latent in range(8)]
    return pd.DataFrame({"site": "module:0", "latent": range(8), "decision": decision, "score": score})


def test_it_starts_at_the_classifier_and_ends_at_the_latents_edit() -> None:
    part, evaluation = setting(400)
    found, logits = found_with(table(1, 2, 5)), KeptLogits(read_as_is(), None)
    points = tradeoff(found, part, evaluation, logits)
    assert [point.n_latents for point in points] == [0, 1, 3]
    for point, edits in ((points[0], {}), (points[-1], found.latent_edits())):
        state = measure(
            evaluation, logits(part.inputs, edits), logits(part.counterfactual, edits), name="x", role="ours"
        )
        assert point.accuracy == state.accuracy
        assert point.worst_group_accuracy == state.worst_group_accuracy
        assert point.flips == state.flips["rate"]
    assert points[0].flips.mean > 0.2
    assert points[-1].flips.mean < 0.2  # the negative part of the column is no latent's


def test_without_latents_there_is_no_curve() -> None:
    part, evaluation = setting(40)
    assert tradeoff(found_with(table()), part, evaluation, KeptLogits(read_as_is(), None)) == []


def test_of_many_rows_figures_stay_those_of_all_rows_and_rare_groups_are_whole() -> None:
    random = np.random.default_rng(0)
    n = 6000
    y = random.integers(2, size=n)
    values = np.where(random.random(n) < 0.005, "rare", "common")
    values[:2000] = ""
    swappable = random.random(n) < 0.3
    evaluation = Evaluation(y, named_groups(values), ("a", "b"), swappable)
    rows, alike, swapping = _rows(evaluation, 0)
    assert len(rows) == MAX_ROWS == len(set(rows.tolist()))
    assert alike.sum() == swapping.sum() == MAX_ROWS // 3
    assert swappable[rows[swapping]].all()
    assert set(np.flatnonzero(values == "rare")) <= set(rows.tolist())
    # what is read as the accuracy's part is drawn without regard to groups
    assert (values[rows[alike]] == "").mean() == pytest.approx(1 / 3, abs=0.1)
    unknown = Evaluation(y, named_groups([""] * n, source="none"), ("a", "b"), np.zeros(n, dtype=bool))
    rows, alike, swapping = _rows(unknown, 0)
    assert len(rows) == MAX_ROWS
    assert not swapping.any()
