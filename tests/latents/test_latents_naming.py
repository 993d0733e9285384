"""Names: what they are made of, that they are unique and never empty, and that any callable may give them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssae_debias.activations import load_model, read_tokens
from ssae_debias.data import synthetic_biographies
from ssae_debias.latents import (
    NO_NAME,
    LatentDescription,
    LatentEvidence,
    describe_latents,
    name_latents,
    naming_prompt,
)
from ssae_debias.latents.words import words_of
from ssae_debias.sae import SAEConfig, SparseAutoencoder, train_sae

GENERAL = [
    "He is a surgeon in the town, and he has a house by the sea.",
    "She has worked for the clinic, and her office is in the old part of the city.",
    "The school of art has a garden, a library and a cup of tea for everyone who asks.",
    "Dr. King met the board of the hospital; they spoke of money and of time.",
] * 30


def described(*texts: str, fires: dict[str, float]) -> tuple[list[str], LatentDescription]:
    """A latent that fires on given words, in given texts; a key of two words fires on the second after the first."""
    tops = []
    for index, text in enumerate(texts):
        words = [word.lower() for word in words_of(text)]
        before = ["", *words]
        tokens = [
            (word, fires.get(f"{before[i]} {word}", fires.get(word, 0.0))) for i, word in enumerate(words)
        ]
        tops.append((index, tokens))
    return list(texts), LatentDescription([], tops)


def name(*texts: str, fires: dict[str, float]) -> str:
    given, description = described(*texts, fires=fires)
    return name_latents({("embed", 0): description}, given + GENERAL, background=GENERAL)["embed", 0]


def test_the_word_it_fires_on_names_it_and_frequent_words_do_not() -> None:
    texts = [f"The {word} nurse {word}s." for word in ("old", "new", "good", "tall", "calm")]
    assert name(*texts, fires={"nurse": 2.0, "the": 0.1, "of": 0.1}) == "nurse"


def test_words_join_until_they_hold_most_of_the_mass() -> None:
    texts = [
        f"{verb} she {verb} and {verb} her {verb}." for verb in ("sang", "cooked", "called", "drove", "wrote")
    ]
    assert name(*texts, fires={"she": 2.0, "her": 1.5}) == "she / her"
    assert name(*texts, fires={"she": 2.0, "her": 0.1}) == "she"


def test_inflections_are_one_word() -> None:
    texts = ["A surgeon came.", "Two surgeons came.", "That surgeon's car.", "Surgeons came.", "Any surgeon."]
    assert name(*texts, fires={"surgeon": 1.0, "surgeons": 1.0, "surgeon's": 1.0}) in ("surgeon", "surgeons")


def test_a_neighbour_that_it_needs_joins_the_name() -> None:
    texts = [f"Ten years of {what}, the end of {what}." for what in ("work", "art", "care", "war", "study")]
    assert name(*texts, fires={"years of": 2.0}) == "years of"
    assert name(*texts, fires={"of": 2.0}) == "of"


def test_punctuation_is_spelled_out() -> None:
    texts = [f"{word} works; {word} sleeps." for word in ("Ann", "Bob", "Cy", "Di", "Ed")]
    assert name(*texts, fires={";": 1.0}) == "; (semicolon)"


def test_a_latent_on_a_special_token_is_named_by_what_its_texts_share() -> None:
    texts = [f"The {word} ship left port {word}." for word in ("red", "blue", "big", "old", "new")]
    tops = [(i, [("[CLS]", 3.0), *((w.lower(), 0.0) for w in words_of(t))]) for i, t in enumerate(texts)]
    named = name_latents({("embed", 0): LatentDescription([], tops)}, texts, background=GENERAL)
    assert named["embed", 0].startswith("[CLS] of texts with ")
    assert {"ship", "port", "left"} & set(named["embed", 0].split())
    alike = [(i, [("[CLS]", 3.0)]) for i in range(5)]
    assert name_latents({("embed", 0): LatentDescription([], alike)}, GENERAL)["embed", 0] == "[CLS]"


def test_a_latent_on_everything_or_nothing_has_no_clear_name() -> None:
    everything = LatentDescription(
        [], [(i, [(w.lower(), 1.0) for w in words_of(GENERAL[i])]) for i in range(4)]
    )
    silent = LatentDescription()
    found = name_latents({("embed", 0): everything, ("embed", 1): silent, ("embed", 2): everything}, GENERAL)
    assert set(found.values()) == {NO_NAME}
    assert name_latents({}, []) == {}


def test_no_two_latents_of_a_site_share_a_name() -> None:
    texts, she = described(
        *[f"{w} she {w}s." for w in ("So", "Then", "Here", "Now", "There")], fires={"she": 1.0}
    )
    latents = {("embed", 5): she, ("embed", 2): she, ("resid.0", 5): she}
    assert name_latents(latents, texts + GENERAL, background=GENERAL) == {
        ("embed", 5): "she",
        ("embed", 2): "she (2)",
        ("resid.0", 5): "she",
    }


def test_what_a_latent_does_mostly_comes_before_what_it_does_most_strongly() -> None:
    texts, rare = described(
        *[f"{w} FRCS {w}s." for w in ("So", "Then", "Here", "Now", "There")], fires={"frcs": 9.0}
    )
    mostly = LatentDescription([("he", 1.0)], rare.top_texts, [("he", 0.5), ("##ing", 0.3)])
    both = LatentDescription([("frcs", 9.0)], rare.top_texts, [("frcs", 0.9)])
    named = name_latents({("embed", 0): mostly, ("embed", 1): both}, texts + GENERAL, background=GENERAL)
    assert list(named.values()) == ["he / FRCS", "FRCS"]
    bare = name_latents({("embed", 0): LatentDescription([], [], [("he", 0.5)])}, GENERAL)
    assert bare["embed", 0] == "he"


def test_bad_descriptions_and_texts_are_named() -> None:
    with pytest.raises(IndexError, match=r"latent 3 of embed refers to text 7, but 1 texts"):
        name_latents({("embed", 3): LatentDescription([], [(7, [("she", 1.0)])])}, ["She sang."])
    with pytest.raises(TypeError, match="one bare string"):
        name_latents({("embed", 3): LatentDescription()}, "She sang.")


def evidence() -> LatentEvidence:
    return LatentEvidence(
        "embed", 7, [("she", 2.0)], [("Then she sang to Zoë.", [("then", 0.0), ("she", 2.0)])], [("she", 4.0)]
    )


def test_a_callable_may_name_and_sees_the_evidence() -> None:
    seen = []

    def namer(given: LatentEvidence) -> str:
        seen.append(given)
        return f"  the word\n {given.words[0][0]} "

    texts, she = described("She sang.", "She ran.", fires={"she": 1.5})
    named = name_latents({("embed", 7): she}, texts, namer=namer, background=GENERAL)
    assert named == {("embed", 7): "the word She"}
    (given,) = seen
    assert (given.site, given.latent, given.texts[0]) == ("embed", 7, ("She sang.", she.top_texts[0][1]))
    long = name_latents({("embed", 7): she}, texts, namer=lambda _: "word " * 50)["embed", 7]
    assert len(long) <= 80
    assert long.endswith("…")


@pytest.mark.parametrize(
    ("namer", "error", "message"),
    [
        (lambda _: None, TypeError, r"must return a string; for latent 7 of embed it returned None"),
        (lambda _: " \n", ValueError, r"empty name for latent 7 of embed"),
        (lambda _: 1 / 0, RuntimeError, r"failed on latent 7 of embed: ZeroDivisionError: division by zero"),
        ("qwen", TypeError, r"namer must be a callable .* got 'qwen'"),
    ],
)
def test_a_namers_mistake_names_the_latent(namer, error: type[Exception], message: str) -> None:
    texts, she = described("She sang.", fires={"she": 1.0})
    with pytest.raises(error, match=message):
        name_latents({("embed", 7): she}, texts, namer=namer)


def test_the_prompt_marks_words_not_pieces_and_cuts_long_texts() -> None:
    tokens = [("the", 0.0), ("surg", 1.0), ("##eries", 2.0), ("of", 0.1)]
    long = "before " * 60 + "the surgeries of" + " after" * 60
    shown = [(long, [("before", 0.0)] * 60 + tokens), ("Silent.", [("silent", 0.0)])]
    prompt = naming_prompt(LatentEvidence("embed", 1, [], shown, []), window=60)
    assert "the <<surgeries>> of" in prompt
    assert max(len(line) for line in prompt.splitlines()[2:]) < 80
    assert "- Silent." in prompt
    assert "Words it fires on" not in prompt
    assert naming_prompt(evidence()).splitlines()[2:] == [
        "- Then <<she>> sang to Zoë.", "", "Words it fires on: she", "", "Name:",
    ]  # fmt: skip


def test_a_real_language_model_names(stories_path) -> None:
    """Its names are a child's story; what is tested is that a model's answer arrives."""
    from transformers import pipeline

    generate = pipeline("text-generation", model=str(stories_path))

    def by_model(given: LatentEvidence) -> str:
        (answer,) = generate(naming_prompt(given), max_new_tokens=8, do_sample=False, return_full_text=False)
        return answer["generated_text"].strip().split("\n")[0]

    texts, she = described("She sang.", "She ran.", "Then she slept.", fires={"she": 1.5})
    first, second = (name_latents({("embed", 7): she}, texts, namer=by_model) for _ in range(2))
    assert first == second
    assert first["embed", 7]


@pytest.fixture(scope="module")
def demo(minilm_path) -> tuple[list[str], SparseAutoencoder, object]:
    texts = list(synthetic_biographies(240, random_state=0).texts)
    model = load_model("demo")
    tokens = torch.cat([batch.activations["embed"] for batch in read_tokens(model, texts, "embed")])
    sae = train_sae(tokens, SAEConfig(d_sae=128, k=8, n_tokens=30_000, batch_size=256), random_state=0)
    return texts, sae, model


@pytest.mark.slow
def test_names_of_trained_latents_are_words_that_they_fire_on(demo) -> None:
    texts, sae, model = demo
    latents = np.flatnonzero(np.arange(128) % 4 == 0).tolist()
    batches = list(read_tokens(model, texts, "embed"))
    found = describe_latents(batches, {"embed": sae}, {"embed": latents}, model.tokenizer, n_texts=20)
    names = name_latents(found, texts)
    assert names == name_latents(found, texts)
    assert list(names) == list(found)
    clear = {key: value for key, value in names.items() if value != NO_NAME}
    assert len(clear) > 0.5 * len(names)
    assert len(set(clear.values())) == len(clear)
    for key, value in clear.items():
        fired = {
            t.strip().removeprefix("##") for _, tokens in found[key].top_texts for t, a in tokens if a > 0
        }
        assert any(piece in value.lower() for piece in fired), (key, value)
