"""How the proposed edit stands against the other methods: said where it loses as plainly as where it wins.

A rival with a better point estimate is named, whatever the intervals; they only decide between "does better"
and "does at least as well". A random control that does as well takes the credit away.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssae_debias.report.audit.content import AuditContent, Variant
from ssae_debias.report.audit.measures import (
    NAMES,
    Key,
    ahead,
    compare,
    competitors,
    measures,
    proposal_of,
    reading,
    start_of,
)
from ssae_debias.report.content import Estimate
from ssae_debias.report.wording import interval, listed, percent, points, sentence_start

JUDGED: tuple[Key, ...] = ("flips", "worst")
"""Measures on which methods are compared; accuracy is told beside them as what it costs."""

TITLE = {"flips": "Flips", "worst": "Worst group"}


def winners(content: AuditContent, key: Key) -> list[Variant]:
    """Other methods with a better point estimate than the proposal, the best first.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> [variant.name for variant in winners(example_audit_content(), "worst")]
    ['LEACE given label', 'words deleted']
    """
    proposal = proposal_of(content)
    level = reading(proposal, key) if proposal else None
    if level is None:
        return []
    return [
        other
        for other, estimate in ranked(competitors(content), key)
        if ahead(key, estimate, level) and abs(estimate.mean - level.mean) >= 5e-4
    ]


def ranked(variants: Sequence[Variant], key: Key) -> list[tuple[Variant, Estimate]]:
    """Variants on which `key` was measured, with it, the best first."""
    measured = [(variant, estimate) for variant in variants if (estimate := reading(variant, key))]
    return sorted(measured, key=lambda pair: pair[1].mean if key == "flips" else -pair[1].mean)


def standing(content: AuditContent) -> tuple[str, ...]:
    r"""The sentences under the headline: who does better than the proposal, or that nobody does.

    Returns
    -------
    tuple of str
        Empty where there is no proposal, or nothing to compare it with.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> for sentence in standing(example_audit_content()):
    ...     print(sentence.replace("\u202f", " ").replace(" and ", "\nand "))
    Words deleted, which needs no group labels, does better on flips (0.0 % against 4.1 %)
    and at least as well on the worst group (82.7 % against 78.1 %).
    """
    proposal = proposal_of(content)
    if proposal is None:
        return ()
    by_method: dict[str, list[Key]] = {}
    for key in JUDGED:
        better = winners(content, key)
        # One that asks for no labels weighs more: it answers the same question.
        better = [variant for variant in better if not variant.needs_group_labels] or better
        if better:
            by_method.setdefault(better[0].name, []).append(key)
    others = {variant.name: variant for variant in competitors(content)}
    said = [_beaten(others[name], proposal, keys) for name, keys in by_method.items()]
    if not said:
        said += _unbeaten(content)
    return (*said, *_credit(content))


def _beaten(rival: Variant, proposal: Variant, keys: Sequence[Key]) -> str:
    clauses = []
    for key in keys:
        theirs, ours = reading(rival, key), reading(proposal, key)
        assert theirs is not None
        assert ours is not None
        how = "better" if compare(key, theirs, ours) == "better" else "at least as well"
        clauses.append(f"{how} on {NAMES[key]} ({percent(theirs.mean)} against {percent(ours.mean)})")
    if len(clauses) == 2 and clauses[1].split(" on ")[0] == clauses[0].split(" on ")[0]:
        clauses[1] = "on " + clauses[1].split(" on ", 1)[1]
    price = ""
    if rival.accuracy.mean < proposal.accuracy.mean and not rival.accuracy.overlaps(proposal.accuracy):
        price = f", at {points(proposal.accuracy.mean - rival.accuracy.mean)} less accuracy"
    return f"{_titled(rival)} does {listed(clauses)}{price}."


def _titled(variant: Variant) -> str:
    needs = "was given group labels" if variant.needs_group_labels else "needs no group labels"
    kind = "another edit of latents, which " if variant.role == "ours" else "which "
    return f"{sentence_start(variant.name)}, {kind}{needs},"


def _unbeaten(content: AuditContent) -> list[str]:
    compared = [
        key
        for key in JUDGED
        if any(measure.key == key and measure.change == "better" for measure in measures(content))
        and ranked([variant for variant in competitors(content) if variant.role == "rival"], key)
    ]
    if not compared:
        return []
    return [f"No other method compared does better on {' or '.join(NAMES[key] for key in compared)}."]


def _credit(content: AuditContent) -> list[str]:
    """Where a control gains what the proposal gains, the flagged latents have not earned it."""
    gained = [measure for measure in measures(content) if measure.change == "better"]
    for measure in gained:
        level = measure.after
        if measure.key not in JUDGED or level is None:
            continue
        controls = [variant for variant in content.variants if variant.role == "control"]
        for control, estimate in ranked(controls, measure.key)[:1]:
            if estimate.overlaps(level) or ahead(measure.key, estimate, level):
                return [
                    f"{sentence_start(control.name)}, a control, {_reach(measure.key, estimate)} too: "
                    f"not all of the change in {NAMES[measure.key]} can be credited to the flagged latents."
                ]
    return []


def _reach(key: Key, estimate: Estimate) -> str:
    return f"{'falls to' if key == 'flips' else 'reaches'} {percent(estimate.mean)}"


def comparison(content: AuditContent) -> tuple[str, ...]:
    r"""Per measure, the best other method without and with group labels; then the control.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> said = comparison(example_audit_content())
    >>> print(said[0].replace("\u202f", " ").replace(". ", ".\n"))
    Flips: words deleted has 0.0 % (0.0–0.3), 4.1 points fewer than ours.
    With group labels LEACE given label has 8.7 % (7.5–9.9), 4.6 points more than ours.
    >>> print(said[-1].replace("\u202f", " ").replace(": ", ":\n"))
    Random latents, a control, has 31.1 % flips and 32.9 % in the worst group:
    it matters which latents are ablated.
    """
    proposal = proposal_of(content)
    if proposal is None:
        return ()
    said = []
    for key in JUDGED:
        level = reading(proposal, key)
        if level is None:
            continue
        figures = []
        for labelled in (False, True):
            alike = [other for other in competitors(content) if other.needs_group_labels == labelled]
            figures += [
                f"{'With group labels ' if labelled else ''}{other.name} has {percent(estimate.mean)} "
                f"({interval(estimate)}), {_against(key, estimate, level)}."
                for other, estimate in ranked(alike, key)[:1]
            ]
        if figures:
            said.append(f"{TITLE[key]}: {' '.join(figures)}")
    return (*said, *_control(content, proposal))


def _against(key: Key, theirs: Estimate, ours: Estimate) -> str:
    difference = theirs.mean - ours.mean
    if abs(difference) < 5e-4:
        return "level with ours"
    words = ("more", "fewer") if key == "flips" else ("above", "below")
    than = " than ours" if key == "flips" else " ours"
    side = f"{points(difference)} {words[difference < 0]}{than}"
    return f"{side}, but the intervals overlap" if theirs.overlaps(ours) else side


def _control(content: AuditContent, proposal: Variant) -> list[str]:
    control = next((variant for variant in content.variants if variant.role == "control"), None)
    if control is None:
        return []
    figures, apart = [], []
    for key in JUDGED:
        theirs, ours, began = (reading(variant, key) for variant in (control, proposal, start_of(content)))
        if theirs is None or ours is None or began is None:
            continue
        figures.append(f"{percent(theirs.mean)} {'flips' if key == 'flips' else 'in the worst group'}")
        if compare(key, ours, began) == "better":
            apart.append(compare(key, ours, theirs) == "better")
    if not figures:
        return []
    said = f"{sentence_start(control.name)}, a control, has {listed(figures)}"
    if not apart:
        return [f"{said}."]
    if all(apart):
        return [f"{said}: it matters which latents are ablated."]
    return [f"{said}: not all of the change can be credited to the flagged latents."]
