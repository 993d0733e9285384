"""Which latents move the decision: attribution beside the other evidence.

For a text model the effect of zeroing each latent is estimated by one backward pass at the sites (attribution patching).
Where the classifier has no gradient to ask for, the latents of the report are ablated one at a time. The metric is the
negative log-odds of the label that the classifier chooses: positive says that it decides less surely without the
latent, whether or not it was right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ssae_debias.activations import TextModel
from ssae_debias.audit.classifiers import TextClassifier
from ssae_debias.audit.found import Found
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.variants import Part
from ssae_debias.edit import edit_latents
from ssae_debias.latents import attribute_decision

MAX_TEXTS = 200
"""Twice the 100 texts of Marks et al. (2025)."""
MAX_ROWS = 2000
MAX_LATENTS = 60
"""Latents of a site that are ablated one at a time, strongest first: about what a page shows."""


@dataclass(frozen=True)
class ChosenLabel:
    """How surely a model chooses the label that it chooses: its log-odds against all others.

    Examples
    --------
    >>> margin(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([0])).round(decimals=2)
    tensor([-0.3100])
    """

    include_special: bool = True

    def logits(self, model: TextModel, inputs: dict[str, Tensor], counted: Tensor) -> Tensor:
        """Log-odds of the chosen label, shape (n,)."""
        logits = model.module(**inputs).logits.float()
        return margin(logits, logits.detach().argmax(1))


def margin(logits: Tensor, chosen: Tensor) -> Tensor:
    """Log-odds of one label of each row against all others: its logit less the log-sum-exp of theirs.

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
    chosen : int Tensor of shape (n,)

    Examples
    --------
    >>> margin(torch.tensor([[2.0, 0.5]]), torch.tensor([0]))
    tensor([1.5000])
    """
    picked = logits.gather(1, chosen[:, None])[:, 0]
    others = logits.scatter(1, chosen[:, None], -torch.inf).logsumexp(1)
    return picked - others


def with_attribution(
    kept: KeptLogits, fit: Part, found: Found, *, random_state: int = 0, verbose: int = 0
) -> Found:
    """The same latents with a column `attribution`; NaN for latents that were not tried.

    Parameters
    ----------
    kept : KeptLogits
        Of the classifier.
    fit : Part
        Rows that the effects are averaged over: of a text model at most 200, else 2000, drawn at random.
    found : Found
    random_state : int
    verbose : int
        1 shows a bar over latents where they are ablated one at a time.

    Returns
    -------
    Found
        A new one; the given one stays as it is.
    """
    rows = np.random.default_rng(random_state).permutation(len(fit.y))
    if isinstance(kept.classifier, TextClassifier):
        part = fit.at(np.sort(rows[:MAX_TEXTS]))
        effects = attribute_decision(
            kept.classifier.model,
            found.saes,
            part.inputs,
            np.ones(len(part.y)),
            ChosenLabel(),
            max_length=kept.classifier.max_length,
        )
    else:
        effects = _one_at_a_time(kept, fit.at(np.sort(rows[:MAX_ROWS])).inputs, found, verbose)
    values = [
        float(effects[site][latent])
        for site, latent in zip(found.table["site"], found.table["latent"], strict=True)
    ]
    return replace(found, table=found.table.assign(attribution=values))


def _one_at_a_time(
    kept: KeptLogits, inputs: Any, found: Found, verbose: int
) -> dict[str, NDArray[np.float64]]:
    before = torch.from_numpy(kept(inputs))
    chosen = before.argmax(1)
    effects = {site: np.full(sae.d_sae, np.nan) for site, sae in found.saes.items()}
    tried = [
        (str(site), int(latent))
        for site, table in found.table.groupby("site", sort=False)
        # those to be ablated come first, in whatever place a person's decision left them
        for latent in table.sort_values("decision", kind="stable")["latent"][:MAX_LATENTS]
    ]
    for site, latent in tqdm(tried, desc="attribution", unit="latent", disable=not verbose, leave=False):
        edited = torch.from_numpy(kept(inputs, {site: edit_latents(found.saes[site], [latent])}))
        effects[site][latent] = float((margin(before, chosen) - margin(edited, chosen)).mean())
    return effects
