"""From a table of decisions to the edits that carry them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ssae_debias.edit.latent_edit import Mode, edit_latents
from ssae_debias.edit.protocol import Edit
from ssae_debias.sae import SparseAutoencoder


def edit_flagged(
    flagged: pd.DataFrame, saes: Mapping[str, SparseAutoencoder], mode: Mode, centers: Mapping[str, Any]
) -> dict[str, Edit]:
    """One edit for each site with a latent whose decision is `ablate`.

    Parameters
    ----------
    flagged : DataFrame
        Columns `site`, `latent`, `decision`, `mean` and `mean_active`, as `FlagRule.decide` gives them. `mean`
        sets latents to their mean over all tokens, `clamp` to their mean where active.
    saes : mapping of str to SparseAutoencoder
        By site.
    mode : {"zero", "mean", "clamp", "project"}
    centers : mapping of str to array of shape (d_model,)
        Mean activation by site, the point that `project` keeps.

    Examples
    --------
    >>> import numpy as np
    >>> from ssae_debias.sae import SAEConfig
    >>> saes = {site: SparseAutoencoder(4, SAEConfig(d_sae=8, k=2)) for site in ("embed", "resid.0")}
    >>> table = pd.DataFrame({"site": ["embed", "resid.0"], "latent": [3, 5], "decision": ["ablate", "keep"]})
    >>> list(edit_flagged(table, saes, "zero", {site: np.zeros(4) for site in saes}))
    ['embed']
    """
    edits = {}
    for site, sae in saes.items():
        chosen = flagged[(flagged["site"] == site) & (flagged["decision"] == "ablate")]
        if not len(chosen):
            continue
        column = {"mean": "mean", "clamp": "mean_active"}.get(mode)
        value = None if column is None else chosen[column].to_numpy()
        edits[site] = edit_latents(sae, chosen["latent"].to_numpy(), mode, value=value, center=centers[site])
    return edits
