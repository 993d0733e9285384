"""What follows the latents' edits: realignment and erasure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.estimators.residue import erasure, realignment


def _apply(edit, rows: np.ndarray) -> np.ndarray:
    return edit(torch.as_tensor(rows, dtype=torch.float64)).numpy()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), d=st.integers(2, 6))
def test_an_invertible_linear_accident_is_undone(seed: int, d: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(400, d))
    moved = rows @ (np.eye(d) + 0.2 * random.normal(size=(d, d)) / d) + random.normal(size=d)
    mended = _apply(realignment(moved, rows), moved)
    assert np.abs(mended - rows).max() < 0.1 * np.abs(moved - rows).max() + 0.02


def test_what_was_removed_is_not_brought_back() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(2000, 5))
    attribute = rows[:, 0] > 0
    edited = rows * [0, 1, 1, 1, 1]
    mended = _apply(realignment(edited, rows), edited)
    gap = np.abs(mended[attribute].mean(axis=0) - mended[~attribute].mean(axis=0)).max()
    assert gap < 0.15 < np.abs(rows[attribute].mean(axis=0) - rows[~attribute].mean(axis=0)).max()


def test_few_texts_leave_other_directions_alone() -> None:
    # twelve texts say nothing about most of 300 directions; a map learned from zero would flatten those
    random = np.random.default_rng(1)
    rows = random.normal(size=(12, 300))
    affine = realignment(rows + 0.1 * random.normal(size=rows.shape), rows)
    others = random.normal(size=(50, 300))
    assert np.linalg.norm(_apply(affine, others) - others) < 0.2 * np.linalg.norm(others)


def test_without_an_edit_nothing_is_realigned() -> None:
    rows = np.random.default_rng(2).normal(size=(40, 7))
    np.testing.assert_allclose(_apply(realignment(rows, rows), rows), rows, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), correlation=st.floats(0.1, 0.9))
def test_erasure_leaves_no_linear_trace_within_classes(seed: int, correlation: float) -> None:
    random = np.random.default_rng(seed)
    y = random.integers(2, size=600)
    a = np.where(random.random(600) < correlation, y, 1 - y)
    rows = (
        random.normal(size=(600, 8)) + np.outer(y, random.normal(size=8)) + np.outer(a, random.normal(size=8))
    )
    projection = erasure(rows, y, a, np.ones(600, dtype=bool))
    assert projection is not None
    erased = _apply(projection, rows)
    covariance = np.zeros(8)
    for c in (0, 1):
        inside = y == c
        centred = erased[inside] - erased[inside].mean(axis=0)
        covariance += centred.T @ (a[inside] - a[inside].mean())
    assert np.abs(covariance / 600).max() < 1e-4
    np.testing.assert_allclose(erased.mean(axis=0), rows.mean(axis=0), atol=1e-4)


def test_texts_of_unknown_attribute_are_left_out() -> None:
    random = np.random.default_rng(3)
    y, a = random.integers(2, size=(2, 400))
    rows = random.normal(size=(400, 4)) + 2 * np.column_stack([y, a, a, y])
    known = np.arange(400) < 300
    noise = a.copy()
    noise[~known] = 7
    kept, all_known = erasure(rows, y, noise, known), erasure(rows[:300], y[:300], a[:300], known[:300])
    assert kept is not None
    assert all_known is not None
    torch.testing.assert_close(kept.read @ kept.write, all_known.read @ all_known.write)


def test_where_the_attribute_is_the_label_nothing_is_erased() -> None:
    y = np.array([0, 1] * 20)
    with pytest.warns(UserWarning, match="No class of y holds two values"):
        assert erasure(np.random.default_rng(0).normal(size=(40, 3)), y, y, np.ones(40, dtype=bool)) is None
