"""Tokens are found where they stand in the text, by real tokenizers and on hostile text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssae_debias.data.alignment import bare_token, token_spans

letters = st.characters(codec="utf-8", categories=("L", "M", "N", "P", "Zs", "S"))


def test_tokens_of_minilm_are_found_with_their_pieces(minilm_path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_path)
    text = "Zoë's ☃ naïve bone-marrow surgeries (FRCS) aren't done."
    encoded = tokenizer(text, return_offsets_mapping=True)
    spans = token_spans(text, tokenizer.convert_ids_to_tokens(encoded["input_ids"]))
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id}
    for token, span, offsets in zip(encoded["input_ids"], spans, encoded["offset_mapping"], strict=True):
        assert span == (None if token in special else offsets)


def test_tokens_of_a_decoder_are_found(stories_path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stories_path)
    text = "Lily's mom ran to the park."
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
    spans = token_spans(text, tokens)
    assert "".join(text[span[0] : span[1]] for span in spans if span) == text.replace(" ", "")


@given(st.text(letters, max_size=60), st.lists(st.text(letters, max_size=4), max_size=20))
def test_spans_stand_in_order_within_the_text_and_hold_their_token(text: str, tokens: list[str]) -> None:
    spans = token_spans(text, tokens)
    assert len(spans) == len(tokens)
    at = 0
    for token, span in zip(tokens, spans, strict=True):
        if span is not None:
            assert at <= span[0] < span[1] <= len(text)
            at = span[1]
            assert bare_token(token)


def test_a_token_does_not_jump_over_words() -> None:
    assert token_spans("she saw a ward", ["she", "a"]) == [(0, 3), None]
    assert token_spans("she saw a ward", ["she", "[UNK]", "a"]) == [(0, 3), None, (5, 6)]
