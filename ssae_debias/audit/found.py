"""What was found in a classifier: its latents with evidence and decisions, and the edits that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.audit.heads import Head
from ssae_debias.edit import Edit, compose, edit_flagged
from ssae_debias.latents import PooledLatents, overrule
from ssae_debias.latents.decisions import checked
from ssae_debias.sae import SparseAutoencoder

ALIKE = 20
"""Latents as active as a flagged one, of which a control draws one: few enough to be alike, enough to be random."""


@dataclass(frozen=True)
class Found:
    """Latents of a classifier and what is to be done with them.

    Attributes
    ----------
    table : DataFrame
        One row a latent of each site, as `FlagRule.decide` gives it.
    saes : mapping of str to SparseAutoencoder
        By site, in forward order.
    centers : mapping of str to ndarray
        Mean activation of each site.
    mode : {"zero", "mean", "clamp", "project"}
    residue : mapping of str to Edit
        Realignment and erasure, at `residue_site`, after the latents' edits.
    residue_site : str
    pooled : mapping of str to PooledLatents
        Latents of the last site on fit rows, for the data section.
    examples : mapping of (site, latent) to list of (text, [(token, activation), …])
        Strongest inputs of the latents that a person may look at.
    head : Head or None
        The last layer fitted again under all edits; None keeps the classifier's own.
    rows : ndarray of int64 or None
        Which of the fit rows `pooled` holds, where it does not hold all.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> table = pd.DataFrame(
    ...     {"site": "embed", "latent": [0, 1], "decision": ["ablate", "keep"], "score": [2.0, 0.1]}
    ... )
    >>> saes = {"embed": SparseAutoencoder(4, SAEConfig(d_sae=2, k=1))}
    >>> found = Found(table, saes, {"embed": np.zeros(4)}, "zero", {}, "embed", {}, {})
    >>> found.n_ablated, list(found.edits()), list(found.latent_edits(0))
    (1, ['embed'], [])
    """

    table: pd.DataFrame
    saes: Mapping[str, SparseAutoencoder]
    centers: Mapping[str, Any]
    mode: Any
    residue: Mapping[str, Edit]
    residue_site: str
    pooled: Mapping[str, PooledLatents]
    examples: Mapping[tuple[str, int], list[tuple[str, list[tuple[str, float]]]]]
    head: Head | None = None
    rows: NDArray[np.int64] | None = None

    @property
    def n_ablated(self) -> int:
        """How many latents are decided to be ablated."""
        return int((self.table["decision"] == "ablate").sum())

    def latent_edits(self, n: int | None = None) -> dict[str, Edit]:
        """Edits of the `n` strongest latents to be ablated (default: all), without the residue's."""
        table = self.table
        if n is not None and n < self.n_ablated:
            ablated = table[table["decision"] == "ablate"]
            chosen = ablated.sort_values("score", ascending=False, kind="stable").index[:n]
            table = table.assign(decision=np.where(table.index.isin(chosen), "ablate", "keep"))
        return edit_flagged(table, dict(self.saes), self.mode, dict(self.centers))

    def edits(self) -> dict[str, Edit]:
        """All edits: the latents' and then the residue's."""
        edits = self.latent_edits()
        # where no latent's edit moved anything, there is nothing to move back
        residue = compose(*(e for kind, e in self.residue.items() if edits or kind != "realignment"))
        if residue is None:
            return edits
        at_site = compose(edits.get(self.residue_site), residue)
        assert at_site is not None
        return {**edits, self.residue_site: at_site}

    def random(self, seed: int) -> Found:
        """As many random latents at each site instead: what an edit of that size does by accident.

        For each latent to be ablated, one of the 20 others whose mean activation is nearest to its own is drawn, so
        that the control takes away about as much. The residue is left out: it belongs to the latents it was learned for.

        Parameters
        ----------
        seed : int
        """
        random = np.random.default_rng(seed)
        site = self.table["site"].to_numpy()
        flagged = (self.table["decision"] == "ablate").to_numpy()
        free = ~flagged & (self.table["frequency"] > 0).to_numpy()
        size = np.log(self.table["mean"].abs().to_numpy() + np.finfo(np.float64).tiny)
        drawn = np.zeros_like(flagged)
        for row in random.permutation(np.flatnonzero(flagged)):
            others = np.flatnonzero(free & (site == site[row]))
            if len(others):
                near = others[np.argsort(np.abs(size[others] - size[row]), kind="stable")[:ALIKE]]
                chosen = random.choice(near)
                free[chosen], drawn[chosen] = False, True
        table = self.table.assign(decision=np.where(drawn, "ablate", "keep"))
        return replace(self, table=table, residue={})

    def decided(self, decisions: Any) -> Found:
        """The same with a person's decisions; the residue stays and is to be learned again.

        Parameters
        ----------
        decisions : path, mapping, DataFrame or Decisions
            See `ssae_debias.latents.overrule`.

        Raises
        ------
        FileNotFoundError, DamagedFileError
            There is no such file of decisions, or it is none.
        ValueError
            They were made about other SAEs, or on a latent that there is not.
        """
        return replace(self, table=overrule(self.table, checked(decisions, self.saes)))
