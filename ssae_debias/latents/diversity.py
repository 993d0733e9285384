r"""Diversity of latents: whether one speaks of a single token type or of many.

The paper shows a distribution of normalised "feature diversity scores" (figure 4: low ones "specialize in tail
concepts", high ones "capture a broader range") and gives no formula that is known to us. Ours is the entropy of a
latent's activation over token types,

.. math:: D_j = \frac{-\sum_v p_{jv} \log p_{jv}}{\log V}, \qquad p_{jv} = \frac{\sum_{i: v_i = v} z_{ij}}{\sum_i z_{ij}}

with V the number of token types in the corpus: 0 for a latent of one type, 1 for one that lies on all types alike.
:math:`\exp(D_j \log V)` is the number of types that a latent lies on, counted by weight (Hill's number of order 1).

A latent that fires n times lies on n types at most. So low scores are bound to go with rare latents, and the
diversity of two SAEs is best compared among latents that fire alike often (`n_active` says how often).

References
----------
Muhamed et al.: "Decoding Dark Matter: Specialized Sparse Autoencoders for Interpreting Rare Concepts", NAACL 2025
Findings, figure 4. Hill: "Diversity and Evenness", 1973.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ssae_debias.activations import TokenBatch
from ssae_debias.sae import SparseAutoencoder

TABLE_CELLS = 1 << 26
"""Cells of the table of latents by token types, at most: 256 MB."""
CHUNK_TOKENS = 8192


@torch.no_grad()
def diversity_scores(
    batches: Callable[[], Iterable[TokenBatch]],
    sae: SparseAutoencoder,
    site: str,
    *,
    latents: Sequence[int] | NDArray[np.int64] | None = None,
    latents_at_once: int | None = None,
) -> pd.DataFrame:
    """Diversity of each latent over the token types of a corpus.

    The corpus is read once to number its token types, and once for each group of latents; a group's latents alone are
    computed. A thousand latents drawn at random show the distribution as well as all do.

    Parameters
    ----------
    batches : callable
        Reads the corpus anew at each call, such as ``store.token_batches``.
    sae : SparseAutoencoder
    site : str
        Where it reads.
    latents : sequence of int, optional
        Which latents. Default: all.
    latents_at_once : int, optional
        Latents of a group. Default: as many as a table of 256 MB holds for the corpus's token types.

    Returns
    -------
    DataFrame
        `latent`, `diversity` (0 … 1), `n_types` (counted by weight, from 1), `top_type` (token id of largest
        weight), `top_share` (its part of the weight), `n_active` (tokens on which the latent fires). A latent that
        never fires has NaN and -1.

    Raises
    ------
    ValueError
        No tokens, or no latents.
    IndexError
        A latent that the SAE lacks.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(384, SAEConfig(d_sae=32, k=4))
    >>> model = load_model("demo")
    >>> found = diversity_scores(lambda: read_tokens(model, ["A nurse met a surgeon."], "embed"), sae, "embed")
    >>> len(found), bool(found["diversity"].dropna().between(0, 1).all())
    (32, True)
    """
    chosen = np.arange(sae.d_sae) if latents is None else np.asarray(latents, dtype=np.int64)
    if chosen.ndim != 1 or not len(chosen):
        raise ValueError(f"latents must be a flat list of at least one, got {latents!r}.")
    seen = np.zeros(0, dtype=bool)
    for batch in batches():
        if len(batch):
            seen = np.pad(seen, (0, max(int(batch.token_id.max()) + 1 - len(seen), 0)))
            seen[batch.token_id] = True
    types = np.flatnonzero(seen)
    if not len(types):
        raise ValueError("the batches hold no token.")
    number = np.cumsum(seen) - 1
    at_once = latents_at_once or max(1, TABLE_CELLS // len(types))
    parts = []
    for start in range(0, len(chosen), at_once):
        group = chosen[start : start + at_once]
        weight = torch.zeros(len(types), len(group))
        active = np.zeros(len(group), dtype=np.int64)
        for batch in batches():
            for first in range(0, len(batch), CHUNK_TOKENS):
                rows = slice(first, first + CHUNK_TOKENS)
                x = batch.activations[site][rows].to(sae.device, sae.dtype)
                z = sae.encode_selected(x, group).float().cpu()
                weight.index_add_(0, torch.from_numpy(number[batch.token_id[rows]]), z)
                active += (z > 0).sum(0).numpy()
        parts.append(_scores(group, weight.numpy(), active, types))
    return pd.concat(parts, ignore_index=True)


def _scores(
    latents: NDArray[np.int64],
    weight: NDArray[np.float32],
    active: NDArray[np.int64],
    types: NDArray[np.int64],
) -> pd.DataFrame:
    columns: dict[str, list[float]] = {"diversity": [], "n_types": [], "top_type": [], "top_share": []}
    for column in weight.T.astype(np.float64):
        total = column.sum()
        if total <= 0:
            values = (np.nan, np.nan, -1, np.nan)
        else:
            p = column[column > 0] / total
            entropy = max(float(-(p * np.log(p)).sum()), 0.0)
            top = int(np.argmax(column))
            most = np.log(len(types)) if len(types) > 1 else 1.0
            values = (
                min(entropy / most, 1.0),
                float(np.exp(entropy)),
                int(types[top]),
                float(column[top] / total),
            )
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return pd.DataFrame({"latent": latents, **columns, "n_active": active})
