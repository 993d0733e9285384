"""The evidence table: one row for each latent of each site, one column for each thing known about it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ssae_debias.latents.association import association, comparable
from ssae_debias.latents.counterfactual import counterfactual_response
from ssae_debias.latents.pooling import PooledLatents

COLUMNS = {
    "frequency": "share of tokens on which the latent is active",
    "mean_active": "mean activation where active",
    "mean": "mean activation over all tokens",
    "response": "counterfactual response: mean change of the pooled activation towards side 1's words",
    "response_effect": "the response over its standard deviation across texts (Cohen's d for pairs)",
    "response_q": "false discovery rate of the response",
    "response_share": "the response relative to the latent's mean pooled activation",
    "attribute_effect": "difference between attribute values within each class of y, in standard deviations",
    "attribute_q": "its false discovery rate",
    "attribute_value": "the attribute value that the latent goes with",
    "label_effect": "difference between labels within each attribute value, in standard deviations",
    "label_q": "its false discovery rate",
    "attribution": "change of the decision's negative margin if the latent were zeroed",
}
"""What each column of an evidence table means."""


def evidence_table(
    pooled: Mapping[str, PooledLatents],
    *,
    swapped: Mapping[str, PooledLatents] | None = None,
    side: ArrayLike | None = None,
    y: ArrayLike | None = None,
    sensitive_features: ArrayLike | None = None,
    known: ArrayLike | None = None,
    attribution: Mapping[str, ArrayLike] | None = None,
) -> pd.DataFrame:
    """Gather what is known about every latent.

    Parameters
    ----------
    pooled : mapping of str to PooledLatents
        The texts' latents by site.
    swapped : mapping of str to PooledLatents, optional
        Those of the counterfactual texts; with `side`, gives the `response_…` columns.
    side : array of shape (n_texts,), optional
        Which side's words each text holds (sign; 0 for neither).
    y, sensitive_features : array of shape (n_texts,), optional
        Label and attribute. The attribute alone gives its marginal association, which on confounded data
        blames the task's latents too; with y it is taken within each class, and left out where no class
        holds two values of the attribute.
    known : array of bool, shape (n_texts,), optional
        Texts whose attribute is known; the others are left out of the associations.
    attribution : mapping of str to array of shape (d_sae,), optional
        Effect of each latent on a classifier's decision, by site.

    Returns
    -------
    DataFrame
        Columns `site`, `latent` and those of `COLUMNS` that the input allows.

    Examples
    --------
    >>> import numpy as np
    >>> from ssae_debias.latents.pooling import PooledLatents
    >>> some = PooledLatents(np.eye(4, 2, dtype="float32"), np.ones(2), np.ones(2), np.ones(2), 8)
    >>> list(evidence_table({"embed": some}).columns)
    ['site', 'latent', 'frequency', 'mean_active', 'mean']
    """
    if (swapped is None) != (side is None):
        raise ValueError("swapped and side belong together: give both or neither.")
    kept = slice(None) if known is None else np.asarray(known, dtype=bool)
    attribute = None if sensitive_features is None else np.asarray(sensitive_features)[kept]
    label = None if y is None else np.asarray(y)[kept]
    tables = []
    for site, latents in pooled.items():
        table = pd.DataFrame(
            {
                "site": site,
                "latent": range(latents.pooled.shape[1]),
                "frequency": latents.frequency,
                "mean_active": latents.mean_active,
                "mean": latents.mean,
            }
        )
        if swapped is not None and side is not None:
            response = counterfactual_response(latents.pooled, swapped[site].pooled, side)
            table["response"] = response["response"]
            table[["response_effect", "response_q", "response_share"]] = response[["effect", "q", "share"]]
        if attribute is not None and comparable(attribute, label):
            found = association(latents.pooled[kept], attribute, within=label)
            table[["attribute_effect", "attribute_q", "attribute_value"]] = found[["effect", "q", "value"]]
        if attribute is not None and label is not None and comparable(label, attribute):
            found = association(latents.pooled[kept], label, within=attribute)
            table[["label_effect", "label_q"]] = found[["effect", "q"]]
        if attribution is not None:
            table["attribution"] = attribution[site]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
