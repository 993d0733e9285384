"""Scoring: from a method's outcome to a row of `results.json`.

Task and attribute accuracy are read on the balanced set, the worst group on all evaluation texts of each group
(PROTOCOLS: Marks et al. 2025). Intervals are Student's t over seeds: they hold what the seed changes (rows
drawn, SAE), not which texts happened to be in the evaluation part; each group's size stands beside it.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from ssae_debias.metrics import attribute_accuracy, leakage, seeds_interval
from ssae_debias.recipe.bench import Bench, Sets
from ssae_debias.recipe.methods import METHODS, Outcome
from ssae_debias.report import Estimate, MethodRow

LIBRARIES = ("ssae-debias", "torch", "transformers", "scikit-learn", "fairlearn", "numpy", "concept-erasure")


@dataclass(frozen=True)
class SeedScore:
    """One method's figures for one seed; see `MethodRow` for what they are."""

    task_accuracy: float
    attribute_accuracy: float
    groups: dict[str, float]
    leakage: dict[str, float]

    @property
    def worst_group_accuracy(self) -> float:
        """Accuracy of the group that fares worst."""
        return min(self.groups.values())


def score(bench: Bench, sets: Sets, outcome: Outcome, seed: int) -> SeedScore:
    """Apply a method's probe to the evaluation rows and read the attribute from its activations.

    Leakage probes are trained on balanced training rows and tested on balanced evaluation rows: on skewed data
    they would read the attribute off the label.
    """
    task, x = bench.task, outcome.activations
    on_balanced = outcome.probe.predict(x[sets.balanced_evaluation])
    a_train, a_test = (task.sensitive_features[rows] for rows in (sets.balanced, sets.balanced_evaluation))
    return SeedScore(
        task_accuracy=float(np.mean(on_balanced == task.y[sets.balanced_evaluation])),
        attribute_accuracy=attribute_accuracy(on_balanced, a_test),
        groups={
            name: float(np.mean(outcome.probe.predict(x[rows]) == task.y[rows]))
            for name, rows in sets.cells.items()
        },
        leakage={
            probe: leakage(
                x[sets.balanced], a_train, x[sets.balanced_evaluation], a_test, probe=probe, random_state=seed
            )
            for probe in ("linear", "mlp")
        },
    )


def summarise(method: str, scores: Sequence[SeedScore], sets: Sets, seconds: float) -> MethodRow:
    """One row of the table from one score a seed."""
    return MethodRow(
        method=method,
        needs_group_labels=METHODS[method].needs_group_labels,
        task_accuracy=_over_seeds([s.task_accuracy for s in scores]),
        attribute_accuracy=_over_seeds([s.attribute_accuracy for s in scores]),
        worst_group_accuracy=_over_seeds([s.worst_group_accuracy for s in scores]),
        groups={
            name: {"accuracy": _over_seeds([s.groups[name] for s in scores]), "n": len(rows)}
            for name, rows in sets.cells.items()
        },
        leakage={
            "linear": _over_seeds([s.leakage["linear"] for s in scores]),
            "mlp": _over_seeds([s.leakage["mlp"] for s in scores]),
        },
        seconds=round(seconds, 1),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the figures depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def _over_seeds(values: Sequence[float]) -> Estimate:
    interval = seeds_interval(values)
    return Estimate(interval.mean, interval.low, interval.high)
