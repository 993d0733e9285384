"""The rows of `SSAEDebiaser`, and the control that shows whether it works by accident."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ssae_debias.edit import edit_flagged
from ssae_debias.recipe.methods.method import Method, Outcome, kept, retrained, reweighted

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


def debiaser(bench: Bench, seed: int) -> Outcome:
    """Flagged latents edited inside the model, the original probe kept."""
    return kept(bench, seed, _edited(bench, seed))


def debiaser_retrain(bench: Bench, seed: int) -> Outcome:
    """Flagged latents edited inside the model, a fresh probe on the edited ambiguous set."""
    return retrained(bench, seed, _edited(bench, seed))


def debiaser_reweighted(bench: Bench, seed: int) -> Outcome:
    """The same edit, a fresh probe on the whole skewed training part with each group weighted to count alike.

    The edit needs no group labels; the probe uses those of the training part.
    """
    return reweighted(bench, seed, _edited(bench, seed))


def latents_only(bench: Bench, seed: int) -> Outcome:
    """The flagged latents' edits without realignment and erasure, the original probe kept."""
    return kept(bench, seed, _latents(bench, seed))


def latents_only_retrain(bench: Bench, seed: int) -> Outcome:
    """The flagged latents' edits without realignment and erasure, a fresh probe."""
    return retrained(bench, seed, _latents(bench, seed))


def embed_only(bench: Bench, seed: int) -> Outcome:
    """The flagged latents of the embedding alone, the original probe kept."""
    return kept(bench, seed, _latents(bench, seed, "embed"))


def embed_only_retrain(bench: Bench, seed: int) -> Outcome:
    """The flagged latents of the embedding alone, a fresh probe."""
    return retrained(bench, seed, _latents(bench, seed, "embed"))


def random_latents(bench: Bench, seed: int) -> Outcome:
    """As many random live latents at each site in place of the flagged ones; a fresh probe.

    The control for `latents_only_retrain`: realignment and erasure would work whatever the latents.
    """
    debiaser, random = bench.debiaser(seed), np.random.default_rng(seed)
    table = debiaser.flagged_.copy()
    for _, latents in table.groupby("site", sort=False):
        flagged = latents.index[latents["decision"] == "ablate"]
        others = latents.index[(latents["decision"] != "ablate") & (latents["frequency"] > 0)]
        table.loc[flagged, "decision"] = "keep"
        table.loc[random.permutation(others)[: len(flagged)], "decision"] = "ablate"
    edits = edit_flagged(table, debiaser.saes_, debiaser.edit, debiaser.centers_)
    return retrained(bench, seed, bench.pooled(bench.task.texts, edits))


def _edited(bench: Bench, seed: int) -> NDArray[np.float32]:
    """Activations under all of the debiaser's edits.

    Realignment and erasure act on the site that is read and are affine, so they are applied to the pooled rows:
    the same figures as with all edits in the model, for one pass less.
    """
    rows = torch.from_numpy(_latents(bench, seed))
    for edit in bench.debiaser(seed).residue_.values():
        rows = edit(rows)
    return rows.numpy()


def _latents(bench: Bench, seed: int, *sites: str) -> NDArray[np.float32]:
    """Activations under the flagged latents' edits alone, at all sites or at some."""
    edits = bench.debiaser(seed).latent_edits()
    if absent := [site for site in sites if site not in bench.debiaser(seed).sites_]:
        raise ValueError(f"{', '.join(absent)} is not among ssae.sites; the row needs it there.")
    return bench.pooled(
        bench.task.texts, {site: edit for site, edit in edits.items() if not sites or site in sites}
    )


OURS = {
    "debiaser": Method(debiaser, needs_group_labels=False),
    "debiaser_retrain": Method(debiaser_retrain, needs_group_labels=False),
    "debiaser_reweighted": Method(debiaser_reweighted, needs_group_labels=True),
    "latents_only": Method(latents_only, needs_group_labels=False),
    "latents_only_retrain": Method(latents_only_retrain, needs_group_labels=False),
    "embed_only": Method(embed_only, needs_group_labels=False),
    "embed_only_retrain": Method(embed_only_retrain, needs_group_labels=False),
}
CONTROL = {"random_latents": Method(random_latents, needs_group_labels=False)}
