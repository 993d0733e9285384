"""What the methods are called on a page, and what part each plays.

A table of a dozen methods is readable only if the reader knows which of them is the subject (`ours`), where
it started (`start`), what it competes with (`rival`), what would show that it works by accident (`control`)
and what no method can be blamed for missing (`ceiling`, trained on balanced data).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ssae_debias.report.content import MethodRow

Role = Literal["start", "ours", "rival", "control", "ceiling"]


@dataclass(frozen=True)
class Method:
    """A method's name for readers, its role, and one sentence on what it does."""

    label: str
    role: Role
    description: str


METHODS: dict[str, Method] = {
    "original": Method("Original model", "start", "The model as it came."),
    "debiaser": Method(
        "SSAE-debias", "ours", "Flagged latents are ablated inside the model; the classifier is kept."
    ),
    "debiaser_retrain": Method(
        "SSAE-debias retrained", "ours", "Flagged latents are ablated, then the classifier is fitted again."
    ),
    "delete_words": Method("Word deletion", "rival", "The attribute's words are taken out of the texts."),
    "swap_projection": Method(
        "Swap projection", "rival", "Differences between a text and its word-swapped twin are projected out."
    ),
    "mean_projection": Method("Mean projection", "rival", "The attribute's mean direction is projected out."),
    "leace": Method("LEACE", "rival", "Every linear trace of the attribute is erased."),
    "leace_given_y": Method(
        "LEACE given label", "rival", "Linear traces of the attribute within each label are erased."
    ),
    "inlp": Method("INLP", "rival", "Probes for the attribute are projected out one after the other."),
    "correlation_remover": Method(
        "Correlation remover", "rival", "Linear correlation with the attribute is regressed out."
    ),
    "reweighting": Method(
        "Group reweighting", "rival", "Training texts are weighted so that groups count alike."
    ),
    "dfr": Method("Deep feature reweighting", "rival", "The last layer is fitted again on balanced data."),
    "random_latents": Method("Random latents", "control", "As many latents are ablated, drawn at random."),
    "oracle": Method(
        "Oracle", "ceiling", "Trained on data in which the attribute says nothing about the label."
    ),
}

RETRAINED = ("_retrain", "_retrained")


def describe(name: str) -> Method:
    """Look a method up; a name that is not listed stands for itself, as a rival (or ours, if ``debiaser…``).

    Examples
    --------
    >>> describe("leace_given_y").label
    'LEACE given label'
    >>> describe("inlp_retrain").label
    'INLP retrained'
    >>> describe("debiaser_tilted").role
    'ours'
    """
    if name in METHODS:
        return METHODS[name]
    for suffix in RETRAINED:
        base = METHODS.get(name.removesuffix(suffix))
        if name.endswith(suffix) and base:
            return Method(f"{base.label} retrained", base.role, f"{base.description} Then fitted again.")
    return Method(name, "ours" if name.startswith("debiaser") else "rival", "")


def by_worst_group(rows: Sequence[MethodRow]) -> list[MethodRow]:
    """Rows from the best worst group to the lowest."""
    return sorted(rows, key=lambda row: -row.worst_group_accuracy.mean)


def best(rows: Sequence[MethodRow], *roles: Role, label_free: bool | None = None) -> MethodRow | None:
    """The row with the best worst group among some roles, or None where there is none.

    Parameters
    ----------
    rows : sequence of MethodRow
        Candidates.
    *roles : Role
        Roles to look among; none given means all but the ceiling, which is a yardstick and no method.
    label_free : bool or None, default=None
        True or False keeps only methods that work without, or only with, group labels.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> best(example_content().rows, "rival", label_free=True).method
    'delete_words'
    """
    wanted = roles or ("start", "ours", "rival", "control")
    ranked = by_worst_group(
        [
            row
            for row in rows
            if describe(row.method).role in wanted
            and (label_free is None or row.needs_group_labels != label_free)
        ]
    )
    return ranked[0] if ranked else None
