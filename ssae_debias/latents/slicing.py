r"""A narrow dictionary out of a wide one: the latents that matter most on a subdomain.

A latent's *activation mass* is the sum of its activations over the subdomain's tokens,
:math:`m_j = \sum_{tokens} f_j`: how much of what the dictionary says there it says through *j*. Keeping the latents
of largest mass gives a dictionary that is cheaper to run and to read. The published slice is 1/8 of the width; its
criterion is not stated, and mass is our choice.

References
----------
Muhamed et al., "Decoding Dark Matter: Specialized Sparse Autoencoders" (NAACL 2025 Findings), table 1.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ssae_debias.activations import TokenBatch
from ssae_debias.sae import SparseAutoencoder


def activation_mass(
    batches: Iterable[TokenBatch],
    saes: Mapping[str, SparseAutoencoder],
    *,
    chunk_tokens: int = 512,
) -> dict[str, NDArray[np.float64]]:
    """Sum of each latent's activations over tokens.

    Parameters
    ----------
    batches : iterable of TokenBatch
        From `read_tokens` or a store, with activations at the SAEs' sites.
    saes : mapping of str to SparseAutoencoder
        By site; each encodes on its own device.
    chunk_tokens : int, default=512
        Tokens encoded at once: bounds the (chunk_tokens, d_sae) intermediate.

    Returns
    -------
    dict of str to ndarray of float64, shape (d_sae,)
        By site, in the activations' unit.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> saes = {"embed": SparseAutoencoder(384, SAEConfig(d_sae=16, k=4))}
    >>> activation_mass(read_tokens(load_model("demo"), ["A nurse."], "embed"), saes)["embed"].shape
    (16,)
    """
    mass = {site: torch.zeros(sae.d_sae, dtype=torch.float64) for site, sae in saes.items()}
    with torch.no_grad():
        for batch in batches:
            for site, sae in saes.items():
                for x in batch.activations[site].split(chunk_tokens):
                    mass[site] += sae.encode(x.to(sae.W_dec)).sum(0, dtype=torch.float64).cpu()
    return {site: total.numpy() for site, total in mass.items()}


def largest(mass: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Latents of largest mass, as numbers in ascending order; at least one.

    Parameters
    ----------
    mass : ndarray of shape (d_sae,)
    share : float
        Part of the width to keep, above 0 and at most 1; the count is rounded down.

    Raises
    ------
    ValueError
        `share` lies outside.

    Examples
    --------
    >>> largest(np.array([0.0, 7.0, 2.0, 9.0]), 0.5).tolist()
    [1, 3]
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1; got {share!r}.")
    n = max(1, int(share * len(mass)))
    return np.sort(np.argsort(-mass, kind="stable")[:n])


def slice_latents(sae: SparseAutoencoder, latents: Sequence[int] | NDArray[np.int64]) -> SparseAutoencoder:
    """The dictionary of some of an SAE's latents; the biases of input and output stay.

    Parameters
    ----------
    sae : SparseAutoencoder
    latents : sequence of int
        Which to keep, each once, in the order that they get: the slice's latent *i* is `latents[i]` of `sae`.

    Returns
    -------
    SparseAutoencoder
        A copy on the same device. Latents have thresholds of their own, so each acts as it did. Only in a TopK
        dictionary without thresholds do the kept ones win places that the others had.

    Raises
    ------
    ValueError
        No latent, one twice, or one that the SAE lacks.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae, x = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4)), torch.randn(5, 8)
    >>> torch.allclose(slice_latents(sae, [3, 7]).encode(x), sae.encode(x)[:, [3, 7]])
    True
    """
    chosen = torch.from_numpy(np.array(latents, dtype=np.int64))
    if chosen.ndim != 1 or not len(chosen) or len(chosen.unique()) < len(chosen):
        raise ValueError(f"latents must be a flat list of one or more, each once; got {latents!r}.")
    if not (int(chosen.min()) >= 0 and int(chosen.max()) < sae.d_sae):
        raise ValueError(f"latents must lie in 0 … {sae.d_sae - 1}; got {latents!r}.")
    narrow = copy.deepcopy(sae)  # with all that is not a latent's own
    narrow.d_sae = len(chosen)
    narrow.config = dataclasses.replace(sae.config, d_sae=len(chosen), k=min(sae.config.k, len(chosen)))
    narrow.history_ = []
    index = chosen.to(sae.device)
    for name in ("W_dec", "b_enc", "threshold"):
        part = getattr(sae, name)
        setattr(narrow, name, nn.Parameter(part.detach()[index], requires_grad=part.requires_grad))
    narrow.W_enc = nn.Parameter(sae.W_enc.detach().t()[index].t())  # latent by latent, as it was
    return narrow.eval()
