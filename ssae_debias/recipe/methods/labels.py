"""Rivals that read the group labels of the skewed training part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssae_debias.recipe.methods.method import Method, Outcome, fit_probe, retrained

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


def leace(bench: Bench, seed: int) -> Outcome:
    """LEACE fitted on the skewed training part; a fresh probe on the erased ambiguous set."""
    from ssae_debias.rivals import LEACE

    return _erased(bench, seed, LEACE())


def leace_given_y(bench: Bench, seed: int) -> Outcome:
    """LEACE within each class of y, fitted on the skewed training part; a fresh probe."""
    from ssae_debias.rivals import LEACEGivenY

    return _erased(bench, seed, LEACEGivenY())


def reweighting(bench: Bench, seed: int) -> Outcome:
    """A probe on the whole skewed training part, each group weighted to count alike."""
    from ssae_debias.rivals import group_weights

    rows, task = bench.sets(seed).train, bench.task
    weights = group_weights(task.y[rows], task.sensitive_features[rows])
    return Outcome(fit_probe(bench, bench.original, rows, weights), bench.original)


def _erased(bench: Bench, seed: int, eraser: Any) -> Outcome:
    sets, task = bench.sets(seed), bench.task
    eraser.fit(
        bench.original[sets.train], task.y[sets.train], sensitive_features=task.sensitive_features[sets.train]
    )
    return retrained(bench, seed, eraser.transform(bench.original))


LABELS = {
    "leace": Method(leace, needs_group_labels=True),
    "leace_given_y": Method(leace_given_y, needs_group_labels=True),
    "reweighting": Method(reweighting, needs_group_labels=True),
}
