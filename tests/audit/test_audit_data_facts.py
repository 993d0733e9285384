"""What the data say: counts, how well the label tells the attribute, and latents that separate groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_audit import found_with, named_groups
from sklearn.metrics import balanced_accuracy_score

from ssae_debias.audit.data_facts import association_strength, data_facts, told_by_label


def test_the_label_tells_as_much_as_a_table_of_it() -> None:
    random = np.random.default_rng(0)
    y = random.integers(3, size=900)
    a = np.where(random.random(900) < 0.8, np.array(["F", "M", "F"])[y], "M")
    found = told_by_label(y, named_groups(a))
    shares = pd.crosstab(y, a, normalize="columns")
    assert found.mean == pytest.approx(balanced_accuracy_score(a, shares.idxmax(axis=1).loc[y]))
    assert found.low < found.mean < found.high


def test_independent_data_are_not_said_to_go_together() -> None:
    said = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        y, a = random.integers(2, size=(2, 300))
        said += told_by_label(y, named_groups(a)).low > 0.5
    assert said <= 16  # five in a hundred by chance; all of them, if resamples chose their guess anew


def test_rare_values_can_be_left_out() -> None:
    y = np.array([0] * 50 + [1] * 50)
    a = np.array(["F"] * 45 + ["X"] * 5 + ["M"] * 50)
    assert told_by_label(y, named_groups(a), ("F", "M")).mean == 1.0
    assert told_by_label(y, named_groups(a)).mean < 1.0
    assert told_by_label(y, named_groups([""] * 100, source="none")) is None
    assert told_by_label(np.zeros(100, int), named_groups(a)) is None


def test_counts_leave_unknown_rows_out_and_concepts_separate_groups() -> None:
    random = np.random.default_rng(1)
    y, a = random.integers(2, size=(2, 400))
    values = np.array(["F", "M"])[a].astype(object)
    values[:40] = ""
    groups = named_groups(values)
    pooled = np.abs(random.normal(0, 1, (200, 8))).astype("float32")
    rows = np.sort(random.permutation(400)[:200])
    pooled[:, 3] += 4 * a[rows]
    table = pd.DataFrame(
        {
            "site": "module:0",
            "latent": range(8),
            "name": [f"latent {i}" for i in range(8)],
            "decision": "keep",
        }
    )
    found = found_with(table, pooled=pooled)
    facts = data_facts(y, groups, ("no", "yes"), replace(found, rows=rows), groups, y)
    assert facts.counts.to_numpy().sum() == 360
    assert facts.counts.loc["yes", "M"] == int(((y == 1) & (a == 1))[40:].sum())
    men = facts.concepts[facts.concepts["group"].str.endswith("/M")]
    assert set(men["latent"]) == {3}
    assert set(men["name"]) == {"latent 3"}


def test_association_strength() -> None:
    assert association_strength(np.array([0, 0, 1, 1]), named_groups(["a", "a", "b", ""])) == 1.0
    assert association_strength(np.array([0, 1, 0, 1]), named_groups(["a", "a", "b", "b"])) == 0.0
    assert association_strength(np.array([0, 1]), named_groups(["", ""])) == 0.0
