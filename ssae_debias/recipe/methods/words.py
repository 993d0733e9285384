"""Rivals that need no group labels: the attribute's words, deleted, swapped or averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssae_debias.recipe.methods.method import Method, Outcome, retrained

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


def delete_words(bench: Bench, seed: int) -> Outcome:
    """The attribute's words replaced by neutral ones or deleted in every text; a fresh probe."""
    return retrained(bench, seed, bench.pooled([bench.pairs.neutralize(text) for text in bench.task.texts]))


WORDS = {"delete_words": Method(delete_words, needs_group_labels=False)}
