r"""The shape of a dictionary's activity on a corpus: few strong latents a token or many weak ones, and which fire.

- *Token activation entropy* (figure 5, left): how a token's activation is spread over latents,

  .. math:: H = -\sum_j p_j \log_2 p_j, \qquad p_j = z_j / \textstyle\sum_i z_i

  in bits; 0 if one latent says it all, :math:`\log_2 L_0` if all active ones say as much. The caption does not say
  over what the entropy is taken; over the latents of a token is our reading, and `ssae_debias.latents.diversity` has
  the other one, over the tokens of a latent. A token on which nothing fires has no entropy and is counted apart.
- *Maximum activation per token* (figure 5, right): :math:`\max_j z_j`, in the activations' unit; 0 counts.
- *Activation counts by rank* (figure 7): on how many tokens each latent fires, most active first.
- *Log-ratio of counts to a base SAE* (figures 17, 18), each normalised by its SAE's total,

  .. math:: \log \frac{(c_j + \tfrac12) / \sum_i (c_i + \tfrac12)}{(b_j + \tfrac12) / \sum_i (b_i + \tfrac12)}

  where the ½ (ours) keeps latents that never fire finite.

References
----------
Muhamed et al.: "Decoding Dark Matter: Specialized Sparse Autoencoders for Interpreting Rare Concepts", NAACL 2025
Findings, figures 5, 7, 17 and 18; 19 and 20, the decoder's directions, are in `ssae_debias.metrics.directions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from ssae_debias.activations import TokenBatch
from ssae_debias.metrics.compared import Sites, check_compared, chunked
from ssae_debias.metrics.directions import DecoderCosines, decoder_cosines, decoder_map
from ssae_debias.sae import SparseAutoencoder

__all__ = [
    "ActivationShape",
    "DecoderCosines",
    "Histogram",
    "activation_shape",
    "count_log_ratio",
    "counts_by_rank",
    "decoder_cosines",
    "decoder_map",
]

ENTROPY_BINS = 128
MAXIMUM_EDGES = np.concatenate(([0.0], 2.0 ** np.arange(-20, 20.125, 0.125), [np.inf]))
"""Bins of the maximum: 0 alone below the first positive edge, then eight to a doubling."""


@dataclass(frozen=True)
class Histogram:
    """Counts between edges, with the exact mean and standard deviation of what was counted.

    Attributes
    ----------
    edges : ndarray of shape (n + 1,)
    counts : ndarray of int64, shape (n,)
        Bin i holds ``edges[i] <= value < edges[i + 1]``; the last one its upper edge too.
    mean, std : float
        NaN where nothing was counted.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    mean: float
    std: float

    def quantile(self, q: float) -> float:
        """The value below which a part `q` lies, as exactly as the bins allow; NaN where nothing was counted.

        Examples
        --------
        >>> Histogram(np.array([0.0, 1.0, 2.0]), np.array([5, 5]), 1.0, 0.5).quantile(0.75)
        1.5
        """
        below = np.concatenate(([0], np.cumsum(self.counts)))
        if below[-1] == 0:
            return float("nan")
        edges = np.where(np.isinf(self.edges), self.edges[-2], self.edges)
        return float(np.interp(q * below[-1], below, edges))

    def to_frame(self) -> pd.DataFrame:
        """`low`, `high`, `count`, `share` of each bin that holds something."""
        held = self.counts > 0
        return pd.DataFrame(
            {
                "low": self.edges[:-1][held],
                "high": self.edges[1:][held],
                "count": self.counts[held],
                "share": self.counts[held] / max(int(self.counts.sum()), 1),
            }
        )


@dataclass(frozen=True)
class ActivationShape:
    """How one SAE's latents fire on a corpus; made by `activation_shape`.

    Attributes
    ----------
    entropy : Histogram
        Token activation entropy in bits, of the tokens on which something fires.
    maximum : Histogram
        Maximum activation per token.
    counts : ndarray of int64, shape (d_sae,)
        Tokens on which each latent fires.
    n_tokens, n_silent : int
        Tokens, and those on which no latent fires.
    """

    entropy: Histogram
    maximum: Histogram
    counts: NDArray[np.int64]
    n_tokens: int
    n_silent: int

    @property
    def l0(self) -> float:
        """Active latents per token."""
        return float(self.counts.sum() / max(self.n_tokens, 1))


@torch.no_grad()
def activation_shape(
    batches: Iterable[TokenBatch], saes: Mapping[str, SparseAutoencoder], *, site: Sites
) -> dict[str, ActivationShape]:
    """Entropy, maximum and counts of several SAEs in one reading; what is kept does not grow with the corpus.

    Parameters
    ----------
    batches : iterable of TokenBatch
    saes : mapping of str to SparseAutoencoder
        By any names.
    site : str or mapping of str to str
        Where they read.

    Returns
    -------
    dict of str to ActivationShape

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> saes = {"a": SparseAutoencoder(384, SAEConfig(d_sae=64, k=4), top_k=4)}
    >>> shape = activation_shape(read_tokens(load_model("demo"), ["A nurse."], "embed"), saes, site="embed")["a"]
    >>> shape.l0, shape.n_tokens, 0 < shape.entropy.mean <= 2
    (4.0, 3, True)
    """
    compared = check_compared(saes, site)
    gathered = {name: _Gathered(sae.d_sae) for name, (_, sae) in compared.items()}
    for batch in batches:
        for name, (where, sae) in compared.items():
            for _, x in chunked(batch.activations[where], sae):
                gathered[name].add(sae.encode(x).float().cpu())
    return {name: each.shape() for name, each in gathered.items()}


def counts_by_rank(shapes: Mapping[str, ActivationShape]) -> pd.DataFrame:
    """Activation counts, most active latent first: `sae`, `rank` (from 1), `latent`, `count`, `frequency`.

    Examples
    --------
    >>> empty = Histogram(np.array([0.0, 1.0]), np.array([0]), float("nan"), float("nan"))
    >>> shapes = {"a": ActivationShape(empty, empty, np.array([1, 5, 0]), 10, 0)}
    >>> counts_by_rank(shapes)[["rank", "latent", "count", "frequency"]].values.tolist()
    [[1.0, 1.0, 5.0, 0.5], [2.0, 0.0, 1.0, 0.1], [3.0, 2.0, 0.0, 0.0]]
    """
    parts = []
    for name, shape in shapes.items():
        order = np.argsort(-shape.counts, kind="stable")
        counts = shape.counts[order]
        columns = {"rank": np.arange(1, len(order) + 1), "latent": order, "count": counts}
        parts.append(pd.DataFrame({"sae": name, **columns, "frequency": counts / max(shape.n_tokens, 1)}))
    return pd.concat(parts, ignore_index=True)


def count_log_ratio(
    counts: ArrayLike, base_counts: ArrayLike, *, by: Literal["latent", "rank"] = "latent"
) -> NDArray[np.float64]:
    """Log-ratio of normalised activation counts to those of a base SAE.

    Parameters
    ----------
    counts, base_counts : array-like of int, shape (d_sae,)
        `ActivationShape.counts` on the same corpus.
    by : {"latent", "rank"}, default "latent"
        "latent" compares latent j with latent j of the base, which means something where the one was fine-tuned from
        the other. "rank" compares the r-th most active of each, for SAEs trained apart.

    Returns
    -------
    ndarray of float64, shape (d_sae,)
        Natural logarithms; 0 where a latent has the same part in its SAE's activity as in the base's.

    Raises
    ------
    ValueError
        Different numbers of latents, or an unknown `by`.

    Examples
    --------
    >>> count_log_ratio([8, 2], [2, 8]).round(2).tolist(), count_log_ratio([8, 2], [2, 8], by="rank").tolist()
    ([1.22, -1.22], [0.0, 0.0])
    """
    own, base = (np.asarray(array, dtype=np.float64) for array in (counts, base_counts))
    if own.ndim != 1 or own.shape != base.shape:
        raise ValueError(
            f"both counts must be flat and of one length (d_sae), got {own.shape} and {base.shape}."
        )
    if by not in ("latent", "rank"):
        raise ValueError(f"by must be 'latent' or 'rank', got {by!r}.")
    if by == "rank":
        own, base = -np.sort(-own), -np.sort(-base)
    shares = [(array + 0.5) / (array + 0.5).sum() for array in (own, base)]
    return np.log(shares[0] / shares[1])


class _Gathered:
    """Running sums of one SAE."""

    def __init__(self, d_sae: int) -> None:
        self.counts = np.zeros(d_sae, dtype=np.int64)
        self.n = self.silent = 0
        self.edges = np.linspace(0.0, max(np.log2(d_sae), 1.0), ENTROPY_BINS + 1)
        self.entropies = np.zeros(ENTROPY_BINS, dtype=np.int64)
        self.maxima = np.zeros(len(MAXIMUM_EDGES) - 1, dtype=np.int64)
        self.sums = np.zeros(4)  # entropy, its square, maximum, its square

    def add(self, z: torch.Tensor) -> None:
        self.n += len(z)
        self.counts += (z > 0).sum(0).numpy()
        total = z.sum(1, dtype=torch.float64)
        speaks = total > 0
        self.silent += int((~speaks).sum())
        p = z[speaks].double() / total[speaks, None]
        entropy = (-torch.special.xlogy(p, p).sum(1) / np.log(2)).clamp(min=0).numpy() + 0.0
        largest = z.amax(1).double().numpy()
        self.entropies += np.histogram(np.minimum(entropy, self.edges[-1]), self.edges)[0]
        self.maxima += np.histogram(largest, MAXIMUM_EDGES)[0]
        self.sums += [entropy.sum(), (entropy**2).sum(), largest.sum(), (largest**2).sum()]

    def shape(self) -> ActivationShape:
        return ActivationShape(
            Histogram(
                self.edges, self.entropies, *_moments(self.sums[0], self.sums[1], self.n - self.silent)
            ),
            Histogram(MAXIMUM_EDGES, self.maxima, *_moments(self.sums[2], self.sums[3], self.n)),
            self.counts,
            self.n,
            self.silent,
        )


def _moments(total: float, squares: float, n: int) -> tuple[float, float]:
    if n == 0:
        return float("nan"), float("nan")
    return float(total / n), float(np.sqrt(max(squares / n - (total / n) ** 2, 0.0)))
