"""SCR and TPP as a recipe (`kind: scr`): how well SAEs' latents separate concepts, compared by name."""

from ssae_debias.recipe.scr.run import ScrRunResult, run_scr
from ssae_debias.recipe.scr.schema import ScrRecipe

__all__ = ["ScrRecipe", "ScrRunResult", "run_scr"]
