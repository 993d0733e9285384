"""What an audit cannot conclude, said as plainly as what it can.

The page itself says what follows from any run's figures (`report/audit/caveats.py`): the smallest group, one seed, an
attribute that is still read, a label that tells the attribute. Here stands what only the audit knows: what was not
given or not measured, what could not be told apart, and where a figure stands for something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssae_debias.audit.data_facts import association_strength
from ssae_debias.audit.found import Found
from ssae_debias.audit.groups import Groups
from ssae_debias.audit.leaks import readable_values
from ssae_debias.data.validation import DETERMINED
from ssae_debias.report import Estimate
from ssae_debias.report.audit import SiteLeakage, Variant
from ssae_debias.report.caveats import LEAK_MARGIN

FEW = 30
"""Rows below which a group's accuracy says next to nothing: about ± 17 points at an accuracy of one half."""
ERASED_ALONE = (
    " What the edit gains it gains by erasure alone, which LEACE within labels gives as well, and without latents there "
    "is nothing for a person to read or overrule."
)


def what_is_unknown(
    *,
    variants: Sequence[Variant],
    y: NDArray[np.int64],
    groups: Groups,
    fit_y: NDArray[np.int64],
    fit_groups: Groups,
    found: Found,
    leakage: Sequence[SiteLeakage],
    chance: float,
) -> list[str]:
    """Sentences on the limits of an audit.

    Parameters
    ----------
    variants : sequence of Variant
        As the report lists them.
    y : ndarray of int64
        Labels of the evaluation rows.
    groups : Groups
        Of the evaluation rows.
    fit_y : ndarray of int64
    fit_groups : Groups
        Of the fit rows.
    found : Found
    leakage : sequence of SiteLeakage
    chance : float
        Balanced accuracy of guessing.

    Examples
    --------
    >>> few = Groups(np.array(["F"] * 3 + ["M"] * 2), np.ones(5, bool), "labels", np.zeros(5, int))
    >>> _about_leaks([], np.array([0, 0, 1, 1, 1]), few)
    ['Leakage was not measured: no label holds 10 evaluation rows of two values of the attribute.']
    """
    original = next(variant for variant in variants if variant.role == "start")
    return [
        *_about_groups(original, y, groups),
        *_about_association(fit_y, fit_groups, found),
        *_about_flips(original, y),
        *_about_leaks(leakage, y, groups),
        *_about_what_is_left(leakage, found, chance),
        *_about_the_edit(found),
    ]


def _about_groups(original: Variant, y: NDArray[np.int64], groups: Groups) -> list[str]:
    unknown, n = int((~groups.known).sum()), len(y)
    if groups.source == "none":
        return [
            "No groups are known, so who is served worse cannot be told: give sensitive_features for some rows."
        ]
    if len(groups.names) < 2:
        return [
            f"The evaluation rows hold {len(groups.names)} value(s) of the attribute, so who is served worse cannot be "
            "told: let rows of two or more values judge."
        ]
    said = []
    if unknown and groups.source == "words":
        said.append(
            f"{unknown} of {n} evaluation texts hold no words of either side, or of both alike: they count in the "
            "accuracy, in no group."
        )
    elif unknown:
        said.append(
            f"The attribute of {unknown} of {n} evaluation rows is not known: they count in the accuracy, in no group."
        )
    few = {name: cell["n"] for name, cell in (original.groups or {}).items() if cell["n"] < FEW}
    if len(few) > 1:
        listed = ", ".join(f"{name} ({size})" for name, size in few.items())
        said.append(f"Too few rows to judge these groups by: {listed}.")
    if original.worst_group in few:
        said.append(
            f"The worst-served group, {original.worst_group}, has {few[original.worst_group]} rows: in a group so small "
            "a low accuracy may be chance."
        )
    return said


def _about_association(y: NDArray[np.int64], groups: Groups, found: Found) -> list[str]:
    if groups.source == "none" or association_strength(y, groups) < DETERMINED:
        return []
    said = (
        "In the rows that latents were found on, the attribute and the label are the same thing "
        f"(Cramér's V {association_strength(y, groups):.2f}): no association can tell one from the other"
    )
    if "response_effect" in found.table:
        said += ". Counterfactuals alone say which latents carry the attribute"
    elif found.n_ablated:
        said += (
            ". What was flagged may be the task itself: give counterfactuals, or rows where the two differ"
        )
    else:
        said += ", so nothing was flagged: give counterfactuals, or rows where the two differ"
    if "erasure" not in found.residue:
        said += ", and what the latents leave of it was not erased"
    return [f"{said}."]


def _about_flips(original: Variant, y: NDArray[np.int64]) -> list[str]:
    if original.flips is None:
        return [
            "Whether decisions change with the attribute alone was not measured: give word pairs, or counterfactual=."
        ]
    if original.flips["n"] < FEW:
        return [
            f"Only {original.flips['n']} of {len(y)} evaluation rows are changed by their counterfactual: too few to "
            "say how often decisions flip."
        ]
    return []


def _about_leaks(leakage: Sequence[SiteLeakage], y: NDArray[np.int64], groups: Groups) -> list[str]:
    if len(groups.names) < 2:
        return []
    if not leakage:
        return ["Leakage was not measured: no label holds 10 evaluation rows of two values of the attribute."]
    left_out = sorted(set(groups.names) - set(readable_values(y, groups.values, groups.known)))
    if left_out:
        return [
            f"Leakage is measured without {', '.join(left_out)}: no label holds enough evaluation rows of "
            f"{'it' if len(left_out) == 1 else 'them'} and of the other values."
        ]
    return []


def _about_what_is_left(leakage: Sequence[SiteLeakage], found: Found, chance: float) -> list[str]:
    """Where an attribute that is still read may lie; that it is read the page says itself."""
    # what is left at the last edited site was never taken away; what is read again later was put together anew
    edited = [leak for leak in leakage if leak.site in {*found.edits()}]
    if not edited:
        return []
    after = list(leakage).index(edited[-1])
    here, later = leakage[after], leakage[after + 1 :]
    if _still_read(here, chance):
        return [
            f"What is still read of the attribute at {here.site}, where it was edited last, lies in what the SAEs do not "
            "explain (their error term is kept), or in latents that were not flagged: which of the two is not known."
        ]
    again = [leak.site for leak in later if _still_read(leak, chance)]
    if again:
        return [
            f"At {here.site}, the last edited site, hardly anything of the attribute is read; from {again[0]} on it is: "
            "later blocks make it readable again, from traces that the probes do not see."
        ]
    return []


def _still_read(leak: SiteLeakage, chance: float) -> bool:
    return any(
        isinstance(read, Estimate) and read.low > chance and read.mean > chance + LEAK_MARGIN
        for read in (leak.edited_linear, leak.edited_mlp)
    )


def _about_the_edit(found: Found) -> list[str]:
    if found.n_ablated:
        return []
    said = (
        "No latent is ablated: either nothing here carries the attribute strongly, or the evidence is too weak to say so "
        "(few rows with the attribute's words, or min_effect too high)."
    )
    return [said + ERASED_ALONE if "erasure" in found.residue else said]
