"""A concept: something that a corpus says at known places.

It comes from a word list, a regular expression, labelled tokens or labelled texts. What is to be found is an
*occurrence*. A word cut into several tokens is one occurrence, found where any of its tokens is: which piece a model
hangs a word's meaning on is the model's affair, and counting each piece would call a latent that fires on the last one
a failure. A labelled text is one occurrence of all its tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssae_debias.activations import TextModel, TokenBatch
from ssae_debias.data.alignment import token_spans
from ssae_debias.data.texts import check_texts

Level = Literal["token", "text"]

POSITION_BITS = 24
"""Bits of a token's place that hold its position: contexts of up to 16 million tokens."""


@dataclass(frozen=True, eq=False)
class Concept:
    """Places in a corpus at which a concept occurs; made by `of_words`, `of_pattern`, `of_tokens` or `of_texts`.

    Attributes
    ----------
    name : str
    places : ndarray of int64, shape (n,), ascending
        Level "token": text index · 2²⁴ + position of each token of an occurrence. Level "text": text indices.
    occurrence : ndarray of int64, shape (n,)
        Which occurrence each place belongs to, from 0.
    level : {"token", "text"}
        What counts as an example: a token (and an occurrence, which may be several), or a text.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> concept = Concept.of_words("nurses", ["nurse", "nurses"], ["A Nurse.", "Two nurses.", "-"], load_model("demo"))
    >>> concept.n_occurrences, concept.texts.tolist()
    (2, [0, 1])
    """

    name: str
    places: NDArray[np.int64]
    occurrence: NDArray[np.int64]
    level: Level = "token"

    @property
    def n_occurrences(self) -> int:
        """How many there are in the whole corpus."""
        return int(self.occurrence.max()) + 1

    @property
    def texts(self) -> NDArray[np.int64]:
        """Texts with an occurrence, ascending."""
        return np.unique(self.occurrence_texts)

    @property
    def occurrence_texts(self) -> NDArray[np.int64]:
        """The text of each place, shape (n,)."""
        return self.places if self.level == "text" else self.places >> POSITION_BITS

    def tokens(self, batch: TokenBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of a batch that are tokens of an occurrence, and the number of each one's occurrence.

        Examples
        --------
        >>> concept = Concept.of_tokens("x", [7, 7, 9], [1, 2, 1], occurrence=[0, 0, 1])
        >>> batch = TokenBatch(np.array([7, 7, 7, 8]), np.array([0, 1, 2, 1]), np.zeros(4, int), {})
        >>> concept.tokens(batch)
        (array([1, 2]), array([0, 0]))
        """
        if self.level == "text":
            keys = batch.text_index
        else:
            keys = (batch.text_index << POSITION_BITS) + batch.position
        at = np.minimum(np.searchsorted(self.places, keys), len(self.places) - 1)
        rows = np.flatnonzero(self.places[at] == keys)
        return rows, self.occurrence[at[rows]]

    @classmethod
    def of_words(
        cls,
        name: str,
        words: Sequence[str],
        texts: Sequence[str],
        model: TextModel,
        *,
        max_length: int = 128,
        match_case: bool = False,
        level: Level = "token",
    ) -> Concept:
        """Occurrences of whole words or phrases.

        Parameters
        ----------
        name : str
        words : sequence of str
            Each a word or a phrase; inflections count only where listed.
        texts : sequence of str
            Those that the batches hold, in the same order.
        model : TextModel
            The one that reads them; only its tokenizer is used.
        max_length : int, default 128
            Tokens a text is cut at; as in reading.
        match_case : bool, default False
        level : {"token", "text"}, default "token"
            "text": the texts that hold one of the words.

        Raises
        ------
        TypeError, ValueError
            No words; no texts; or none of the words is in any text within `max_length`.
        """
        if (
            isinstance(words, str)
            or not words
            or not all(isinstance(word, str) and word.strip() for word in words)
        ):
            raise ValueError(f"words of {name!r} must be a list of one or more words, got {words!r}.")
        longest_first = sorted((word.strip() for word in words), key=len, reverse=True)
        either = "|".join(r"\s+".join(map(re.escape, word.split())) for word in longest_first)
        flags = re.NOFLAG if match_case else re.IGNORECASE
        pattern = re.compile(rf"(?<!\w)(?:{either})(?!\w)", flags)
        return cls.of_pattern(name, pattern, texts, model, max_length=max_length, level=level)

    @classmethod
    def of_pattern(
        cls,
        name: str,
        pattern: str | re.Pattern[str],
        texts: Sequence[str],
        model: TextModel,
        *,
        max_length: int = 128,
        level: Level = "token",
    ) -> Concept:
        """Occurrences of a regular expression: each match is one, with all tokens that it touches.

        Parameters are those of `of_words`; `pattern` is compiled as it is, so case counts unless it says ``(?i)``.

        Raises
        ------
        re.error
            The pattern is no regular expression.
        ValueError
            It matches nothing within `max_length` tokens.

        Examples
        --------
        >>> from ssae_debias.activations import load_model
        >>> concept = Concept.of_pattern("years", r"\\b(19|20)\\d\\d\\b", ["Born in 1957.", "Now"], load_model("demo"))
        >>> concept.places
        array([3])
        """
        compiled = re.compile(pattern)
        every = check_texts(texts)
        found = [(i, spans) for i, text in enumerate(every) if (spans := list(_matches(compiled, text)))]
        places: list[int] = []
        numbers: list[int] = []
        number = 0
        for (index, matches), tokens in zip(
            found, _token_offsets(model, every, found, max_length), strict=True
        ):
            for start, end in matches:
                touched = [at for at, span in enumerate(tokens) if span and span[0] < end and start < span[1]]
                places += [(index << POSITION_BITS) + at for at in touched]
                numbers += [number] * len(touched)
                number += bool(touched)
        if not places:
            raise ValueError(
                f"the concept {name!r} occurs in none of {len(every)} texts within max_length={max_length} tokens"
                f"{f' (it does in {len(found)} beyond that)' if found else ''}; look at its words or pattern."
            )
        if level == "text":
            return cls._in_texts(name, np.unique(np.array(places) >> POSITION_BITS))
        return cls._at(name, np.array(places), np.array(numbers))

    @classmethod
    def of_tokens(
        cls, name: str, text_index: ArrayLike, position: ArrayLike, *, occurrence: ArrayLike | None = None
    ) -> Concept:
        """Occurrences labelled by hand: text index and position of each token, as `TokenBatch` counts them.

        Parameters
        ----------
        name : str
        text_index, position : array-like of int, shape (n,)
        occurrence : array-like of int, shape (n,), optional
            Tokens of one number are one occurrence. Default: each token is one.

        Raises
        ------
        ValueError
            No tokens; lengths that differ; a negative number; a token twice.
        """
        text, place = np.asarray(text_index, dtype=np.int64), np.asarray(position, dtype=np.int64)
        numbers = np.arange(len(text)) if occurrence is None else np.asarray(occurrence, dtype=np.int64)
        if not (text.shape == place.shape == numbers.shape and text.ndim == 1 and len(text)):
            raise ValueError(
                f"{name!r}: text_index, position and occurrence must be flat, of one length, at least 1; got shapes "
                f"{text.shape}, {place.shape}, {numbers.shape}."
            )
        if min(text.min(), place.min()) < 0 or place.max() >= 1 << POSITION_BITS:
            raise ValueError(
                f"{name!r}: text indices and positions count from 0, positions below 2**{POSITION_BITS}."
            )
        return cls._at(name, (text << POSITION_BITS) + place, np.unique(numbers, return_inverse=True)[1])

    @classmethod
    def of_texts(cls, name: str, labels: ArrayLike) -> Concept:
        """Texts labelled as showing the concept; a unit finds a text where its largest value in it is high.

        Parameters
        ----------
        name : str
        labels : array-like of bool, shape (n_texts,)

        Raises
        ------
        ValueError
            Labels that are not one truth value a text, or none or all of which are true.

        Examples
        --------
        >>> Concept.of_texts("poems", [False, True, True]).texts
        array([1, 2])
        """
        values = np.asarray(labels)
        if values.ndim != 1 or not set(np.unique(values).tolist()) <= {0, 1}:
            raise ValueError(
                f"{name!r}: labels must be one of True and False for each text, got {labels!r:.80}."
            )
        mask = values.astype(bool)
        if mask.all() or not mask.any():
            raise ValueError(
                f"{name!r}: {int(mask.sum())} of {len(mask)} texts are labelled; some must be, some not."
            )
        return cls._in_texts(name, np.flatnonzero(mask))

    @classmethod
    def _at(cls, name: str, places: NDArray[Any], numbers: NDArray[Any]) -> Concept:
        order = np.argsort(places, kind="stable")
        places, numbers = places[order].astype(np.int64), numbers[order]
        # overlapping matches cannot come of one pattern, but two pieces of text may share a token ("A/B" as one)
        kept = np.concatenate(([True], np.diff(places) > 0))
        return cls(name, places[kept], np.unique(numbers[kept], return_inverse=True)[1].astype(np.int64))

    @classmethod
    def _in_texts(cls, name: str, texts: NDArray[Any]) -> Concept:
        return cls(name, texts.astype(np.int64), np.arange(len(texts)), "text")


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in pattern.finditer(text) if match.end() > match.start())


def _token_offsets(
    model: TextModel, texts: Sequence[str], found: Sequence[tuple[int, Any]], max_length: int
) -> Iterator[list[tuple[int, int] | None]]:
    """Where each token stands in its text, for the texts found; None for special tokens."""
    for start in range(0, len(found), 1024):
        part = [texts[index] for index, _ in found[start : start + 1024]]
        fast = bool(getattr(model.tokenizer, "is_fast", False))
        encoding = model.tokenizer(
            part, truncation=True, max_length=max_length, padding=False, return_offsets_mapping=fast
        )
        for row, text in enumerate(part):
            if fast:
                yield [_without_blank(text, span) for span in encoding["offset_mapping"][row]]
            else:
                yield list(
                    token_spans(text, model.tokenizer.convert_ids_to_tokens(encoding["input_ids"][row]))
                )


def _without_blank(text: str, span: tuple[int, int]) -> tuple[int, int] | None:
    start, end = span
    while start < end and text[start].isspace():  # byte-level BPE counts the blank before a word as its own
        start += 1
    return (start, end) if start < end else None
