"""The effect of an edit on a labelled set of texts: what a probe gets right for whom, before and after.

Three classifiers are compared, each a linear probe on pooled activations, trained and tested by
cross-validation over the same folds:

- *original*: trained and applied on unedited activations;
- *edited, probe kept*: the original probe, applied to edited activations (the deployed head stays as it is);
- *edited, probe retrained*: a fresh probe trained on edited activations.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from ssae_debias.files import write_json
from ssae_debias.metrics import GroupReport, group_report, leakage, linear_probe

METHODS = ("original", "edited, probe kept", "edited, probe retrained")


@dataclass(frozen=True)
class EffectReport:
    """Groups and leakage before and after an edit.

    Attributes
    ----------
    groups : dict of str to GroupReport
        By classifier; see the module's text.
    leakage : dict of str to dict of str to float
        `{"original": {"linear": …, "mlp": …}, "edited": {…}}`: mean balanced accuracy over folds with which
        the attribute is read. On data whose label goes with the attribute, part of it is the label.
    """

    groups: dict[str, GroupReport]
    leakage: dict[str, dict[str, float]]

    def to_frame(self) -> pd.DataFrame:
        """One row a classifier."""
        rows = []
        for method, report in self.groups.items():
            leak = self.leakage["original" if method == "original" else "edited"]
            rows.append(
                {
                    "method": method,
                    "task_accuracy": report.task_accuracy.mean,
                    "worst_group": report.worst_group,
                    "worst_group_accuracy": report.worst_group_accuracy.mean,
                    "low": report.worst_group_accuracy.low,
                    "high": report.worst_group_accuracy.high,
                    "demographic_parity_difference": report.demographic_parity_difference,
                    "equalized_odds_difference": report.equalized_odds_difference,
                    "leakage_linear": leak["linear"],
                    "leakage_mlp": leak["mlp"],
                }
            )
        return pd.DataFrame(rows).set_index("method")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {
            "groups": {name: report.to_dict() for name, report in self.groups.items()},
            "leakage": self.leakage,
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the numbers as JSON, whole or not at all."""
        write_json(path, self.to_dict())
        return Path(path)

    def __str__(self) -> str:
        return str(self.to_frame().round(3).T)

    def _repr_html_(self) -> str:
        html: str = self.to_frame().round(3).to_html()
        return html


def measure_effect(
    before: NDArray[Any],
    after: NDArray[Any],
    y: NDArray[Any],
    sensitive_features: NDArray[Any],
    *,
    n_splits: int = 5,
    random_state: int = 0,
) -> EffectReport:
    """Compare unedited and edited activations of the same labelled texts.

    Parameters
    ----------
    before, after : array of shape (n, d)
        Pooled activations without and with the edit, row by row.
    y, sensitive_features : array of shape (n,)
        Label and attribute.
    n_splits : int, default=5
        Folds, stratified by (y, attribute) cell.
    random_state : int, default=0

    Raises
    ------
    ValueError
        A (y, attribute) cell has fewer rows than there are folds.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y, a = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    >>> before = rng.normal(0, 0.3, (200, 4)) + np.outer(y, [1, 0, 0, 0]) + np.outer(a, [0, 1, 0, 0])
    >>> report = measure_effect(before, before * [1, 0, 1, 1], y, a)
    >>> report.leakage["original"]["linear"] > 0.9, report.leakage["edited"]["linear"] < 0.65
    (True, True)
    """
    cells = pd.Series([f"{label}/{value}" for label, value in zip(y, sensitive_features, strict=True)])
    smallest = cells.value_counts()
    if smallest.min() < n_splits:
        raise ValueError(
            f"The group {smallest.index[-1]} has {smallest.min()} texts, fewer than n_splits={n_splits}: give more "
            "of it, or fewer folds."
        )
    predictions = {method: np.empty(len(y), dtype=np.asarray(y).dtype) for method in METHODS}
    leaks: dict[str, dict[str, list[float]]] = {
        name: {"linear": [], "mlp": []} for name in ("original", "edited")
    }
    for train, test in _folds(before, cells, n_splits, random_state):
        kept = linear_probe().fit(before[train], y[train])
        fresh = linear_probe().fit(after[train], y[train])
        predictions[METHODS[0]][test] = kept.predict(before[test])
        predictions[METHODS[1]][test] = kept.predict(after[test])
        predictions[METHODS[2]][test] = fresh.predict(after[test])
        for name, x in (("original", before), ("edited", after)):
            for probe in ("linear", "mlp"):
                score = leakage(
                    x[train],
                    sensitive_features[train],
                    x[test],
                    sensitive_features[test],
                    probe=probe,
                    random_state=random_state,
                )
                leaks[name][probe].append(score)
    return EffectReport(
        groups={name: group_report(y, found, sensitive_features) for name, found in predictions.items()},
        leakage={name: {probe: float(np.mean(s)) for probe, s in by.items()} for name, by in leaks.items()},
    )


def _folds(
    x: NDArray[Any], cells: pd.Series, n_splits: int, random_state: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    return StratifiedKFold(n_splits, shuffle=True, random_state=random_state).split(x, cells)
