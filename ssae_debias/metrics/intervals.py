"""Intervals: how far a figure could have been from the one that was measured.

Three sources of chance, one function each. *Which rows were tested*: `wilson` for a proportion, `bootstrap`
for anything else. *Which rows and weights were drawn in training*: `seeds_interval`, over repeated runs. They
do not contain each other: a narrow interval over seeds says nothing about a test cell of 99 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


class Interval(NamedTuple):
    """A figure and the ends of its interval.

    Attributes
    ----------
    mean : float
        The figure itself (for `seeds_interval` the mean over seeds).
    low, high : float
        The interval's ends.

    Examples
    --------
    >>> print(Interval(0.857, 0.774, 0.913))
    0.857 [0.774, 0.913]
    >>> Interval(0.857, 0.774, 0.913).to_dict()
    {'mean': 0.857, 'low': 0.774, 'high': 0.913}
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, float]:
        """``{"mean", "low", "high"}``, as `results.json` holds it."""
        return self._asdict()


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion.

    The ends are the proportions ``p`` that a z-test at `level` does not reject: ``|p̂ − p| = z √(p (1 − p) /
    n)``. Unlike ``p̂ ± z·se`` it stays within [0, 1] and does not shrink to a point when every row, or none,
    is a success.

    Parameters
    ----------
    successes : int
        Rows counted as a success, ``0 ≤ successes ≤ n``.
    n : int
        Rows in all, at least 1.
    level : float, default 0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    Interval
        ``mean`` is the plain proportion, which is not the middle of the interval.

    Raises
    ------
    ValueError
        `n` below 1, `successes` outside 0..n, or `level` outside (0, 1).

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Examples
    --------
    >>> print(wilson(85, 99))
    0.859 [0.777, 0.914]
    >>> print(wilson(10, 10))
    1.000 [0.722, 1.000]
    """
    _check_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"Expected 0 <= successes <= n and n >= 1, got successes={successes}, n={n}.")
    z = stats.norm.ppf((1 + level) / 2)
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # rounding alone could leave p̂ = 0 or 1 outside its own interval
    return Interval(p, min(p, max(0.0, float(centre - half))), max(p, min(1.0, float(centre + half))))


def bootstrap(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    strata: ArrayLike | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    random_state: int | np.random.Generator | None = None,
) -> Interval:
    """Percentile bootstrap: the statistic over data sets drawn from the rows, with replacement.

    Parameters
    ----------
    statistic : callable
        Takes as many arrays as are given, rows aligned, and returns a number.
    *arrays : array-like of shape (n, ...)
        Resampled together, row by row.
    strata : array-like of shape (n,), optional
        Resample within each stratum, so that every stratum keeps its size. Needed where the statistic breaks
        when a small group is missing from a resample.
    n_resamples : int, default 1000
        At 1000 the ends of a 95 % interval rest on 25 draws each.
    level : float, default 0.95
        Confidence level, between 0 and 1.
    random_state : int, Generator or None, default None
        Seed of the draws.

    Returns
    -------
    Interval
        ``mean`` is the statistic of the arrays as given, not the resamples' mean.

    Raises
    ------
    ValueError
        No arrays, no rows, lengths that differ, or `level` outside (0, 1).

    References
    ----------
    B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13.

    Examples
    --------
    >>> right = np.repeat([1, 0], [85, 14])
    >>> print(bootstrap(np.mean, right, random_state=0))
    0.859 [0.788, 0.929]
    """
    _check_level(level)
    data = [np.asarray(array) for array in arrays]
    if not data or len({len(array) for array in data}) != 1 or len(data[0]) == 0:
        lengths = [len(array) for array in data]
        raise ValueError(f"Expected one or more arrays of one length, at least 1; got lengths {lengths}.")
    n = len(data[0])
    if strata is None:
        parts = [np.arange(n)]
    else:
        codes = np.unique(np.asarray(strata), return_inverse=True)[1]
        if len(codes) != n:
            raise ValueError(f"strata has {len(codes)} rows, the arrays have {n}.")
        parts = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    rng = np.random.default_rng(random_state)
    draws = np.empty(n_resamples)
    for i in range(n_resamples):
        rows = np.concatenate([part[rng.integers(len(part), size=len(part))] for part in parts])
        draws[i] = statistic(*(array[rows] for array in data))
    return percentile_interval(float(statistic(*data)), draws, level)


def seeds_interval(values: Sequence[float] | NDArray[Any], level: float = 0.95) -> Interval:
    """Student's t interval of the mean over repeated runs.

    ``mean ± t(n − 1) · s / √n``, with s the sample standard deviation over the runs. A single run says
    nothing about the spread: its interval is the point itself, so that tables and JSON stay free of NaN.

    Parameters
    ----------
    values : sequence of float
        One figure a seed, at least one, all finite.
    level : float, default 0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    Interval
        Not clipped: with few seeds an accuracy's interval may reach beyond 1.

    Raises
    ------
    ValueError
        No values, a value that is not finite, or `level` outside (0, 1).

    Examples
    --------
    >>> print(seeds_interval([0.86, 0.87, 0.88, 0.87, 0.88]))
    0.872 [0.862, 0.882]
    >>> print(seeds_interval([0.86]))
    0.860 [0.860, 0.860]
    """
    _check_level(level)
    figures = np.asarray(values, dtype=np.float64)
    if figures.ndim != 1 or figures.size == 0 or not np.isfinite(figures).all():
        raise ValueError(f"Expected one or more finite numbers, one a seed; got {values!r}.")
    mean = float(figures.mean())
    if figures.size == 1:
        return Interval(mean, mean, mean)
    half = float(stats.t.ppf((1 + level) / 2, figures.size - 1) * stats.sem(figures))
    return Interval(mean, mean - half, mean + half)


def percentile_interval(figure: float, draws: NDArray[Any], level: float) -> Interval:
    """The figure with the middle `level` of its draws: their ``(1 ∓ level) / 2`` quantiles."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(figure, float(low), float(high))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is a probability between 0 and 1, such as 0.95; got {level}.")
