"""Batches by length hold every text once and no more tokens than asked; padding loses nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_text_models import each_family

from ssae_debias.activations import TextModel
from ssae_debias.activations.batching import TokenizedTexts, batches_by_length, pad, tokenize


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 80))
def test_every_text_with_tokens_is_in_one_batch_of_bounded_size(
    lengths: list[int], batch_tokens: int
) -> None:
    array = np.array(lengths, dtype=np.int64)
    batches = batches_by_length(array, batch_tokens)
    assert sorted(i for batch in batches for i in batch.tolist()) == [i for i, n in enumerate(lengths) if n]
    for batch in batches:
        assert len(batch) == 1 or len(batch) * array[batch].max() <= batch_tokens
    longest = [array[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(st.tuples(st.integers(5, 99), st.booleans()), min_size=1), min_size=1, max_size=8))
def test_padding_keeps_ids_and_marks(texts: list[list[tuple[int, bool]]]) -> None:
    flat = [token for text in texts for token in text]
    tokenized = TokenizedTexts(
        np.array([token for token, _ in flat]),
        np.array([counted for _, counted in flat]),
        np.cumsum([0, *map(len, texts)]),
    )
    order = np.arange(len(texts))[::-1]
    batch = pad(tokenized, order, pad_id=0)
    for row, text in enumerate(order):
        n = len(texts[text])
        assert batch.input_ids[row, :n].tolist() == [token for token, _ in texts[text]]
        assert batch.counted[row, :n].tolist() == [counted for _, counted in texts[text]]
        assert not batch.input_ids[row, n:].any()
        assert not batch.counted[row, n:].any()
        assert batch.attention_mask[row].sum() == n
    assert tokenized.counts.tolist() == [sum(counted for _, counted in text) for text in texts]


@each_family
def test_tokenizing_agrees_with_encode(
    tiny_model: Callable[..., TextModel], texts: list[str], family: str
) -> None:
    model = tiny_model(family)
    tokenized = tokenize(model, texts, max_length=7, include_special=False)
    encoding = model.encode(texts, max_length=7)
    order = np.arange(len(texts))
    batch = pad(tokenized, order, model.tokenizer.pad_token_id)
    np.testing.assert_array_equal(batch.input_ids, encoding["input_ids"].numpy())
    np.testing.assert_array_equal(batch.attention_mask, encoding["attention_mask"].numpy())
    np.testing.assert_array_equal(batch.counted, encoding["special_tokens_mask"].numpy() == 0)


@pytest.mark.parametrize("batch_tokens", [0, -1, 2.5])
def test_batch_tokens_must_be_a_positive_integer(batch_tokens: int) -> None:
    with pytest.raises(ValueError, match="batch_tokens"):
        batches_by_length(np.array([1]), batch_tokens)
