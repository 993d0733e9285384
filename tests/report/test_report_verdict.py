from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssae_debias.report import Estimate, MethodRow, example_content, judge
from ssae_debias.report.caveats import caveats
from ssae_debias.report.methods import best, describe


@pytest.mark.parametrize(
    ("before", "after", "half", "tone"),
    [
        (0.3, 0.8, 0.02, "gain"),
        (0.8, 0.3, 0.02, "loss"),
        (0.50, 0.53, 0.02, "open"),
        (0.3, 0.8, 0.0, "open"),  # one run without interval shows nothing
    ],
)
def test_tone_follows_the_intervals(make_row, before, after, half, tone) -> None:
    verdict = judge([make_row("original", before, half=half), make_row("debiaser", after, half=half)])
    assert verdict.tone == tone
    words = {"gain": "gains 50.0 points", "loss": "loses 50.0 points", "open": "No change is shown"}
    assert words[tone] in verdict.headline


@pytest.mark.parametrize(
    ("rival", "half", "labels", "says"),
    [
        (0.95, 0.02, False, "Word deletion, which needs no group labels, does better"),
        (0.82, 0.02, False, "Word deletion, which needs no group labels, does at least as well"),
        (0.95, 0.02, True, "Word deletion, which needs group labels, does better"),
        (0.60, 0.02, False, "no other method compared reaches more"),
    ],
)
def test_the_headline_names_a_rival_that_beats_ours(make_row, rival, half, labels, says) -> None:
    rows = [
        make_row("original", 0.3),
        make_row("debiaser", 0.8),
        make_row("delete_words", rival, half=half, labels=labels),
    ]
    assert says in judge(rows).headline


def test_a_loss_is_not_dressed_up_as_a_win_over_the_others(make_row) -> None:
    rows = [make_row("original", 0.8), make_row("debiaser", 0.5), make_row("delete_words", 0.3)]
    assert judge(rows).headline == "The edit harms: the worst-served group loses 30.0 points."


def test_a_label_free_winner_weighs_more_than_one_with_labels(make_row) -> None:
    rows = [
        make_row("original", 0.3),
        make_row("debiaser", 0.7),
        make_row("leace_given_y", 0.95, labels=True),
        make_row("delete_words", 0.9),
    ]
    verdict = judge(rows)
    assert "Word deletion" in verdict.headline
    assert any("LEACE given label" in sentence for sentence in verdict.comparison)


def test_a_published_row_is_a_competitor_and_never_ours(make_row) -> None:
    rows = [make_row("original", 0.3), make_row("debiaser", 0.7), make_row("ssae_retrain", 0.9)]
    verdict = judge(rows)
    assert verdict.after.method == "debiaser"
    assert "SSAE SHIFT retrained, which needs no group labels, does better" in verdict.headline
    beside = judge([*rows, make_row("delete_words", 0.95)])
    assert any(sentence.startswith("The best published row is SSAE SHIFT") for sentence in beside.comparison)
    assert not any("best published" in sentence for sentence in verdict.comparison)  # said already


def test_the_page_is_about_what_works_without_labels(make_row) -> None:
    rows = [
        make_row("original", 0.3),
        make_row("debiaser", 0.7),
        make_row("debiaser_retrain", 0.75),
        make_row("debiaser_given_labels", 0.9, labels=True),
    ]
    verdict = judge(rows)
    assert verdict.after.method == "debiaser_retrain"
    (sentence,) = [text for text in verdict.comparison if "given group labels" in text]
    assert "SSAE-debias + labels" in sentence
    assert "15.0 points above ours without" in sentence
    labelled = judge([rows[0], rows[3]])
    assert labelled.after.method == "debiaser_given_labels"
    assert not any("given group labels" in text for text in labelled.comparison)


def test_the_oracle_is_a_yardstick_and_beats_nobody(make_row) -> None:
    rows = [make_row("original", 0.3), make_row("debiaser", 0.7), make_row("oracle", 0.9, labels=True)]
    assert judge(rows).headline == "The worst-served group gains 40.0 points."
    assert best(rows).method == "debiaser"


@pytest.mark.parametrize(("control", "credited"), [(0.31, True), (0.69, False), (0.9, False)])
def test_a_random_control_that_does_as_well_takes_the_credit(make_row, control, credited) -> None:
    rows = [make_row("original", 0.3), make_row("debiaser", 0.7), make_row("random_latents", control)]
    text = " ".join(judge(rows).comparison)
    assert ("it matters which latents" in text) is credited
    assert ("cannot be credited" in text) is not credited


def test_the_control_is_held_against_the_latents_alone(make_row) -> None:
    rows = [make_row("original", 0.3), make_row("debiaser", 0.8), make_row("random_latents", 0.5)]
    assert any("it matters which latents" in text for text in judge(rows).comparison)
    # all that is gained over random latents is gained by the rest of the edit
    rows.append(make_row("latents_only_retrain", 0.51))
    assert any("cannot be credited" in text for text in judge(rows).comparison)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0.001, 0.3), st.booleans())
def test_no_win_is_claimed_over_a_rival_that_stands_higher(means, half, labels) -> None:
    blank = example_content().rows[0]

    def row(method: str, mean: float, needs: bool = False) -> MethodRow:
        worst = Estimate(mean, mean - half, mean + half)
        return dataclasses.replace(blank, method=method, worst_group_accuracy=worst, needs_group_labels=needs)

    start, ours, rival = means
    rows = [row("original", start), row("debiaser", ours), row("inlp", rival, labels)]
    headline = judge(rows).headline
    assert ("INLP" in headline) == (rival > ours)
    assert ("gains" in headline) == (ours - half > start + half)


def test_a_table_without_ours_or_without_start_claims_no_gain(make_row) -> None:
    without_ours = judge([make_row("original", 0.3), make_row("leace", 0.9, labels=True)])
    without_start = judge([make_row("debiaser", 0.9)])
    assert without_ours.tone == without_start.tone == "none"
    assert "Nothing to judge" in without_ours.headline
    assert "what it was before is not in the rows" in without_start.headline


def test_the_worst_group_of_the_original_is_named() -> None:
    assert judge(example_content().rows).group == "nurse/M"


def test_caveats_name_what_the_rows_leave_open(make_row) -> None:
    content = dataclasses.replace(
        example_content(),
        rows=[make_row("original", 0.3, leak=0.9), make_row("debiaser", 0.8, leak=0.72)],
        seeds=[7],
    )
    said = " ".join(caveats(content)).replace("\u202f", " ")
    # 90 texts at .9: 1.96·√(.9·.1/90) = 6.2 points
    assert "b/1, has 90 texts: its accuracy is known to about ± 6.2 points" in said
    assert "One seed was run" in said
    assert "still reads it from the edited activations at 72.0" in said
    assert "our best variant" not in said


def test_caveats_are_silent_where_there_is_no_cause(make_row) -> None:
    row = dataclasses.replace(
        make_row("debiaser", 0.8, leak=0.55), groups={"a": {"accuracy": Estimate(0.8, 0.7, 0.9), "n": 5000}}
    )
    assert caveats(dataclasses.replace(example_content(), rows=[row])) == ()


def test_unmeasured_leakage_is_a_caveat(make_row) -> None:
    content = dataclasses.replace(example_content(), rows=[make_row("debiaser", 0.8, leak=None)])
    assert any("was not measured" in sentence for sentence in caveats(content))


def test_an_unlisted_method_stands_for_itself() -> None:
    assert describe("our_new_rival").label == "our_new_rival"
    assert describe("our_new_rival").role == "rival"
    assert describe("leace_retrain").label == "LEACE retrained"
