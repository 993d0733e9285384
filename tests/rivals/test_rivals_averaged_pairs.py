"""Averaged pairs on real tokenizers and models: which tokens, what the model reads, and what is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssae_debias.activations import TextModel, load_model, read_pooled
from ssae_debias.data import WordPairs
from ssae_debias.rivals import AveragedPairs


@pytest.fixture(scope="module")
def minilm(minilm_path: Path) -> TextModel:
    return load_model(minilm_path)


@pytest.fixture(scope="module")
def stories(stories_path: Path) -> TextModel:
    return load_model(stories_path)


def tokens(averaged: AveragedPairs, tokenizer: object) -> list[tuple[list[str], list[str]]]:
    return [tuple(tokenizer.convert_ids_to_tokens(side) for side in sides) for sides in averaged.classes]


def test_words_with_a_common_partner_make_one_class(minilm: TextModel) -> None:
    pairs = WordPairs([("he", "she"), ("him", "her"), ("man", "woman"), ("his", "her"), ("his", "hers")])
    found = tokens(AveragedPairs.of(pairs, minilm.tokenizer), minilm.tokenizer)
    assert [(set(left), set(right)) for left, right in found] == [
        ({"he"}, {"she"}),
        ({"man"}, {"woman"}),
        ({"him", "his"}, {"her", "hers"}),
    ]


def test_words_of_several_tokens_and_unknown_ones_are_left_out(minilm: TextModel) -> None:
    pairs = WordPairs([("he", "she"), ("stuntman", "stuntwoman"), ("\U0001f468", "\U0001f469")])
    assert tokens(AveragedPairs.of(pairs, minilm.tokenizer), minilm.tokenizer) == [(["he"], ["she"])]
    with pytest.raises(ValueError, match="None of the 2 pairs"):
        AveragedPairs.of(WordPairs(pairs.pairs[1:]), minilm.tokenizer)


def test_each_spelling_that_a_cased_tokenizer_has_is_averaged_with_its_own_kind(stories: TextModel) -> None:
    found = tokens(AveragedPairs.of(WordPairs([("he", "she")]), stories.tokenizer), stories.tokenizer)
    assert found == [(["▁he"], ["▁she"]), (["▁He"], ["▁She"])]


def test_byte_level_spellings_with_and_without_a_space() -> None:
    vocabulary = ["he", " he", " He", "she", " she", " She", "HE", "King", "Queen", " king", " queen"]

    class ByteLevel:
        """One token for each of these spellings, two for any other."""

        all_special_ids = (98,)

        def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
            assert not add_special_tokens
            return {"input_ids": [vocabulary.index(text)] if text in vocabulary else [50, 51]}

    gender = WordPairs.gender()
    of = [gender.pairs.index(pair) for pair in (("he", "she"), ("king", "queen"))]
    assert gender.notes[of[1]].written == "lower"
    pairs = WordPairs([gender.pairs[i] for i in of], notes=[gender.notes[i] for i in of])
    # HE has no partner SHE; King is a name
    assert AveragedPairs.of(pairs, ByteLevel()).classes == (
        ((0,), (3,)),
        ((1,), (4,)),
        ((2,), (5,)),
        ((9,), (10,)),
    )


def test_inside_the_block_each_row_is_the_middle_of_its_sides_and_others_stay(minilm: TextModel) -> None:
    averaged = AveragedPairs(classes=(((5,), (9,)), ((20, 21, 22), (30,))))
    weight = minilm.module.get_input_embeddings().weight
    before, fingerprint = weight.detach().clone(), minilm.fingerprint
    with averaged.applied(minilm):
        inside = weight.detach().clone()
        assert minilm.fingerprint != fingerprint
    assert torch.allclose(inside[5], (before[5] + before[9]) / 2)
    assert torch.equal(inside[5], inside[9])
    middle = ((before[20] + before[21] + before[22]) / 3 + before[30]) / 2
    assert torch.allclose(inside[[20, 21, 22, 30]], middle.expand(4, -1), atol=1e-7)
    untouched = [i for i in range(len(before)) if i not in (5, 9, 20, 21, 22, 30)]
    assert torch.equal(inside[untouched], before[untouched])
    assert torch.equal(weight, before)
    assert minilm.fingerprint == fingerprint


@pytest.mark.parametrize("name", ["minilm", "stories"])
def test_the_model_reads_both_words_alike_and_is_itself_again_after_an_error(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    averaged = AveragedPairs.of(WordPairs([("he", "she")]), model.tokenizer)
    texts = ["One day he ran.", "One day she ran."]
    plain = read_pooled(model, texts, "resid.1")["resid.1"]
    assert abs(plain[0] - plain[1]).max() > 0.01
    with pytest.raises(KeyError), averaged.applied(model):
        he, she = read_pooled(model, texts, "resid.1")["resid.1"]
        np.testing.assert_allclose(he, she, atol=1e-5)
        raise KeyError("a user's own error")
    np.testing.assert_array_equal(read_pooled(model, texts, "resid.1")["resid.1"], plain)


def test_bfloat16_rounds_the_average_once(minilm_path: Path) -> None:
    model = load_model(minilm_path, dtype="bfloat16")
    weight = model.module.get_input_embeddings().weight
    exact = (weight[5].double() + weight[9].double()) / 2
    with AveragedPairs(classes=(((5,), (9,)),)).applied(model):
        assert torch.equal(weight[5], exact.to(torch.bfloat16))


def test_another_tokenizers_classes_are_refused(stories: TextModel) -> None:
    averaged, before = AveragedPairs(classes=(((1,), (512,)),)), stories.fingerprint
    with pytest.raises(ValueError, match="512 is outside the model's 512"), averaged.applied(stories):
        pass
    assert stories.fingerprint == before
