"""Latents and token types, counted together: what coverage of the tail rests on.

A table of all latents by all types would have 10⁹ cells, so two readings share the work. The first counts latents and
types each for themselves; these bound how well a latent and a type can agree, and the second counts only the pairs
that can agree well enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ssae_debias.metrics.compared import BatchFactory, chunked
from ssae_debias.sae import SparseAutoencoder

_COMPACT = 1 << 22
"""Pairs kept one by one before they are summed."""


@dataclass
class TypeCounts:
    """What the first reading counts, the texts of even index in row 0 and those of odd index in row 1.

    Attributes
    ----------
    types : ndarray of int64, shape (2, n_types)
        Tokens of each type; n_types is one more than the largest token id.
    latents : dict of str to ndarray of int64, shape (2, d_sae)
        Tokens on which each latent fires, by SAE.
    top_value : dict of str to ndarray of float32, shape (d_sae,)
        Largest activation of each latent; 0 if it never fires.
    top_type : dict of str to ndarray of int64, shape (d_sae,)
        The type of the token that has it, the lowest id on a tie; -1 if it never fires.
    """

    types: NDArray[np.int64]
    latents: dict[str, NDArray[np.int64]]
    top_value: dict[str, NDArray[np.float32]]
    top_type: dict[str, NDArray[np.int64]]


@torch.no_grad()
def count_types(batches: BatchFactory, saes: Mapping[str, tuple[str, SparseAutoencoder]]) -> TypeCounts:
    """The first reading: how often each type occurs and each latent fires, and on what it is strongest.

    Parameters
    ----------
    batches : callable
    saes : mapping of str to (site, SparseAutoencoder)

    Raises
    ------
    ValueError
        There is no token.
    """
    types = np.zeros((2, 0), dtype=np.int64)
    latents = {name: np.zeros((2, sae.d_sae), dtype=np.int64) for name, (_, sae) in saes.items()}
    top_value = {name: np.zeros(sae.d_sae, dtype=np.float32) for name, (_, sae) in saes.items()}
    top_type = {name: np.full(sae.d_sae, -1, dtype=np.int64) for name, (_, sae) in saes.items()}
    for batch in batches():
        if not len(batch):
            continue
        half = batch.text_index % 2
        size = max(types.shape[1], int(batch.token_id.max()) + 1)
        types = np.pad(types, ((0, 0), (0, size - types.shape[1])))
        for side in (0, 1):
            types[side] += np.bincount(batch.token_id[half == side], minlength=size)
        for name, (site, sae) in saes.items():
            for rows, x in chunked(batch.activations[site], sae):
                z = sae.encode(x).float().cpu()
                odd = torch.from_numpy(half[rows] == 1)
                latents[name][0] += (z[~odd] > 0).sum(0).numpy()
                latents[name][1] += (z[odd] > 0).sum(0).numpy()
                value, place = z.max(0)
                peak, kind = value.numpy(), batch.token_id[rows][place.numpy()]
                better = (peak > top_value[name]) | (
                    (peak == top_value[name]) & (peak > 0) & (kind < top_type[name])
                )
                top_value[name][better], top_type[name][better] = peak[better], kind[better]
    if not types.size:
        raise ValueError("the batches hold no token.")
    return TypeCounts(types, latents, top_value, top_type)


def top_activation_types(counts: TypeCounts) -> dict[str, NDArray[np.int64]]:
    """Types on which some latent of each SAE has its largest activation, ascending."""
    return {name: np.unique(types[types >= 0]) for name, types in counts.top_type.items()}


@torch.no_grad()
def best_latents(
    batches: BatchFactory,
    saes: Mapping[str, tuple[str, SparseAutoencoder]],
    counts: TypeCounts,
    *,
    min_f1: float,
) -> dict[str, pd.DataFrame]:
    """The second reading: each type's best latent on texts of even index, and how it does on those of odd index.

    Parameters
    ----------
    batches, saes
        As for `count_types`.
    counts : TypeCounts
        From it.
    min_f1 : float
        Pairs that cannot reach it on the even half are not looked at.

    Returns
    -------
    dict of str to DataFrame
        By SAE, row v for type v: `latent` (-1 where none can reach `min_f1`), `selection_f1`, `selection_precision`,
        and, on the odd half, `f1`, `precision`, `recall`.
    """
    n_types = counts.types.shape[1]
    pairs: dict[str, list[NDArray[np.int64]]] = {name: [] for name in saes}
    summed = {name: (np.zeros(0, np.int64), np.zeros(0, np.int64)) for name in saes}
    waiting = dict.fromkeys(saes, 0)
    for batch in batches():
        for name, (site, sae) in saes.items():
            fires_even, is_even = counts.latents[name][0], counts.types[0]
            for rows, x in chunked(batch.activations[site], sae):
                token, latent = (index.cpu().numpy() for index in (sae.encode(x) > 0).nonzero(as_tuple=True))
                kind, side = batch.token_id[rows][token], batch.text_index[rows][token] % 2
                n_j, n_v = fires_even[latent], is_even[kind]
                able = 2 * np.minimum(n_j, n_v) >= min_f1 * (n_j + n_v)
                able &= n_v > 0
                pairs[name].append(((latent[able] * n_types + kind[able]) << 1) | side[able])
                waiting[name] += int(able.sum())
            if waiting[name] > _COMPACT:
                summed[name], pairs[name], waiting[name] = _summed(summed[name], pairs[name]), [], 0
    found = {}
    for name in saes:
        codes, together = _summed(summed[name], pairs[name])
        found[name] = _best(codes, together, counts.types, counts.latents[name])
    return found


def _summed(
    known: tuple[NDArray[np.int64], NDArray[np.int64]], pairs: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    new, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *pairs]), return_counts=True)
    codes, place = np.unique(np.concatenate([known[0], new]), return_inverse=True)
    total = np.zeros(len(codes), dtype=np.int64)
    np.add.at(total, place, np.concatenate([known[1], counts]))
    return codes, total


def _best(
    codes: NDArray[np.int64],
    together: NDArray[np.int64],
    types: NDArray[np.int64],
    latents: NDArray[np.int64],
) -> pd.DataFrame:
    n_types = types.shape[1]
    table = pd.DataFrame(
        {
            "latent": -1,
            "selection_f1": 0.0,
            "selection_precision": 0.0,
            "f1": 0.0,
            "precision": 0.0,
            "recall": 0.0,
        },
        index=range(n_types),
    )
    even = codes & 1 == 0
    pair, joint = codes[even] >> 1, together[even]
    if not len(pair):
        return table
    latent, kind = pair // n_types, pair % n_types
    f1 = 2 * joint / (latents[0][latent] + types[0][kind])
    order = np.lexsort((latent, -f1, kind))  # by type, its best latent first, the lowest on a tie
    first = order[np.flatnonzero(np.diff(kind[order], prepend=-1))]
    latent, kind, pair, f1, joint = latent[first], kind[first], pair[first], f1[first], joint[first]
    odd_codes, odd_counts = codes[~even] >> 1, together[~even]
    at = np.searchsorted(odd_codes, pair)
    inside = at < len(odd_codes)
    inside[inside] = odd_codes[at[inside]] == pair[inside]
    on_odd = np.zeros(len(pair), dtype=np.int64)
    on_odd[inside] = odd_counts[at[inside]]
    n_j, n_v = latents[1][latent], types[1][kind]
    table.loc[kind, "latent"] = latent
    table.loc[kind, "selection_f1"] = f1
    table.loc[kind, "selection_precision"] = joint / latents[0][latent]
    table.loc[kind, "f1"] = 2 * on_odd / np.maximum(n_j + n_v, 1)
    table.loc[kind, "precision"] = on_odd / np.maximum(n_j, 1)
    table.loc[kind, "recall"] = on_odd / np.maximum(n_v, 1)
    return table
