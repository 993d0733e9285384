"""What the page of an audit is made of, as plain frozen data.

As everywhere in this folder no metric is computed here: `ssae_debias.audit` measures, and hands over estimates
with their intervals and the number of rows behind each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pandas as pd

from ssae_debias.report.content import Estimate, GroupResult, SiteTraining, Subdomain

Role = Literal["start", "ours", "rival", "control"]


class FlipResult(TypedDict):
    """How often a decision changes when only the attribute's words do, and over how many rows."""

    rate: Estimate
    n: int


@dataclass(frozen=True)
class Variant:
    """The classifier in one state: as it came, edited, or treated by a rival method.

    Parameters
    ----------
    name : str
        How the page calls it, such as ``"as it is"`` or ``"latents ablated"``.
    role : {"start", "ours", "rival", "control"}
        `start` is the classifier as it came (exactly one variant); the first variant with `ours` is the edit that
        is proposed. A `control` (random latents) shows what an edit of that size does by accident.
    needs_group_labels : bool
        Whether it was given the attribute of the rows it was made on.
    accuracy : Estimate
        Over all evaluation rows.
    balanced_accuracy : Estimate or None
        Mean of the groups' accuracies, each group counted once. None where groups are not known.
    worst_group : str or None
        Name of the group with the lowest accuracy.
    worst_group_accuracy : Estimate or None
    groups : mapping of str to GroupResult
        By (label, attribute) cell, ``{"nurse/M": {"accuracy": Estimate, "n": 99}}``; empty where not known.
    demographic_parity_difference, equalized_odds_difference : float or None
        fairlearn's disparities; 0 is parity.
    flips : FlipResult or None
        None where no counterfactual is known.
    flips_by_group : mapping of str to FlipResult
        The same within each label's decisions or each group; empty where not known.
    seconds : float
        Time to make it, in seconds.
    """

    name: str
    role: Role
    needs_group_labels: bool
    accuracy: Estimate
    balanced_accuracy: Estimate | None = None
    worst_group: str | None = None
    worst_group_accuracy: Estimate | None = None
    groups: Mapping[str, GroupResult] | None = None
    demographic_parity_difference: float | None = None
    equalized_odds_difference: float | None = None
    flips: FlipResult | None = None
    flips_by_group: Mapping[str, FlipResult] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class SiteLeakage:
    """How well the attribute is read at one site: balanced accuracy of two probes, before and after the edit."""

    site: str
    linear: Estimate
    mlp: Estimate | None = None
    edited_linear: Estimate | None = None
    edited_mlp: Estimate | None = None


@dataclass(frozen=True)
class TradeoffPoint:
    """The classifier with its strongest `n_latents` flagged latents ablated; 0 is the classifier as it came."""

    n_latents: int
    accuracy: Estimate
    worst_group_accuracy: Estimate | None = None
    flips: Estimate | None = None


@dataclass(frozen=True)
class DataFacts:
    """What the data themselves say, whatever the classifier does.

    Parameters
    ----------
    counts : DataFrame
        Rows of each label (index) and attribute value (columns), as integers.
    attribute_from_label : Estimate or None
        Balanced accuracy with which the label alone tells the attribute; chance where the two are independent,
        1 where one determines the other.
    concepts : DataFrame or None
        Latents as a lens on the data: one row a latent, with `site`, `latent`, `name`, `group` (the group it is
        most active in), `effect` (standardised difference between that group and the rest), `n` (rows), and
        `top_texts` as in the table of latents.
    """

    counts: pd.DataFrame
    attribute_from_label: Estimate | None = None
    concepts: pd.DataFrame | None = None


@dataclass(frozen=True)
class AuditContent:
    """Everything that the page of an audit shows.

    Parameters
    ----------
    title : str
    classifier : str
        What was audited, in a few words: a model's name, a pipeline's steps.
    summary : sequence of str
        What was done, in short sentences; the verdict is not among them, the page draws it from `variants`.
    variants : sequence of Variant
        At least the one with the role `start`; each name once.
    attribute : str
        What the attribute is called.
    groups_from : {"labels", "words"}
        Where groups come from: given attribute values, or the side of the attribute's words that a text holds.
    leakage : sequence of SiteLeakage
        In forward order; empty where it could not be measured.
    chance : float
        Balanced accuracy of guessing the attribute.
    tradeoff : sequence of TradeoffPoint
        By growing `n_latents`.
    latents : DataFrame
        As in `ReportContent.flagged`: flagged latents and the strongest that were not flagged, with `site`,
        `latent`, `name`, `decision`, `reason`, `response_effect`, `attribute_effect`, `label_effect`,
        `attribution`, `frequency`, `top_tokens`, `top_texts`, `nearest`; any but the first two may be missing.
    data : DataFacts
    unknown : sequence of str
        What cannot be concluded, and why.
    sets : mapping of str to int
        Sizes of the parts of the data.
    seed : int
    settings, versions : mapping
    subdomain, training
        As in `ReportContent`.
    saes : mapping of str to str
        Fingerprint of each site's SAE, which ties decisions to the latents they were made about.

    Raises
    ------
    ValueError
        Not exactly one variant is the start, or a name comes twice.
    """

    title: str
    classifier: str
    summary: Sequence[str]
    variants: Sequence[Variant]
    attribute: str
    groups_from: Literal["labels", "words"]
    leakage: Sequence[SiteLeakage]
    chance: float
    tradeoff: Sequence[TradeoffPoint]
    latents: pd.DataFrame
    data: DataFacts
    unknown: Sequence[str]
    sets: Mapping[str, int]
    seed: int
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    subdomain: Subdomain | None = None
    training: Mapping[str, SiteTraining] | None = None
    saes: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"an audit takes each variant once, got {names}.")
        starts = [variant.name for variant in self.variants if variant.role == "start"]
        if len(starts) != 1:
            raise ValueError(f"an audit takes one variant with the role 'start', got {starts}.")
