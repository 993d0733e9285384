from __future__ import annotations

import dataclasses
import re

import pandas as pd
import pytest

from ssae_debias.report import example_content
from ssae_debias.report.latents_section import MAX_FLAGGED, MAX_OTHERS, latents_section
from ssae_debias.report.page import render

EXAMPLE = render(example_content())
TEXT = "After her residency in Leeds, she returned to the ward where she had trained as a sister. " * 4


def many(flagged: int, others: int, *, texts: bool = True) -> pd.DataFrame:
    n = flagged + others
    tokens = [
        (word.strip(".,"), float(place % 7 == 0) * place) for place, word in enumerate(TEXT.lower().split())
    ]
    return pd.DataFrame(
        {
            "site": [f"resid.{number % 6}" for number in range(n)],
            "latent": range(n),
            "name": "she / her / hers",
            "decision": ["ablate"] * flagged + ["keep"] * others,
            "reason": "responds to the swap: effect +1.50, q 1.0e-09",
            **dict.fromkeys(("response_effect", "attribute_effect", "label_effect", "attribution", "frequency", "response_q", "attribute_q", "response"), 0.123456),
            "top_tokens": [["she", "her", "hers", "mrs", "women", "female"]] * n,
            "top_texts": [[(TEXT, tokens)] * 5 if texts else []] * n,
            "nearest": [[("resid.1", (number + k) % n, 0.5, "he / his") for k in (1, 2, 3)] for number in range(n)],
        }
    )  # fmt: skip


def test_all_flagged_and_the_strongest_others_are_listed() -> None:
    section = latents_section(many(30, 5000, texts=False))
    assert len(section.rows) == 30 + MAX_OTHERS
    assert section.left_out == ("4,800 latents that were not flagged are not listed; they are kept.",)
    assert [row.latent for row in section.rows] == list(range(30 + MAX_OTHERS))


def test_what_a_person_said_is_listed_however_weak() -> None:
    table = many(2, 2000, texts=False)
    table.loc[1900, "reason"] = "decided by a person"
    table["note"] = ""
    table.loc[1950, "note"] = "look again"
    listed = [row.latent for row in latents_section(table).rows]
    assert {1900, 1950} <= set(listed)
    assert len(listed) == 2 + MAX_OTHERS + 2


def test_a_page_of_thousands_of_flagged_latents_stays_small_and_says_what_is_missing() -> None:
    content = dataclasses.replace(example_content(), flagged=many(4000, 8000))
    page = render(content)
    assert len(page.encode()) < 5_000_000
    section = latents_section(content.flagged)
    assert len(section.rows) == MAX_FLAGGED + MAX_OTHERS
    assert section.left_out[0].startswith("3,000 flagged latents after the first 1,000 are not listed")
    said = re.fullmatch(
        r"The last ([\d,]+) latents of the table stand here without their texts\.", section.left_out[2]
    )
    without = int(said[1].replace(",", ""))
    assert all(row.texts for row in section.rows[:-without])
    assert not any(row.texts for row in section.rows[-without:])
    assert len(section.rows) - without > 300
    assert section.left_out[1] in page


@pytest.mark.parametrize("change", ["latent", "decision", "saes"])
def test_the_key_names_rows_decisions_and_saes(change: str) -> None:
    table, saes = example_content().flagged, {"embed": "a" * 16}
    before = latents_section(table, saes).key
    assert latents_section(table.drop(columns="response"), saes).key == before
    if change == "saes":
        saes = {"embed": "b" * 16}
    else:
        table = table.assign(**{change: [*table[change].tolist()[1:], 9 if change == "latent" else "ablate"]})
    assert latents_section(table, saes).key != before


def test_columns_are_those_that_the_table_holds() -> None:
    labels = [column.label for column in latents_section(example_content().flagged).columns]
    assert labels == ["Swap effect", "Frequency", "Response", "Swap q"]
    some = many(3, 0)
    assert [column.key for column in latents_section(some).columns] == [
        "response_effect", "attribute_effect", "label_effect", "attribution", "frequency",
    ]  # fmt: skip
    bare = latents_section(pd.DataFrame({"site": ["embed"], "latent": [1]}))
    assert (bare.columns, bare.named, bare.decided) == ((), False, False)


def test_a_latent_that_comes_twice_is_listed_once() -> None:
    table = pd.DataFrame({"site": "embed", "latent": [1, 1, 2], "decision": "ablate"})
    assert [row.latent for row in latents_section(table).rows] == [1, 2]


def test_the_page_holds_names_notes_fingerprints_and_links_to_listed_neighbours() -> None:
    assert "family members" in EXAMPLE
    assert "Fires on the profession itself" in EXAMPLE
    assert "7c1f0a9be2d34456" in EXAMPLE
    assert '<a href="#latent-1">embed 402</a>' in EXAMPLE  # listed
    assert '<span class="absent">embed 871</span>' in EXAMPLE  # not listed: nowhere to go


def test_without_a_script_texts_are_there_and_controls_are_not() -> None:
    section = EXAMPLE.split('<section id="latents"')[1].split("</section>")[0]
    outside = re.sub(r"<template.*?</template>", "", section, flags=re.DOTALL)
    assert 'type="radio"' not in outside
    assert "<textarea" not in outside
    assert '<div id="latents-tools" class="tools" hidden>' in outside
    assert section.count('<ol class="texts">') == 6


def test_a_page_without_decisions_renders() -> None:
    table = pd.DataFrame({"site": ["embed"], "latent": [1]})
    page = render(dataclasses.replace(example_content(), flagged=table))
    assert "none is decided yet" in page
    assert '<option value="none">undecided</option>' in page
