"""What an evaluation reads: general text with some of the subdomain, seeds, test texts, planted words, concepts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssae_debias.activations import load_model
from ssae_debias.recipe import EvaluateRecipe, RecipeError, read_recipe
from ssae_debias.recipe.evaluate.concepts import draw_words, find_concepts
from ssae_debias.recipe.evaluate.corpora import load_corpora

SHIPS = [f"The ship number {i} sailed to harbour {i % 7} with the captain." for i in range(300)]
BIRDS = [
    f"A bird of kind {i} sang in tree {i % 11} near the {'river' if i % 2 else 'lake'}." for i in range(120)
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    general, birds = tmp_path / "general.parquet", tmp_path / "birds.csv"
    pd.DataFrame({"text": SHIPS + BIRDS[:40]}).to_parquet(general)
    pd.DataFrame(
        {
            "text": BIRDS,
            "place": ["river" if i % 2 else "lake" for i in range(120)],
            "tall": ["yes", None] * 60,
        }
    ).to_csv(birds, index=False)
    return str(general), str(birds)


def recipe(**sections: object) -> EvaluateRecipe:
    return EvaluateRecipe.model_validate({"kind": "evaluate", "title": "t", **sections})


def from_file(files: tuple[str, str], **subdomain: object) -> EvaluateRecipe:
    return recipe(
        general={"paths": [files[0]], "n_test": 20, "n_texts": 200},
        subdomain={"path": files[1], "n_seeds": 10, "n_test": 40, **subdomain},
    )


def test_seeds_and_test_texts_of_a_file_are_in_no_training_text(files: tuple[str, str]) -> None:
    pd.DataFrame({"text": SHIPS}).to_parquet(files[0])
    found = load_corpora(from_file(files, n_in_general=30, label="place"))
    trained = set(found.general)
    assert len(found.seeds) == 10
    assert len(found.test) == 40
    assert len(found.carriers) == 30
    assert not trained & set(found.seeds.texts)
    assert not trained & set(found.test.texts)
    assert not set(found.seeds.texts) & set(found.test.texts)
    assert not trained & set(found.general_test)
    assert all(found.general[row] in BIRDS for row in found.carriers)
    assert sum(text in BIRDS for text in found.general) == 30
    assert found.test.labels is not None
    told = {"river" if "river" in text else "lake" for text in found.test.texts}
    assert set(found.test.labels) == told == {"river", "lake"}
    assert all(label in text for label, text in zip(found.test.labels, found.test.texts, strict=True))


def test_a_pattern_takes_the_subdomain_out_of_the_general_corpus(files: tuple[str, str]) -> None:
    found = load_corpora(
        recipe(
            general={"paths": [files[0]], "n_test": 20, "n_texts": 300},
            subdomain={
                "pattern": r"\bbird\b",
                "n_seeds": 5,
                "n_test": 15,
                "labels_in": {"a": "river", "b": "lake"},
            },
        )
    )
    bird = [bool(re.search("bird", text)) for text in found.general]
    assert np.array_equal(np.flatnonzero(bird), found.carriers)
    assert len(found.carriers) >= 10
    assert all("bird" in text for text in found.seeds.texts + found.test.texts)
    assert not set(found.general) & set(found.test.texts)
    assert not set(found.general) & set(found.seeds.texts)
    assert found.test.labels is not None
    assert all(("river" in t) == (y == "a") for t, y in zip(found.test.texts, found.test.labels, strict=True))


def test_the_same_recipe_gives_the_same_texts_and_another_draw_others(files: tuple[str, str]) -> None:
    first, again = load_corpora(from_file(files)), load_corpora(from_file(files))
    assert first.general == again.general
    assert first.test.texts == again.test.texts
    other = recipe(
        general={"paths": [files[0]], "n_test": 20, "n_texts": 200, "random_state": 1},
        subdomain={"path": files[1], "n_seeds": 10, "n_test": 40},
    )
    assert load_corpora(other).test.texts != first.test.texts


def test_planted_words_stand_in_the_subdomain_at_their_frequency(files: tuple[str, str]) -> None:
    given = from_file(files, n_in_general=60).model_copy(
        update={"concepts": recipe(concepts={"planted": [0.02, 0.005], "planted_words": 2}).concepts}
    )
    pd.DataFrame({"text": SHIPS}).to_parquet(files[0])
    found = load_corpora(given)
    assert sorted(found.planted.values()) == [0.005, 0.005, 0.02, 0.02]
    carriers = [found.general[row] for row in found.carriers]
    others = [text for row, text in enumerate(found.general) if row not in set(found.carriers.tolist())]
    n_words = sum(len(re.findall(r"\w+|[^\w\s]", text)) for text in carriers)
    for word, frequency in found.planted.items():
        told = sum(len(re.findall(rf"\b{word}\b", text)) for text in carriers)
        assert told == pytest.approx(frequency * n_words, rel=0.3, abs=1)
        assert not any(word in text for text in others + found.seeds.texts)
        assert sum(len(re.findall(rf"\b{word}\b", text)) for text in found.test.texts) >= 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"general": {"paths": ["nowhere.csv"]}}, "no file nowhere.csv"),
        ({"subdomain": {"path": "nowhere.csv"}}, "no file nowhere.csv"),
        ({"subdomain": {"pattern": "zebra"}}, "0 match 'zebra'"),
        ({"concepts": {"planted": [0.01]}}, "there are none"),
        ({"general": {"n_texts": 50, "n_test": 50}, "subdomain": {"n_in_general": 0, "n_test": 5000}}, None),
    ],
)
def test_texts_that_there_are_not_are_told(change: dict[str, object], said: str | None) -> None:
    given = recipe(**change)
    if said is None:
        assert len(load_corpora(given).test) == 5000  # the made-up subdomain gives as many as are asked for
        return
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(said)):
        load_corpora(given)


def test_more_texts_than_the_subdomain_has_are_told(files: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="needs n_seeds=10 and n_test=500 texts; 120 are in"):
        load_corpora(from_file(files, n_test=500))
    with pytest.raises(ValueError, match="n_in_general=500, but 70 of 120 texts are left"):
        load_corpora(from_file(files, n_in_general=500))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {strategies: [], ks: []}", "nothing is trained"),
        ("compare_k: 9", "compare_k=9 is not among"),
        ("saes: {dense: folder}", "the name of a strategy"),
        ("subdomain: {label: job}", "of a file only"),
        ("subdomain: {pattern: '('}", "no regular expression"),
        ("train: {ks: [8, 8]}", "each once"),
        ("train: {ks: [4096]}", "exceeds d_sae"),
        ("train: {tilst: [0]}", "did you mean 'tilts'"),
        ("circuit: {variants: [other]}", "is no strategy"),
    ],
)
def test_what_a_recipe_may_not_say(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"kind: evaluate\ntitle: Mine\n{text}\n")
    with pytest.raises(RecipeError, match=re.escape(said)):
        read_recipe(file)


def test_words_are_drawn_over_the_whole_range_of_frequencies() -> None:
    # word number i stands in every i-th text
    names = [chr(97 + i // 26) + chr(97 + i % 26) + "word" for i in range(60)]
    texts = [" ".join(names[i] for i in range(60) if row % (i + 1) == 0) for row in range(600)]
    drawn = draw_words(texts, 12, least=10, random_state=0)
    rates = [names.index(word) + 1 for word in drawn]
    assert len(set(drawn)) == 12
    assert rates == sorted(rates)
    assert rates[0] <= 2
    assert rates[-1] >= 40
    assert (
        sum(rate <= 8 for rate in rates) >= 4
    )  # evenly over the logarithm: not nearly all from the rare ones
    assert draw_words(texts, 12, least=10, without=set(drawn), random_state=0) != drawn
    assert draw_words(texts, 500, least=10) == [name for i, name in enumerate(names) if 600 / (i + 1) >= 10]


def test_concepts_come_of_lists_patterns_labels_and_draws(files: tuple[str, str]) -> None:
    given = from_file(files, label="place").model_copy(
        update={
            "concepts": recipe(
                concepts={
                    "words": {"water": ["river", "lake"]},
                    "patterns": {"kind": r"kind \d+"},
                    "drawn": 3,
                    "least": 8,
                }
            ).concepts
        }
    )
    corpora = load_corpora(given)
    found = {concept.name: concept for concept in find_concepts(given, corpora, load_model("demo"))}
    assert {"water", "kind", "label: lake", "label: river"} <= set(found)
    assert len(found) == 7
    assert found["water"].n_occurrences == found["kind"].n_occurrences == 40
    assert corpora.test.labels is not None
    assert found["label: lake"].n_occurrences == int((corpora.test.labels == "lake").sum())
