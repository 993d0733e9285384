from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from ssae_debias.report.evaluation import KEYS, TABLES, Claim, example_evaluation
from ssae_debias.report.evaluation.facts import variant_rows
from ssae_debias.report.evaluation.styles import in_two_lines, shortened, styles

EXAMPLE = example_evaluation()


def changed(**changes):
    return dataclasses.replace(EXAMPLE, **changes)


def test_the_example_has_every_table_with_every_key() -> None:
    assert set(EXAMPLE.tables) == set(TABLES)
    for table in EXAMPLE.tables.values():
        assert set(KEYS) <= set(table.columns)


def test_another_verdict_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of holds, does not hold, unclear; got 'maybe'"):
        Claim("Tilts help.", "maybe", "", "figure 3")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"variants": ["general", "general"]}, ValueError, "each variant once"),
        ({"base": "nobody"}, ValueError, "base must be one of general"),
        ({"tables": {"fidelty": None}}, ValueError, "no table is called fidelty"),
        ({"tables": {"tail": [1]}}, TypeError, "table tail must be a pandas DataFrame"),
        (
            {"tables": {"tail": pd.DataFrame({"variant": ["general"]})}},
            ValueError,
            "table tail lacks strategy, tilt",
        ),
        ({"variants": ["general"], "circuits": {}}, ValueError, "is about .*bm25.*, which is no variant"),
        ({"circuits": {"nobody": {}}}, ValueError, "circuits has nobody"),
        ({"notes": "one"}, TypeError, "notes takes a list of str"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(changes, error, said) -> None:
    with pytest.raises(error, match=said):
        changed(**changes)


def test_a_table_without_rows_is_none_at_all() -> None:
    assert changed(tables={"tail": EXAMPLE.tables["tail"].head(0)}).table("tail") is None
    assert changed(tables={"tail": pd.DataFrame()}).table("tail") is None
    assert changed(tables={}).table("tail") is None


def test_no_two_variants_look_alike_and_tilts_share_their_strategys_hue() -> None:
    looks = styles(EXAMPLE)
    assert list(looks) == list(EXAMPLE.variants)
    assert len({(style.role, str(style.dash), style.marker, style.hollow) for style in looks.values()}) == 7
    plain, tilted = looks["dense"], looks["dense, tilt 3"]
    assert plain.role == tilted.role
    assert plain.dash == "-"
    assert tilted.dash != "-"
    assert looks["general"].role == "muted"


def test_the_base_gets_its_grey_wherever_it_stands_and_nobody_does_without_one() -> None:
    turned = changed(variants=EXAMPLE.variants[::-1])
    assert styles(turned)["general"].role == "muted"
    assert "muted" not in {style.role for style in styles(changed(base=None)).values()}


def test_two_tilts_and_a_copy_of_one_strategy_stay_apart() -> None:
    names = ["a", "a, tilt 2", "a, tilt 9", "a again"]
    rows = [
        {"variant": name, "strategy": "a", "tilt": tilt, "k": 8.0, "seed": 0}
        for name, tilt in zip(names, (None, 2.0, 9.0, 0.0), strict=True)
    ]
    content = changed(
        variants=names, base=None, circuits={}, tables={"error_term": pd.DataFrame(rows).assign(share=0.2)}
    )
    looks = styles(content).values()
    assert len({style.role for style in looks}) == 1
    assert len({str(style.dash) for style in looks}) == 4


def test_names_are_shortened_in_the_middle_and_stay_on_two_lines() -> None:
    long = "dense retrieval of arXiv abstracts with re-ranking, tilt 3"
    assert len(shortened(long, 30)) == 30
    assert shortened(long, 30).endswith("tilt 3")
    assert in_two_lines(long, 14).count("\n") == 1
    assert max(map(len, in_two_lines("x" * 90, 14).split("\n"))) <= 14


def test_variants_are_told_with_what_stands_behind_them() -> None:
    rows = {row["name"]: row for row in variant_rows(EXAMPLE)}
    assert rows["loaded: gemma-scope-like"] == {
        "name": "loaded: gemma-scope-like", "strategy": "loaded", "tilt": "none", "k": "as it came", "seeds": "1",
    }  # fmt: skip
    assert variant_rows(changed(tables={}))[0]["seeds"] == "0"
