"""English "her" and "his": which of two words each stands for.

"her" is the object ("we thank her" → him) or the possessive ("her patients" → his); "his" is the possessive
("his patients" → her) or stands alone ("a friend of his" → hers). What follows decides nearly always: a
possessive is followed by its noun phrase, an object by whatever can follow a noun phrase. So the rules list
the closed classes of words that can follow an object (`pronoun_contexts.tsv`) and call everything else a noun
phrase; a few verbs before the pronoun (*find her hiking*, *gave her confidence*) overrule that.
"""

from __future__ import annotations

import re
from functools import cache

from ssae_debias.data.resources import read_resource

# What follows: one word with its hyphens and apostrophes, or one sign; "in-depth" is not "in".
_FIRST = re.compile(r"\s*([^\W_]+(?:[-'’&][^\W_]+)*|\S|$)")
_LAST = re.compile(r"([^\W_]+(?:[-'’][^\W_]+)*)\W*$")
_OBJECT_PARTNER = re.compile(r"\b(?:him\s*(?:/|or|and|&)|s?he\s*/)\s*$", re.IGNORECASE)
_POSSESSIVE_PARTNER = re.compile(r"\bhis\s*(?:/|or|and|&)\s*$", re.IGNORECASE)
_OPENING_QUOTES = ('"', "“", "‘", "'")

_AFTER_OBJECT = ("determiners", "prepositions", "conjunctions", "pronouns", "auxiliaries", "adverbs", "verbs")


def her_is_object(before: str, after: str) -> bool:
    """Whether "her" between these two stretches of text is the object (him) and not the possessive (his).

    Parameters
    ----------
    before, after : str
        The text before and after the word, with its spaces.

    Returns
    -------
    bool
        True for "him".

    Examples
    --------
    >>> her_is_object("Patients thank ", " for her care.")
    True
    >>> her_is_object("Patients praise ", " in-depth knowledge.")
    False
    >>> her_is_object("You can find ", " hiking.")
    True
    """
    following, rest = _first(after)
    beyond = _first(rest)[0]
    if following in ("/", "&", "or", "and") and beyond in ("his", "him", "their", "them"):
        return beyond in ("him", "them")
    if _OBJECT_PARTNER.search(before):
        return True
    if _POSSESSIVE_PARTNER.search(before):
        return False
    if not following[:1].isalpha():
        # a quote that opens, or a number, begins the noun phrase: her "first love", her 20 years
        return not (following[:1].isalnum() or _opens(following, after, rest))
    if following == "one" or (following == "all" and beyond in ("the", "of")):
        return beyond in ("of", "the")
    if _is(following, "amounts"):
        return not (beyond[:1].isdigit() or _is(beyond.split("-")[0], "numbers"))
    if _is(following, "either_adverbs"):
        return not beyond[:1].isalpha() or _is(beyond, *_AFTER_OBJECT)
    return _is(following, *_AFTER_OBJECT) or _verb_takes_object(_last(before), following)


def his_stands_alone(before: str, after: str) -> bool:
    """Whether "his" between these two stretches of text stands without a noun (hers, not her).

    Parameters
    ----------
    before, after : str
        The text before and after the word, with its spaces.

    Returns
    -------
    bool
        True for "hers".

    Examples
    --------
    >>> his_stands_alone("an old friend of ", ", now retired")
    True
    >>> his_stands_alone("some of ", " patients")
    False
    """
    following, rest = _first(after)
    beyond = _first(rest)[0]
    if following == "/":
        return beyond in ("hers", "theirs")
    if following in ("&", "and", "or"):
        return _is(beyond, "alone") or (_last(before) == "of" and not _is(beyond, "possessives"))
    if not following[:1].isalpha():
        opens = _opens(following, after, rest) or (following == "(" and after[:1].isspace())
        return not (opens or following[:1].isalnum() or following == "-")
    return _is(following, "after_alone")


def _verb_takes_object(verb: str, following: str) -> bool:
    """Whether the verb before "her" makes it an object though a noun phrase could follow."""
    if following == "back":
        return _is(verb, "particle_verbs")
    return (
        (_is(verb, "giving") and _is(following, "given"))
        or (_is(verb, "helping") and _is(following, "helped"))
        or (_is(verb, "making") and _is(following, "states"))
        or (_is(verb, "watching") and following.endswith("ing") and not _is(following, "ing_nouns"))
    )


def _opens(sign: str, after: str, rest: str) -> bool:
    return sign in _OPENING_QUOTES and after[:1].isspace() and rest[:1].isalnum()


def _first(text: str) -> tuple[str, str]:
    match = _FIRST.match(text)
    assert match is not None  # the pattern matches the empty end
    return match[1].lower(), text[match.end() :]


def _last(text: str) -> str:
    match = _LAST.search(text[-40:])
    return match[1].lower() if match else ""


def _is(word: str, *classes: str) -> bool:
    return any(word in _classes()[name] for name in classes)


@cache
def _classes() -> dict[str, frozenset[str]]:
    return {row["class"]: frozenset(row["words"].split()) for row in read_resource("pronoun_contexts.tsv")}
