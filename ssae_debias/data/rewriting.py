"""Putting one English word in another's place: its capitals, its possessive, its article, its spaces.

Each function here is a plain one on strings. They know nothing about word pairs.
"""

from __future__ import annotations

import re

_SENTENCE_START = re.compile(r"(?:^|[.!?]['\"”’)]*\s|\n)\s*[\"“‘'(]?$")
_ABBREVIATION = re.compile(
    r"(?<![\w'’])(?:mrs?|ms|drs?|st|prof|mt|ft|rev|hon|sr|jr|vs|no|u\.s|[a-z])\.\s*$", re.IGNORECASE
)
_AGREEMENT = {"is": "are", "was": "were", "has": "have", "does": "do", "isn't": "aren't", "wasn't": "weren't"}
_VERB_AFTER_THEY = re.compile(r"\b(they)(\s+)(isn['’]t|wasn['’]t|is|was|has|does)\b", re.IGNORECASE)
_THEY_S = re.compile(r"\b(they)(['’])s\b", re.IGNORECASE)
_REPEATED = re.compile(
    r"\b(they(?:['’]re)?|them|their|theirs|themself)(?:\s*/\s*|\s+(?:or|and)\s+)\1\b", re.IGNORECASE
)
_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)


def match_case(surface: str, listed: str, target: str) -> str:
    """`target` in the capitals in which `surface` writes `listed`.

    Parameters
    ----------
    surface : str
        The word as the text has it.
    listed : str
        The same word as the list has it, its plain form.
    target : str
        The word to be written, in its plain form.

    Examples
    --------
    >>> match_case("He", "he", "she"), match_case("HE", "he", "she"), match_case("Mr.", "Mr.", "Ms.")
    ('She', 'SHE', 'Ms.')
    """
    if surface == listed:
        return target
    if surface.isupper() and sum(letter.isalpha() for letter in surface) > 1:
        return target.upper()
    if surface[:1].isupper():
        return target[:1].upper() + target[1:]
    return target.lower() if surface.islower() else target


def possessive(clitic: str, word: str) -> str:
    """The possessive ending of `word`, written like `clitic` ("'s", "’s", "'" or "’"), or a contraction kept.

    A plural in -s takes the apostrophe alone; so the ending changes where only one of two words is such a
    plural.

    Examples
    --------
    >>> possessive("’", "gentlemen"), possessive("'s", "ladies"), possessive("'s", "actress")
    ('’s', "'", "'s")
    """
    if clitic[1:].lower() not in ("", "s"):
        return clitic
    plural = word.lower().endswith("s") and not word.lower().endswith("ss")
    if plural:
        return clitic[:1]
    return clitic if len(clitic) > 1 else clitic + ("S" if word.isupper() else "s")


def refit_article(before: str, old: str, new: str) -> str:
    """`before`, with the article at its end ("a", "an") fitted to the word that now follows.

    Only an article that fitted the old word is changed; what was wrong before is not ours to mend.

    Examples
    --------
    >>> refit_article("She is an ", "actress", "person")
    'She is a '
    """
    tail = before[-20:]
    match = _ARTICLE.search(tail)
    if match is None or not new[:1].isalpha():
        return before
    had, needs = _open(old), _open(new)
    if had == needs or (len(match[1]) == 2) != had:
        return before
    article = match[1][0] + (("N" if match[1].isupper() and len(match[1]) > 1 else "n") if needs else "")
    return before[: len(before) - len(tail) + match.start()] + article + match[2]


def begins_sentence(before: str) -> bool:
    """Whether a word after `before` begins a sentence, so that its capital says nothing.

    Examples
    --------
    >>> begins_sentence("He left. "), begins_sentence("at St. "), begins_sentence("Brigham and ")
    (True, False, False)
    """
    tail = before[-40:]
    return bool(_SENTENCE_START.search(tail)) and not _ABBREVIATION.search(tail)


def join_over_gap(left: str, right: str) -> str:
    """`left` and `right`, between which a word was taken out, with spaces and signs tidied at the seam.

    Examples
    --------
    >>> join_over_gap("the ", ", a nurse"), join_over_gap("an all-", " team"), join_over_gap("(", ") sings")
    ('the, a nurse', 'an all team', 'sings')
    """
    left = left[:-1] if left.endswith(("-", "/", "–")) else left
    right = re.sub(r"^[-/–](?=\w)", " " if left[-1:].isalnum() else "", right)
    while left[-1:] in ("(", "[") and right.lstrip()[:1] in (")", "]") and right.strip():
        left, right = left[:-1], right.lstrip()[1:]
    if (not left or left[-1:].isspace() or left[-1:] in '(["“') and right[:1] in (" ", "\t"):
        right = right.lstrip(" \t")
    if right[:1] and right[0] in ",.;:!?)]":
        left = left.rstrip(" \t")
        left = left[:-1] if left[-1:] == "," else left
    return left + right


def agree_with_they(text: str) -> str:
    """`text` with "they or they" said once, and is, was, has and does put in the plural right after "they".

    Examples
    --------
    >>> agree_with_they("They or they is late; they’s sorry.")
    'They are late; they’re sorry.'
    """

    def plural(match: re.Match[str]) -> str:
        subject, gap, verb = match.groups()
        return subject + gap + match_case(verb, verb.lower(), _AGREEMENT[verb.lower().replace("’", "'")])

    text = _REPEATED.sub(r"\1", _THEY_S.sub(r"\1\2re", text))
    return _VERB_AFTER_THEY.sub(plural, text)


def _open(word: str) -> bool:
    """Whether the word takes "an": judged by its first letter."""
    return word[:1].lower() in tuple("aeiou")
