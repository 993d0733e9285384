"""LEACE and LEACE given y: the guarantee, the paper's closed form, and that nothing moves X less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import inv, orth, sqrtm

from ssae_debias.rivals import LEACE, LEACEGivenY, MeanProjection


def skewed(seed: int, n: int = 400, d: int = 6, n_values: int = 2, n_classes: int = 2) -> tuple:
    rng = np.random.default_rng(seed)
    a = rng.integers(n_values, size=n)
    y = np.where(rng.random(n) < 0.8, a % n_classes, rng.integers(n_classes, size=n))
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    X += rng.normal(size=(n_values, d))[a] + 2 * rng.normal(size=(n_classes, d))[y]
    return X, y, a


def covariance(X: np.ndarray, a: np.ndarray) -> np.ndarray:
    return (X - X.mean(axis=0)).T @ (np.eye(a.max() + 1)[a]) / len(X)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), n_values=st.integers(2, 4), shrinkage=st.booleans())
def test_leace_leaves_no_covariance_with_any_value(seed: int, n_values: int, shrinkage: bool) -> None:
    X, y, a = skewed(seed, n_values=n_values)
    erased = LEACE(shrinkage=shrinkage).fit_transform(X, y, sensitive_features=a)
    assert np.abs(covariance(erased, a)).max() < 1e-8 * np.abs(X).max()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), n_values=st.integers(2, 4), n_classes=st.integers(2, 3))
def test_given_y_leaves_no_covariance_within_the_classes(seed: int, n_values: int, n_classes: int) -> None:
    X, y, a = skewed(seed, n_values=n_values, n_classes=n_classes)
    erased = LEACEGivenY().fit_transform(X, y, sensitive_features=a)
    Z = np.eye(n_values)[a]
    pooled = sum(
        (erased[y == c] - erased[y == c].mean(axis=0)).T @ (Z[y == c] - Z[y == c].mean(axis=0))
        for c in range(n_classes)
    )
    assert np.abs(pooled / len(X)).max() < 1e-8 * np.abs(X).max()


def test_leace_is_the_papers_closed_form() -> None:
    X, _, a = skewed(1, n_values=3)
    eraser = LEACE(shrinkage=False).fit(X, sensitive_features=a)
    W = np.real(inv(sqrtm(np.cov(X.T))))
    basis = orth(W @ covariance(X, a), rcond=1e-6)
    P = inv(W) @ basis @ basis.T @ W
    assert np.allclose(eraser.transform(X), X - (X - X.mean(axis=0)) @ P.T, atol=1e-8)


def test_no_projection_that_erases_moves_x_less() -> None:
    X, _, a = skewed(2)
    moved = [
        np.square(eraser.fit_transform(X, sensitive_features=a) - X).sum()
        for eraser in (LEACE(shrinkage=False), MeanProjection(within_y=False))
    ]
    assert moved[0] < moved[1]


def test_a_rare_value_is_erased_too() -> None:
    rng = np.random.default_rng(0)
    a = np.repeat([0, 1, 2], [4000, 4000, 8])
    X = rng.normal(size=(8008, 4)) + 0.05 * a[:, None]
    erased = LEACE().fit_transform(X, sensitive_features=a)
    means = np.stack([erased[a == value].mean(axis=0) for value in range(3)])
    assert np.abs(means - means[0]).max() < 1e-8


def test_on_skewed_data_leace_erases_the_label_and_given_y_keeps_it() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=4000)
    a = np.where(rng.random(4000) < 0.95, y, 1 - y)
    X = rng.normal(size=(4000, 2)) + 3 * np.column_stack([y, a])
    gaps = {
        type(eraser).__name__: np.linalg.norm(np.diff([Z[y == c].mean(axis=0) for c in (0, 1)], axis=0))
        for eraser in (LEACE(), LEACEGivenY())
        for Z in [eraser.fit_transform(X, y, sensitive_features=a)]
    }
    assert gaps["LEACE"] < 0.6
    assert gaps["LEACEGivenY"] > 2.5


def test_intersections_go_with_their_parts() -> None:
    X, _, _ = skewed(3)
    rng = np.random.default_rng(0)
    two = rng.choice(["x", "y"], size=(400, 2))
    X[:, :2] += 3 * (two == "x")
    erased = LEACE().fit_transform(X, sensitive_features=two)
    for column in two.T:
        assert np.allclose(erased[column == "x"].mean(axis=0), erased[column == "y"].mean(axis=0))


def test_rows_fewer_than_columns() -> None:
    rng = np.random.default_rng(0)
    X, a = rng.normal(size=(30, 100)), np.arange(30) % 2
    erased = LEACE().fit_transform(X, sensitive_features=a)
    assert np.isfinite(erased).all()
    assert np.abs(covariance(erased, a)).max() < 1e-8


def test_an_attribute_that_the_label_determines_cannot_be_told_apart() -> None:
    X, y, _ = skewed(4)
    with pytest.raises(ValueError, match="counterfactual pairs still work"):
        LEACEGivenY().fit(X, y, sensitive_features=np.array(["F", "M"])[y])


def test_given_y_needs_y() -> None:
    X, y, a = skewed(5)
    with pytest.raises(ValueError, match="within the classes of y"):
        LEACEGivenY().fit(X, sensitive_features=a)
    with pytest.raises(ValueError, match="y has 399 rows, expected 400"):
        LEACEGivenY().fit(X, y[1:], sensitive_features=a)
