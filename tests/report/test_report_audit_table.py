from __future__ import annotations

import dataclasses

from ssae_debias.report.audit import example_audit_content, format_audit_table

EXAMPLE = example_audit_content()
START, OURS, *OTHERS = EXAMPLE.variants


def test_every_variant_and_the_winner_are_told() -> None:
    table = format_audit_table(EXAMPLE)
    for variant in EXAMPLE.variants:
        assert variant.name in table
    assert "latents ablated *" in table
    assert "LEACE given label +" in table
    assert "Words deleted, which needs no group labels, does better on flips" in table


def test_columns_line_up_and_lines_stay_short() -> None:
    lines = format_audit_table(EXAMPLE).split("\n")
    head, rule, *rows = lines[: 2 + len(EXAMPLE.variants)]
    assert set(rule) == {"-"}
    at = head.index("worst group")
    assert all(row[at - 2 : at] == "  " and row[at] == "." for row in rows)
    assert max(map(len, lines)) <= 100


def test_a_windows_console_prints_it() -> None:
    format_audit_table(EXAMPLE).encode("latin-1")
    loss = dataclasses.replace(
        EXAMPLE, variants=[dataclasses.replace(OURS, role="start"), dataclasses.replace(START, role="ours")]
    )
    format_audit_table(loss).encode("latin-1")


def test_columns_that_nobody_has_are_left_out() -> None:
    bare = dataclasses.replace(
        START,
        balanced_accuracy=None,
        worst_group=None,
        worst_group_accuracy=None,
        groups=None,
        demographic_parity_difference=None,
        equalized_odds_difference=None,
    )
    table = format_audit_table(dataclasses.replace(EXAMPLE, variants=[bare], groups_from="words"))
    assert table.split("\n")[0].split() == ["variant", "flips", "accuracy"]
    assert "groups are told by" not in table


def test_groups_by_words_and_odd_names_are_told() -> None:
    odd = dataclasses.replace(OURS, name="edited\nat " + "many " * 20 + "sites")
    table = format_audit_table(dataclasses.replace(EXAMPLE, variants=[START, odd], groups_from="words"))
    assert "groups are told by the words for gender" in table
    assert "edited at many many many" in table
    assert "... *" in table
