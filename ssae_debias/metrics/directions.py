r"""Decoder directions: how alike the latents of a dictionary are, and a map of them.

What latent j writes is its decoder row :math:`d_j`. A row with a near copy (largest cosine near 1) says twice what
once would do; rows of a dictionary of d directions in general position have cosines near 0. The paper shows the
cosines' distribution (figure 20) and a UMAP (figure 19).

References
----------
Muhamed et al.: "Decoding Dark Matter: Specialized Sparse Autoencoders for Interpreting Rare Concepts", NAACL 2025
Findings, figures 19 and 20. McInnes, Healy, Melville: "UMAP", 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.sae import SparseAutoencoder

ROWS_AT_ONCE = 2048
"""Bounds the table of cosines to 16 MB."""


@dataclass(frozen=True)
class DecoderCosines:
    """Cosines between an SAE's decoder rows; made by `decoder_cosines`.

    Attributes
    ----------
    largest : ndarray of float32, shape (d_sae,)
        Each row's largest cosine with another row, which may be negative; NaN for a row of zeros.
    nearest : ndarray of int64, shape (d_sae,)
        Which one that is, the lowest on a tie; -1 for a row of zeros.
    edges : ndarray of shape (n_bins + 1,)
        From -1 to 1.
    counts : ndarray of int64, shape (n_bins,)
        Pairs of rows by cosine, each pair once.
    """

    largest: NDArray[np.float32]
    nearest: NDArray[np.int64]
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@torch.no_grad()
def decoder_cosines(
    sae: SparseAutoencoder, *, n_bins: int = 200, rows_at_once: int = ROWS_AT_ONCE
) -> DecoderCosines:
    """Cosines of all pairs of decoder rows, block by block.

    Time grows with d_sae² · d_in, memory does not grow with d_sae².

    Parameters
    ----------
    sae : SparseAutoencoder
    n_bins : int, default 200
        Of the distribution between -1 and 1.
    rows_at_once : int, default 2048
        Bounds memory, and changes no result.

    Returns
    -------
    DecoderCosines

    Raises
    ------
    ValueError
        Fewer than two rows that are not zero.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(2, SAEConfig(d_sae=3, k=1))
    >>> sae.W_dec.data = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    >>> found = decoder_cosines(sae)
    >>> found.largest.round(2).tolist(), found.nearest.tolist(), int(found.counts.sum())
    ([0.6000000238418579, 0.6000000238418579, -0.6000000238418579], [1, 0, 1], 3)
    """
    rows, lengths = _directions(sae)
    live = (lengths > 0).nonzero().squeeze(1)
    if len(live) < 2:
        raise ValueError(
            f"cosines need two decoder rows that are not zero; of {len(rows)} there are {len(live)}."
        )
    rows = rows[live]
    largest = torch.full((len(rows),), -torch.inf, device=rows.device)
    nearest = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    counts = np.zeros(n_bins, dtype=np.int64)
    for first in range(0, len(rows), rows_at_once):
        for other in range(0, len(rows), rows_at_once):
            block = (rows[first : first + rows_at_once] @ rows[other : other + rows_at_once].t()).clamp(-1, 1)
            if other >= first:
                pairs = block if other > first else block[torch.ones_like(block).triu(1) > 0]
                counts += torch.histc(pairs.flatten(), n_bins, -1, 1).long().cpu().numpy()
            if other == first:
                block.fill_diagonal_(-torch.inf)
            best, place = block.max(1)
            here = slice(first, first + len(block))
            better = best > largest[here]
            largest[here] = torch.where(better, best, largest[here])
            nearest[here] = torch.where(better, place + other, nearest[here])
    every = np.full(sae.d_sae, np.nan, dtype=np.float32)
    whose = np.full(sae.d_sae, -1, dtype=np.int64)
    every[live.cpu().numpy()] = largest.cpu().numpy()
    whose[live.cpu().numpy()] = live[nearest].cpu().numpy()
    return DecoderCosines(every, whose, np.linspace(-1, 1, n_bins + 1), counts)


def decoder_map(
    saes: Mapping[str, SparseAutoencoder],
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Decoder rows of one or more SAEs on one two-dimensional map, by UMAP over cosine distances.

    Needs the package umap-learn: ``pip install "ssae-debias[umap]"``.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder
        By name, of one width d_in. Rows of zeros are left out.
    n_neighbors, min_dist : int and float, default 15 and 0.1
        UMAP's own defaults.
    random_state : int, default 0
        UMAP then runs in one thread and gives the same map every time.

    Returns
    -------
    DataFrame
        `sae`, `latent`, `x`, `y`. Distances within a neighbourhood mean something, those across the map hardly do.

    Raises
    ------
    ImportError
        umap-learn is not installed.
    ValueError
        No SAE, different widths, or hardly more rows than `n_neighbors`.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(16, SAEConfig(d_sae=64, k=4))
    >>> decoder_map({"a": sae}).shape  # doctest: +SKIP
    (64, 4)
    """
    widths = {name: sae.d_in for name, sae in saes.items()}
    if not widths or len(set(widths.values())) > 1:
        raise ValueError(f"saes must be one or more SAEs of one width d_in, got {widths}.")
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(
            'a map of decoder directions needs umap-learn: pip install "ssae-debias[umap]"'
        ) from error
    parts, facts = [], []
    for name, sae in saes.items():
        rows, lengths = _directions(sae)
        live = (lengths > 0).nonzero().squeeze(1)
        parts.append(rows[live].cpu().numpy())
        facts.append(pd.DataFrame({"sae": name, "latent": live.cpu().numpy()}))
    rows_of_all = np.concatenate(parts)
    if len(rows_of_all) < n_neighbors + 2:
        raise ValueError(
            f"{len(rows_of_all)} decoder rows are too few for n_neighbors={n_neighbors}; lower it."
        )
    places = UMAP(
        n_neighbors=n_neighbors, min_dist=min_dist, metric="cosine", random_state=random_state, n_jobs=1
    ).fit_transform(rows_of_all)
    return pd.concat(facts, ignore_index=True).assign(x=places[:, 0], y=places[:, 1])


def _directions(sae: SparseAutoencoder) -> tuple[Tensor, Tensor]:
    rows = sae.W_dec.detach().float()
    lengths = torch.linalg.vector_norm(rows, dim=1)
    return rows / lengths.clamp(min=1e-30)[:, None], lengths
