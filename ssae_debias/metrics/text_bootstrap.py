"""The bootstrap for figures that are made of sums over texts.

A corpus's perplexity, loss recovered or R² is a function of sums, each over all tokens of all texts. Tokens of one
text depend on each other, so what is drawn anew is texts: a resample counts each text 0, 1, 2, … times, and its sums
are the counts times the texts' own sums. No token is looked at again, and every figure is taken over the same draws,
so that a ratio of two figures is a paired comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssae_debias.metrics.intervals import Interval


class TextBootstrap:
    """Percentile intervals of functions of sums over texts.

    Parameters
    ----------
    n_texts : int
        At least 1.
    n_resamples : int, default 1000
        Takes 2·n_resamples·n_texts bytes.
    level : float, default 0.95
        Confidence level, between 0 and 1.
    random_state : int or None, default 0
        Seed of the draws.

    References
    ----------
    B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13. Resampling whole texts is the
    cluster bootstrap.

    Examples
    --------
    The mean loss a token of three texts, with 10, 20 and 10 tokens:

    >>> loss, n = [30.0, 50.0, 40.0], [10, 20, 10]
    >>> print(TextBootstrap(3).interval(lambda loss, n: loss / n, loss, n))
    3.000 [2.500, 4.000]
    """

    def __init__(
        self, n_texts: int, *, n_resamples: int = 1000, level: float = 0.95, random_state: int | None = 0
    ) -> None:
        if n_texts < 1 or n_resamples < 1:
            raise ValueError(
                f"n_texts and n_resamples must be at least 1, got n_texts={n_texts}, n_resamples={n_resamples}."
            )
        if not 0 < level < 1:
            raise ValueError(f"level is a probability between 0 and 1, such as 0.95; got {level}.")
        self.level = level
        rng = np.random.default_rng(random_state)
        self._counts: NDArray[np.int16] = np.stack(
            [np.bincount(rng.integers(n_texts, size=n_texts), minlength=n_texts) for _ in range(n_resamples)]
        ).astype(np.int16)

    def interval(self, statistic: Callable[..., NDArray[np.float64]], *sums: ArrayLike) -> Interval:
        """A figure with its interval.

        Parameters
        ----------
        statistic : callable
            From as many arrays of totals as are given, each of shape (r,) or (r, k), to r figures.
        *sums : array-like of shape (n_texts,) or (n_texts, k)
            Each text's own sums.

        Returns
        -------
        Interval
            `mean` is the figure over the texts as given. Where it is undefined for a resample (NaN or infinite: a
            denominator that may as well be zero) the ends are NaN, because the figure's spread has no bound.
        """
        arrays = [np.asarray(values, dtype=np.float64) for values in sums]
        n_texts = self._counts.shape[1]
        if any(len(values) != n_texts for values in arrays):
            raise ValueError(f"sums must have {n_texts} rows, got {[len(values) for values in arrays]}.")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            figure = float(statistic(*(values.sum(0, keepdims=True) for values in arrays))[0])
            draws = [
                np.asarray(statistic(*(part.astype(np.float64) @ values for values in arrays)))
                for part in np.array_split(self._counts, -(-len(self._counts) // 100))
            ]
        drawn = np.concatenate(draws)
        if not np.isfinite(drawn).all():
            return Interval(figure, float("nan"), float("nan"))
        low, high = np.quantile(drawn, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Interval(figure, float(low), float(high))


def finite_or_none(interval: Interval) -> dict[str, float | None]:
    """``{"mean", "low", "high"}`` for JSON, which has no NaN: None where a figure is undefined.

    Examples
    --------
    >>> finite_or_none(Interval(0.5, float("nan"), float("nan")))
    {'mean': 0.5, 'low': None, 'high': None}
    """
    return {key: float(v) if np.isfinite(v) else None for key, v in interval._asdict().items()}
