"""From logits to figures: against counts by hand and against fairlearn."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from planted_audit import named_groups

from ssae_debias.audit.measuring import Evaluation, mean_of_proportions, measure
from ssae_debias.metrics import wilson

CLASSES = ("nurse", "surgeon")


def decided(codes: np.ndarray, n_classes: int = 2) -> np.ndarray:
    return np.eye(n_classes)[codes] - 0.5


@pytest.fixture
def rows() -> Evaluation:
    random = np.random.default_rng(0)
    values = random.choice(["F", "M", ""], size=400, p=[0.5, 0.3, 0.2])
    return Evaluation(random.integers(2, size=400), named_groups(values), CLASSES, random.random(400) < 0.6)


def test_figures_are_counts_by_hand_and_fairlearns(rows: Evaluation) -> None:
    made = np.where(np.random.default_rng(1).random(400) < 0.7, rows.y, 1 - rows.y)
    found = measure(rows, decided(made), None, name="as it is", role="start")
    assert found.accuracy.mean == (made == rows.y).mean()  # rows without an attribute count here
    known, sex = rows.groups.known, rows.groups.values
    cells = {
        f"{CLASSES[label]}/{value}": known & (rows.y == label) & (sex == value)
        for label in (0, 1)
        for value in ("F", "M")
    }
    assert found.groups is not None
    assert set(found.groups) == set(cells)
    for name, inside in cells.items():
        cell = found.groups[name]
        assert cell["n"] == inside.sum()
        expected = wilson(int((made == rows.y)[inside].sum()), int(inside.sum()))
        assert (cell["accuracy"].mean, cell["accuracy"].low) == pytest.approx(expected[:2])
    accuracies = {name: float((made == rows.y)[inside].mean()) for name, inside in cells.items()}
    assert found.worst_group == min(accuracies, key=accuracies.__getitem__)
    assert found.worst_group_accuracy.mean == pytest.approx(min(accuracies.values()))
    assert found.balanced_accuracy.mean == pytest.approx(np.mean(list(accuracies.values())))
    given = {"y_true": rows.y[known], "y_pred": made[known], "sensitive_features": sex[known]}
    assert found.demographic_parity_difference == pytest.approx(demographic_parity_difference(**given))
    assert found.equalized_odds_difference == pytest.approx(equalized_odds_difference(**given))
    assert found.flips is None


def test_flips_are_counted_over_rows_that_change_and_told_by_group(rows: Evaluation) -> None:
    before, after = np.random.default_rng(2).integers(2, size=(2, 400))
    swaps = rows.swappable
    found = measure(rows, decided(before), decided(after[swaps]), name="x", role="ours")
    assert found.flips == {
        "rate": pytest.approx(found.flips["rate"]),
        "n": int(swaps.sum()),
    }
    assert found.flips["rate"].mean == (before != after)[swaps].mean()
    assert set(found.flips_by_group) == set(found.groups)  # so that the page shows them side by side
    inside = swaps & (rows.y == 1) & (rows.groups.values == "F")
    cell = found.flips_by_group["surgeon/F"]
    assert cell["n"] == inside.sum()
    assert cell["rate"].mean == (before != after)[inside].mean()


def test_without_groups_flips_are_told_by_label() -> None:
    groups = named_groups(["", "", "", ""], source="none")
    rows = Evaluation(np.array([0, 0, 1, 1]), groups, CLASSES, np.array([True, True, True, False]))
    found = measure(rows, decided(rows.y), decided(np.array([1, 0, 1])), name="x", role="start")
    assert found.groups is None
    assert found.balanced_accuracy is None
    assert {name: cell["rate"].mean for name, cell in found.flips_by_group.items()} == {
        "nurse": 0.5,
        "surgeon": 0.0,
    }
    nothing = Evaluation(rows.y, groups, CLASSES, np.zeros(4, dtype=bool))
    assert measure(nothing, decided(rows.y), None, name="x", role="start").flips is None


def test_three_labels_and_three_attribute_values() -> None:
    random = np.random.default_rng(3)
    y = random.integers(3, size=300)
    rows = Evaluation(
        y, named_groups(np.array(["a", "b", "c"])[np.arange(300) % 3]), ("x", "y", "z"), np.zeros(300, bool)
    )
    found = measure(rows, decided(y, 3), None, name="x", role="start")
    assert len(found.groups) == 9
    assert found.worst_group_accuracy.mean == 1
    assert found.demographic_parity_difference < 0.2


def test_nan_decides_nothing(rows: Evaluation) -> None:
    logits = decided(rows.y)
    logits[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"hold NaN \(edited\)"):
        measure(rows, logits, None, name="edited", role="ours")


def test_the_interval_of_a_mean_of_proportions_covers() -> None:
    random, chances, sizes = np.random.default_rng(4), np.array([0.95, 0.6]), np.array([40.0, 150.0])
    covered = 0
    for _ in range(800):
        found = mean_of_proportions(random.binomial(sizes.astype(int), chances).astype(float), sizes)
        covered += found.low <= chances.mean() <= found.high
    assert 0.93 <= covered / 800 <= 0.99
    certain = mean_of_proportions(np.array([5.0, 5.0]), np.array([5.0, 5.0]))
    assert certain.low < 0.9  # a perfect small group is not certain
