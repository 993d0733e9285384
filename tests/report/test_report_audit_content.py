from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from ssae_debias.report.audit import example_audit_content
from ssae_debias.report.audit.caveats import audit_caveats
from ssae_debias.report.audit.rows import concepts, count_rows, flip_rows, group_rows, method_columns, told
from ssae_debias.report.content import Estimate

EXAMPLE = example_audit_content()
START, OURS, *OTHERS = EXAMPLE.variants


def changed(**changes):
    return dataclasses.replace(EXAMPLE, **changes)


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"each variant once, got .*'as it is', 'as it is'"):
        changed(variants=[START, START])


@pytest.mark.parametrize("variants", [[OURS], [START, dataclasses.replace(START, name="again")]])
def test_not_exactly_one_start_is_refused(variants) -> None:
    with pytest.raises(ValueError, match="one variant with the role 'start'"):
        changed(variants=variants)


def test_groups_stand_with_the_lowest_first_and_their_flips_beside() -> None:
    rows = group_rows(EXAMPLE)
    assert [row.name for row in rows] == ["nurse/M", "surgeon/F", "surgeon/M", "nurse/F"]
    assert rows[0].flips_before.mean == pytest.approx(0.314 * 2.1)
    assert [row.change for row in rows] == ["better", "better", "open", "open"]
    assert group_rows(changed(variants=[START]))[0].change == "unmeasured"


def test_a_group_that_only_one_variant_has_is_kept() -> None:
    fewer = dataclasses.replace(OURS, groups={"nurse/M": OURS.groups["nurse/M"]})
    rows = group_rows(changed(variants=[START, fewer]))
    assert len(rows) == 4
    assert [row.after is None for row in rows] == [False, True, True, True]


def test_flips_by_label_have_a_table_of_their_own() -> None:
    by_label = [
        dataclasses.replace(variant, flips_by_group={"surgeon": variant.flips, "nurse": variant.flips})
        for variant in (START, OURS)
    ]
    rows = flip_rows(changed(variants=by_label))
    assert [(row.name, row.n) for row in rows] == [("surgeon", 2214), ("nurse", 2214)]
    assert all(row.flips_before is None for row in group_rows(changed(variants=by_label)))


def test_the_best_of_a_column_follows_its_direction() -> None:
    columns = {column.name: column for column in method_columns(EXAMPLE.variants)}
    assert [
        variant.name for row, variant in enumerate(EXAMPLE.variants) if columns["Flips"].is_best(row)
    ] == ["words deleted"]
    assert columns["Worst group"].best == pytest.approx(0.857)
    assert columns["Parity"].best == pytest.approx(0.21)
    assert method_columns([START])[0].best is None


def test_counts_become_shares_of_their_label() -> None:
    rows = count_rows(pd.DataFrame({"F": [196, 0], "M": [1245, 0], "X": [0, 0]}, index=["surgeon", 3]))
    assert sum(share for _, share in rows[0].cells) == pytest.approx(1)
    assert rows[1].label == "3"
    assert rows[1].cells == ((0, 0.0), (0, 0.0), (0, 0.0))
    assert count_rows(pd.DataFrame()) == []


@pytest.mark.parametrize(
    ("estimate", "says"),
    [
        (Estimate(0.9, 0.88, 0.92), "the two go together"),
        (Estimate(0.51, 0.48, 0.54), "not shown to go together"),
        (Estimate(0.9, 0.9, 0.9), "at 90.0 % (chance 50 %)."),
    ],
)
def test_what_the_label_tells_follows_its_interval(estimate, says) -> None:
    data = dataclasses.replace(EXAMPLE.data, attribute_from_label=estimate)
    assert says in told(changed(data=data)).replace("\u202f", " ")


def test_concepts_with_missing_columns_and_values_are_read() -> None:
    table = pd.DataFrame({"site": ["embed", "embed"], "latent": [1, 2], "effect": [None, -0.5]})
    assert [concept.effect for concept in concepts(table)] == [None, -0.5]
    assert concepts(table.iloc[:0]) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "an MLP probe still reads it at resid.5"),
        ({}, "One seed was run (0)"),
        ({}, "the label alone tells gender at 88.3"),
        ({"groups_from": "words"}, "Groups are told by words"),
        ({"leakage": []}, "was not measured"),
        (
            {"variants": [START, OURS, dataclasses.replace(OURS, name="more latents")]},
            "are those of the first",
        ),
        (
            {"variants": [dataclasses.replace(START, accuracy=Estimate(0.9, 0.9, 0.9)), OURS]},
            "without intervals",
        ),
    ],
)
def test_a_limit_that_the_figures_show_is_said(changes, says) -> None:
    assert any(says in sentence.replace("\u202f", " ") for sentence in audit_caveats(changed(**changes)))


def test_a_limit_that_is_not_there_is_not_said() -> None:
    low = Estimate(0.52, 0.5, 0.54)
    leakage = [dataclasses.replace(row, edited_linear=low, edited_mlp=low) for row in EXAMPLE.leakage]
    data = dataclasses.replace(EXAMPLE.data, attribute_from_label=None)
    text = " ".join(audit_caveats(changed(leakage=leakage, data=data)))
    for said in ("not gone", "label alone", "by words", "of the first", "not measured"):
        assert said not in text
