r"""Planting: a concept of known frequency, put into texts.

How rare a concept an SAE still gives a latent to is asked best with concepts whose frequency one sets. A made-up word
("zorblax") is unknown to the model, so any latent for it comes of the dictionary's training; a phrase from a foreign
field is known to the model and rare in the corpus. The planted texts are meant for both, training SAEs and measuring
them, with different `random_state` for the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.data.texts import check_texts

_PIECE = re.compile(r"\w+|[^\w\s]")
_BETWEEN = {"word": re.compile(r"(?<=\w)\s+(?=\w)"), "sentence": re.compile(r"(?<=[.!?])\s+(?=\S)|\s*$")}


def plant(
    texts: Sequence[str],
    phrases: str | Sequence[str],
    frequency: float,
    *,
    at: Literal["word", "sentence"] = "word",
    count_tokens: Callable[[str], int] | None = None,
    within: int | None = None,
    random_state: RandomState = 0,
) -> list[str]:
    """Put a word, a phrase or a sentence into texts, as often as a frequency says.

    Parameters
    ----------
    texts : sequence of str
    phrases : str or sequence of str
        What is planted; of several, each time one at random. None may occur in the texts already: its places would
        not be of the set frequency.
    frequency : float
        Occurrences over tokens, such as 1e-2 … 1e-5. Rounded to a whole number of occurrences, at least 1.
    at : {"word", "sentence"}, default "word"
        Between two words, or where one sentence ends and before the next begins, or at the text's end.
    count_tokens : callable, optional
        Tokens of a text. Default: words and punctuation marks, which are somewhat fewer than a model's tokens; the
        frequency that `concept_recall` reports is counted in the model's own.
    within : int, optional
        Plant only where so many characters at most stand before. Models cut long texts, and what was planted behind
        the cut is not read. Default: anywhere.
    random_state : int, Generator, RandomState or None, default 0
        Where and, of several phrases, which.

    Returns
    -------
    list of str
        The texts in order, those not chosen unaltered. No text gets a second occurrence before each that has room has
        one: 20 occurrences in one text say as little as one.

    Raises
    ------
    TypeError
        Texts that are none.
    ValueError
        A frequency outside (0, 0.5]; one below one occurrence in all texts; an empty phrase, or one that occurs
        already; no text with room.

    Examples
    --------
    >>> texts = ["The nurse went home early.", "She was glad to be there."] * 50
    >>> planted = plant(texts, "zorblax", 0.01, random_state=0)
    >>> sum(text.count("zorblax") for text in planted)
    6
    """
    every = check_texts(texts)
    choices = [phrases] if isinstance(phrases, str) else list(phrases)
    if not choices or not all(isinstance(phrase, str) and phrase.strip() for phrase in choices):
        raise ValueError(f"phrases must be one or more words or phrases, got {phrases!r}.")
    if not 0 < frequency <= 0.5:
        raise ValueError(f"frequency is occurrences over tokens, above 0 and at most 0.5; got {frequency!r}.")
    if at not in _BETWEEN:
        raise ValueError(f"at must be one of {', '.join(_BETWEEN)}, got {at!r}.")
    for phrase in choices:
        held = sum(phrase.casefold() in text.casefold() for text in every)
        if held:
            raise ValueError(
                f"{phrase!r} occurs in {held} of {len(every)} texts already: plant something else, or measure it as "
                "the known concept that it is."
            )
    n_tokens = sum(count_tokens(text) if count_tokens else len(_PIECE.findall(text)) for text in every)
    n = round(frequency * n_tokens)
    if n < 1:
        raise ValueError(
            f"frequency={frequency:g} is less than one occurrence in {n_tokens} tokens; give "
            f"{1 / max(n_tokens, 1):.2g} or more, or more texts."
        )
    rng = as_generator(random_state)
    room = [
        [gap for gap in _BETWEEN[at].finditer(text) if within is None or gap.start() <= within]
        for text in every
    ]
    open_texts = [i for i, gaps in enumerate(room) if gaps]
    if sum(map(len, room)) < n:
        raise ValueError(
            f"{n} occurrences were asked for, and the texts have {sum(map(len, room))} places for them "
            f"(at={at!r}, within={within}); lower the frequency or give more texts."
        )
    chosen: dict[int, list[int]] = {}
    orders = {i: rng.permutation(len(room[i])).tolist() for i in open_texts}
    while n:
        # a round gives every text one at most
        for i in rng.permutation(open_texts)[:n].tolist():
            chosen.setdefault(i, []).append(orders[i].pop())
            n -= 1
        open_texts = [i for i in open_texts if orders[i]]
    return [
        _planted(text, sorted((room[i][g].span() for g in chosen[i]), reverse=True), choices, rng)
        if i in chosen
        else text
        for i, text in enumerate(every)
    ]


def _planted(text: str, gaps: list[tuple[int, int]], choices: list[str], rng: np.random.Generator) -> str:
    for start, end in gaps:  # from the last: the places before it stay what they are
        phrase = choices[int(rng.integers(len(choices)))].strip()
        text = f"{text[:start]} {phrase}{text[start:end] or ' '}{text[end:]}".strip()
    return text
