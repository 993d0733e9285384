"""What an audit compares before and after: flipped decisions, the worst-served group, accuracy.

A `Measure` holds one figure of the classifier as it came and of the edited one, and says whether they differ:
only intervals that do not meet show a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ssae_debias.report.audit.content import AuditContent, Variant
from ssae_debias.report.content import Estimate
from ssae_debias.report.wording import counted

Key = Literal["flips", "worst", "accuracy"]
Change = Literal["better", "worse", "open", "unmeasured"]

TITLES: dict[Key, str] = {
    "flips": "Decisions that flip",
    "worst": "Worst-served group",
    "accuracy": "Accuracy",
}
# How a measure is called within a sentence.
NAMES: dict[Key, str] = {"flips": "flips", "worst": "the worst group", "accuracy": "accuracy"}


@dataclass(frozen=True)
class Measure:
    """One figure before and after the edit.

    `key` says which, `title` and `reading` are what the page writes above and below it; `after` is None where
    there is no edit or it was not measured there.
    """

    key: Key
    title: str
    reading: str
    before: Estimate
    after: Estimate | None

    @property
    def change(self) -> Change:
        """Whether the edit is shown to make it better or worse; "open" where the intervals meet."""
        return "unmeasured" if self.after is None else compare(self.key, self.after, self.before)


def compare(key: Key, one: Estimate, other: Estimate) -> Change:
    """How `one` stands against `other`: better or worse only where the intervals are apart.

    Examples
    --------
    >>> few, many = Estimate(0.04, 0.02, 0.06), Estimate(0.31, 0.28, 0.34)
    >>> compare("flips", few, many), compare("worst", few, many), compare("worst", few, few)
    ('better', 'worse', 'open')
    """
    if one.overlaps(other):
        return "open"
    return "better" if ahead(key, one, other) else "worse"


def ahead(key: Key, one: Estimate, other: Estimate) -> bool:
    """Whether `one` has the better point estimate, whatever the intervals: fewer flips, higher accuracy.

    Examples
    --------
    >>> ahead("flips", Estimate(0.04, 0.02, 0.06), Estimate(0.05, 0.03, 0.07))
    True
    """
    return one.mean < other.mean if key == "flips" else one.mean > other.mean


def reading(variant: Variant, key: Key) -> Estimate | None:
    """A variant's figure; accuracy counts each group once where groups are known, else each row.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> reading(example_audit_content().variants[0], "flips").mean
    0.314
    """
    if key == "flips":
        return variant.flips["rate"] if variant.flips else None
    if key == "worst":
        return variant.worst_group_accuracy
    return variant.balanced_accuracy or variant.accuracy


def start_of(content: AuditContent) -> Variant:
    """The classifier as it came; `AuditContent` makes sure that there is one."""
    return next(variant for variant in content.variants if variant.role == "start")


def proposal_of(content: AuditContent) -> Variant | None:
    """The edit that the page is about: the first of ours; None where nothing was edited."""
    return next((variant for variant in content.variants if variant.role == "ours"), None)


def measures(content: AuditContent) -> tuple[Measure, ...]:
    """The figures on top of the page, the leading one first.

    Flips lead where a counterfactual is known, for they show what the classifier does, whoever is in the data;
    then the worst group; then accuracy, which is what an edit may cost.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> [(measure.key, measure.change) for measure in measures(example_audit_content())]
    [('flips', 'better'), ('worst', 'better'), ('accuracy', 'better')]
    """
    start, edited = start_of(content), proposal_of(content)
    found = []
    for key in TITLES:
        before = reading(start, key)
        if before is None:
            continue
        after = reading(edited, key) if edited else None
        if key == "accuracy" and edited and start.balanced_accuracy and not edited.balanced_accuracy:
            # One of them counts groups and the other rows: only rows can be compared.
            before, after = start.accuracy, edited.accuracy
        title = TITLES[key]
        if key == "accuracy" and before is start.balanced_accuracy:
            title = "Balanced accuracy"
        found.append(Measure(key, title, _explain(key, content, start, edited), before, after))
    return tuple(found)


def _explain(key: Key, content: AuditContent, start: Variant, edited: Variant | None) -> str:
    if key == "flips":
        assert start.flips is not None
        return (
            f"Decisions that change when only the words for {content.attribute} do, "
            f"over {counted(start.flips['n'], 'text')}. Lower is better."
        )
    if key == "worst":
        return f"Accuracy in the group served worst{_who(start, edited)}. Higher is better."
    if start.balanced_accuracy and (edited is None or edited.balanced_accuracy):
        return "Mean of the groups' accuracies, each group counted once. Higher is better."
    return "Part of all texts that is decided right. Higher is better."


def _who(start: Variant, edited: Variant | None) -> str:
    before, after = start.worst_group, edited.worst_group if edited else None
    if before and after and after != before:
        return f": {before} before, {after} after"
    return f": {before}" if before else ""


def competitors(content: AuditContent) -> Sequence[Variant]:
    """What the proposal is compared with: rivals, and other edits of ours."""
    proposal = proposal_of(content)
    return [
        variant
        for variant in content.variants
        if variant.role in ("rival", "ours") and variant is not proposal
    ]
