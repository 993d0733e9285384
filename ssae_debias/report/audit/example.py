"""A made-up audit, complete in every part, for trying out its page without a model.

Its figures are invented to look like an audit of a classifier of surgeon and nurse biographies; the page says so.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ssae_debias.report.audit.content import (
    AuditContent,
    DataFacts,
    FlipResult,
    Role,
    SiteLeakage,
    TradeoffPoint,
    Variant,
)
from ssae_debias.report.content import Estimate, GroupResult
from ssae_debias.report.example import GROUPS, example_content

ROWS = sum(GROUPS.values())

# name, role, needs labels, accuracy, worst group and which, flips, both disparities, seconds
FIGURES: tuple[tuple[str, Role, bool, float, float, str, float, float, float, float], ...] = (
    ("as it is", "start", False, 0.884, 0.323, "nurse/M", 0.314, 0.71, 0.61, 0.0),
    ("latents ablated", "ours", False, 0.897, 0.781, "nurse/M", 0.041, 0.52, 0.15, 149.0),
    ("words deleted", "rival", False, 0.901, 0.827, "surgeon/F", 0.0, 0.49, 0.12, 1.3),
    ("LEACE", "rival", True, 0.770, 0.598, "nurse/F", 0.152, 0.21, 0.33, 1.1),
    ("LEACE given label", "rival", True, 0.909, 0.857, "surgeon/F", 0.087, 0.48, 0.08, 1.2),
    ("random latents", "control", False, 0.883, 0.329, "nurse/M", 0.311, 0.71, 0.60, 146.9),
)

# site, linear and MLP probe, then both after the edit
LEAKS = (
    ("embed", 0.962, 0.966, 0.571, 0.642),
    ("resid.1", 0.958, 0.964, 0.583, 0.668),
    ("resid.3", 0.944, 0.951, 0.612, 0.701),
    ("resid.5", 0.931, 0.940, 0.629, 0.713),
)

# number of latents, worst group, accuracy, flips
STEPS = (
    (0, 0.323, 0.884, 0.314), (1, 0.455, 0.889, 0.221), (2, 0.586, 0.893, 0.139), (5, 0.781, 0.897, 0.041),
    (10, 0.790, 0.896, 0.036), (20, 0.793, 0.893, 0.033), (50, 0.777, 0.881, 0.031), (100, 0.741, 0.859, 0.034),
)  # fmt: skip


def example_audit_content() -> AuditContent:
    """A whole audit with invented figures.

    Examples
    --------
    >>> content = example_audit_content()
    >>> [variant.role for variant in content.variants]
    ['start', 'ours', 'rival', 'rival', 'rival', 'control']
    """
    report = example_content()
    assert report.flagged is not None
    return AuditContent(
        title="Surgeon or nurse: example audit",
        classifier="MiniLM, mean pooling, logistic regression",
        summary=(
            "A classifier of biographies was audited for gender. Words for gender were swapped to see which "
            "decisions change; latents that answer to the swap were ablated inside the model.",
        ),
        variants=[_variant(*figures) for figures in FIGURES],
        attribute="gender",
        groups_from="labels",
        leakage=[SiteLeakage(site, *(_around(level, 0.014) for level in levels)) for site, *levels in LEAKS],
        chance=0.5,
        tradeoff=[
            TradeoffPoint(n, _around(accuracy, 0.012), _around(worst, 0.036), _around(flips, 0.014))
            for n, worst, accuracy, flips in STEPS
        ],
        latents=report.flagged,
        data=_data(report.flagged),
        unknown=("All figures and texts on this page are invented; they show what an audit looks like.",),
        sets={"training texts": 3832, "evaluation texts": ROWS, "texts with words to swap": 2214},
        seed=0,
        settings={
            "attribute": "gender",
            "sites": ["embed", "resid.1", "resid.3"],
            "sae": {"architecture": "batchtopk", "d_sae": 3072, "k": 32, "tilt": 1.0},
            "flag": {"rule": "counterfactual", "q": 0.01},
        },
        versions=report.versions,
        subdomain=report.subdomain,
        training=report.training,
        saes=report.saes,
    )


def _variant(
    name: str,
    role: Role,
    labels: bool,
    accuracy: float,
    worst: float,
    group: str,
    flips: float,
    parity: float,
    odds: float,
    seconds: float,
) -> Variant:
    # The skewed training data serves female nurses and male surgeons well; the others lie near the worst group.
    levels = {"surgeon/M": 0.93, "surgeon/F": worst + 0.05, "nurse/M": worst + 0.03, "nurse/F": 0.95}
    levels[group] = worst
    groups: dict[str, GroupResult] = {
        cell: {"accuracy": _around(level, 1 / math.sqrt(GROUPS[cell]) / 2.5), "n": GROUPS[cell]}
        for cell, level in levels.items()
    }
    return Variant(
        name=name,
        role=role,
        needs_group_labels=labels,
        accuracy=_around(accuracy, 0.012),
        balanced_accuracy=_around(sum(levels.values()) / len(levels), 0.018),
        worst_group=group,
        worst_group_accuracy=groups[group]["accuracy"],
        groups=groups,
        demographic_parity_difference=parity,
        equalized_odds_difference=odds,
        flips=_flips(flips, 2214),
        flips_by_group={
            cell: _flips(min(1.0, flips * share), round(n * 0.87))
            for (cell, n), share in zip(GROUPS.items(), (0.7, 1.9, 2.1, 0.8), strict=True)
        },
        seconds=seconds,
    )


def _flips(rate: float, n: int) -> FlipResult:
    half = max(1.96 * math.sqrt(rate * (1 - rate) / n), 0.003)
    return {"rate": Estimate(rate, max(0.0, round(rate - half, 6)), round(min(1.0, rate + half), 6)), "n": n}


def _around(mean: float, half: float) -> Estimate:
    mean = round(mean, 6)
    return Estimate(mean, max(0.0, round(mean - half, 6)), min(1.0, round(mean + half, 6)))


def _data(flagged: pd.DataFrame) -> DataFacts:
    counts = pd.DataFrame({"F": [196, 1015], "M": [1245, 99]}, index=["surgeon", "nurse"])
    # effect, group and name of three latents, whose texts are those of the table of latents
    lens: list[dict[str, Any]] = [
        {"name": "she / her", "group": "nurse/F", "effect": 1.84, "n": 1015},
        {"name": "husband, sister, father", "group": "surgeon/M", "effect": 0.62, "n": 1245},
        {"name": "nursing degree", "group": "nurse/M", "effect": 0.91, "n": 99},
    ]
    concepts = pd.DataFrame(lens)
    for column in ("site", "latent", "top_texts"):
        concepts[column] = [flagged[column].iloc[row] for row in (0, 1, 5)]
    return DataFacts(counts, attribute_from_label=_around(0.883, 0.012), concepts=concepts)
