"""Activations on tokens, laid over the words of the text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssae_debias.latents.activity import Activity, Background
from ssae_debias.latents.words import active_words, word_key, words_of


def test_a_word_is_as_active_as_its_strongest_piece() -> None:
    tokens = [("[CLS]", 0.0), ("zo", 0.2), ("##e", 1.5), ("'", 0.0), ("s", 0.1), ("ward", 0.0), (".", 3.0)]
    words, outside = active_words("Zoë's ward.", tokens)
    assert [(word.written, word.activation) for word in words] == [("Zoë's", 1.5), ("ward", 0.0), (".", 3.0)]
    assert outside == []


def test_what_stands_outside_the_text_is_told_apart() -> None:
    _, outside = active_words(
        "A ward", [("[CLS]", 2.0), ("a", 0.0), ("ward", 1.0), ("[SEP]", 0.5), (" ", 9.0)]
    )
    assert outside == [("[CLS]", 2.0), ("[SEP]", 0.5)]


def test_words_beyond_a_truncated_text_are_not_said_to_be_silent() -> None:
    words, _ = active_words("one two three", [("one", 0.0), ("two", 1.0)])
    assert [word.written for word in words] == ["one", "two"]


@given(
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs", "S")), max_size=80),
    st.lists(st.floats(0, 9), min_size=1, max_size=5),
)
def test_no_activation_is_lost_or_invented(text: str, values: list[float]) -> None:
    tokens = [(word, values[i % len(values)]) for i, word in enumerate(words_of(text))]
    words, outside = active_words(text, tokens)
    given_ = sorted(value for _, value in tokens if value > 0)
    assert (
        sorted([word.activation for word in words if word.activation > 0] + [v for _, v in outside]) == given_
    )


def test_mass_is_relative_to_the_usual_peak() -> None:
    texts = [("she sang", [("she", 2.0), ("sang", 0.0)])] * 3 + [
        ("it rained", [("it", 200.0), ("rained", 1.0)])
    ]
    activity = Activity.in_texts(texts)
    assert activity.mass["she"] == 3.0  # the outlier shrinks nothing
    assert activity.mass["it"] == 1.0
    assert activity.mass["rained"] == 0.5
    assert activity.fired == {"she": 3, "it": 1, "rained": 1}
    assert activity.held["sang"] == 3


def test_a_silent_latent_and_no_texts_have_no_mass() -> None:
    assert not Activity.in_texts([]).mass
    assert not Activity.in_texts([("she sang", [("she", 0.0), ("sang", 0.0)])]).mass


def test_words_are_written_small_where_they_ever_are() -> None:
    activity = Activity.in_texts([("She is she, in Leeds", [("she", 1.0), ("is", 0.0), ("she", 1.0)])] * 2)
    assert activity.written("she") == "she"
    shouted = Activity.in_texts(
        [("FRCS", [("frcs", 1.0)]), ("Frcs", [("frcs", 1.0)]), ("FRCS", [("frcs", 1.0)])]
    )
    assert shouted.written("frcs") == "FRCS"


def test_a_background_counts_texts_and_neighbours() -> None:
    general = Background.of(["The ward, the ward.", "A ward"])
    assert (general.words["ward"], general.held["ward"], general.n_texts) == (3, 2, 2)
    assert general.neighbours["the", "ward"] == 2
    assert word_key("It’s") == "it's"
