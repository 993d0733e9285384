"""The verdict: what the rows allow one to say, in sentences, and nothing beyond.

Two figures differ only where their intervals do not meet; everything else is called open. Where another
method beats ours, the headline says so, and a random control that does as well takes the credit away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ssae_debias.report.content import Estimate, MethodRow
from ssae_debias.report.methods import COMPETITORS, best, by_worst_group, describe, subject
from ssae_debias.report.wording import counted, interval, percent, points

Tone = Literal["gain", "open", "loss", "none"]


@dataclass(frozen=True)
class Verdict:
    """What the page says on top.

    `tone` is ``"gain"`` or ``"loss"`` where the intervals are apart, ``"open"`` where they meet, ``"none"``
    where there is nothing to compare. `before` and `after` are the rows compared, `group` is the group that
    the original serves worst; `comparison` and `cost` are sentences.
    """

    tone: Tone
    headline: str
    comparison: tuple[str, ...] = ()
    cost: tuple[str, ...] = ()
    before: MethodRow | None = None
    after: MethodRow | None = None
    group: str | None = None


def judge(rows: Sequence[MethodRow]) -> Verdict:
    """Weigh our best row against where it started and against every other method.

    Ours is the best row of the debiaser that needs no group labels; one that was given them is told beside it.

    Parameters
    ----------
    rows : sequence of MethodRow
        The whole table, in any order.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> verdict = judge(example_content().rows)
    >>> verdict.tone
    'gain'
    >>> change, rivalry = verdict.headline.split("; ")
    >>> change
    'The worst-served group gains 45.8 points'
    >>> rivalry
    'Word deletion, which needs no group labels, does at least as well.'
    """
    before, after = best(rows, "start"), subject(rows)
    groups = before.groups if before else {}
    group = min(groups, key=lambda name: groups[name]["accuracy"].mean, default=None)
    if after is None:
        headline = f"Nothing to judge: none of the {counted(len(rows), 'row')} is of SSAE-debias."
        return Verdict("none", headline, before=before, group=group)
    comparison = _comparison(rows, after)
    if before is None:
        level = percent(after.worst_group_accuracy.mean)
        headline = f"The worst-served group is served at {level}; what it was before is not in the rows."
        return Verdict("none", headline, comparison, after=after)
    tone, change = _change(before.worst_group_accuracy, after.worst_group_accuracy)
    return Verdict(
        tone, f"{change}{_rivalry(rows, after)}.", comparison, _cost(before, after), before, after, group
    )


def _change(before: Estimate, after: Estimate) -> tuple[Tone, str]:
    difference = after.mean - before.mean
    size = points(difference)
    if before.overlaps(after):
        known = before.has_interval and after.has_interval
        reason = "within the intervals" if known else "without intervals to judge by"
        size = f"−{size}" if difference < 0 else f"+{size}"
        return "open", f"No change is shown: the worst-served group moves by {size}, {reason}"
    if difference > 0:
        return "gain", f"The worst-served group gains {size}"
    return "loss", f"The edit harms: the worst-served group loses {size}"


def _rivalry(rows: Sequence[MethodRow], ours: MethodRow) -> str:
    """How the headline goes on: with the strongest rival that stands against ours, or with none."""
    level = ours.worst_group_accuracy
    others = by_worst_group([row for row in rows if describe(row.method).role in (*COMPETITORS, "control")])
    better = [row for row in others if row.worst_group_accuracy.mean > level.mean]
    if not better:
        start = best(rows, "start")
        gained = start is not None and level.mean > start.worst_group_accuracy.mean
        beaten = gained and any(describe(row.method).role in COMPETITORS for row in others)
        return ", and no other method compared reaches more" if beaten else ""
    # Among better methods one that asks for no labels weighs more: it answers the same question.
    label_free = [row for row in better if not row.needs_group_labels]
    rival = (label_free or better)[0]
    name = describe(rival.method).label
    needs = "which needs group labels" if rival.needs_group_labels else "which needs no group labels"
    if rival.worst_group_accuracy.overlaps(level):
        return f"; {name}, {needs}, does at least as well"
    return f"; {name}, {needs}, does better"


def _comparison(rows: Sequence[MethodRow], ours: MethodRow) -> tuple[str, ...]:
    level = ours.worst_group_accuracy
    free, labelled = (best(rows, *COMPETITORS, label_free=label_free) for label_free in (True, False))
    published, given_labels = best(rows, "published"), best(rows, "ours", label_free=False)
    named = {
        "Without group labels the best other method": free,
        "With group labels the best other method": labelled,
        "The best published row": None if published in (free, labelled) else published,
    }
    said = [
        f"{circumstance} is {describe(row.method).label}: {percent(row.worst_group_accuracy.mean)} "
        f"({interval(row.worst_group_accuracy)}), {_against(row.worst_group_accuracy, level)}."
        for circumstance, row in named.items()
        if row
    ]
    if given_labels and given_labels is not ours:
        estimate = given_labels.worst_group_accuracy
        said.append(
            f"{describe(given_labels.method).label}, which was given group labels, reaches "
            f"{percent(estimate.mean)} ({interval(estimate)}), {_against(estimate, level, than='ours without')}."
        )
    control = best(rows, "control")
    if control:
        reached = f"Ablating as many random latents gives {percent(control.worst_group_accuracy.mean)}"
        # Random latents come without the rest of our edit, so where the flagged ones alone are in the rows, the
        # two are compared: what the rest does is not the latents' merit.
        alone = next((row for row in rows if row.method == "latents_only_retrain"), ours).worst_group_accuracy
        apart = control.worst_group_accuracy.mean < alone.mean and not control.worst_group_accuracy.overlaps(
            alone
        )
        said.append(
            f"{reached}: it matters which latents are ablated."
            if apart
            else f"{reached}: the result cannot be credited to the flagged latents."
        )
    ceiling = best(rows, "ceiling")
    if ceiling:
        reached = percent(ceiling.worst_group_accuracy.mean)
        said.append(
            f"The {describe(ceiling.method).label.lower()}, trained on balanced data, reaches {reached}."
        )
    return tuple(said)


def _against(rival: Estimate, ours: Estimate, *, than: str = "ours") -> str:
    difference = rival.mean - ours.mean
    if abs(difference) < 5e-4:
        return f"level with {than}"
    side = f"{points(difference)} {'above' if difference > 0 else 'below'} {than}"
    return f"{side}, but the intervals overlap" if rival.overlaps(ours) else side


def _cost(before: MethodRow, after: MethodRow) -> tuple[str, ...]:
    task = _move(before.task_accuracy, after.task_accuracy)
    attribute = _move(before.attribute_accuracy, after.attribute_accuracy)
    return (
        f"Task accuracy on balanced data: {task}.",
        f"The prediction agrees with the attribute (ideal: chance): {attribute}.",
    )


def _move(old: Estimate, new: Estimate) -> str:
    return f"{percent(old.mean)} → {percent(new.mean)}{', within the intervals' if old.overlaps(new) else ''}"
