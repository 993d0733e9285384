"""The methods of a results table: ours, and the rivals that every table shows.

A method is a function of the bench and a seed. It returns a fitted probe and the activations that the probe is
to be applied to, one row for each text of the task; scoring is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from ssae_debias.edit import edit_flagged
from ssae_debias.metrics import linear_probe

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


@dataclass(frozen=True)
class Outcome:
    """A fitted probe, and the activations of all texts as the method leaves them."""

    probe: Pipeline
    activations: NDArray[Any]


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes
    ----------
    run : callable (Bench, seed) -> Outcome
    needs_group_labels : bool
        Whether the method reads the attribute of training texts.
    """

    run: Callable[[Bench, int], Outcome]
    needs_group_labels: bool


def original(bench: Bench, seed: int) -> Outcome:
    """A probe on unedited activations of the ambiguous set."""
    return Outcome(_probe(bench, bench.original, bench.sets(seed).ambiguous), bench.original)


def oracle(bench: Bench, seed: int) -> Outcome:
    """A probe on unedited activations of the balanced set: what group labels could buy at best."""
    return Outcome(_probe(bench, bench.original, bench.sets(seed).balanced), bench.original)


def ssae(bench: Bench, seed: int) -> Outcome:
    """Flagged latents edited inside the model, the original probe kept (SHIFT)."""
    return Outcome(original(bench, seed).probe, _edited(bench, seed))


def ssae_retrain(bench: Bench, seed: int) -> Outcome:
    """Flagged latents edited inside the model, a fresh probe on the edited ambiguous set."""
    edited = _edited(bench, seed)
    return Outcome(_probe(bench, edited, bench.sets(seed).ambiguous), edited)


def random_latents(bench: Bench, seed: int) -> Outcome:
    """As many random live latents at each site in place of the flagged ones; a fresh probe."""
    debiaser, random = bench.debiaser(seed), np.random.default_rng(seed)
    table = debiaser.flagged_.copy()
    for _, latents in table.groupby("site", sort=False):
        flagged = latents.index[latents["decision"] == "ablate"]
        others = latents.index[(latents["decision"] != "ablate") & (latents["frequency"] > 0)]
        table.loc[flagged, "decision"] = "keep"
        table.loc[random.permutation(others)[: len(flagged)], "decision"] = "ablate"
    edits = edit_flagged(table, debiaser.saes_, debiaser.edit, debiaser.centers_)
    edited = bench.pooled(bench.task.texts, edits)
    return Outcome(_probe(bench, edited, bench.sets(seed).ambiguous), edited)


def delete_words(bench: Bench, seed: int) -> Outcome:
    """The attribute's words replaced by neutral ones or deleted in every text; a fresh probe."""
    deleted = bench.pooled([bench.pairs.neutralize(text) for text in bench.task.texts])
    return Outcome(_probe(bench, deleted, bench.sets(seed).ambiguous), deleted)


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
    return Outcome(_probe(bench, bench.original, rows, weights), bench.original)


METHODS: dict[str, Method] = {
    "original": Method(original, needs_group_labels=False),
    "ssae": Method(ssae, needs_group_labels=False),
    "ssae_retrain": Method(ssae_retrain, needs_group_labels=False),
    "delete_words": Method(delete_words, needs_group_labels=False),
    "leace": Method(leace, needs_group_labels=True),
    "leace_given_y": Method(leace_given_y, needs_group_labels=True),
    "reweighting": Method(reweighting, needs_group_labels=True),
    "random_latents": Method(random_latents, needs_group_labels=False),
    "oracle": Method(oracle, needs_group_labels=True),
}
"""Every method by name, in the order of the table."""


def _edited(bench: Bench, seed: int) -> NDArray[np.float32]:
    return bench.pooled(bench.task.texts, bench.debiaser(seed).edits_)


def _erased(bench: Bench, seed: int, eraser: Any) -> Outcome:
    sets, task = bench.sets(seed), bench.task
    eraser.fit(
        bench.original[sets.train], task.y[sets.train], sensitive_features=task.sensitive_features[sets.train]
    )
    erased = eraser.transform(bench.original)
    return Outcome(_probe(bench, erased, sets.ambiguous), erased)


def _probe(
    bench: Bench,
    activations: NDArray[Any],
    rows: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> Pipeline:
    probe = linear_probe(C=bench.recipe.protocol.C)
    return probe.fit(activations[rows], bench.task.y[rows], logisticregression__sample_weight=weights)
