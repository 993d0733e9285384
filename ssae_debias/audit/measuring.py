"""From logits to what a report shows of a classifier in one state: groups, disparities and flips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssae_debias.audit.groups import Groups
from ssae_debias.metrics import GroupReport, Interval, flip_rate, group_report, wilson
from ssae_debias.report import Estimate
from ssae_debias.report.audit import FlipResult, Variant
from ssae_debias.report.audit.content import Role


@dataclass(frozen=True)
class Evaluation:
    """The rows that a classifier is judged on; see `measure` for an example.

    Attributes
    ----------
    y : ndarray of int64, shape (n,)
        Labels as indices into `classes`.
    groups : Groups
    classes : tuple of str
    swappable : ndarray of bool, shape (n,)
        Rows that flips are counted over: all, or a sample, of those that their counterfactual changes.
    """

    y: NDArray[np.int64]
    groups: Groups
    classes: tuple[str, ...]
    swappable: NDArray[np.bool_]

    def at(self, rows: NDArray[np.int64]) -> Evaluation:
        """That of some rows."""
        return Evaluation(self.y[rows], self.groups.at(rows), self.classes, self.swappable[rows])

    def names(self, codes: NDArray[np.int64]) -> NDArray[np.str_]:
        """Labels by name."""
        return np.array(self.classes)[codes]

    def cells(self) -> NDArray[np.str_]:
        """Each row's group as the report names it, "" where it is in none; its label where no groups are known."""
        names = self.names(self.y)
        if len(self.groups.names) < 2:
            return names
        return np.where(self.groups.known, self.groups.cells(names), "")


def measure(
    evaluation: Evaluation,
    logits: NDArray[np.floating],
    swapped: NDArray[np.floating] | None,
    *,
    name: str,
    role: Role,
    needs_group_labels: bool = False,
    seconds: float = 0.0,
) -> Variant:
    """Judge one state of a classifier.

    Parameters
    ----------
    evaluation : Evaluation
    logits : ndarray of shape (n, n_classes)
    swapped : ndarray of shape (n_swappable, n_classes) or None
        Those of the counterfactuals of the swappable rows, where they are known.
    name, role, needs_group_labels, seconds
        See `Variant`.

    Returns
    -------
    Variant
        Flips are told by group where groups are known, else by label.

    Raises
    ------
    ValueError
        NaN among the logits: the largest of a row would not be known.

    Examples
    --------
    >>> from ssae_debias.audit.groups import find_groups
    >>> groups = find_groups("____", ["F", "M", "F", "M"], None)
    >>> rows = Evaluation(np.array([0, 0, 1, 1]), groups, ("nurse", "surgeon"), np.zeros(4, dtype=bool))
    >>> state = measure(rows, np.eye(2)[[0, 1, 1, 1]], None, name="as it is", role="start")
    >>> state.accuracy.mean, state.worst_group
    (0.75, 'nurse/M')
    """
    if np.isnan(logits).any() or (swapped is not None and np.isnan(swapped).any()):
        raise ValueError(f"The classifier's logits hold NaN ({name}): what it decides there is not known.")
    decided = logits.argmax(axis=1)
    variant: dict[str, Any] = {
        "accuracy": estimate(wilson(int((decided == evaluation.y).sum()), len(decided))),
        "seconds": round(seconds, 2),
    }
    report = groups_of(evaluation, decided)
    if report is not None:
        variant |= {
            "balanced_accuracy": balanced(report),
            "worst_group": report.worst_group,
            "worst_group_accuracy": estimate(report.worst_group_accuracy),
            "groups": {
                str(cell): {
                    "accuracy": Estimate(row["accuracy"], row["low"], row["high"]),
                    "n": int(row["n"]),
                }
                for cell, row in report.groups.iterrows()
            },
            "demographic_parity_difference": report.demographic_parity_difference,
            "equalized_odds_difference": report.equalized_odds_difference,
        }
    if swapped is not None and evaluation.swappable.any():
        rows = evaluation.swappable
        before, after, cells = decided[rows], swapped.argmax(axis=1), evaluation.cells()[rows]
        variant["flips"] = _flips(before, after)
        variant["flips_by_group"] = {
            str(cell): _flips(before[cells == cell], after[cells == cell])
            for cell in np.unique(cells[cells != ""])
        }
    return Variant(name=name, role=role, needs_group_labels=needs_group_labels, **variant)


def groups_of(evaluation: Evaluation, decided: NDArray[np.int64]) -> GroupReport | None:
    """Groups' accuracies over the rows whose attribute is known; None where fewer than two values are."""
    rows = evaluation.groups.known
    if len(evaluation.groups.names) < 2:
        return None
    return group_report(
        evaluation.names(evaluation.y)[rows],
        evaluation.names(decided)[rows],
        evaluation.groups.values[rows],
    )


def balanced(report: GroupReport) -> Estimate:
    """Mean of the groups' accuracies, each counted once."""
    sizes = report.groups["n"].to_numpy(dtype=np.float64)
    return mean_of_proportions(report.groups["accuracy"].to_numpy(dtype=np.float64) * sizes, sizes)


def mean_of_proportions(successes: NDArray[np.floating], sizes: NDArray[np.floating]) -> Estimate:
    """Mean of independent proportions, each counted once, with its normal 95 % interval.

    Parameters
    ----------
    successes, sizes : ndarray of shape (k,)

    Examples
    --------
    >>> mean_of_proportions(np.array([80.0, 10.0]), np.array([100.0, 10.0])).mean
    0.9
    """
    # two of each are added (Agresti and Coull), so that a perfect small group is not certain
    shrunk = (successes + 2) / (sizes + 4)
    error = 1.959964 * np.sqrt((shrunk * (1 - shrunk) / sizes).sum()) / len(sizes)
    mean = float((successes / sizes).mean())
    return Estimate(mean, max(0.0, mean - float(error)), min(1.0, mean + float(error)))


def _flips(before: NDArray[np.int64], after: NDArray[np.int64]) -> FlipResult:
    found = flip_rate(before, after)
    return FlipResult(rate=estimate(found.overall), n=found.n)


def estimate(interval: Interval) -> Estimate:
    """The report's form of an interval."""
    return Estimate(interval.mean, min(interval.low, interval.mean), max(interval.high, interval.mean))
