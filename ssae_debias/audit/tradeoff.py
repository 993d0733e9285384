"""What ablating more latents buys and costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ssae_debias.audit.classifiers import rows_of
from ssae_debias.audit.found import Found
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.measuring import Evaluation, estimate, measure
from ssae_debias.audit.variants import Part
from ssae_debias.metrics import wilson
from ssae_debias.report.audit import TradeoffPoint

MAX_ROWS = 600
"""Rows that the curve is read on: its intervals are wide enough to see, and it costs a few minutes at most."""


def numbers(n: int) -> list[int]:
    """How many latents to ablate at each point: 0, 1, and about twice as many each time, up to all.

    Examples
    --------
    >>> numbers(50)
    [0, 1, 3, 6, 12, 25, 50]
    """
    points = [n]
    while points[-1] > 1:
        points.append(points[-1] // 2)
    return [0, *reversed(points)] if n else [0]


def tradeoff(
    found: Found, part: Part, evaluation: Evaluation, logits: KeptLogits, *, random_state: int = 0
) -> list[TradeoffPoint]:
    """Worst group, accuracy and flips as more of the flagged latents are ablated, strongest first.

    Nothing is realigned or erased here: the curve is the latents' own. The site matters as well as the strength, so
    latents are taken by their score over all sites together.

    Parameters
    ----------
    found : Found
    part : Part
        Evaluation rows; at most 600 of them are read: a third of any rows, on which accuracy is read, a third of
        rows that their counterfactual changes, for the flips, and with them as many of each group as there are, for the
        worst group. So the curve starts near the classifier's own figures, whatever is rare.
    evaluation : Evaluation
    logits : KeptLogits
    random_state : int

    Returns
    -------
    list of TradeoffPoint
        Empty where no latent is to be ablated.
    """
    if not found.n_ablated:
        return []
    rows, drawn, swapping = _rows(evaluation, random_state)
    part, evaluation = part.at(rows), replace(evaluation.at(rows), swappable=swapping)
    changed, other = np.flatnonzero(evaluation.swappable), None
    if part.counterfactual is not None and len(changed):
        other = rows_of(part.counterfactual, changed)
    points = []
    for n in numbers(found.n_ablated):
        edits = found.latent_edits(n)
        swapped = None if other is None else logits(other, edits)
        found_logits = logits(part.inputs, edits)
        state = measure(evaluation, found_logits, swapped, name=str(n), role="ours")
        right = found_logits.argmax(axis=1)[drawn] == evaluation.y[drawn]
        points.append(
            TradeoffPoint(
                n_latents=n,
                accuracy=estimate(wilson(int(right.sum()), len(right))),
                worst_group_accuracy=state.worst_group_accuracy,
                flips=None if state.flips is None else state.flips["rate"],
            )
        )
    return points


def _rows(
    evaluation: Evaluation, random_state: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """At most MAX_ROWS rows; which of them were drawn from all rows alike; on which flips are counted."""
    n = len(evaluation.y)
    if n <= MAX_ROWS:
        return np.arange(n), np.ones(n, dtype=bool), evaluation.swappable
    order = np.random.default_rng(random_state).permutation(n)
    cells = evaluation.cells()
    # a row's place within its group: what comes early tops up the groups evenly
    rank = np.empty(n, dtype=np.int64)
    for cell in np.unique(cells):
        members = order[cells[order] == cell]
        rank[members] = np.arange(len(members))
    grouped = len(evaluation.groups.names) > 1
    alike = order[: MAX_ROWS // 3 if grouped else 2 * MAX_ROWS // 3]
    swapping = order[evaluation.swappable[order]][: MAX_ROWS // 3]
    rank[cells == ""] = n  # rows in no group top up none
    rank[alike] = rank[swapping] = -1
    rows = np.sort(np.argsort(rank, kind="stable")[:MAX_ROWS])
    return rows, np.isin(rows, alike), np.isin(rows, swapping)
