"""Intervals against independent computations and against the coverage that they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ssae_debias.metrics import Interval, bootstrap, seeds_interval, wilson


@given(n=st.integers(1, 3000), share=st.floats(0, 1), level=st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    ours = wilson(successes, n, level)
    theirs = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert ours.mean == successes / n
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)
    assert 0 <= ours.low <= ours.mean <= ours.high <= 1


@pytest.mark.parametrize(("successes", "n", "level"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 95)])
def test_wilson_refuses_what_is_no_proportion(successes: int, n: int, level: float) -> None:
    with pytest.raises(ValueError, match="got"):
        wilson(successes, n, level)


def test_bootstrap_of_a_proportion_comes_near_wilson() -> None:
    right = np.repeat([1, 0], [850, 150])
    ours, exact = bootstrap(np.mean, right, random_state=0, n_resamples=3000), wilson(850, 1000)
    assert ours.mean == exact.mean
    assert ours.low == pytest.approx(exact.low, abs=0.005)
    assert ours.high == pytest.approx(exact.high, abs=0.005)


def test_bootstrap_covers_at_its_level() -> None:
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(200, 80))
    hits = [
        interval.low <= 1.0 <= interval.high
        for interval in (bootstrap(np.mean, x, n_resamples=300, level=0.9, random_state=rng) for x in samples)
    ]
    # the percentile form is known to cover a little less than it says on skewed data of this size
    assert 0.82 <= np.mean(hits) <= 0.96


def test_bootstrap_keeps_rows_together_and_strata_whole() -> None:
    x = np.arange(30)
    strata = np.repeat(["a", "b", "c"], [1, 9, 20])

    def aligned(first: np.ndarray, second: np.ndarray, stratum: np.ndarray) -> float:
        assert (second == 2 * first).all()
        assert np.unique(stratum, return_counts=True)[1].tolist() == [1, 9, 20]
        return float(first.mean())

    interval = bootstrap(aligned, x, 2 * x, strata, strata=strata, n_resamples=50, random_state=1)
    assert interval.low < interval.mean < interval.high


def test_bootstrap_repeats_with_its_seed_only() -> None:
    x = np.random.default_rng(0).normal(size=50)
    assert bootstrap(np.mean, x, random_state=3) == bootstrap(np.mean, x, random_state=3)
    assert bootstrap(np.mean, x, random_state=3) != bootstrap(np.mean, x, random_state=4)


def test_bootstrap_names_lengths_that_differ() -> None:
    with pytest.raises(ValueError, match=r"\[3, 2\]"):
        bootstrap(lambda a, b: 0.0, [1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"\[0\]"):
        bootstrap(np.mean, [])
    with pytest.raises(ValueError, match="strata has 2 rows"):
        bootstrap(np.mean, [1, 2, 3], strata=[0, 1])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10))
def test_seeds_interval_is_students(values: list[float]) -> None:
    ours = seeds_interval(values, 0.9)
    if np.std(values) > 1e-9:
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.9)
        assert ours.low == pytest.approx(low, abs=1e-9)
        assert ours.high == pytest.approx(high, abs=1e-9)
    assert ours.mean == pytest.approx(np.mean(values))


def test_one_seed_is_a_point_and_not_nan() -> None:
    assert seeds_interval([0.8]) == Interval(0.8, 0.8, 0.8)


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [[0.5], [0.6]]])
def test_seeds_interval_refuses_what_is_no_list_of_figures(values: list) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        seeds_interval(values)
