"""Leakage finds what is there, finds nothing where nothing is, and says what it cannot measure."""

from __future__ import annotations

import numpy as np
import pytest

from ssae_debias.metrics import leakage, linear_probe, mlp_probe


def halves(X: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    middle = len(X) // 2
    return X[:middle], a[:middle], X[middle:], a[middle:]


@pytest.mark.parametrize("probe", ["linear", "mlp"])
@pytest.mark.parametrize("values", [["F", "M"], ["a", "b", "c"], [0, 1, 2, 3]])
def test_chance_is_one_over_the_number_of_values(probe: str, values: list) -> None:
    rng = np.random.default_rng(0)
    a = rng.choice(values, size=3000)
    figure = leakage(*halves(rng.normal(size=(3000, 8)), a), probe=probe, random_state=0)
    assert figure == pytest.approx(1 / len(values), abs=0.05)


@pytest.mark.parametrize("probe", ["linear", "mlp"])
def test_a_rare_value_counts_as_much_as_a_common_one(probe: str) -> None:
    rng = np.random.default_rng(0)
    a = (rng.random(3000) < 0.05).astype(int)
    # plain accuracy would be .95 here
    assert leakage(*halves(rng.normal(size=(3000, 4)), a), probe=probe, random_state=0) < 0.55


def test_the_network_reads_what_the_linear_probe_cannot() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(500, 2))
    X = np.tile(np.concatenate([half, -half]), (2, 1))  # a row and its mirror image: no direction is better
    a = np.where(X[:, 0] * X[:, 1] > 0, "same", "opposite")
    assert leakage(*halves(X, a), probe="linear") == pytest.approx(0.5, abs=0.02)
    assert leakage(*halves(X, a), probe="mlp", random_state=0) > 0.9


def test_the_scale_of_a_column_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(2, size=600)
    X = rng.normal(size=(600, 3)) + a[:, None]
    assert leakage(*halves(X, a)) == leakage(*halves(X * [1e-6, 1.0, 1e6], a))


def test_intersections_are_read_as_one_attribute() -> None:
    rng = np.random.default_rng(0)
    a = rng.choice(["F", "M"], size=(1000, 2))
    X = (a == "F") + 0.1 * rng.normal(size=(1000, 2))
    assert leakage(*halves(X, a)) > 0.99


@pytest.mark.parametrize("make_probe", [linear_probe, mlp_probe])
def test_probes_repeat_with_their_seed(make_probe) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 4)), rng.integers(2, size=200)
    first, second = (make_probe(random_state=7).fit(X, y).predict_proba(X) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a_train": ["F"] * 4}, "constant"),
        ({"a_test": ["F", "X"]}, "'X'"),
        ({"X_train": [[np.nan], [1], [2], [3]]}, "NaN"),
        ({"a_train": ["F", "M"]}, "inconsistent numbers of samples"),
        ({"probe": "svm"}, "'svm'"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    given = {
        "X_train": [[0], [1], [2], [3]],
        "a_train": ["F", "F", "M", "M"],
        "X_test": [[0], [3]],
        "a_test": ["F", "M"],
    }
    with pytest.raises(ValueError, match=message):
        leakage(**(given | change))
