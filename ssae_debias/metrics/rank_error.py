r"""Reconstruction error by how frequent the token's type is: how badly, and how unevenly, the tail is served.

Tilted risk should lower the variance and the maximum of the error on rare tokens (figure 3 of the paper). Types are
ranked by their count in the corpus at hand, 1 the most frequent, and put into ranges of equal width in the logarithm of
the rank. The error of a token is :math:`\lVert x - \hat x \rVert^2`, and its relative form

.. math:: \frac{\lVert x - \hat x \rVert^2}{\sum_d \operatorname{Var}(x_d)}

with one total variance for the whole corpus: 0 is perfect, 1 what the corpus mean achieves, on average. SAEBench's
``explained_variance`` divides each token's error by the same token's squared distance from its batch's mean and then
averages the ratios. A token near the mean then counts without bound, and the figure changes with the batches.

References
----------
Muhamed et al.: "Decoding Dark Matter", NAACL 2025 Findings, figure 3. Karvonen et al.: "SAEBench", 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ssae_debias.activations import TokenBatch
from ssae_debias.metrics.compared import Sites, check_compared, chunked
from ssae_debias.sae import SparseAutoencoder


@torch.no_grad()
def reconstruction_by_rank(
    batches: Iterable[TokenBatch],
    saes: Mapping[str, SparseAutoencoder],
    *,
    site: Sites,
    n_bins: int = 12,
) -> pd.DataFrame:
    """Mean, variance and maximum of the reconstruction error, by rank of the token's type.

    Reads the corpus once; keeps four numbers for each token type and SAE.

    Parameters
    ----------
    batches : iterable of TokenBatch
    saes : mapping of str to SparseAutoencoder
        By the names that the table shows.
    site : str or mapping of str to str
        Where they read.
    n_bins : int, default 12
        Ranges of ranks, equally wide in the logarithm; those without a type are left out.

    Returns
    -------
    DataFrame
        `sae`, `rank_from`, `rank_to` (both inclusive), `n_types`, `n_tokens`, `mean`, `variance` and `maximum` of the
        squared error over the range's tokens, in the activations' unit squared, and `relative`, `relative_variance`,
        `relative_maximum`: the same of the error over the corpus's total variance.

    Raises
    ------
    ValueError
        No tokens, or `n_bins` below 1.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> saes = {"untrained": SparseAutoencoder(384, SAEConfig(d_sae=64, k=4))}
    >>> batches = read_tokens(load_model("demo"), ["A nurse met a surgeon.", "A nurse left."], "embed")
    >>> found = reconstruction_by_rank(batches, saes, site="embed", n_bins=2)
    >>> found[["rank_from", "rank_to", "n_types", "n_tokens"]].values.tolist()
    [[1, 2, 2, 5], [3, 6, 4, 5]]
    """
    compared = check_compared(saes, site)
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}.")
    errors = {name: _ByType() for name in compared}
    spreads = {where: _Spread() for where, _ in compared.values()}
    for batch in batches:
        if not len(batch):
            continue
        for where, spread in spreads.items():
            spread.add(batch.activations[where])
        for name, (where, sae) in compared.items():
            for rows, x in chunked(batch.activations[where], sae):
                error = (x - sae(x)).double().square().sum(1).cpu().numpy()
                errors[name].add(batch.token_id[rows], error)
    parts = []
    for name, (where, _) in compared.items():
        if not errors[name].count.sum():
            raise ValueError("the batches hold no token.")
        parts.append(_table(name, errors[name], spreads[where].total_variance, n_bins))
    return pd.concat(parts, ignore_index=True)


@dataclass
class _ByType:
    """Sums of an error by token type."""

    count: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    largest: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, kind: NDArray[np.int64], error: NDArray[np.float64]) -> None:
        grown = max(int(kind.max()) + 1 - len(self.count), 0)
        for name in ("count", "total", "squares", "largest"):
            setattr(self, name, np.pad(getattr(self, name), (0, grown)))
        size = len(self.count)
        self.count += np.bincount(kind, minlength=size)
        self.total += np.bincount(kind, error, minlength=size)
        self.squares += np.bincount(kind, error**2, minlength=size)
        np.maximum.at(self.largest, kind, error)


class _Spread:
    """``Σ_d Var(x_d)`` over everything added."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, x: torch.Tensor) -> None:
        x = x.double().cpu()
        if self.n == 0:
            # about the first row: differences of large squares would cost digits
            self.origin, self.sums, self.squares = (
                x[0].clone(),
                torch.zeros_like(x[0]),
                torch.zeros_like(x[0]),
            )
        self.n += len(x)
        self.sums += (x - self.origin).sum(0)
        self.squares += (x - self.origin).square().sum(0)

    @property
    def total_variance(self) -> float:
        return float((self.squares / self.n - (self.sums / self.n).square()).sum())


def _table(name: str, errors: _ByType, variance: float, n_bins: int) -> pd.DataFrame:
    kinds = np.flatnonzero(errors.count)
    kinds = kinds[np.lexsort((kinds, -errors.count[kinds]))]
    edges = np.geomspace(1, len(kinds) + 1, n_bins + 1)
    edges[0], edges[-1] = 1, len(kinds) + 1
    place = np.searchsorted(edges, np.arange(1, len(kinds) + 1), side="right") - 1
    scale = variance if variance > 0 else np.nan
    rows = []
    for bin_ in np.unique(place):
        ranks = np.flatnonzero(place == bin_) + 1
        here = kinds[ranks - 1]
        n = int(errors.count[here].sum())
        mean = float(errors.total[here].sum() / n)
        spread = max(float(errors.squares[here].sum() / n) - mean**2, 0.0)
        largest = float(errors.largest[here].max())
        rows.append(
            {
                "sae": name,
                "rank_from": int(ranks[0]),
                "rank_to": int(ranks[-1]),
                "n_types": len(ranks),
                "n_tokens": n,
                "mean": mean,
                "variance": spread,
                "maximum": largest,
                "relative": mean / scale,
                "relative_variance": spread / scale**2,
                "relative_maximum": largest / scale,
            }
        )
    return pd.DataFrame(rows)
