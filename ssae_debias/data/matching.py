"""Finding the words of a list of pairs in a text, and telling which pair each belongs to.

A word counts only as a whole word, in the capitals that its pair allows, and not as part of a code such as
HER-2. A word with several partners (her: him or his) belongs to the pair that its context asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ssae_debias.data.pair_files import Pairs, Written
from ssae_debias.data.pronouns import her_is_object, his_stands_alone
from ssae_debias.data.rewriting import begins_sentence

_CLITIC = r"(?:['’](?:s|ll|d|ve|re|m)\b|(?<=s)['’](?!\w))"

# No rule looks farther than this many characters around a word.
_CONTEXT = 80


class Match(NamedTuple):
    """One word found: ``text[start:end]``, of pair number `pair`, followed by `clitic`, often empty."""

    start: int
    end: int
    side: int
    pair: int
    clitic: str


class WordMatcher:
    """Finds the words of some pairs in texts.

    Parameters
    ----------
    pairs : tuple of (first, second)
        The words in plain form; no word stands on both sides.
    written : sequence of {"any", "lower", "title", "sentence"}
        Per pair how its words must be written to count; see `PairNote`.

    Attributes
    ----------
    partners : dict of str to (side, pairs)
        For each word in lower case its side and the numbers of its pairs, in the order listed.

    Examples
    --------
    >>> matcher = WordMatcher((("him", "her"), ("his", "her")), ("any", "any"))
    >>> [(match.start, match.pair) for match in matcher.matches("We thank her for her HER2 trial.")]
    [(9, 0), (17, 1)]
    """

    def __init__(self, pairs: Pairs, written: Sequence[Written]) -> None:
        self.pairs, self.written = pairs, tuple(written)
        self.partners: dict[str, tuple[int, tuple[int, ...]]] = {}
        for number, pair in enumerate(pairs):
            for side, word in enumerate(pair):
                known = self.partners.get(word.lower(), (side, ()))[1]
                self.partners[word.lower()] = (side, (*known, number))
        words = _either(self.partners)
        self._pattern = re.compile(rf"(?<!\w)({words})({_CLITIC})?(?!-\d)", re.IGNORECASE)

    def matches(self, text: str) -> Iterator[Match]:
        """The words in the text, from left to right."""
        for found in self._pattern.finditer(text):
            start, end = found.span(1)
            side, numbers = self.partners[" ".join(found[1].lower().split())]
            before, after = text[max(0, start - _CONTEXT) : start], text[end : end + _CONTEXT]
            fitting = [number for number in numbers if _counts(found[1], self.written[number], before)]
            if fitting:
                pair = self._resolved(found[1].lower(), side, fitting, before, after)
                yield Match(start, end, side, pair, found[2] or "")

    def _resolved(self, word: str, side: int, numbers: Sequence[int], before: str, after: str) -> int:
        choice = {self.pairs[number][1 - side]: number for number in reversed(numbers)}
        if word == "her" and choice.keys() >= {"him", "his"}:
            return choice["him" if her_is_object(before, after) else "his"]
        if word == "his" and choice.keys() >= {"her", "hers"}:
            return choice["hers" if his_stands_alone(before, after) else "her"]
        return numbers[0]


def _either(words: Iterable[str]) -> str:
    """Pattern of any of the words: the longest that fits, tried by first letter so that most text is passed fast."""
    by_letter: dict[str, list[str]] = {}
    for word in sorted(words, key=len, reverse=True):
        by_letter.setdefault(word[0], []).append(_as_pattern(word))
    return "|".join(
        f"(?={re.escape(letter)})(?:{'|'.join(patterns)})" for letter, patterns in by_letter.items()
    )


def _as_pattern(word: str) -> str:
    """The word with any spaces inside; one that ends in a sign ("Mr.") may run into the next word."""
    pattern = r"\s+".join(map(re.escape, word.split()))
    return pattern + r"(?!\w)" if word[-1].isalnum() else pattern


def _counts(surface: str, written: Written, before: str) -> bool:
    match written:
        case "lower":
            return surface.islower()
        case "title":
            return surface[:1].isupper() and surface[1:] == surface[1:].lower()
        case "sentence":
            return not surface.istitle() or begins_sentence(before)
    return True
