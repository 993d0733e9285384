"""Group weights and DFR: cells count the same, and nothing makes up for an empty one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ssae_debias.metrics import group_report, linear_probe
from ssae_debias.rivals import DFR, group_weights


@given(sizes=st.lists(st.integers(1, 40), min_size=6, max_size=6))
def test_all_cells_weigh_the_same_and_rows_one_on_average(sizes: list[int]) -> None:
    y = np.repeat(["n", "n", "n", "s", "s", "s"], sizes)
    a = np.repeat([0, 1, 2, 0, 1, 2], sizes)
    weights = group_weights(y, a)
    totals = [weights[(y == label) & (a == value)].sum() for label in "ns" for value in range(3)]
    assert np.allclose(totals, sum(sizes) / 6)
    assert weights.mean() == pytest.approx(1)


def test_an_empty_cell_is_named() -> None:
    y, a = ["nurse", "nurse", "surgeon"], ["F", "M", "M"]
    with pytest.raises(ValueError, match="surgeon/F"):
        group_weights(y, a)
    with pytest.raises(ValueError, match="surgeon/F"):
        DFR().fit(np.zeros((3, 2)), y, sensitive_features=a)
    with pytest.raises(ValueError, match="expected 3"):
        group_weights(y, a[:2])


def confounded(n_classes: int, n: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n)
    a = np.where(rng.random(n) < 0.95, y, rng.integers(n_classes, size=n))
    X = 1.2 * np.eye(n_classes, 5)[y] + 2.5 * np.roll(np.eye(n_classes, 5), n_classes, axis=1)[a]
    X += 0.5 * rng.normal(size=(n, 5))
    return X, np.array(["a", "b"])[y], a


def test_both_serve_the_worst_group_better_than_plain_training() -> None:
    X, y, a = confounded(2)
    probe = linear_probe()
    plain = group_report(y, probe.fit(X, y).predict(X), a).worst_group_accuracy.mean
    probe.fit(X, y, logisticregression__sample_weight=group_weights(y, a))
    weighted = group_report(y, probe.predict(X), a).worst_group_accuracy.mean
    dfr = DFR(random_state=0).fit(X, y, sensitive_features=a)
    balanced = group_report(y, dfr.predict(X), a).worst_group_accuracy.mean
    assert plain < 0.75
    assert weighted > plain + 0.1
    assert balanced > plain + 0.1


def test_dfr_averages_the_weights_of_its_draws() -> None:
    X, y, a = confounded(2, n=500)
    dfr = DFR(n_draws=4, random_state=1).fit(X, y, sensitive_features=a)
    cells = [np.flatnonzero((y == label) & (a == value)) for label in "ab" for value in (0, 1)]
    smallest = min(map(len, cells))
    assert dfr.rows_per_cell_ == smallest
    scaled, rng = StandardScaler().fit_transform(X), np.random.RandomState(1)
    coefs = []
    for _ in range(4):
        rows = np.concatenate([rng.permutation(cell)[:smallest] for cell in cells])
        coefs.append(LogisticRegression(C=0.1, max_iter=2000).fit(scaled[rows], y[rows]).coef_)
    assert np.allclose(dfr.classifier_.coef_, np.mean(coefs, axis=0))


def test_dfr_has_a_classifiers_face() -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(["x", "y", "z"], size=600)
    a = rng.integers(2, size=600)
    X = rng.normal(size=(600, 4)) + 3 * np.column_stack([y == "x", y == "y", a, a])
    dfr = DFR(random_state=0).fit(X, y, sensitive_features=a)
    assert dfr.decision_function(X).shape == dfr.predict_proba(X).shape == (600, 3)
    assert np.allclose(dfr.predict_proba(X).sum(axis=1), 1)
    assert np.array_equal(dfr.classes_[dfr.decision_function(X).argmax(axis=1)], dfr.predict(X))
    assert dfr.score(X, y) > 0.85
    assert np.array_equal(dfr.predict(X), DFR(random_state=0).fit(X, y, sensitive_features=a).predict(X))
    with pytest.raises(ValueError, match="sensitive_features"):
        DFR().fit(X, y)
    with pytest.raises(ValueError, match="n_draws"):
        DFR(n_draws=0).fit(X, y, sensitive_features=a)
