from __future__ import annotations

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from ssae_debias.report.highlight import highlight, readable

letters = st.characters(codec="utf-8", categories=("L", "N", "P", "Zs", "Sm", "So"))
texts = st.text(letters, max_size=200)


def tokens_of(text: str, draw: list[float]) -> list[tuple[str, float]]:
    """What an uncased word tokenizer makes of a text, with activations from `draw` in turn."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return [(word, draw[i % len(draw)]) for i, word in enumerate(words)]


@given(texts, st.lists(st.floats(0, 10), min_size=1, max_size=8))
def test_the_text_comes_back_as_it_was_written(text: str, draw: list[float]) -> None:
    pieces = highlight(text, tokens_of(text, draw))
    assert "".join(piece.text for piece in pieces) == text
    assert all(0 <= piece.strength <= 1 for piece in pieces)


@given(
    st.lists(st.sampled_from(["She", "ward", "Zoë", "naïve", "HER", "in", "a"]), min_size=1, max_size=20),
    st.data(),
)
def test_every_firing_token_is_marked_where_it_stands(words: list[str], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=len(words), max_size=len(words)))
    folded = [word.lower().replace("ë", "e").replace("ï", "i") for word in words]
    pieces = highlight(" ".join(words), list(zip(folded, values, strict=True)))
    marked = [piece.text for piece in pieces if piece.strength > 0]
    assert marked == [word for word, value in zip(words, values, strict=True) if value > 0]
    assert max((piece.strength for piece in pieces), default=0) == (1.0 if any(values) else 0.0)


def test_word_pieces_and_special_tokens_are_found_in_the_text() -> None:
    tokens = [("[CLS]", 0.0), ("gyn", 1.0), ("##ae", 0.0), ("##cology", 2.0), ("[UNK]", 0.0), ("ward", 0.5)]
    pieces = highlight("Gynaecology ☃ ward", tokens)
    assert [(piece.text, piece.strength) for piece in pieces] == [
        ("Gyn", 0.5), ("ae", 0.0), ("cology", 1.0), (" ☃ ", 0.0), ("ward", 0.25),
    ]  # fmt: skip


def test_byte_level_and_sentencepiece_marks_are_understood() -> None:
    for mark in ("Ġ", "▁"):
        pieces = highlight("to her ward", [("to", 0.0), (f"{mark}her", 1.0), (f"{mark}ward", 0.0)])
        assert [piece.text for piece in pieces if piece.strength] == ["her"]


def test_a_token_that_fires_but_is_not_in_the_text_is_shown_all_the_same() -> None:
    pieces = highlight("something else", [("[CLS]", 3.0), ("some", 0.0), ("##thing", 0.0)])
    assert [(piece.text, piece.strength) for piece in pieces] == [("[CLS]", 1.0), (" something", 0.0)]


def test_a_later_word_does_not_steal_the_mark() -> None:
    # "a" must not jump to the "a" of "ward" when the tokens stop early
    pieces = highlight("she saw a ward", [("she", 0.0), ("saw", 0.0), ("a", 1.0)])
    assert [piece.text for piece in pieces] == ["she saw ", "a", " ward"]


def test_a_long_text_is_cut_around_its_strongest_token() -> None:
    words = ["word"] * 300
    words[200] = "she"
    pieces = highlight(" ".join(words), [(word, float(word == "she")) for word in words], window=80)
    shown = "".join(piece.text for piece in pieces)
    assert pieces[0].text == "… "
    assert pieces[-1].text == " …"
    assert "she" in [piece.text for piece in pieces if piece.strength == 1]
    assert len(shown) <= 80 + 4
    assert set(shown.strip("… ").split()) == {"word", "she"}  # no word lost its head


def test_negative_and_non_finite_activations_do_not_count() -> None:
    pieces = highlight("a b c", [("a", -1.0), ("b", math.nan), ("c", math.inf)])
    assert [(piece.text, piece.strength) for piece in pieces] == [("a b c", 0.0)]


def test_readable_tokens() -> None:
    assert [readable(token) for token in ("##self", "Ġshe", "▁her", "[CLS]", "▁")] == [
        "-self",
        "she",
        "her",
        "[CLS]",
        "▁",
    ]
