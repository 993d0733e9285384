"""Recipes: a run as a file, from data to table and page."""

from ssae_debias.recipe.methods import METHODS
from ssae_debias.recipe.reading import RecipeError, read_recipe
from ssae_debias.recipe.run import RunResult, run_recipe
from ssae_debias.recipe.schema import Recipe

__all__ = ["METHODS", "Recipe", "RecipeError", "RunResult", "read_recipe", "run_recipe"]
