r"""The tail: whether an SAE has a latent for a token type, by how often the type occurs.

A *token type* (an entry of the vocabulary) is the concept whose places are known in every corpus. The paper draws the
proportion of tokens "with SAE features" against token frequency (figures 2, 6, 11, 14) and does not say when a token
has one. Two criteria are offered:

- ``"f1"`` (ours, the default). Firing tells the type: a latent j and a type v agree by

  .. math:: F_1(j, v) = \frac{2\,n_{jv}}{n_j + n_v}

  with :math:`n_{jv}` tokens of the type on which j fires, :math:`n_j` tokens on which it fires, :math:`n_v` tokens of
  the type. The latent is chosen on one half of the texts, and both there and on the other half F1 must reach `min_f1`
  (and precision `min_precision`). Without the second half, the best of thousands of latents fits many a type of a few
  occurrences by chance.
- ``"top_activation"`` (our reading of the paper). Some latent has its largest activation in the corpus on a token of
  the type. It asks for no agreement: a latent that fires on everything counts for one type, and at most d_sae types
  can have a latent.

Compare SAEs at equal L0 (`ssae_debias.metrics.equal_sparsity.at_equal_l0`): who may use more latents covers more.

References
----------
Muhamed et al.: "Decoding Dark Matter: Specialized Sparse Autoencoders for Interpreting Rare Concepts", NAACL 2025
Findings, figures 2, 6, 11 and 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from ssae_debias.metrics.compared import BatchFactory, Sites, check_compared
from ssae_debias.metrics.equal_sparsity import at_equal_l0, measured_l0
from ssae_debias.metrics.intervals import wilson
from ssae_debias.metrics.rank_error import reconstruction_by_rank
from ssae_debias.metrics.token_types import best_latents, count_types, top_activation_types
from ssae_debias.sae import SparseAutoencoder

__all__ = [
    "Criterion",
    "TailCoverage",
    "at_equal_l0",
    "measured_l0",
    "reconstruction_by_rank",
    "tail_coverage",
]

Criterion = Literal["f1", "top_activation"]


@dataclass(frozen=True)
class TailCoverage:
    """Which token types have a latent, for each SAE; made by `tail_coverage`.

    Attributes
    ----------
    types : DataFrame
        A row for each SAE and token type that occurs at least `min_count` times, the most frequent first: `sae`,
        `token_id`, `count`, `rank` (of the type by count, from 1), `covered`; by criterion "f1" also `latent` (the one
        chosen, -1 where none came near), `selection_f1`, `f1`, `precision`, `recall` (on the other half; 0 where there
        is no latent).
    n_tokens : int
        Of the corpus, rarer types included.
    """

    types: pd.DataFrame
    n_tokens: int

    def by_frequency(self, n_bins: int = 12, level: float = 0.95) -> pd.DataFrame:
        """Proportion of token types that have a latent, by frequency (figures 2 and 11).

        Parameters
        ----------
        n_bins : int, default 12
            Ranges of counts, equally wide in the logarithm.
        level : float, default 0.95
            Of Wilson's intervals: over types, as if they were drawn independently.

        Returns
        -------
        DataFrame
            `sae`, `frequency_from`, `frequency_below` (occurrences over tokens), `n_types`, `n_covered`, `proportion`,
            `low`, `high`, `token_share` (of the range's tokens, the part whose type has a latent). Empty ranges are
            left out.
        """
        counts = self.types["count"].to_numpy()
        edges = np.geomspace(counts.min(), counts.max() + 1, n_bins + 1)
        edges[0], edges[-1] = counts.min(), counts.max() + 1  # as they are, without rounding
        bins = np.searchsorted(edges, counts, side="right") - 1
        rows = []
        for (sae, place), part in self.types.groupby(["sae", bins], sort=False):
            covered, n = int(part["covered"].sum()), len(part)
            interval = wilson(covered, n, level)
            rows.append(
                {
                    "sae": sae,
                    "frequency_from": edges[place] / self.n_tokens,
                    "frequency_below": edges[place + 1] / self.n_tokens,
                    "n_types": n,
                    "n_covered": covered,
                    "proportion": interval.mean,
                    "low": interval.low,
                    "high": interval.high,
                    "token_share": part.loc[part["covered"], "count"].sum() / part["count"].sum(),
                }
            )
        return pd.DataFrame(rows)

    def cumulative(self) -> pd.DataFrame:
        """How the types that have a latent spread over the corpus, rarest first (figures 6 and 14).

        Returns
        -------
        DataFrame
            `sae`, `count`, `token_share` (part of the counted tokens whose type occurs so often or less), `covered`
            (number of such types that have a latent) and `covered_share` (the same over all that have one: normalised
            per SAE, so that every curve ends at 1; 0 throughout where an SAE covers nothing). One row a distinct count.
            A curve that lies higher spends more of its latents on the tail, but says nothing of how many it has.
        """
        rows = []
        for sae, part in self.types.groupby("sae", sort=False):
            by_count = part.groupby("count").agg(tokens=("count", "sum"), covered=("covered", "sum"))
            cumulated = by_count.sort_index().cumsum()
            covered = cumulated["covered"].astype(int)
            rows.append(
                pd.DataFrame(
                    {
                        "sae": sae,
                        "count": cumulated.index,
                        "token_share": (cumulated["tokens"] / cumulated["tokens"].iloc[-1]).to_numpy(),
                        "covered": covered.to_numpy(),
                        "covered_share": (covered / max(int(covered.iloc[-1]), 1)).to_numpy(),
                    }
                )
            )
        return pd.concat(rows, ignore_index=True)

    def tail(self, max_frequency: float = 1e-4, level: float = 0.95) -> pd.DataFrame:
        """What part of the tail each SAE covers.

        Parameters
        ----------
        max_frequency : float, default 1e-4
            Types that make up so much of the corpus or less are the tail. Our choice.
        level : float, default 0.95
            Of Wilson's intervals over types.

        Returns
        -------
        DataFrame
            `sae`, `n_types`, `n_covered`, `proportion`, `low`, `high`, `token_share`.

        Raises
        ------
        ValueError
            No counted type is that rare.
        """
        part = self.types[self.types["count"] <= max_frequency * self.n_tokens]
        if part.empty:
            rarest = self.types["count"].min() / self.n_tokens
            raise ValueError(
                f"no counted token type has a frequency of {max_frequency:g} or less; the rarest has {rarest:.2g}. Raise "
                "max_frequency, lower min_count, or read more texts."
            )
        rows = []
        for sae, here in part.groupby("sae", sort=False):
            interval = wilson(int(here["covered"].sum()), len(here), level)
            share = here.loc[here["covered"], "count"].sum() / here["count"].sum()
            rows.append(
                {"sae": sae, "n_types": len(here), "n_covered": int(here["covered"].sum())}
                | {
                    "proportion": interval.mean,
                    "low": interval.low,
                    "high": interval.high,
                    "token_share": share,
                }
            )
        return pd.DataFrame(rows)


def tail_coverage(
    batches: BatchFactory,
    saes: Mapping[str, SparseAutoencoder],
    *,
    site: Sites,
    criterion: Criterion = "f1",
    min_f1: float = 0.5,
    min_precision: float = 0.0,
    min_count: int = 4,
) -> TailCoverage:
    """Find the token types that have a latent.

    Reads the corpus twice. Kept in memory are counts for each latent and type, and for criterion "f1" the number of
    joint occurrences of those pairs that could agree: with ``min_f1 = 0.5`` a latent and a type of which neither
    occurs three times as often as the other. Halves are the texts of even and of odd index.

    Parameters
    ----------
    batches : callable
        Reads the corpus anew at each call.
    saes : mapping of str to SparseAutoencoder
        By the names that tables will show; at equal L0, unless that is what is compared.
    site : str or mapping of str to str
        Where they read.
    criterion : {"f1", "top_activation"}, default "f1"
        When a type has a latent; see the module.
    min_f1, min_precision : float, default 0.5 and 0
        For criterion "f1", on both halves. 0.5 is our choice: the latent is right on the type more often than not.
    min_count : int, default 4
        Rarer types are left out: an F1 over fewer than two occurrences a half is no measurement.

    Returns
    -------
    TailCoverage

    Raises
    ------
    ValueError
        An unknown criterion; `min_f1` outside (0, 1] or `min_precision` outside [0, 1]; no type as frequent as
        `min_count`.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> model, texts = load_model("demo"), ["A nurse met a surgeon.", "The surgeon left."] * 8
    >>> saes = {"untrained": SparseAutoencoder(384, SAEConfig(d_sae=64, k=4))}
    >>> coverage = tail_coverage(lambda: read_tokens(model, texts, "embed"), saes, site="embed")
    >>> coverage.types[["token_id", "count"]].head(2).values.tolist()
    [[1012, 16], [1037, 16]]
    """
    compared = check_compared(saes, site)
    if criterion not in get_args(Criterion):
        raise ValueError(f"criterion must be one of {', '.join(get_args(Criterion))}, got {criterion!r}.")
    if not (0 < min_f1 <= 1 and 0 <= min_precision <= 1):
        raise ValueError(
            f"min_f1 must lie in (0, 1] and min_precision in [0, 1]; got {min_f1!r} and {min_precision!r}."
        )
    counts = count_types(batches, compared)
    total = counts.types.sum(0)
    kept = np.flatnonzero(total >= max(min_count, 1))
    if not len(kept):
        raise ValueError(
            f"no token type occurs min_count={min_count} times; the most frequent one does {total.max(initial=0)} times."
        )
    kept = kept[np.lexsort((kept, -total[kept]))]
    frame = {"token_id": kept, "count": total[kept], "rank": np.arange(1, len(kept) + 1)}
    parts = []
    if criterion == "f1":
        found = best_latents(batches, compared, counts, min_f1=min_f1)
        for name in compared:
            here = found[name].iloc[kept].reset_index(drop=True)
            covered = (
                (here["f1"] >= min_f1)
                & (here["selection_f1"] >= min_f1)
                & (here[["precision", "selection_precision"]].min(axis=1) >= min_precision)
            )
            here = here.drop(columns="selection_precision")
            parts.append(pd.DataFrame({"sae": name, **frame, "covered": covered}).join(here))
    else:
        for name, types in top_activation_types(counts).items():
            parts.append(pd.DataFrame({"sae": name, **frame, "covered": np.isin(kept, types)}))
    return TailCoverage(pd.concat(parts, ignore_index=True), int(total.sum()))
