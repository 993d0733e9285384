"""From rows by seed to a line with a band: means and intervals over seeds, and densities of histograms.

A variant of one seed has no interval over seeds; where its rows have one over texts (or types, or concepts), that one
stands in. Which of the two a reader sees is in the column `n_seeds`, and in the captions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats


def over_seeds(frame: pd.DataFrame, by: Sequence[str], value: str, *, level: float = 0.95) -> pd.DataFrame:
    """Mean of a column over seeds, with Student's t interval of the mean.

    Parameters
    ----------
    frame : DataFrame
        With `seed`, the columns of `by`, and `value`; rows of one seed are averaged first.
    by : sequence of str
        What a point of a plot is. Missing values (the k of a loaded SAE) are a value of their own.
    value : str
        Rows where it is missing are left out.
    level : float, default=0.95
        Of the interval.

    Returns
    -------
    DataFrame
        The columns of `by`, in order of first appearance, and `mean`, `low`, `high`, `n_seeds`. Of one seed the ends
        are the means of ``<value>_low`` and ``<value>_high`` where there are such columns, and NaN otherwise.

    Examples
    --------
    >>> frame = pd.DataFrame({"variant": "a", "seed": [0, 1, 2], "f1": [0.5, 0.6, 0.7]})
    >>> over_seeds(frame, ["variant"], "f1").round(2).to_dict("records")
    [{'variant': 'a', 'mean': 0.6, 'low': 0.35, 'high': 0.85, 'n_seeds': 3}]
    """
    known = frame[np.isfinite(pd.to_numeric(frame[value], errors="coerce"))]
    by, ends = list(by), [f"{value}_low", f"{value}_high"]
    columns = [value, *(end for end in ends if end in known)]
    each = known.groupby([*by, "seed"], dropna=False, sort=False)[columns].mean().reset_index()
    grouped = each.groupby(by, dropna=False, sort=False)
    found = grouped[value].agg(mean="mean", spread="std", n_seeds="size").reset_index()
    # As `ssae_debias.metrics.intervals.seeds_interval`, for all points at once.
    n = found["n_seeds"].to_numpy(np.float64)
    half = (
        stats.t.ppf((1 + level) / 2, np.maximum(n - 1, 1)) * found["spread"].to_numpy(np.float64) / np.sqrt(n)
    )
    alone = n == 1
    for end, side in zip(("low", "high"), (-1, 1), strict=True):
        column = f"{value}_{end}"
        own = grouped[column].mean().to_numpy(np.float64) if column in each else np.full(len(found), np.nan)
        found[end] = np.where(alone, own, found["mean"].to_numpy(np.float64) + side * half)
    return found[[*by, "mean", "low", "high", "n_seeds"]]


def sparsities(frame: pd.DataFrame, most: int = 1) -> list[tuple[float | None, pd.DataFrame]]:
    """The table by sparsity level: at most so many levels, spread over those that there are.

    SAEs without a level (loaded ones) stand beside each. Of one level the middle one is taken.

    Examples
    --------
    >>> frame = pd.DataFrame({"k": [8.0, 16.0, 32.0, np.nan], "variant": list("aaab")})
    >>> [(k, len(part)) for k, part in sparsities(frame)]
    [(16.0, 2)]
    >>> [(k, len(part)) for k, part in sparsities(frame, 2)]
    [(8.0, 2), (32.0, 2)]
    >>> [(k, len(part)) for k, part in sparsities(frame.tail(1))]
    [(None, 1)]
    """
    levels = pd.to_numeric(frame["k"], errors="coerce")
    known = np.unique(levels.dropna())
    if not len(known):
        return [(None, frame)]
    middle = (len(known) - 1) / 2
    places = [middle] if most == 1 else np.linspace(0, len(known) - 1, min(most, len(known)))
    chosen = [float(known[int(place)]) for place in dict.fromkeys(np.floor(places))]
    return [(k, frame[(levels == k) | levels.isna()]) for k in chosen]


def densities(frame: pd.DataFrame, *, log: bool = False) -> pd.DataFrame:
    """Histograms of several seeds on shared bins, as densities: mean, and the lowest and highest seed.

    Parameters
    ----------
    frame : DataFrame
        Rows of `Histogram.to_frame()` by `variant` and `seed`; bins that hold nothing may be missing. `share` is
        used where it is there, else `count` over its sum.
    log : bool, default=False
        Density per doubling instead of per unit. Bins that begin at 0 or end at infinity have none and are left out,
        though they count.

    Returns
    -------
    DataFrame
        `variant`, `from`, `to`, `mean`, `low`, `high`, `n_seeds`.

    Examples
    --------
    >>> bins = pd.DataFrame({"variant": "a", "seed": [0, 0, 1], "low": [0.0, 1.0, 0.0], "high": [1.0, 2.0, 1.0],
    ...                      "count": [1, 3, 4]})
    >>> densities(bins)[["from", "to", "mean", "low", "high"]].values.tolist()
    [[0.0, 1.0, 0.625, 0.25, 1.0], [1.0, 2.0, 0.375, 0.0, 0.75]]
    """
    parts = []
    for variant, own in frame.groupby("variant", sort=False):
        shown = own[np.isfinite(own["high"]) & ((own["low"] > 0) | (not log))]
        edges = np.unique(np.round(shown[["low", "high"]].to_numpy(np.float64), 12))
        if len(edges) < 2:
            continue
        height = np.stack([_height(part, edges, log) for _, part in own.groupby("seed", dropna=False)])
        parts.append(
            pd.DataFrame(
                {
                    "variant": variant, "from": edges[:-1], "to": edges[1:], "mean": height.mean(0),
                    "low": height.min(0), "high": height.max(0), "n_seeds": len(height),
                }
            )
        )  # fmt: skip
    columns = ["variant", "from", "to", "mean", "low", "high", "n_seeds"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _height(part: pd.DataFrame, edges: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    """One seed's step function between the edges."""
    part = part.groupby(["low", "high"], as_index=False)[["count"]].sum().sort_values("low")
    share = part["count"].to_numpy(np.float64) / max(float(part["count"].sum()), 1e-300)
    low, high = (part[end].to_numpy(np.float64) for end in ("low", "high"))
    keep = np.isfinite(high) & ((low > 0) | (not log))
    low, high, share = low[keep], high[keep], share[keep]
    if not len(low):
        return np.zeros(len(edges) - 1)
    middle = (edges[:-1] + edges[1:]) / 2
    place = np.clip(np.searchsorted(low, middle, side="right") - 1, 0, len(low) - 1)
    width = np.log2(high / low) if log else high - low
    return np.where((middle >= low[place]) & (middle < high[place]), share[place] / width[place], 0.0)


def equal_parts(values: NDArray[np.float64], *, at_least: int = 3, most: int = 8) -> NDArray[np.float64]:
    """Edges that part sorted values into ranges of about as many; the last edge lies above all.

    Examples
    --------
    >>> equal_parts(np.arange(1.0, 7.0)).round(1).tolist()
    [1.0, 3.5, 6.0]
    """
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return np.zeros(0)
    n = int(np.clip(len(values) // at_least, 1, most))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, n + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0]])
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return edges
