"""Recipes of `kind: evaluate`: the SSAE paper's analyses on any model, corpus and SAEs."""

from ssae_debias.recipe.evaluate.latent_analyses import Interpreter
from ssae_debias.recipe.evaluate.run import EvaluateResult, run_evaluate
from ssae_debias.recipe.evaluate.schema import EvaluateRecipe

__all__ = ["EvaluateRecipe", "EvaluateResult", "Interpreter", "run_evaluate"]
