r"""Which latents write nearly the same: neighbours by the cosine of their decoder rows.

A concept is often split among latents (`she` at a sentence's start, `she` within), and a person who keeps or ablates
one wants to see the others. What a latent writes into the activations is its decoder row :math:`d_j`, so two latents
are near where :math:`\cos(d_i, d_j)` is large, however differently they fire.

References
----------
Bricken et al.: "Towards Monosemanticity", 2023 (feature splitting, seen as clusters of decoder rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ssae_debias.sae import SparseAutoencoder

ROWS_AT_ONCE = 4096
"""Decoder rows compared at once, and"""
ASKED_AT_ONCE = 512
"""latents they are compared with: bounds the table of cosines to 8 MB, whatever the dictionaries' size."""

Neighbour = tuple[str, int, float]
"""Site, latent, cosine."""


def nearest_latents(
    saes: Mapping[str, SparseAutoencoder],
    latents: Mapping[str, Sequence[int]],
    n: int = 3,
    *,
    across_sites: bool = False,
) -> dict[tuple[str, int], list[Neighbour]]:
    """Find the latents whose decoder rows point most nearly the same way.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder
        By site.
    latents : mapping of str to sequence of int
        Whose neighbours are asked for, by site.
    n : int, default 3
        How many neighbours each.
    across_sites : bool, default False
        Also among the latents of other sites of the same width. In a residual stream a direction keeps its meaning
        over some blocks; between, say, an attention output and an embedding it need not.

    Returns
    -------
    dict of (site, latent) to list of (site, latent, cosine)
        Nearest first, of equal ones the lower latent of the earlier site; without the latent itself. Cosines lie
        between -1 and 1; a row of length 0 has cosine 0 with every other.

    Raises
    ------
    KeyError
        Latents of a site that has no SAE.
    IndexError
        A latent outside the dictionary.
    ValueError
        A negative `n`.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(2, SAEConfig(d_sae=4, k=1))
    >>> sae.W_dec.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    >>> found = nearest_latents({"embed": sae}, {"embed": [0]}, n=2)
    >>> [(latent, round(cosine, 3)) for _, latent, cosine in found["embed", 0]]
    [(2, 0.6), (1, 0.0)]
    """
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}.")
    found: dict[tuple[str, int], list[Neighbour]] = {}
    for site, chosen in latents.items():
        if site not in saes:
            raise KeyError(f"there is no SAE of site {site!r}; there are {', '.join(saes)}.")
        rows = saes[site].W_dec
        if wrong := [int(j) for j in chosen if not 0 <= j < len(rows)]:
            raise IndexError(f"latents of {site} must lie in 0 … {len(rows) - 1}, got {wrong[0]}.")
        others = [
            other
            for other, sae in saes.items()
            if other == site or (across_sites and sae.W_dec.shape[1] == rows.shape[1])
        ]
        for start in range(0, len(chosen), ASKED_AT_ONCE):
            part = [int(j) for j in chosen[start : start + ASKED_AT_ONCE]]
            found |= {(site, j): best for j, best in _neighbours(saes, site, part, others, n).items()}
    return found


@torch.no_grad()
def _neighbours(
    saes: Mapping[str, SparseAutoencoder], site: str, chosen: list[int], others: list[str], n: int
) -> dict[int, list[Neighbour]]:
    asked = _directions(saes[site].W_dec[torch.as_tensor(chosen)])
    cosines = asked.new_full((len(chosen), 0), 0.0)
    places = torch.zeros((len(chosen), 0), dtype=torch.long, device=asked.device)
    first = 0  # of the latents of all sites one after the other
    firsts = []
    for other in others:
        rows = saes[other].W_dec
        for start in range(0, len(rows), ROWS_AT_ONCE):
            block = _directions(rows[start : start + ROWS_AT_ONCE].to(asked.device))
            here = (asked @ block.t()).clamp(-1, 1)
            if other == site:
                own = torch.as_tensor(chosen, device=asked.device) - start
                inside = ((own >= 0) & (own < len(block))).nonzero().squeeze(1)
                here[inside, own[inside]] = -torch.inf
            number = torch.arange(first + start, first + start + len(block), device=asked.device)
            cosines = torch.cat([cosines, here], dim=1)
            places = torch.cat([places, number.expand(len(chosen), -1)], dim=1)
            # stable: of equal cosines the earlier latent stays, block after block
            cosines, order = torch.sort(cosines, dim=1, descending=True, stable=True)
            cosines, places = cosines[:, :n], places.gather(1, order[:, :n])
        firsts.append((first, other))
        first += len(rows)

    def written(place: int, cosine: float) -> Neighbour:
        begin, where = max(pair for pair in firsts if pair[0] <= place)
        return where, place - begin, cosine

    return {
        latent: [written(p, c) for p, c in zip(row, values, strict=True) if c > -torch.inf]
        for latent, row, values in zip(chosen, places.tolist(), cosines.tolist(), strict=True)
    }


def _directions(rows: Tensor) -> Tensor:
    return rows.float() / torch.linalg.vector_norm(rows.float(), dim=1, keepdim=True).clamp(min=1e-12)
