from __future__ import annotations

import re

import pytest

from ssae_debias.report import example_content, format_table


def test_columns_line_up() -> None:
    head, rule, *lines = format_table(example_content().rows).split("\n")
    body = lines[: len(example_content().rows)]
    assert len(rule) == max(map(len, [head, *body]))
    starts = [match.start() for match in re.finditer(r"(?<=  )\S", head)][:-1]
    for line in body:
        for start in starts:
            assert line[start - 2 : start] == "  ", f"column at {start} is not clear in {line!r}"
            assert line[start : start + 2].strip(), f"nothing stands in the column at {start} in {line!r}"
    assert len({len(line) for line in body}) == 1


def test_marks_are_on_the_best_rows_and_not_on_the_oracle() -> None:
    lines = {line.split()[0]: line for line in format_table(example_content().rows).split("\n") if line}
    assert re.search(r"\.827 ± \.028 \*", lines["delete_words"])
    assert re.search(r"\.857 ± \.022 \+", lines["leace_given_y"])
    assert not set("*+") & set(lines["oracle"])
    assert "group" in lines["leace"]
    assert "group" not in lines["debiaser_retrain"]


def test_one_row_may_hold_both_marks(make_row) -> None:
    table = format_table(
        [make_row("original", 0.3), make_row("debiaser", 0.8), make_row("leace", 0.5, labels=True)]
    )
    assert ".800 ± .020 *+" in table


def test_what_is_unknown_is_a_dash_and_no_interval_is_no_plus_minus(make_row) -> None:
    line = format_table([make_row("debiaser", 1.0, half=0.0, leak=None)]).split("\n")[2]
    assert line.split() == [
        "debiaser",
        "-",
        "1.000",
        "*+",
        ".800",
        "±",
        ".020",
        ".500",
        "±",
        ".020",
        "-",
        "-",
        "1.0",
    ]


def test_a_windows_console_can_print_it() -> None:
    assert format_table(example_content().rows).encode("cp1252")


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        format_table([])
