"""What the figures leave open, as far as the page can see it itself.

A caller knows the limits of its data; these here follow from any run's rows and are never left out: a group
too small, one seed only, an attribute that a probe still reads, a best variant picked after the fact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ssae_debias.report.content import GroupResult, MethodRow, ReportContent
from ssae_debias.report.methods import describe, subject
from ssae_debias.report.wording import NARROW_SPACE, counted, percent, points

# Below this many texts a group's 95 % interval is wider than ± 5 points at an accuracy of one half.
SMALL_GROUP = 400
# A probe this far above chance reads the attribute for practical purposes.
LEAK_MARGIN = 0.1


def caveats(content: ReportContent) -> tuple[str, ...]:
    r"""Sentences on what is not known, to stand beside the caller's own notes.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> caveats(example_content())[0].replace("\u202f", " ")
    'The smallest group, nurse/M, has 99 texts: its accuracy is known to about ± 8.1 points.'
    """
    ours = subject(content.rows) or content.rows[0]
    said = small_group(ours.groups)
    if len(set(content.seeds)) == 1:
        said.append("One seed was run: how the result varies from seed to seed is not known.")
    said += _leak(ours, content.chance)
    alike = [row for row in content.rows if row.needs_group_labels == ours.needs_group_labels]
    if sum(describe(row.method).role == "ours" for row in alike) > 1:
        said.append(
            f"The figures on top are those of our best variant, {describe(ours.method).label}, "
            "picked on the data on which they are reported."
        )
    return tuple(said)


def small_group(groups: Mapping[str, GroupResult]) -> list[str]:
    r"""How well the smallest group is known, where it is small.

    Examples
    --------
    >>> from ssae_debias.report import Estimate
    >>> small_group({"nurse/M": {"accuracy": Estimate(0.5, 0.4, 0.6), "n": 96}})[0].replace("\u202f", " ")
    'The smallest group, nurse/M, has 96 texts: its accuracy is known to about ± 10.0 points.'
    """
    if not groups:
        return []
    name, group = min(groups.items(), key=lambda item: item[1]["n"])
    n = group["n"]
    if not 0 < n < SMALL_GROUP:
        return []
    # A perfect score has no binomial error; such a group is taken to miss half a text.
    accuracy = min(max(group["accuracy"].mean, 0.5 / n), 1 - 0.5 / n)
    error = 1.96 * math.sqrt(accuracy * (1 - accuracy) / n)
    return [
        f"The smallest group, {name}, has {counted(n, 'text')}: "
        f"its accuracy is known to about ±{NARROW_SPACE}{points(error)}."
    ]


def _leak(row: MethodRow, chance: float) -> list[str]:
    probes = {"a linear probe": row.leakage["linear"], "an MLP probe": row.leakage["mlp"]}
    measured = {probe: estimate.mean for probe, estimate in probes.items() if estimate}
    if not measured:
        return ["Whether the attribute can still be read from the edited activations was not measured."]
    probe = max(measured, key=lambda name: measured[name])
    if measured[probe] < chance + LEAK_MARGIN:
        return []
    return [
        f"The attribute is not gone: {probe} still reads it from the edited activations "
        f"at {percent(measured[probe])} (chance {percent(chance, 0)})."
    ]
