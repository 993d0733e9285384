"""From texts to batches of equal-length rows.

Padding is work thrown away, so texts are tokenised once, sorted by length and cut into batches of about as
many padded tokens each. Token ids lie end to end in one flat array, with offsets: no Python list per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ssae_debias.activations.model import TextModel

# texts handed to the tokenizer at a time: enough to use its threads, little enough to stay in memory
TOKENIZE_CHUNK = 1024


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as token ids, end to end, without padding.

    Attributes
    ----------
    token_id : ndarray of int64, shape (n_all,)
        All texts' tokens, special ones (`[CLS]`, `[SEP]`, `<s>`, …) included.
    counted : ndarray of bool, shape (n_all,)
        Which of them count: all, or all but the special ones.
    offsets : ndarray of int64, shape (n_texts + 1,)
        Text i's tokens are `offsets[i]:offsets[i + 1]`.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> tokenized = tokenize(load_model("demo"), ["A nurse.", ""], max_length=8, include_special=False)
    >>> tokenized.lengths.tolist(), tokenized.counts.tolist()
    ([5, 2], [3, 0])
    """

    token_id: NDArray[np.int64]
    counted: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, special ones included: int64 (n_texts,)."""
        return np.diff(self.offsets)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Tokens of each text that count: int64 (n_texts,)."""
        before = np.concatenate(([0], np.cumsum(self.counted)))
        return np.diff(before[self.offsets])

    def counted_tokens(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Text index, position within the text and id of every token that counts: three int64 (n_tokens,)."""
        text_index = np.repeat(np.arange(len(self)), self.lengths)[self.counted]
        flat = np.flatnonzero(self.counted)
        return text_index, flat - self.offsets[text_index], self.token_id[flat]

    def first(self, n: int) -> TokenizedTexts:
        """The first `n` texts."""
        end = self.offsets[n]
        return TokenizedTexts(self.token_id[:end], self.counted[:end], self.offsets[: n + 1])

    def followed_by(self, other: TokenizedTexts) -> TokenizedTexts:
        """These texts and then the others."""
        return TokenizedTexts(
            np.concatenate([self.token_id, other.token_id]),
            np.concatenate([self.counted, other.counted]),
            np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
        )


@dataclass(frozen=True)
class PaddedBatch:
    """Rows of token ids padded on the right to one length.

    Attributes
    ----------
    texts : ndarray of int64, shape (b,)
        Which texts the rows are.
    input_ids, attention_mask : ndarray of int64, shape (b, length)
    counted : ndarray of bool, shape (b, length)
    """

    texts: NDArray[np.int64]
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    counted: NDArray[np.bool_]


def tokenize(
    model: TextModel, texts: Sequence[str], *, max_length: int, include_special: bool
) -> TokenizedTexts:
    """Token ids of texts, cut at `max_length` tokens (special ones included).

    Raises
    ------
    ValueError
        `max_length` is below 1 or above the model's positions.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> tokenize(load_model("demo"), ["She is here."], max_length=4, include_special=True).token_id
    array([ 101, 2016, 2003,  102])
    """
    model.check_max_length(max_length)
    ids: list[int] = []
    special: list[int] = []
    lengths: list[int] = []
    for start in range(0, len(texts), TOKENIZE_CHUNK):
        encoding = model.tokenizer(
            list(texts[start : start + TOKENIZE_CHUNK]),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_special_tokens_mask=True,
        )
        for row, mask in zip(encoding["input_ids"], encoding["special_tokens_mask"], strict=True):
            ids += row
            special += mask
            lengths.append(len(row))
    counted = np.ones(len(ids), dtype=bool) if include_special else np.asarray(special, dtype=np.int8) == 0
    offsets = np.concatenate(([0], np.cumsum(np.asarray(lengths, dtype=np.int64))))
    return TokenizedTexts(np.asarray(ids, dtype=np.int64), counted, offsets.astype(np.int64))


def batches_by_length(lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Group texts of like length so that a padded batch holds at most `batch_tokens` tokens.

    The longest come first: a batch that does not fit into memory fails at the start. A text longer than
    `batch_tokens` is a batch of its own; texts without a token are in none.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n_texts,)
    batch_tokens : int
        Rows × longest row, at most.

    Returns
    -------
    list of ndarray of int64
        Indices of the texts of each batch.

    Examples
    --------
    >>> batches_by_length(np.array([2, 9, 0, 3, 8]), batch_tokens=18)
    [array([1, 4]), array([3, 0])]
    """
    if not isinstance(batch_tokens, (int, np.integer)) or batch_tokens < 1:
        raise ValueError(f"batch_tokens must be an integer of at least 1, got {batch_tokens!r}.")
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    batches = []
    start = 0
    while start < len(order):
        rows = max(1, int(batch_tokens // lengths[order[start]]))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad(tokenized: TokenizedTexts, texts: NDArray[np.int64], pad_id: int) -> PaddedBatch:
    """Lay the given texts out as one padded batch.

    Examples
    --------
    >>> tokenized = TokenizedTexts(np.array([5, 6, 7]), np.array([True, True, False]), np.array([0, 1, 3]))
    >>> pad(tokenized, np.array([1, 0]), pad_id=0).input_ids
    array([[6, 7],
           [5, 0]])
    """
    lengths = tokenized.lengths[texts]
    columns = np.arange(lengths.max())
    real = columns < lengths[:, None]
    flat = (tokenized.offsets[texts][:, None] + columns)[real]
    input_ids = np.full(real.shape, pad_id, dtype=np.int64)
    input_ids[real] = tokenized.token_id[flat]
    counted = np.zeros(real.shape, dtype=bool)
    counted[real] = tokenized.counted[flat]
    return PaddedBatch(texts, input_ids, real.astype(np.int64), counted)
