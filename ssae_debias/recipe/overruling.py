"""A person's decisions in a run of several seeds.

Each seed trains SAEs of its own, and latent 530 of one is not latent 530 of another. A person has looked at one
seed's; the others keep the rule's decisions there, which is said on the terminal and on the page: a row then averages
over seeds with and without the person.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ssae_debias.decisions import Decisions, read_decisions
from ssae_debias.latents.decisions import fingerprint

if TYPE_CHECKING:
    from ssae_debias.estimators import SSAEDebiaser
    from ssae_debias.recipe.schema import Recipe


class Overruling:
    """Decisions, and what became of them at each seed.

    Parameters
    ----------
    decisions : path or Decisions
    recipe : Recipe
        For whose run they are meant.
    say : callable
        Told of every seed whose SAEs they are not about.

    Attributes
    ----------
    applied : dict of int to int
        How many decisions each seed's debiaser got.
    notes : list of str
        Sentences on seeds that got none, or not all.

    Raises
    ------
    FileNotFoundError, DamagedFileError, ValueError
        There is no such file, it is none of decisions, it holds none, or no method of the recipe has a use for it.
    """

    def __init__(
        self,
        decisions: str | os.PathLike[str] | Decisions,
        recipe: Recipe,
        say: Callable[[str], None],
    ) -> None:
        from ssae_debias.recipe.methods.ours import CONTROL, OURS  # they import the bench, which imports this

        self.decisions = decisions if isinstance(decisions, Decisions) else read_decisions(decisions)
        if not self.decisions.items:
            raise ValueError("The file of decisions holds none: leave it out.")
        if not any(name in (*OURS, *CONTROL) for name in recipe.methods):
            raise ValueError(
                "No method of the recipe ablates flagged latents, so there is nothing to decide on. (SHIFT's rows "
                "take a veto file as shift.decisions.)"
            )
        self.applied: dict[int, int] = {}
        self.notes: list[str] = []
        self._say = say

    def apply(self, debiaser: SSAEDebiaser, texts: Sequence[str], y: ArrayLike, seed: int) -> None:
        """Give a seed's fitted debiaser the decisions that are about its SAEs."""
        asked = {site for site, _ in self.decisions.items if site in self.decisions.saes}
        here = {site: fingerprint(debiaser.saes_[site]) for site in debiaser.sites_ if site in asked}
        other = self.decisions.differing(here)
        items = {key: item for key, item in self.decisions.items.items() if key[0] not in other}
        self.applied[seed] = len(items)
        if other:
            left = len(self.decisions.items) - len(items)
            note = (
                f"Seed {seed} has other SAEs than those decided on at {', '.join(other)}: {left} of "
                f"{len(self.decisions.items)} decisions were not applied there, and the rule's stand."
            )
            self.notes.append(note)
            self._say(note)
        if items:
            debiaser.set_decisions(Decisions(items, self.decisions.saes), texts, y)

    def check(self) -> None:
        """Refuse decisions that no seed could use.

        Raises
        ------
        ValueError
            They were made about SAEs that no seed has.
        """
        if not any(self.applied.values()):
            sites = ", ".join(dict.fromkeys(site for site, _ in self.decisions.items))
            raise ValueError(
                f"The decisions were made about other SAEs than this run has at {sites}, at every seed "
                f"({', '.join(map(str, self.applied))}). Run with the settings, texts and a seed of the run whose "
                "page was reviewed, or review this run's own page."
            )

    def said(self) -> str:
        """A sentence for the page."""
        seeds = ", ".join(str(seed) for seed, n in self.applied.items() if n)
        n = max(self.applied.values(), default=0)
        return f"A person decided on {n} {'latent' if n == 1 else 'latents'} (seed {seeds})."

    def summary(self) -> dict[str, Any]:
        """What `results.json` says of them."""
        return {
            "given": len(self.decisions.items),
            "applied": {str(seed): n for seed, n in self.applied.items()},
            "notes": list(self.notes),
        }
