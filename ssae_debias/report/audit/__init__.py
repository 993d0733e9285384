"""The page of an audit: one classifier, what it leans on, what happens when that is ablated.

`AuditContent` says what is shown, `write_audit` lays it out, `format_audit_table` prints the table. Nothing here
computes a metric; the verdict on top is drawn from the variants and their intervals alone.
"""

from __future__ import annotations

from ssae_debias.report.audit.content import (
    AuditContent,
    DataFacts,
    FlipResult,
    SiteLeakage,
    TradeoffPoint,
    Variant,
)
from ssae_debias.report.audit.example import example_audit_content
from ssae_debias.report.audit.page import render_audit, write_audit
from ssae_debias.report.audit.plots import audit_group_plot, site_leakage_plot, tradeoff_plot
from ssae_debias.report.audit.table import format_audit_table
from ssae_debias.report.audit.verdict import AuditVerdict, judge_audit

__all__ = [
    "AuditContent",
    "AuditVerdict",
    "DataFacts",
    "FlipResult",
    "SiteLeakage",
    "TradeoffPoint",
    "Variant",
    "audit_group_plot",
    "example_audit_content",
    "format_audit_table",
    "judge_audit",
    "render_audit",
    "site_leakage_plot",
    "tradeoff_plot",
    "write_audit",
]
