"""What a person is shown of latents: the flagged ones and the strongest that were not, described and named.

Both, because a person may overrule in both directions: keep what the rule took, and ablate what it left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ssae_debias.activations import TokenBatch
from ssae_debias.latents import LatentDescription, Namer, describe_latents, name_latents, nearest_latents
from ssae_debias.sae import SparseAutoencoder

NOT_FLAGGED = 20
"""Latents described of each site although nobody flagged them, the rule's strongest: about what a person reads."""
TEXTS_NAMED_BY = 20
"""Texts that a name is made of; five alone are too few to tell a habit from chance."""
TEXTS_KEPT = 5
"""Texts of a description that is kept: what a page shows."""


def describe_flagged(
    flagged: pd.DataFrame,
    batches: Iterable[TokenBatch],
    saes: Mapping[str, SparseAutoencoder],
    tokenizer: object,
    texts: Sequence[str],
    namer: Namer | None = None,
) -> tuple[pd.DataFrame, dict[tuple[str, int], LatentDescription]]:
    """Describe the flagged latents and the strongest others, and write what is found beside them.

    Parameters
    ----------
    flagged : DataFrame
        From `FlagRule.decide`: strongest first within each site.
    batches : iterable of TokenBatch
        Tokens of `texts`, numbered as they are there.
    saes : mapping of str to SparseAutoencoder
        By site.
    tokenizer
        The model's.
    texts : sequence of str
    namer : callable, optional
        See `name_latents`.

    Returns
    -------
    DataFrame
        `flagged` with `top_tokens` (list of str), `name` (str) and `nearest` (list of (site, latent, cosine, name)
        within the site); empty for latents that are not described.
    dict of (site, latent) to LatentDescription
        Flagged ones of a site first.
    """
    chosen = {}
    for site in saes:
        table = flagged[flagged["site"] == site]
        taken = table["decision"] == "ablate"
        chosen[site] = [*table.loc[taken, "latent"], *table.loc[~taken, "latent"].head(NOT_FLAGGED)]
    found = describe_latents(batches, saes, chosen, tokenizer, n_texts=TEXTS_NAMED_BY)
    names = name_latents(found, texts, namer=namer)
    nearest = {
        key: [(site, latent, cosine, names.get((site, latent), "")) for site, latent, cosine in near]
        for key, near in nearest_latents(saes, chosen).items()
    }
    keys = list(zip(flagged["site"], flagged["latent"], strict=True))
    flagged = flagged.copy()
    flagged["top_tokens"] = [
        [token for token, _ in found[key].top_tokens] if key in found else [] for key in keys
    ]
    flagged["name"] = [names.get(key, "") for key in keys]
    flagged["nearest"] = [nearest.get(key, []) for key in keys]
    return flagged, {
        key: dataclasses.replace(description, top_texts=description.top_texts[:TEXTS_KEPT])
        for key, description in found.items()
    }
