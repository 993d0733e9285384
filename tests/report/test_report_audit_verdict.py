from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.report.audit import AuditContent, Variant, example_audit_content, judge_audit
from ssae_debias.report.audit.standing import winners
from ssae_debias.report.audit.verdict import LEAN
from ssae_debias.report.content import Estimate

EXAMPLE = example_audit_content()
BLANK = Variant("as it is", "start", False, Estimate(0.9, 0.88, 0.92))


def around(mean: float, half: float = 0.02) -> Estimate:
    return Estimate(mean, mean - half, mean + half)


def variant(
    role: str = "start",
    *,
    flips: float | None = None,
    worst: float | None = None,
    accuracy: float = 0.9,
    half: float = 0.02,
    name: str | None = None,
    labels: bool = False,
) -> Variant:
    named = (
        name
        or {"start": "as it is", "ours": "edited", "rival": "word deletion", "control": "random latents"}[
            role
        ]
    )
    return Variant(
        name=named,
        role=role,
        needs_group_labels=labels,
        accuracy=around(accuracy, half),
        worst_group="nurse/M" if worst is not None else None,
        worst_group_accuracy=None if worst is None else around(worst, half),
        flips=None if flips is None else {"rate": around(flips, half), "n": 500},
    )


def audit(*variants: Variant) -> AuditContent:
    return dataclasses.replace(EXAMPLE, variants=variants)


def said(*variants: Variant) -> str:
    verdict = judge_audit(audit(*variants))
    return " ".join([verdict.headline, *verdict.standing]).replace("\u202f", " ")


def test_flips_lead_and_the_worst_group_follows() -> None:
    text = said(variant(flips=0.31, worst=0.3), variant("ours", flips=0.04, worst=0.8))
    assert text == (
        "The classifier leans on gender: its decision changes on 31.0 % of texts when only the words for "
        "gender change. With 5 latents ablated: 4.0 %, and the worst-served group gains 50.0 points."
    )


def test_without_groups_flips_lead_alone() -> None:
    verdict = judge_audit(audit(variant(flips=0.31), variant("ours", flips=0.04)))
    assert verdict.headline.endswith("With 5 latents ablated: 4.0\u202f%.")
    assert [measure.key for measure in verdict.measures] == ["flips", "accuracy"]


def test_without_flips_groups_lead() -> None:
    text = said(variant(worst=0.3), variant("ours", worst=0.8))
    assert text.startswith(
        "The classifier serves nurse/M worst: 30.0 % are right, against 90.0 % over all texts."
    )
    assert "With 5 latents ablated the worst-served group gains 50.0 points." in text


def test_groups_that_are_served_alike_are_not_called_worse() -> None:
    assert "No group is shown to be served worse: the lowest, nurse/M" in said(variant(worst=0.88))


def test_without_both_the_page_says_what_is_missing() -> None:
    verdict = judge_audit(audit(variant(), variant("ours")))
    assert "is not measured: neither groups nor words to swap are known" in verdict.headline
    assert verdict.tone == "none"


@pytest.mark.parametrize(
    ("flips", "half", "says"),
    [
        (0.3, 0.02, "The classifier leans on gender: its"),
        (0.03, 0.02, "Whether the classifier leans on gender is open"),
        (0.01, 0.005, "The classifier hardly leans on the words for gender"),
        (0.3, 0.0, "without an interval nothing more is shown"),
    ],
)
def test_leaning_is_claimed_by_the_interval(flips, half, says) -> None:
    assert says in said(variant(flips=flips, half=half))


def test_a_group_far_below_is_named_even_where_words_hardly_matter() -> None:
    assert "It serves nurse/M worst: 30.0 % right" in said(variant(flips=0.01, worst=0.3, half=0.005))


@pytest.mark.parametrize(
    ("flips", "worst", "accuracy", "tone"),
    [
        (0.04, 0.8, 0.9, "gain"),
        (0.04, 0.3, 0.9, "gain"),
        (0.31, 0.31, 0.9, "open"),
        (0.45, 0.3, 0.9, "loss"),
        (0.31, 0.1, 0.9, "loss"),
        (0.04, 0.1, 0.9, "mixed"),
        (0.0, 0.8, 0.5, "mixed"),
        (0.31, 0.3, 0.5, "loss"),
    ],
)
def test_tone_follows_every_measure(flips, worst, accuracy, tone) -> None:
    edited = variant("ours", flips=flips, worst=worst, accuracy=accuracy)
    assert judge_audit(audit(variant(flips=0.31, worst=0.3), edited)).tone == tone


def test_a_constant_classifier_is_not_dressed_up() -> None:
    text = said(variant(flips=0.31, worst=0.3), variant("ours", flips=0.0, worst=0.02, accuracy=0.5))
    assert "but the worst-served group loses 28.0 points" in text
    assert "Accuracy falls by 40.0 points." in text


def test_harm_is_called_harm() -> None:
    assert "it rises to 45.0 %: the edit harms" in said(variant(flips=0.31), variant("ours", flips=0.45))
    assert "loses 20.0 points, which harms" in said(variant(worst=0.5), variant("ours", worst=0.3))


def test_no_effect_is_called_no_change() -> None:
    assert "no change is shown: 30.0 %, within the intervals" in said(
        variant(flips=0.31), variant("ours", flips=0.3)
    )
    one_run = said(variant(worst=0.3, half=0), variant("ours", worst=0.8, half=0))
    assert "moves by +50.0 points, without intervals to judge by" in one_run


def test_nothing_edited_is_said() -> None:
    none = dataclasses.replace(audit(variant(flips=0.3)), latents=EXAMPLE.latents.iloc[:0])
    assert "No latent is ablated: nothing was edited." in judge_audit(none).headline
    assert judge_audit(none).tone == "none"


def test_balanced_accuracy_is_the_yardstick_where_both_have_it() -> None:
    start = dataclasses.replace(variant(flips=0.3), balanced_accuracy=around(0.6))
    edited = dataclasses.replace(variant("ours", flips=0.3), balanced_accuracy=around(0.8))
    titles = [measure.title for measure in judge_audit(audit(start, edited)).measures]
    assert titles[-1] == "Balanced accuracy"
    rows_only = judge_audit(audit(start, variant("ours", flips=0.3))).measures[-1]
    assert (rows_only.title, rows_only.before, rows_only.after) == (
        "Accuracy",
        start.accuracy,
        edited.accuracy,
    )


@pytest.mark.parametrize(
    ("rival", "says"),
    [
        (
            {"flips": 0.0, "worst": 0.95},
            "Word deletion, which needs no group labels, does better on flips (0.0 % against 10.0 %) and on the "
            "worst group (95.0 % against 80.0 %).",
        ),
        ({"flips": 0.09, "worst": 0.5}, "does at least as well on flips (9.0 % against 10.0 %)."),
        ({"flips": 0.0, "worst": 0.82}, "and at least as well on the worst group"),
        ({"flips": 0.0, "worst": 0.5, "accuracy": 0.6}, "at 30.0 points less accuracy"),
        ({"flips": 0.0, "worst": 0.5, "labels": True}, "which was given group labels, does better on flips"),
        ({"flips": 0.2, "worst": 0.5}, "No other method compared does better on flips or the worst group."),
    ],
)
def test_a_rival_that_wins_is_named_and_one_that_does_not_is_not(rival, says) -> None:
    text = said(
        variant(flips=0.3, worst=0.3), variant("ours", flips=0.1, worst=0.8), variant("rival", **rival)
    )
    assert says in text


def test_a_label_free_winner_weighs_more_than_one_with_labels() -> None:
    text = said(
        variant(flips=0.3),
        variant("ours", flips=0.1),
        variant("rival", flips=0.0, labels=True, name="LEACE"),
        variant("rival", flips=0.05),
    )
    assert "Word deletion" in text
    assert "LEACE" not in text


def test_no_win_is_announced_where_nothing_was_gained() -> None:
    assert "No other method" not in said(
        variant(flips=0.3), variant("ours", flips=0.3), variant("rival", flips=0.4)
    )


def test_a_control_that_does_as_well_takes_the_credit() -> None:
    start, edited = variant(flips=0.3), variant("ours", flips=0.1)
    assert "can be credited to the flagged latents" in said(start, edited, variant("control", flips=0.11))
    verdict = judge_audit(audit(start, edited, variant("control", flips=0.3)))
    assert verdict.standing == ()
    assert verdict.comparison[-1].endswith("it matters which latents are ablated.")


rates = st.floats(0.0, 1.0)
optional = st.none() | rates
triples = st.tuples(optional, optional, rates)


@settings(max_examples=60)
@given(triples, triples, triples, triples, st.sampled_from([0.0, 0.004, 0.03, 0.2]))
def test_the_verdict_never_contradicts_the_figures(first, second, third, fourth, half) -> None:
    states = dict(zip(("start", "ours", "rival", "control"), (first, second, third, fourth), strict=True))
    content = audit(
        *(
            variant(role, flips=flips, worst=worst, accuracy=accuracy, half=half)
            for role, (flips, worst, accuracy) in states.items()
        )
    )
    verdict = judge_audit(content)
    start, edited, rival = content.variants[:3]
    text = " ".join([verdict.headline, *verdict.standing])
    if "The classifier leans on" in text:
        assert start.flips["rate"].low > LEAN
    if "hardly leans" in text:
        assert start.flips["rate"].high <= LEAN
    if " gains " in text:
        assert edited.worst_group_accuracy.low > start.worst_group_accuracy.high
    if " loses " in text:
        assert edited.worst_group_accuracy.high < start.worst_group_accuracy.low
    if " rises " in text:
        assert edited.flips["rate"].low > start.flips["rate"].high
    if "ccuracy falls" in text:
        assert edited.accuracy.high < start.accuracy.low
    if verdict.tone == "gain":
        worse = [measure for measure in verdict.measures if measure.change == "worse"]
        assert not worse
        assert any(measure.change == "better" for measure in verdict.measures)
    if half == 0.0:
        assert verdict.tone in ("open", "none")
    # whoever has the better point estimate is named, and nobody else is
    beaten = [key for key in ("flips", "worst") if winners(content, key)]
    assert ("Word deletion" in " ".join(verdict.standing)) is bool(beaten)
    if "No other method compared does better" in text:
        assert not beaten
    if "labels, does better on flips" in text:
        assert rival.flips["rate"].high < edited.flips["rate"].low
