"""What cannot be concluded is said, each case in its own words, and nothing where there is nothing to say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from planted_audit import found_with, named_groups

from ssae_debias.audit.found import Found
from ssae_debias.audit.measuring import Evaluation, measure
from ssae_debias.audit.unknown import what_is_unknown
from ssae_debias.edit import Affine
from ssae_debias.report import Estimate
from ssae_debias.report.audit import SiteLeakage


def found(*ablated: int, **columns: Any) -> Found:
    decision = ["ablate" if latent in ablated else "keep" for latent in range(8)]
    return found_with(pd.DataFrame({"site": "module:0", "latent": range(8), "decision": decision} | columns))


Y = np.tile([0, 0, 1, 1], 100)
SEX = np.tile(["F", "M"], 200)


def estimate(mean: float) -> Estimate:
    return Estimate(mean, mean - 0.03, mean + 0.03)


def said(**changes: Any) -> list[str]:
    """The sentences for a plain audit with some things changed."""
    groups = changes.pop("groups", named_groups(SEX))
    y = changes.pop("y", Y)
    swappable = changes.pop("swappable", np.ones(len(y), dtype=bool))
    logits = np.eye(2)[y]
    logits[::10] = logits[::10, ::-1]
    evaluation = Evaluation(y, groups, ("no", "yes"), swappable)
    start = measure(
        evaluation, logits, logits[swappable] if swappable.any() else None, name="as it is", role="start"
    )
    known = {
        "variants": [start],
        "y": y,
        "groups": groups,
        "fit_y": y,
        "fit_groups": groups,
        "found": found(1),
        "leakage": [SiteLeakage("module:0", estimate(0.9), estimate(0.9), estimate(0.5), estimate(0.5))],
        "chance": 0.5,
    }
    return what_is_unknown(**(known | changes))


def test_nothing_is_said_where_all_is_known() -> None:
    assert said() == []


def test_groups_that_are_not_known() -> None:
    (none, *_) = said(groups=named_groups([""] * 400, source="none"), leakage=[])
    assert none.startswith("No groups are known")
    one = said(groups=named_groups(["F"] * 400), leakage=[])
    assert one == [
        "The evaluation rows hold 1 value(s) of the attribute, so who is served worse cannot be told: let rows of two "
        "or more values judge."
    ]
    partly = SEX.copy().astype(object)
    partly[:150] = ""
    (unknown,) = said(groups=named_groups(partly))
    assert unknown.startswith("The attribute of 150 of 400 evaluation rows is not known")
    (words,) = said(groups=named_groups(partly, source="words"))
    assert words.startswith("150 of 400 evaluation texts hold no words of either side")


def test_small_groups_and_a_worst_one_among_them() -> None:
    rare = SEX.copy()
    rare[(Y == 1) & (SEX == "M")] = "F"
    rare[[3, 7]] = "M"  # two of label 1
    rare[(Y == 0) & (SEX == "M")] = "F"
    rare[[0, 20]] = "M"  # of label 0, both decided wrongly
    sentences = said(groups=named_groups(rare), leakage=[])
    assert "Too few rows to judge these groups by: no/M (2), yes/M (2)." in sentences
    assert any("The worst-served group, no/M, has 2 rows" in sentence for sentence in sentences)


def test_an_attribute_that_is_the_label() -> None:
    same = named_groups(np.array(["F", "M"])[Y])
    without = said(groups=same, leakage=[], found=found())
    assert any("so nothing was flagged" in sentence for sentence in without)
    assert any(sentence.startswith("No latent is ablated") for sentence in without)
    flagged = said(groups=same, leakage=[], found=found(1))
    assert any("may be the task itself" in sentence for sentence in flagged)
    pairs = said(groups=same, leakage=[], found=found(1, response_effect=1.0))
    assert any("Counterfactuals alone say which" in sentence for sentence in pairs)
    assert all("was not erased" in one[0] for one in (without, flagged, pairs))
    assert any("no label holds 10 evaluation rows of two values" in sentence for sentence in pairs)


def test_flips_that_were_not_measured() -> None:
    (none,) = said(swappable=np.zeros(400, dtype=bool))
    assert none.startswith("Whether decisions change with the attribute alone was not measured")
    (few,) = said(swappable=np.arange(400) < 20)
    assert few.startswith("Only 20 of 400 evaluation rows are changed by their counterfactual")


def test_values_left_out_of_leakage() -> None:
    values = SEX.copy()
    values[:8] = "X"
    sentences = said(groups=named_groups(values))
    assert any(sentence.startswith("Leakage is measured without X: no label holds") for sentence in sentences)


def leak(site: str, edited: float) -> SiteLeakage:
    return SiteLeakage(site, estimate(0.95), estimate(0.95), estimate(edited), estimate(edited))


def test_where_what_is_left_may_lie() -> None:
    (error,) = said(leakage=[leak("module:0", 0.8), leak("module:1", 0.9)])
    assert "lies in what the SAEs do not explain (their error term is kept)" in error
    (again,) = said(leakage=[leak("module:0", 0.51), leak("module:1", 0.52), leak("module:2", 0.9)])
    assert again.startswith("At module:0, the last edited site, hardly anything")
    assert "from module:2 on it is" in again
    # above chance by less than its interval: nothing is claimed
    wide = Estimate(0.62, 0.45, 0.75)
    assert said(leakage=[SiteLeakage("module:0", wide, wide, wide, wide)]) == []


def test_edits_of_the_residue_count_as_edited() -> None:
    shift = Affine(change=torch.zeros(8, 8), center=torch.zeros(8), shift=torch.zeros(8))
    residue = found_with(found().table, residue={"erasure": shift})
    sentences = said(found=residue, leakage=[leak("module:0", 0.8)])
    assert any("error term" in sentence for sentence in sentences)


def test_the_page_is_not_said_twice() -> None:
    """Sentences of `report/audit/caveats.py` are the page's own."""
    same = named_groups(np.array(["F", "M"])[Y], source="words")
    sentences = " ".join(said(groups=same, leakage=[leak("module:0", 0.8)]))
    for theirs in ("One seed", "smallest group", "still reads it", "Groups are told by words", "label alone"):
        assert theirs not in sentences
