"""Fairness over groups: who is served worst, and whether decisions follow the attribute.

A *group* is one (label, attribute) cell. An accurate classifier may lean on the attribute and fail every
group in which it misleads, so the figure to watch is the worst group's accuracy. Two of fairlearn's
disparities stand beside it: demographic parity (are decisions spread alike over attribute values?) and
equalized odds (are they, among people with the same label?).

Which rows are given decides what the figures mean: worst group is read on every test row of each cell, task
and attribute accuracy on a set balanced over the cells. The choice is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, count, selection_rate
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score

from ssae_debias.data.validation import check_labels
from ssae_debias.metrics.codes import group_codes
from ssae_debias.metrics.intervals import Interval, percentile_interval, wilson


@dataclass(frozen=True)
class GroupReport:
    """What `group_report` found.

    Attributes
    ----------
    groups : pandas.DataFrame
        One row a (label, attribute) cell that occurs, index `group` ("surgeon/M"); columns `label`,
        `attribute`, `n`, `accuracy`, `low`, `high`.
    worst_group : str
        The cell with the lowest accuracy; the first of them on a tie.
    worst_group_accuracy : Interval
        Its accuracy. Wilson's interval is that of the cell and does not know that it was picked as the
        lowest; the bootstrap's picks anew in every resample.
    task_accuracy : Interval
        Over all rows given.
    demographic_parity_difference : float
        Largest difference between attribute values in the share of rows that get a decision, over the
        decisions. 0 is parity.
    equalized_odds_difference : float
        The same among rows of one label, and among rows of all other labels: the larger. 0 is parity.
    n : int
        Rows.
    interval : str
        "wilson" or "bootstrap".
    level : float
        Confidence level of the intervals.
    """

    groups: pd.DataFrame
    worst_group: str
    worst_group_accuracy: Interval
    task_accuracy: Interval
    demographic_parity_difference: float
    equalized_odds_difference: float
    n: int
    interval: str
    level: float

    def to_frame(self) -> pd.DataFrame:
        """A copy of `groups`, for printing and plots."""
        return self.groups.copy()

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        groups = {
            str(name): {"mean": row["accuracy"], "low": row["low"], "high": row["high"], "n": int(row["n"])}
            for name, row in self.groups.iterrows()
        }
        return {
            "n": self.n,
            "task_accuracy": self.task_accuracy.to_dict(),
            "worst_group": self.worst_group,
            "worst_group_accuracy": self.worst_group_accuracy.to_dict(),
            "demographic_parity_difference": self.demographic_parity_difference,
            "equalized_odds_difference": self.equalized_odds_difference,
            "groups": groups,
            "interval": self.interval,
            "level": self.level,
        }


def group_report(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sensitive_features: ArrayLike | pd.Series | pd.DataFrame,
    *,
    interval: Literal["wilson", "bootstrap"] = "wilson",
    level: float = 0.95,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = None,
) -> GroupReport:
    """Accuracy of every (label, attribute) cell, the worst of them, and fairlearn's disparities.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        Labels and decisions, of two classes or more, of one type.
    sensitive_features : array-like of shape (n,) or (n, k)
        Attribute values; k columns are read as their intersection.
    interval : {"wilson", "bootstrap"}, default "wilson"
        Wilson's needs no draws. The bootstrap resamples decisions within each cell, so cells keep their size.
    level : float, default 0.95
        Confidence level.
    n_resamples : int, default 1000
        Bootstrap draws; ignored by Wilson's.
    random_state : int, Generator or None, default None
        Seed of the bootstrap.

    Returns
    -------
    GroupReport

    Raises
    ------
    TypeError
        Labels of text and decisions of numbers, or the reverse.
    ValueError
        Lengths that differ, no rows, missing values, `level` outside (0, 1), or an unknown `interval`.

    Notes
    -----
    fairlearn's two differences are for binary decisions. With more classes each is taken for "this class or
    not" and the largest over the classes is reported; for two classes that is fairlearn's own figure. A group
    without a row of some label is left out of that label's rates, where fairlearn counts its rate as 0.

    References
    ----------
    S. Sagawa et al., "Distributionally robust neural networks for group shifts", ICLR 2020 (worst group);
    M. Hardt et al., "Equality of opportunity in supervised learning", NeurIPS 2016 (equalized odds);
    fairlearn's `MetricFrame`.

    Examples
    --------
    >>> y = ["nurse", "nurse", "nurse", "surgeon"]
    >>> report = group_report(y, ["nurse", "nurse", "surgeon", "surgeon"], ["F", "F", "M", "M"])
    >>> report.groups[["n", "accuracy"]].T.to_dict()["nurse/M"]
    {'n': 1.0, 'accuracy': 0.0}
    >>> report.worst_group, report.worst_group_accuracy.mean, report.task_accuracy.mean
    ('nurse/M', 0.0, 0.75)
    """
    if interval not in ("wilson", "bootstrap"):
        raise ValueError(f'interval is "wilson" or "bootstrap", got {interval!r}.')
    classes, labels, decisions = _class_codes(y_true, y_pred)
    n = len(labels)
    attribute, attribute_names = group_codes(sensitive_features, n=n)

    cells = pd.DataFrame({"label": labels, "attribute": attribute})
    by_cell = MetricFrame(
        metrics={"n": count, "accuracy": accuracy_score},
        y_true=labels,
        y_pred=decisions,
        sensitive_features=cells,
    ).by_group.dropna()  # cells of the grid that no row falls in
    sizes = by_cell["n"].to_numpy().astype(np.int64)
    hits = np.rint(by_cell["accuracy"].to_numpy(dtype=np.float64) * sizes).astype(np.int64)
    accuracies = hits / sizes
    worst = int(np.argmin(accuracies))

    if interval == "wilson":
        intervals = [wilson(int(h), int(s), level) for h, s in zip(hits, sizes, strict=True)]
        lowest, overall = intervals[worst], wilson(int(hits.sum()), n, level)
    else:
        # right or wrong is all that counts within a cell, so a resample of its rows is one binomial draw
        rng = np.random.default_rng(random_state)
        drawn = rng.binomial(sizes, accuracies, size=(n_resamples, len(sizes)))
        intervals = [
            percentile_interval(float(accuracies[i]), drawn[:, i] / sizes[i], level)
            for i in range(len(sizes))
        ]
        lowest = percentile_interval(float(accuracies[worst]), (drawn / sizes).min(axis=1), level)
        overall = percentile_interval(float(hits.sum() / n), drawn.sum(axis=1) / n, level)

    present = [(classes[i], attribute_names[j]) for i, j in by_cell.index]
    groups = pd.DataFrame(
        {
            "label": [label for label, _ in present],
            "attribute": [value for _, value in present],
            "n": sizes,
            "accuracy": accuracies,
            "low": [each.low for each in intervals],
            "high": [each.high for each in intervals],
        },
        index=pd.Index([f"{label}/{value}" for label, value in present], name="group"),
    )
    parity, odds = _differences(labels, decisions, attribute)
    return GroupReport(groups, str(groups.index[worst]), lowest, overall, parity, odds, n, interval, level)


def attribute_accuracy(
    y_pred: ArrayLike,
    sensitive_features: ArrayLike,
    *,
    pairing: Mapping[Any, Any] | None = None,
) -> float:
    """How often the task's decision equals the attribute: .5 is ideal on a set balanced over two values.

    Near 1 the classifier decides by the attribute; near 0 it decides against it, which is as unfair.

    Parameters
    ----------
    y_pred : array-like of shape (n,)
        Decisions of the task's classifier.
    sensitive_features : array-like of shape (n,)
        Attribute values.
    pairing : mapping, optional
        The attribute value that goes with each decision, e.g. ``{"nurse": "F", "surgeon": "M"}``. Default:
        they are coded alike (decision 1 goes with attribute 1).

    Returns
    -------
    float
        Share of rows, between 0 and 1.

    Raises
    ------
    ValueError
        Lengths that differ, no rows, a decision that `pairing` lacks, or, without `pairing`, decisions and
        attribute that have no value in common.

    References
    ----------
    S. Marks et al., "Sparse feature circuits", 2024, section 4 (accuracy for the unintended label).

    Examples
    --------
    >>> attribute_accuracy([1, 1, 0, 0], [1, 0, 1, 0])
    0.5
    >>> attribute_accuracy(["nurse", "surgeon"], ["F", "M"], pairing={"nurse": "F", "surgeon": "M"})
    1.0
    """
    decisions, values = np.asarray(y_pred), np.asarray(sensitive_features)
    if decisions.ndim != 1 or decisions.shape != values.shape or len(decisions) == 0:
        raise ValueError(
            f"y_pred and sensitive_features are 1-D, of one length, at least 1; "
            f"got {decisions.shape} and {values.shape}."
        )
    made, known = decisions.tolist(), values.tolist()
    if pairing is None:
        if set(made).isdisjoint(known):
            raise ValueError(
                f"Decisions {sorted(set(made), key=str)} and attribute values {sorted(set(known), key=str)} "
                f"have nothing in common; say which go together, e.g. pairing={{{made[0]!r}: {known[0]!r}}}."
            )
        paired = made
    else:
        lacking = sorted(set(made) - set(pairing), key=str)
        if lacking:
            raise ValueError(f"pairing has no attribute value for the decisions {lacking}.")
        paired = [pairing[decision] for decision in made]
    return sum(p == v for p, v in zip(paired, known, strict=True)) / len(made)


def _class_codes(
    y_true: ArrayLike, y_pred: ArrayLike
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    """Both coded over the classes that occur in either."""
    true = check_labels(y_true, name="y_true")
    made = check_labels(y_pred, len(true), name="y_pred")
    if len(true) == 0:
        raise ValueError("y_true holds no rows.")
    true_kind, made_kind = ("text" if y.dtype.kind in "OSU" else "numbers" for y in (true, made))
    if true_kind != made_kind:
        raise TypeError(f"y_true holds {true_kind}, y_pred {made_kind}: they would never agree.")
    classes, codes = np.unique(np.concatenate([true, made]), return_inverse=True)
    return tuple(str(value) for value in classes), codes[: len(true)], codes[len(true) :]


def _differences(
    labels: NDArray[np.int64], decisions: NDArray[np.int64], attribute: NDArray[np.int64]
) -> tuple[float, float]:
    """Demographic parity and equalized odds differences, the largest over one-against-rest decisions."""
    parity, odds = 0.0, 0.0
    classes = np.union1d(labels, decisions)
    for each in classes[1:] if len(classes) == 2 else classes:  # of two, one is the other's mirror image
        parity = max(parity, _rate_difference(decisions == each, attribute))
        for among in (labels == each, labels != each):
            odds = max(odds, _rate_difference((decisions == each)[among], attribute[among]))
    return parity, odds


def _rate_difference(selected: NDArray[np.bool_], attribute: NDArray[np.int64]) -> float:
    if len(selected) == 0:
        return 0.0
    frame = MetricFrame(
        metrics=selection_rate,
        y_true=selected.astype(int),
        y_pred=selected.astype(int),
        sensitive_features=pd.Series(attribute),  # fairlearn misreads a one-row array
    )
    return float(frame.difference())
