"""The report: one HTML page that a manager understands in half a minute, and the same figures on a terminal.

`ReportContent` says what is shown, `write_report` lays it out, `format_table` prints the table. Nothing here
computes a metric; the verdict on top is derived from the rows and their intervals alone.
"""

from __future__ import annotations

from ssae_debias.report.content import (
    Estimate,
    GroupResult,
    Leakage,
    MethodRow,
    ReportContent,
    SiteTraining,
    Subdomain,
)
from ssae_debias.report.example import example_content
from ssae_debias.report.page import render, write_report
from ssae_debias.report.plots import group_plot, leakage_plot, training_plot, worst_group_plot
from ssae_debias.report.table import format_table
from ssae_debias.report.verdict import Verdict, judge

__all__ = [
    "Estimate",
    "GroupResult",
    "Leakage",
    "MethodRow",
    "ReportContent",
    "SiteTraining",
    "Subdomain",
    "Verdict",
    "example_content",
    "format_table",
    "group_plot",
    "judge",
    "leakage_plot",
    "render",
    "training_plot",
    "worst_group_plot",
    "write_report",
]
