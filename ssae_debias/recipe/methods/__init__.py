"""The methods of a results table: ours, the published ones, and the rivals that every table shows."""

from __future__ import annotations

from ssae_debias.recipe.methods.bounds import CEILING, START
from ssae_debias.recipe.methods.concepts import CONCEPTS
from ssae_debias.recipe.methods.labels import LABELS
from ssae_debias.recipe.methods.method import Method, Outcome
from ssae_debias.recipe.methods.ours import CONTROL, OURS
from ssae_debias.recipe.methods.shift import SHIFT
from ssae_debias.recipe.methods.words import WORDS

__all__ = ["METHODS", "Method", "Outcome"]

METHODS: dict[str, Method] = {**START, **OURS, **WORDS, **CONCEPTS, **SHIFT, **LABELS, **CONTROL, **CEILING}
"""Every method by name, in the order of the table."""
