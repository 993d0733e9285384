"""Rivals that read the group labels of the skewed training part.

Erasers come with a fresh probe, fitted on the erased ambiguous set, and LEACE also with the original one kept.
Select-and-project edits without retraining, as its authors do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from numpy.typing import NDArray

from ssae_debias.edit import Projection
from ssae_debias.estimators import SSAEDebiaser
from ssae_debias.recipe.methods.method import Method, Outcome, kept, retrained, reweighted
from ssae_debias.sae import SparseAutoencoder

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


def leace(bench: Bench, seed: int) -> Outcome:
    """LEACE fitted on the skewed training part; a fresh probe on the erased ambiguous set."""
    return retrained(bench, seed, _leace(bench, seed))


def leace_kept(bench: Bench, seed: int) -> Outcome:
    """LEACE fitted on the skewed training part; the original probe."""
    return kept(bench, seed, _leace(bench, seed))


def leace_given_y(bench: Bench, seed: int) -> Outcome:
    """LEACE within each class of y, fitted on the skewed training part; a fresh probe."""
    return retrained(bench, seed, _leace_given_y(bench, seed))


def leace_given_y_kept(bench: Bench, seed: int) -> Outcome:
    """LEACE within each class of y, fitted on the skewed training part; the original probe."""
    return kept(bench, seed, _leace_given_y(bench, seed))


def inlp(bench: Bench, seed: int) -> Outcome:
    """INLP within each class of y: on skewed data its plain probes would read the label first, and take it."""
    from ssae_debias.rivals import INLP

    return retrained(bench, seed, _erased(bench, seed, INLP(within_y=True, random_state=seed)))


def correlation_remover(bench: Bench, seed: int) -> Outcome:
    """Correlation with the attribute regressed out; a probe's reading stands in for the attribute of each text.

    The training texts' attribute is known, but the fresh probe must meet at decision time what it was fitted
    on, and there the attribute is not known.
    """
    from ssae_debias.rivals import CorrelationRemover

    return retrained(bench, seed, _erased(bench, seed, CorrelationRemover()))


def select_and_project(bench: Bench, seed: int) -> Outcome:
    """Encoder directions of the latents most tied to the attribute projected out of the pooled activations.

    Bărbălau et al. 2025 (arXiv 2509.10809): x − α A⁺A (x − μ), the rows of A being the encoder's columns of the
    latents, at the site that the probe reads, whose pooled activation differs most between the attribute's
    values within the classes of y. The original probe is kept.
    """
    sae, evidence = _labelled_latents(bench, seed)
    settings, train = bench.recipe.rivals, bench.sets(seed).train
    strongest = evidence["attribute_effect"].abs().nlargest(settings.selected_latents).index
    project = Projection.onto_complement_of(
        sae.W_enc.detach().T[evidence.loc[strongest, "latent"].tolist()],
        center=bench.original[train].mean(axis=0),
        strength=settings.selected_strength,
    )
    return kept(bench, seed, project(torch.from_numpy(bench.original)).numpy())


def reweighting(bench: Bench, seed: int) -> Outcome:
    """A probe on the whole skewed training part, each group weighted to count alike."""
    return reweighted(bench, seed, bench.original)


def dfr(bench: Bench, seed: int) -> Outcome:
    """Probes on balanced draws from the skewed training part, their weights averaged."""
    from ssae_debias.rivals import DFR

    rows, task = bench.sets(seed).train, bench.task
    classifier = DFR(C=bench.recipe.protocol.C, random_state=seed)
    classifier.fit(bench.original[rows], task.y[rows], sensitive_features=task.sensitive_features[rows])
    return Outcome(classifier, bench.original)


def _leace(bench: Bench, seed: int) -> NDArray[Any]:
    from ssae_debias.rivals import LEACE

    return _erased(bench, seed, LEACE())


def _leace_given_y(bench: Bench, seed: int) -> NDArray[Any]:
    from ssae_debias.rivals import LEACEGivenY

    return _erased(bench, seed, LEACEGivenY())


def _erased(bench: Bench, seed: int, eraser: Any) -> NDArray[Any]:
    sets, task = bench.sets(seed), bench.task
    eraser.fit(
        bench.original[sets.train], task.y[sets.train], sensitive_features=task.sensitive_features[sets.train]
    )
    return eraser.transform(bench.original)


def _labelled_latents(bench: Bench, seed: int) -> tuple[SparseAutoencoder, pd.DataFrame]:
    """The SAE of the site that the probe reads, and how its latents go with the labelled attribute.

    It is the debiaser's own where that has one there, and otherwise trained on the same texts in the same way.
    """
    site, ours = bench.recipe.protocol.site, bench.debiaser(seed)
    settings = {**ours.get_params(deep=False), "sites": (site,), "flag": "association"}
    settings |= {"realign": False, "erase": False}  # its latents are wanted, not its edits
    if site in ours.saes_:
        settings |= {"sae": {site: ours.saes_[site]}, "train_tokens": 0, "corpus": None}
    rows, task = bench.sets(seed).train, bench.task
    debiaser = SSAEDebiaser(**settings).fit(
        [task.texts[row] for row in rows], task.y[rows], sensitive_features=task.sensitive_features[rows]
    )
    return debiaser.saes_[site], debiaser.flagged_


LABELS = {
    "leace": Method(leace, needs_group_labels=True),
    "leace_kept": Method(leace_kept, needs_group_labels=True),
    "leace_given_y": Method(leace_given_y, needs_group_labels=True),
    "leace_given_y_kept": Method(leace_given_y_kept, needs_group_labels=True),
    "inlp": Method(inlp, needs_group_labels=True),
    "correlation_remover": Method(correlation_remover, needs_group_labels=True),
    "select_and_project": Method(select_and_project, needs_group_labels=True),
    "reweighting": Method(reweighting, needs_group_labels=True),
    "dfr": Method(dfr, needs_group_labels=True),
}
