"""Where concepts are said to be, and planting them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.activations import load_model, read_tokens
from ssae_debias.metrics.concepts import Concept, plant
from ssae_debias.metrics.concepts.concept import POSITION_BITS

TEXTS = [
    "The Nurse met her husband; nursery rhymes followed.",
    "Surgeries are what surgeons do, and anaesthesiologists help.",
    "",
    "The nurse, the nurse!",
]


def written(concept: Concept, model_name: str, texts: list[str]) -> list[str]:
    """The occurrences as the model's own tokens say them."""
    model = load_model(model_name)
    pieces: dict[int, list[int]] = {}
    for batch in read_tokens(model, texts, "embed"):
        rows, numbers = concept.tokens(batch)
        for at, number in zip(rows, numbers, strict=True):
            pieces.setdefault(int(number), []).append(int(batch.token_id[at]))
    return [model.tokenizer.decode(pieces[number]).strip() for number in sorted(pieces)]


@pytest.mark.filterwarnings("ignore:1 of 4 texts are empty")
def test_words_are_found_whole_in_any_case_and_of_any_number_of_pieces(minilm_path: Path) -> None:
    model = load_model("demo")
    nurse = Concept.of_words("nurse", ["nurse", "her husband"], TEXTS, model)
    assert written(nurse, "demo", TEXTS) == ["nurse", "her husband", "nurse", "nurse"]
    rare = Concept.of_words("rare", ["anaesthesiologists"], TEXTS, model)
    assert rare.n_occurrences == 1
    assert len(rare.places) > 1
    assert written(rare, "demo", TEXTS) == ["anaesthesiologists"]
    assert Concept.of_words("n", ["Nurse"], TEXTS, model, match_case=True).n_occurrences == 1
    assert Concept.of_words("n", ["nurse"], TEXTS, model, level="text").texts.tolist() == [0, 3]


@pytest.mark.filterwarnings("ignore:1 of 4 texts are empty")
def test_words_are_found_in_a_tokenizer_with_blanks_in_its_tokens(stories_path: Path) -> None:
    model = load_model(str(stories_path))
    nurse = Concept.of_words("nurse", ["nurse", "her husband"], TEXTS, model)
    assert [text.lower() for text in written(nurse, str(stories_path), TEXTS)] == [
        "nurse",
        "her husband",
        "nurse",
        "nurse",
    ]


def test_what_lies_beyond_the_cut_is_no_occurrence(minilm_path: Path) -> None:
    model = load_model("demo")
    texts = ["a " * 30 + "nurse", "nurse"]
    assert Concept.of_words("n", ["nurse"], texts, model, max_length=16).texts.tolist() == [1]
    with pytest.raises(
        ValueError, match=r"occurs in none of 1 texts within max_length=16 tokens \(it does in 1"
    ):
        Concept.of_words("n", ["nurse"], texts[:1], model, max_length=16)


def test_patterns_and_labels(minilm_path: Path) -> None:
    model = load_model("demo")
    years = Concept.of_pattern("year", r"\b(?:19|20)\d\d\b", ["In 1957, not 12957.", "x"], model)
    assert (years.n_occurrences, years.places.tolist()) == (1, [2])
    tokens = Concept.of_tokens("t", [5, 2], [0, 9])
    assert (tokens.places >> POSITION_BITS).tolist() == [2, 5]
    for bad in ([True, True], [0, 2], [[True], [False]]):
        with pytest.raises(ValueError, match="labels must be|are labelled"):
            Concept.of_texts("t", bad)
    with pytest.raises(ValueError, match="of one length"):
        Concept.of_tokens("t", [1], [1, 2])
    with pytest.raises(ValueError, match="count from 0"):
        Concept.of_tokens("t", [1], [-1])
    with pytest.raises(ValueError, match="list of one or more words"):
        Concept.of_words("w", "nurse", ["nurse"], model)
    with pytest.raises(re.error):
        Concept.of_pattern("p", "(", ["nurse"], model)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.sampled_from([1e-3, 1e-2, 0.05]), st.sampled_from(["word", "sentence"]))
def test_planting_keeps_to_its_frequency_and_leaves_the_rest(seed: int, frequency: float, at: str) -> None:
    texts = ["The nurse went home. She was early.", "One two three four five six. Seven!"] * 60
    n_tokens = sum(len(re.findall(r"\w+|[^\w\s]", text)) for text in texts)
    planted = plant(texts, ["zorblax", "quil vim"], frequency, at=at, random_state=seed)  # type: ignore[arg-type]
    counts = np.array([text.count("zorblax") + text.count("quil vim") for text in planted])
    assert counts.sum() == max(1, round(frequency * n_tokens))
    assert counts.max() <= np.ceil(counts.sum() / len(texts))
    bare = [re.sub(r"\s+", " ", re.sub("zorblax|quil vim", " ", text)).strip() for text in planted]
    assert bare == texts
    assert planted == plant(texts, ["zorblax", "quil vim"], frequency, at=at, random_state=seed)  # type: ignore[arg-type]
    if at == "sentence":
        assert not any(re.search(r"[a-z] (zorblax|quil)", text) for text in planted if text.count("x") < 2)


def test_planting_refuses_what_it_cannot_do() -> None:
    texts = ["The nurse went home."] * 10
    with pytest.raises(ValueError, match="'nurse' occurs in 10 of 10 texts already"):
        plant(texts, "nurse", 0.1)
    with pytest.raises(ValueError, match="less than one occurrence in 50 tokens; give 0.02 or more"):
        plant(texts, "zorblax", 1e-5)
    with pytest.raises(ValueError, match="above 0 and at most"):
        plant(texts, "zorblax", 0)
    with pytest.raises(ValueError, match="10 places"):
        plant(texts, "zorblax", 0.4, at="sentence")
    with pytest.raises(ValueError, match="one or more words"):
        plant(texts, [" "], 0.1)
    near = plant(["a b " * 50] * 20, "zorblax", 0.01, within=10)
    assert all(text.find("zorblax") <= 11 for text in near)
