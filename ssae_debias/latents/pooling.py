"""Latent activations, one row per text: what every kind of evidence is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ssae_debias.activations import TokenBatch
from ssae_debias.sae import SparseAutoencoder


@dataclass(frozen=True)
class PooledLatents:
    """Activations of one SAE's latents over a set of texts.

    Attributes
    ----------
    pooled : ndarray of float32, shape (n_texts, d_sae)
        Mean over each text's tokens; a text without tokens is a row of zeros.
    frequency : ndarray of float64, shape (d_sae,)
        Share of all tokens on which the latent is active.
    mean_active : ndarray of float64, shape (d_sae,)
        Mean activation over the tokens on which it is active; 0 where it never is.
    mean : ndarray of float64, shape (d_sae,)
        Mean activation over all tokens.
    n_tokens : int
    """

    pooled: NDArray[np.float32]
    frequency: NDArray[np.float64]
    mean_active: NDArray[np.float64]
    mean: NDArray[np.float64]
    n_tokens: int


def pool_latents(
    batches: Iterable[TokenBatch],
    saes: Mapping[str, SparseAutoencoder],
    n_texts: int,
    *,
    chunk_tokens: int = 512,
) -> dict[str, PooledLatents]:
    """Encode tokens at several sites and average the latents over each text.

    The result takes 4·n_texts·d_sae bytes a site; the caller bounds `n_texts`. Tokens stream through.

    Parameters
    ----------
    batches : iterable of TokenBatch
        From `read_tokens` or a store; the tokens of a text may be split over batches.
    saes : mapping of str to SparseAutoencoder
        By site; every batch must hold activations of these sites.
    n_texts : int
        How many texts the batches' `text_index` refers to.
    chunk_tokens : int, default=512
        Tokens encoded at once: bounds the (chunk_tokens, d_sae) intermediate, which at 512 stays in the
        processor's cache (twice as fast as 4096 for 2048 latents).

    Returns
    -------
    dict of str to PooledLatents
        By site.

    Examples
    --------
    >>> import torch
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.latents import pool_latents
    >>> from ssae_debias.sae import SAEConfig, SparseAutoencoder
    >>> texts = ["A nurse.", "She was a surgeon."]
    >>> sae = SparseAutoencoder(384, SAEConfig(d_sae=16, k=4))
    >>> pool_latents(read_tokens(load_model("demo"), texts, ["embed"]), {"embed": sae}, 2)["embed"].pooled.shape
    (2, 16)
    """
    sums = {site: torch.zeros(n_texts, sae.d_sae) for site, sae in saes.items()}
    active = {site: torch.zeros(sae.d_sae, dtype=torch.float64) for site, sae in saes.items()}
    counts = torch.zeros(n_texts)
    for batch in batches:
        text_index = torch.from_numpy(batch.text_index)
        counts += torch.bincount(text_index, minlength=n_texts)
        for start in range(0, len(text_index), chunk_tokens):
            chunk = slice(start, start + chunk_tokens)
            # a chunk touches few texts: adding up within it first keeps the big table out of the inner loop
            rows, inverse = torch.unique(text_index[chunk], return_inverse=True)
            for site, sae in saes.items():
                with torch.no_grad():
                    f = sae.encode(batch.activations[site][chunk].to(sae.W_enc.dtype)).float().cpu()
                indicator = torch.zeros(len(rows), len(inverse))
                indicator[inverse, torch.arange(len(inverse))] = 1.0
                sums[site][rows] += indicator @ f
                active[site] += f.sign().sum(0)  # codes are 0 or more
    n_tokens = int(counts.sum())
    return {
        site: PooledLatents(
            pooled=(total / counts.clamp(min=1)[:, None]).numpy(),
            frequency=(active[site] / max(n_tokens, 1)).numpy(),
            mean_active=(total.double().sum(0) / active[site].clamp(min=1)).numpy(),
            mean=(total.double().sum(0) / max(n_tokens, 1)).numpy(),
            n_tokens=n_tokens,
        )
        for site, total in sums.items()
    }
