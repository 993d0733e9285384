"""Rivals that need no group labels: all they know of the attribute is its words.

The words are deleted, averaged inside the model, or swapped to see what the model does differently, and the
side whose words a text holds more of can stand in for the attribute. With the probe kept, the original one
reads the edited activations; retrained, a fresh one is fitted on the edited ambiguous set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssae_debias.metrics import linear_probe
from ssae_debias.recipe.methods.method import Method, Outcome, kept, retrained

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench

Activations = Callable[["Bench", int], NDArray[Any]]


def words_deleted(bench: Bench, seed: int) -> NDArray[np.float32]:
    """The attribute's words replaced by neutral ones or deleted in every text."""
    return bench.neutralized


def pairs_averaged(bench: Bench, seed: int) -> NDArray[np.float32]:
    """Every text as it is, read by the model with both words of each pair averaged in its embedding matrix."""
    from ssae_debias.rivals import AveragedPairs

    with AveragedPairs.of(bench.pairs, bench.model.tokenizer).applied(bench.model):
        return bench.pooled(bench.task.texts)  # cached under the fingerprint of the weights as they now are


def swaps_averaged(bench: Bench, seed: int) -> NDArray[Any]:
    """The mean of a text's activations and of its swap's: the same whichever of the two one starts from."""
    return (bench.original + bench.swapped) / 2


def swaps_projected(bench: Bench, seed: int) -> NDArray[Any]:
    """The main directions of the differences between training texts and their swaps projected out."""
    from ssae_debias.rivals import SwapProjection

    train = bench.sets(seed).train
    eraser = SwapProjection(n_directions=bench.recipe.rivals.swap_directions)
    eraser.fit(bench.original[train], counterfactual=bench.swapped[train])
    return eraser.transform(bench.original)


def side_erased(bench: Bench, seed: int) -> NDArray[Any]:
    """LEACE within each class of y, of the side whose words a training text holds more of.

    Texts that hold as many of both, or none, are left out of fitting.
    """
    from ssae_debias.rivals import LEACEGivenY

    train = bench.sets(seed).train
    rows = train[bench.side[train] != 0]
    sides = bench.side[rows]
    if len(np.unique(sides)) < 2:
        raise ValueError(
            f"words_given_y needs training texts that hold words of side 0 of {bench.pairs.name!r} and others "
            f"that hold words of side 1; {np.sum(sides < 0)} and {np.sum(sides > 0)} do. Are these the words "
            "of ssae.attribute that the texts say the attribute with?"
        )
    eraser = LEACEGivenY().fit(bench.original[rows], bench.task.y[rows], sensitive_features=sides)
    return eraser.transform(bench.original)


def swap_augmentation(bench: Bench, seed: int) -> Outcome:
    """A probe on the ambiguous texts and their swaps, applied to unedited activations."""
    rows = bench.sets(seed).ambiguous
    x, y = np.concatenate([bench.original[rows], bench.swapped[rows]]), np.tile(bench.task.y[rows], 2)
    return Outcome(linear_probe(C=bench.recipe.protocol.C).fit(x, y), bench.original)


def _probe_kept(edited: Activations) -> Method:
    return Method(lambda bench, seed: kept(bench, seed, edited(bench, seed)), needs_group_labels=False)


def _probe_retrained(edited: Activations) -> Method:
    return Method(lambda bench, seed: retrained(bench, seed, edited(bench, seed)), needs_group_labels=False)


WORDS = {
    "delete_words": _probe_retrained(words_deleted),
    "average_pairs": _probe_kept(pairs_averaged),
    "average_pairs_retrain": _probe_retrained(pairs_averaged),
    "swap_mean": _probe_kept(swaps_averaged),
    "swap_mean_retrain": _probe_retrained(swaps_averaged),
    "swap_projection": _probe_kept(swaps_projected),
    "swap_projection_retrain": _probe_retrained(swaps_projected),
    "swap_augmentation": Method(swap_augmentation, needs_group_labels=False),
    "words_given_y": _probe_kept(side_erased),
    "words_given_y_retrain": _probe_retrained(side_erased),
}
