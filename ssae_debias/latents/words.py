"""A latent's activations on the words of a text, put together from those on its tokens.

People read words, tokenizers cut them: `surg ##eries` is one word, on which the latent is as strong as on the
strongest of its pieces. Punctuation counts as a word of its own, since latents do fire on it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ssae_debias.data.alignment import token_spans

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class ActiveWord:
    """A word of a text, as written, and how strongly a latent fires on it.

    Attributes
    ----------
    written : str
    activation : float
        The largest among the word's tokens; 0 where the latent is silent.
    """

    written: str
    activation: float

    @property
    def key(self) -> str:
        """What counts as the same word: lower case, straight apostrophes."""
        return word_key(self.written)


def word_key(written: str) -> str:
    """A word without the differences that do not matter when words are counted.

    Examples
    --------
    >>> word_key("She’s")
    "she's"
    """
    return written.casefold().replace("’", "'")


def words_of(text: str) -> list[str]:
    """The words and punctuation marks of a text, as written.

    Examples
    --------
    >>> words_of("She's board-certified, Dr. King.")
    ["She's", 'board-certified', ',', 'Dr', '.', 'King', '.']
    """
    return _WORD.findall(text)


def active_words(
    text: str, tokens: Sequence[tuple[str, float]]
) -> tuple[list[ActiveWord], list[tuple[str, float]]]:
    """Lay a latent's token activations over the words of the text.

    Parameters
    ----------
    text : str
        The text as written.
    tokens : sequence of (str, float)
        Its tokens in order with the latent's activation, as `LatentDescription.top_texts` holds them.

    Returns
    -------
    list of ActiveWord
        Words that the tokens cover, in reading order; the text may have been cut before its end.
    list of (str, float)
        Tokens that stand for nothing in the text and on which the latent fires: `[CLS]`, `[SEP]`, `<s>`.

    Examples
    --------
    >>> tokens = [("[CLS]", 0.5), ("surg", 0.0), ("##eries", 2.0), (".", 0.0)]
    >>> words, outside = active_words("Surgeries. More", tokens)
    >>> [(word.written, word.activation) for word in words], outside
    ([('Surgeries', 2.0), ('.', 0.0)], [('[CLS]', 0.5)])
    """
    matches = list(_WORD.finditer(text))
    starts = [match.start() for match in matches]
    strongest: dict[int, float] = {}
    outside = []
    for (token, value), span in zip(tokens, token_spans(text, [token for token, _ in tokens]), strict=True):
        if span is None:
            if value > 0 and token.strip():
                outside.append((token, value))
            continue
        place = max(bisect_right(starts, span[0]) - 1, 0)
        while place < len(matches) and matches[place].start() < span[1]:
            if matches[place].end() > span[0]:
                strongest[place] = max(strongest.get(place, 0.0), value, 0.0)
            place += 1
    return [ActiveWord(matches[place][0], value) for place, value in sorted(strongest.items())], outside
