"""Recipes: a run as a file, from data to table and page."""

from ssae_debias.recipe.evaluate import EvaluateRecipe, EvaluateResult, Interpreter, run_evaluate
from ssae_debias.recipe.methods import METHODS
from ssae_debias.recipe.reading import AnyRecipe, RecipeError, read_recipe
from ssae_debias.recipe.run import RunResult, run_recipe
from ssae_debias.recipe.schema import Recipe
from ssae_debias.recipe.scr import ScrRecipe, ScrRunResult, run_scr

__all__ = [
    "METHODS",
    "AnyRecipe",
    "EvaluateRecipe",
    "EvaluateResult",
    "Interpreter",
    "Recipe",
    "RecipeError",
    "RunResult",
    "ScrRecipe",
    "ScrRunResult",
    "read_recipe",
    "run_evaluate",
    "run_recipe",
    "run_scr",
]
