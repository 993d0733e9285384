"""What a method of the results table is: a function of the bench and a seed.

It returns a fitted probe and the activations that the probe is to be applied to, one row for each text of the
task; scoring is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.pipeline import Pipeline

from ssae_debias.metrics import linear_probe

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


@dataclass(frozen=True)
class Outcome:
    """A fitted classifier, and the activations of all texts as the method leaves them."""

    probe: ClassifierMixin
    activations: NDArray[Any]


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes
    ----------
    run : callable (Bench, seed) -> Outcome
    needs_group_labels : bool
        Whether the method reads the attribute of training texts.
    check : callable (Bench) -> None, optional
        Raises where the recipe names what is not there or does not fit; called before any method runs.
    """

    run: Callable[[Bench, int], Outcome]
    needs_group_labels: bool
    check: Callable[[Bench], None] | None = None


def fit_probe(
    bench: Bench,
    activations: NDArray[Any],
    rows: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> Pipeline:
    """The protocol's linear probe of the label, fitted on some rows."""
    probe = linear_probe(C=bench.recipe.protocol.C)
    return probe.fit(activations[rows], bench.task.y[rows], logisticregression__sample_weight=weights)


def kept(bench: Bench, seed: int, activations: NDArray[Any]) -> Outcome:
    """The original probe, applied to edited activations (SHIFT without retraining)."""
    return Outcome(fit_probe(bench, bench.original, bench.sets(seed).ambiguous), activations)


def retrained(bench: Bench, seed: int, activations: NDArray[Any]) -> Outcome:
    """A fresh probe on the edited activations of the ambiguous set."""
    return Outcome(fit_probe(bench, activations, bench.sets(seed).ambiguous), activations)


def reweighted(bench: Bench, seed: int, activations: NDArray[Any]) -> Outcome:
    """A fresh probe on the whole skewed training part, each group weighted to count alike."""
    from ssae_debias.rivals import group_weights

    rows, task = bench.sets(seed).train, bench.task
    weights = group_weights(task.y[rows], task.sensitive_features[rows])
    return Outcome(fit_probe(bench, activations, rows, weights), activations)
