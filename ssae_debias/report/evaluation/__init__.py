"""The page of an evaluation of SAEs: every figure of the paper, drawn from a user's own model and text.

`EvaluationContent` says what is shown, `write_evaluation` writes the page and each plot as files, `evaluation_plots`
gives the plots alone. Nothing here measures anything: tables come from `ssae_debias.metrics` and `ssae_debias.latents`,
and the plots take means and intervals over seeds.
"""

from __future__ import annotations

from ssae_debias.report.evaluation.content import KEYS, TABLES, Claim, EvaluationContent
from ssae_debias.report.evaluation.example import example_evaluation
from ssae_debias.report.evaluation.page import evaluation_plots, render_evaluation, write_evaluation

__all__ = [
    "KEYS",
    "TABLES",
    "Claim",
    "EvaluationContent",
    "evaluation_plots",
    "example_evaluation",
    "render_evaluation",
    "write_evaluation",
]
