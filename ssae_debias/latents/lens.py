r"""Latents as a lens on a data set: what the texts of each group hold more of than the others.

No classifier and no word list is asked. Latents are concepts that a model reads; where a group's texts make a latent
more active, the data themselves differ there, and whatever is trained on them may pick it up. On biographies grouped by
gender that is `she`, but also `breast`, `nurse` and the names of cities.

For each latent and group the pooled activations of the group's texts are compared with those of all others. The effect
is the standardised difference of means (Cohen's d, `ssae_debias.latents.association`). Pooled activations are zero on
most texts and skewed on the rest, which a t-test minds; the p-value is therefore that of the rank-sum test,

.. math:: z = \frac{R - n_1 (N + 1)/2}{\sqrt{\frac{n_1 n_2}{N (N - 1)} \sum_i (r_i - \bar r)^2}}

with the ranks :math:`r_i` averaged over ties (the sum is their correction). False discoveries are controlled over all
latents, sites and groups together, and a latent is listed only where means and ranks say the same.

References
----------
Mann and Whitney (1947); Benjamini and Hochberg (1995). Jiang et al.: "Interpretable Embeddings with Sparse
Autoencoders: A Data Analysis Toolkit", 2025 (differences between data sets, told by latents).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ssae_debias.latents.association import association
from ssae_debias.latents.pooling import PooledLatents

LATENTS_AT_ONCE = 1024
"""Bounds the tables in double precision to a few times 8·n_texts·1024 bytes."""


def separating_latents(
    pooled: Mapping[str, PooledLatents],
    groups: ArrayLike,
    *,
    n: int = 10,
    min_effect: float = 0.2,
    max_q: float = 0.01,
    min_texts: int = 10,
) -> pd.DataFrame:
    """List the latents in which each group of texts differs most from the rest.

    Parameters
    ----------
    pooled : mapping of str to PooledLatents
        By site, from `pool_latents`.
    groups : array of shape (n_texts,)
        Each text's group: any hashable values that sort, two or more of them.
    n : int, default 10
        At most so many latents a group and site, largest effect first.
    min_effect : float, default 0.2
        Smallest effect; 0.2 is Cohen's "small". With thousands of texts a q-value alone lists differences that
        nobody would see.
    max_q : float, default 0.01
        Largest false discovery rate.
    min_texts : int, default 10
        Texts of the group on which the latent must be active, and so the smallest group that can be told anything of.

    Returns
    -------
    DataFrame
        `site`, `latent`, `group` (the one that the latent is more active in), `effect` (standardised difference to
        the rest, positive), `q` (false discovery rate), `n` (texts of the group on which the latent is active). By
        group in sort order, then by site as given, then by effect. Empty where nothing separates. Texts and names:
        `describe_latents` and `name_latents` of the listed ones.

    Raises
    ------
    ValueError
        Lengths differ; a single group.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> groups = np.array(["nurse", "surgeon"] * 50)
    >>> z = np.abs(rng.normal(0, 1, (100, 3))).astype("float32")
    >>> z[:, 1] += groups == "nurse"
    >>> found = separating_latents({"embed": PooledLatents(z, np.ones(3), np.ones(3), np.ones(3), 100)}, groups)
    >>> found[["site", "latent", "group", "n"]].values.tolist()
    [['embed', 1, 'nurse', 50]]
    """
    labels = np.asarray(groups)
    values = np.unique(labels)
    if len(values) < 2:
        raise ValueError(
            f"groups must hold two values or more to be told apart, got only {values.tolist()} in "
            f"{len(labels)} texts."
        )
    tests = [
        _compared(site, latents.pooled, labels, values[:1] if len(values) == 2 else values)
        for site, latents in pooled.items()
    ]
    table = pd.concat(tests, ignore_index=True)
    table["q"] = stats.false_discovery_control(table["p"])
    if len(values) == 2:  # one test of two groups says both: which of them a latent is more active in
        other = table.assign(group=values[1], effect=-table["effect"], z=-table["z"], n=table["n_rest"])
        table = pd.concat([table, other], ignore_index=True)
    table = table[
        (table["effect"] >= min_effect) & (table["z"] > 0) & (table["q"] <= max_q) & (table["n"] >= min_texts)
    ]
    place = {site: i for i, site in enumerate(pooled)}
    table = table.assign(place=table["site"].map(place)).sort_values(
        ["group", "place", "effect", "latent"], ascending=[True, True, False, True]
    )
    best = table.groupby(["group", "place"], sort=False).head(n)
    return best[["site", "latent", "group", "effect", "q", "n"]].reset_index(drop=True)


def _compared(site: str, z: NDArray[np.float32], labels: NDArray[Any], tested: NDArray[Any]) -> pd.DataFrame:
    """Every latent of a site, for each tested group against the rest."""
    if len(z) != len(labels):
        raise ValueError(f"the latents of {site} are pooled over {len(z)} texts, groups holds {len(labels)}.")
    parts = []
    for start in range(0, z.shape[1], LATENTS_AT_ONCE):
        block = z[:, start : start + LATENTS_AT_ONCE]
        ranks = stats.rankdata(block, axis=0) - (len(block) + 1) / 2
        spread = np.einsum("ij,ij->j", ranks, ranks)
        for group in tested:
            member = labels == group
            n = int(member.sum())
            deviation = np.sqrt(n * (len(z) - n) / (len(z) * (len(z) - 1)) * spread)
            with np.errstate(divide="ignore", invalid="ignore"):
                score = np.where(deviation > 0, member @ ranks / deviation, 0.0)
            parts.append(
                pd.DataFrame(
                    {
                        "site": site,
                        "latent": np.arange(start, start + block.shape[1]),
                        "group": group,
                        "effect": association(block, member)["effect"],
                        "z": score,
                        "p": 2 * stats.norm.sf(np.abs(score)),
                        "n": (block[member] > 0).sum(axis=0),
                        "n_rest": (block[~member] > 0).sum(axis=0),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)
