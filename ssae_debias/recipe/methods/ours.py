"""The rows of `SSAEDebiaser`, and the control that shows whether it works by accident."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ssae_debias.edit import edit_flagged
from ssae_debias.recipe.methods.method import Method, Outcome, kept, retrained

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


def debiaser(bench: Bench, seed: int) -> Outcome:
    """Flagged latents edited inside the model, the original probe kept."""
    return kept(bench, seed, _edited(bench, seed))


def debiaser_retrain(bench: Bench, seed: int) -> Outcome:
    """Flagged latents edited inside the model, a fresh probe on the edited ambiguous set."""
    return retrained(bench, seed, _edited(bench, seed))


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
    return retrained(bench, seed, bench.pooled(bench.task.texts, edits))


def _edited(bench: Bench, seed: int) -> NDArray[np.float32]:
    return bench.pooled(bench.task.texts, bench.debiaser(seed).edits_)


OURS = {
    "debiaser": Method(debiaser, needs_group_labels=False),
    "debiaser_retrain": Method(debiaser_retrain, needs_group_labels=False),
}
CONTROL = {"random_latents": Method(random_latents, needs_group_labels=False)}
