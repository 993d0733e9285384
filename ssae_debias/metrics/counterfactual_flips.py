"""Counterfactual flips: how often a decision changes when only the attribute's words do.

Take a text, swap its gendered words, decide again. A classifier that does not use the attribute decides the
same; no attribute labels are needed. The rate counts both directions of change and says nothing about which
decision was right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ssae_debias.metrics.codes import group_codes
from ssae_debias.metrics.intervals import Interval, wilson


@dataclass(frozen=True)
class FlipReport:
    """What `flip_rate` found.

    Attributes
    ----------
    overall : Interval
        Share of decisions that changed, with Wilson's interval.
    n : int
        Decisions compared.
    groups : pandas.DataFrame
        Index `group`; columns `n`, `flip_rate`, `low`, `high`. Empty if no groups were given.
    """

    overall: Interval
    n: int
    groups: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        groups = {
            str(name): {"mean": row["flip_rate"], "low": row["low"], "high": row["high"], "n": int(row["n"])}
            for name, row in self.groups.iterrows()
        }
        return {**self.overall.to_dict(), "n": self.n, "groups": groups}


def flip_rate(
    pred: ArrayLike,
    pred_counterfactual: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> FlipReport:
    """Share of decisions that change under the counterfactual.

    Parameters
    ----------
    pred, pred_counterfactual : array-like of shape (n,)
        Decisions on the texts and on their counterfactuals, row by row. Leave out texts that the swap did not
        change: they cannot flip and only dilute the rate.
    groups : array-like of shape (n,) or (n, k), optional
        Report the rate within each group too; k columns are read as their intersection.
    level : float, default 0.95
        Confidence level of Wilson's intervals.

    Returns
    -------
    FlipReport

    Raises
    ------
    ValueError
        No rows, or lengths that differ.

    References
    ----------
    M. Kusner et al., "Counterfactual fairness", NeurIPS 2017; S. Garg et al.,
    "Counterfactual fairness in text classification through robustness", AIES 2019 (token swaps).

    Examples
    --------
    >>> report = flip_rate([0, 0, 1, 1], [0, 1, 1, 1], groups=["M", "M", "F", "F"])
    >>> report.overall.mean
    0.25
    >>> report.groups["flip_rate"].to_dict()
    {'F': 0.0, 'M': 0.5}
    """
    before, after = np.asarray(pred), np.asarray(pred_counterfactual)
    if before.ndim != 1 or before.shape != after.shape or len(before) == 0:
        raise ValueError(
            f"pred and pred_counterfactual are 1-D, of one length, at least 1; "
            f"got {before.shape} and {after.shape}."
        )
    flipped = before != after
    rows = []
    names: tuple[str, ...] = ()
    if groups is not None:
        codes, names = group_codes(groups, "groups", n=len(flipped))
        for code in range(len(names)):
            inside = flipped[codes == code]
            rows.append((len(inside), *wilson(int(inside.sum()), len(inside), level)))
    frame = pd.DataFrame(
        rows, index=pd.Index(names, name="group", dtype=object), columns=["n", "flip_rate", "low", "high"]
    )
    return FlipReport(wilson(int(flipped.sum()), len(flipped), level), len(flipped), frame)
