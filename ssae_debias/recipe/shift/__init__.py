"""SHIFT, as the published rows of the table need it: SAEs at many sites, attribution, decisions, edits."""

from ssae_debias.recipe.shift.shift import Shift

__all__ = ["Shift"]
