"""Scoring: from a method's outcome to a row of `results.json`.

Task and attribute accuracy are read on the balanced set, the worst group on all evaluation texts of each group
(Marks et al. 2025). Intervals hold both sources of chance: the seeds (rows drawn, SAEs; Student's t) and the
texts that happened to be in the evaluation part (Wilson). The two are independent, so their half-widths add in
squares. Methods are judged on the same texts, so a difference between two rows is known better than either row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssae_debias.metrics import attribute_accuracy, leakage, seeds_interval, wilson
from ssae_debias.recipe.bench import Bench, Sets
from ssae_debias.recipe.methods import METHODS, Outcome
from ssae_debias.report import Estimate, MethodRow


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
    return SeedScore(
        task_accuracy=float(np.mean(on_balanced == task.y[sets.balanced_evaluation])),
        attribute_accuracy=attribute_accuracy(on_balanced, task.sensitive_features[sets.balanced_evaluation]),
        groups={
            name: float(np.mean(outcome.probe.predict(x[rows]) == task.y[rows]))
            for name, rows in sets.cells.items()
        },
        leakage=_leakage(bench, sets, x, seed),
    )


def _leakage(bench: Bench, sets: Sets, x: NDArray[Any], seed: int) -> dict[str, float]:
    """Leakage by both probes, read once for all methods that leave the same activations."""
    train, test = x[sets.balanced], x[sets.balanced_evaluation]
    key = (hashlib.sha256(train.tobytes() + test.tobytes()).hexdigest(), seed)
    if key not in bench.leakage:
        a_train, a_test = (
            bench.task.sensitive_features[rows] for rows in (sets.balanced, sets.balanced_evaluation)
        )
        bench.leakage[key] = {
            probe: leakage(train, a_train, test, a_test, probe=probe, random_state=seed)
            for probe in ("linear", "mlp")
        }
    return bench.leakage[key]


def summarise(method: str, scores: Sequence[SeedScore], sets: Sequence[Sets], seconds: float) -> MethodRow:
    """One row of the table from one score a seed, and the sets of each seed."""
    n = len(sets[0].balanced_evaluation)
    # every seed judges the same texts of a group, unless seeds are folds
    sizes = {
        name: len(np.unique(np.concatenate([one.cells[name] for one in sets]))) for name in sets[0].cells
    }
    groups = {name: [s.groups[name] for s in scores] for name in sizes}
    worst = min(groups, key=lambda name: np.mean(groups[name]))
    return MethodRow(
        method=method,
        needs_group_labels=METHODS[method].needs_group_labels,
        task_accuracy=_estimate([s.task_accuracy for s in scores], n),
        attribute_accuracy=_estimate([s.attribute_accuracy for s in scores], n),
        worst_group_accuracy=_estimate([s.worst_group_accuracy for s in scores], sizes[worst]),
        groups={name: {"accuracy": _estimate(groups[name], size), "n": size} for name, size in sizes.items()},
        leakage={
            "linear": _estimate([s.leakage["linear"] for s in scores], n),
            "mlp": _estimate([s.leakage["mlp"] for s in scores], n),
        },
        seconds=round(seconds, 1),
    )


def _estimate(values: Sequence[float], n_texts: int) -> Estimate:
    """Mean over seeds, with the seeds' and the texts' half-widths added in squares."""
    seeds = seeds_interval(values)
    texts = wilson(round(seeds.mean * n_texts), n_texts)
    return Estimate(
        seeds.mean,
        max(0.0, seeds.mean - float(np.hypot(seeds.mean - seeds.low, max(0.0, seeds.mean - texts.low)))),
        min(1.0, seeds.mean + float(np.hypot(seeds.high - seeds.mean, max(0.0, texts.high - seeds.mean)))),
    )
