"""The verdict of an audit: whether the classifier leans on the attribute, and what the edit changes.

Drawn from the variants and their intervals alone. Two figures differ only where their intervals do not meet;
an edit that makes anything worse is never called a gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ssae_debias.report.audit.content import AuditContent, Variant
from ssae_debias.report.audit.measures import Measure, measures, proposal_of, start_of
from ssae_debias.report.audit.standing import comparison, standing
from ssae_debias.report.content import Estimate
from ssae_debias.report.wording import counted, number, percent, points

Tone = Literal["gain", "mixed", "open", "loss", "none"]

REFITTED = "head refitted"
"""How the name of a variant ends whose last layer was fitted again."""
LEAN = 0.02
"""Part of flipped decisions from which a classifier is said to lean: a swap of words now and then breaks a
sentence, and one decision in fifty may turn on that alone."""


@dataclass(frozen=True)
class AuditVerdict:
    """What the page says on top.

    `tone` is ``"gain"`` where the edit makes something better and nothing worse, ``"loss"`` where only worse,
    ``"mixed"`` where both, ``"open"`` where intervals meet, ``"none"`` where nothing was edited or measured.
    `headline` is one to three short sentences, `standing` says who does better, `comparison` and `cost` give
    the figures; `before` and `after` are the variants compared.
    """

    tone: Tone
    headline: str
    standing: tuple[str, ...]
    measures: tuple[Measure, ...]
    comparison: tuple[str, ...]
    cost: tuple[str, ...]
    before: Variant
    after: Variant | None


def judge_audit(content: AuditContent) -> AuditVerdict:
    r"""Weigh the proposed edit against the classifier as it came, and against every other method.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> verdict = judge_audit(example_audit_content())
    >>> verdict.tone
    'gain'
    >>> for sentence in verdict.headline.replace("\u202f", " ").split(". "):
    ...     print(sentence)
    The classifier leans on gender: its decision changes on 31.4 % of texts when only the words for gender change
    With 5 latents ablated: 4.1 %, and the worst-served group gains 45.8 points.
    """
    start, edited = start_of(content), proposal_of(content)
    compared = measures(content)
    parts = [_finding(content, compared), _effect(content, compared, edited), _price(compared)]
    return AuditVerdict(
        tone=_tone(compared, edited),
        headline=" ".join(filter(None, parts)),
        standing=standing(content),
        measures=compared,
        comparison=comparison(content),
        cost=_cost(start, edited),
        before=start,
        after=edited,
    )


def n_ablated(latents: pd.DataFrame) -> int | None:
    """How many latents are ablated; None where the table holds no decisions.

    Examples
    --------
    >>> n_ablated(pd.DataFrame({"site": ["embed"], "latent": [1], "decision": ["ablate"]}))
    1
    """
    return int((latents["decision"] == "ablate").sum()) if "decision" in latents else None


def _tone(compared: tuple[Measure, ...], edited: Variant | None) -> Tone:
    judged = [measure for measure in compared if measure.key != "accuracy"]
    if edited is None or not any(measure.after for measure in judged):
        return "none"
    better = any(measure.change == "better" for measure in judged)
    worse = any(measure.change == "worse" for measure in compared)
    if better:
        return "mixed" if worse else "gain"
    return "loss" if worse else "open"


def _finding(content: AuditContent, compared: tuple[Measure, ...]) -> str:
    found = {measure.key: measure.before for measure in compared}
    flips, worst = found.get("flips"), found.get("worst")
    if flips is None and worst is None:
        return (
            f"Whether the classifier leans on {content.attribute} is not measured: neither groups nor words "
            "to swap are known."
        )
    if flips is None:
        return _groups_finding(content, leads=True)
    happens = (
        f"decision changes on {percent(flips.mean)} of texts when only the words for "
        f"{content.attribute} change"
    )
    if not flips.has_interval:
        return f"The classifier's {happens}; without an interval nothing more is shown."
    if flips.low > LEAN:
        return f"The classifier leans on {content.attribute}: its {happens}."
    if flips.high > LEAN:
        said = f"Whether the classifier leans on {content.attribute} is open: its {happens}."
    else:
        said = f"The classifier hardly leans on the words for {content.attribute}: its {happens}."
    gap = _groups_finding(content, leads=False) if worst is not None else ""
    return f"{said} {gap}".strip()


def _groups_finding(content: AuditContent, *, leads: bool) -> str:
    """What the groups show; nothing beside the flips unless the worst-served one stands apart."""
    start = start_of(content)
    worst, level = start.worst_group_accuracy, start.balanced_accuracy or start.accuracy
    assert worst is not None
    group = start.worst_group or "one group"
    if worst.mean < level.mean and not worst.overlaps(level):
        if not leads:
            return f"It serves {group} worst: {percent(worst.mean)} right against {percent(level.mean)}."
        over = "the mean of the groups" if start.balanced_accuracy else "all texts"
        return (
            f"The classifier serves {group} worst: {percent(worst.mean)} are right, "
            f"against {percent(level.mean)} over {over}."
        )
    if not leads:
        return ""
    reason = "within the intervals" if worst.has_interval and level.has_interval else "without intervals"
    return (
        f"No group is shown to be served worse: the lowest, {group}, has {percent(worst.mean)} right "
        f"against {percent(level.mean)}, {reason}."
    )


def _effect(content: AuditContent, compared: tuple[Measure, ...], edited: Variant | None) -> str:
    count = n_ablated(content.latents)
    if edited is None:
        return "No latent is ablated: nothing was edited." if not count else "No edit was measured."
    deed = f"With {counted(count, 'latent')} ablated" if count else "With the edit"
    if edited.name.endswith(REFITTED):
        deed += " and its last layer fitted again"
    judged = [measure for measure in compared if measure.key != "accuracy"]
    if not judged:
        return ""
    lead, *rest = judged
    said = _lead(deed, lead)
    for measure in rest:
        if measure.change in ("better", "worse"):
            joint = ", and" if measure.change == lead.change else ", but"
            said += f"{joint} {_moved(measure)}"
    return f"{said}."


def _lead(deed: str, measure: Measure) -> str:
    if measure.after is None:
        return f"{deed} this was not measured again"
    level = percent(measure.after.mean)
    if measure.change == "open":
        return f"{deed} no change is shown: {_open(measure)}"
    if measure.key == "flips":
        return (
            f"{deed}: {level}"
            if measure.change == "better"
            else f"{deed} it rises to {level}: the edit harms"
        )
    harm = "" if measure.change == "better" else ", which harms"
    return f"{deed} {_moved(measure)}{harm}"


def _open(measure: Measure) -> str:
    assert measure.after is not None
    known = measure.before.has_interval and measure.after.has_interval
    reason = "within the intervals" if known else "without intervals to judge by"
    if measure.key == "flips":
        return f"{percent(measure.after.mean)}, {reason}"
    difference = measure.after.mean - measure.before.mean
    sign = "−" if difference < 0 else "+"
    return f"the worst-served group moves by {sign}{points(difference)}, {reason}"


def _moved(measure: Measure) -> str:
    assert measure.after is not None
    size = points(measure.after.mean - measure.before.mean)
    return f"the worst-served group {'gains' if measure.change == 'better' else 'loses'} {size}"


def _price(compared: tuple[Measure, ...]) -> str:
    for measure in compared:
        if measure.key == "accuracy" and measure.change == "worse" and measure.after:
            return f"{measure.title} falls by {points(measure.after.mean - measure.before.mean)}."
    return ""


def _cost(start: Variant, edited: Variant | None) -> tuple[str, ...]:
    if edited is None:
        return ()
    said = [f"Accuracy over all texts: {_move(start.accuracy, edited.accuracy)}."]
    if start.balanced_accuracy and edited.balanced_accuracy:
        said.append(f"Each group counted once: {_move(start.balanced_accuracy, edited.balanced_accuracy)}.")
    disparities = {
        "Demographic parity difference": (
            start.demographic_parity_difference,
            edited.demographic_parity_difference,
        ),
        "Equalized odds difference": (start.equalized_odds_difference, edited.equalized_odds_difference),
    }
    said += [
        f"{name}: {number(old)} → {number(new)} (0 is parity)."
        for name, (old, new) in disparities.items()
        if old is not None and new is not None
    ]
    return tuple(said)


def _move(old: Estimate, new: Estimate) -> str:
    return f"{percent(old.mean)} → {percent(new.mean)}{', within the intervals' if old.overlaps(new) else ''}"
