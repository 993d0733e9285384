"""Short sentences around the words of an attribute: seeds from which text about it is retrieved.

The patterns say little else, each in another field of life, so that what the sentences share is the
attribute.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssae_debias.data.randomness import RandomState, as_generator

_PATTERNS: dict[str, tuple[str, ...]] = {
    "subject": (
        "{w} grew up in a small town and left it early.",
        "That year {w} began to write.",
        "{w} works in the city and travels a lot.",
        "Nobody knew where {w} had gone.",
        "{w} has taught here for ten years.",
        "When the train stopped, {w} got off.",
        "{w} enjoys cooking for friends.",
        "In 1998 {w} was elected to the council.",
    ),
    "object": (
        "The neighbours greeted {w} at the door.",
        "People in the village remember {w} well.",
        "A letter reached {w} in the spring.",
        "The committee chose {w} for the post.",
        "They visited {w} every summer.",
        "Colleagues describe {w} as patient.",
    ),
    "determiner": (
        "The book made {w} name known.",
        "Friends admire {w} patience.",
        "After the war, {w} family moved north.",
        "Most of {w} time goes into the garden.",
        "The prize was for {w} first novel.",
        "{w} work is shown in three museums.",
    ),
    "alone": ("The house on the hill is {w}.", "The idea was {w}.", "Kim is an old friend of {w}."),
    "reflexive": (
        "Alex built the house {w}.",
        "The author published the poems {w}.",
        "Taught by {w} at first, the painter later went to Paris.",
    ),
    "title": (
        "{w} Miller chairs the board.",
        "We thank {w} Taylor for the gift.",
        "{w} Walker lives near the coast.",
        "The speech was given by {w} Parker.",
    ),
    "noun": (
        "A {w} crossed the street.",
        "The {w} in the photograph was never named.",
        "Every {w} in the village came.",
        "The story is about a {w} who leaves home.",
        "The award goes to a {w} from the north.",
    ),
    "plural": (
        "Many {w} joined the march.",
        "The {w} met once a week.",
        "Among the {w} there were two painters.",
        "The law changed what {w} could own.",
    ),
    "kin": (
        "The {w} of the singer lives abroad.",
        "They named the ship after a {w}.",
        "The farm went to a {w} in the end.",
        "A {w} taught them to read.",
    ),
    "adjective": (
        "It was the first {w} member of the club.",
        "The play has one {w} lead.",
        "The {w} voice on the record is not named.",
    ),
    "state": (
        "The novel is about {w}.",
        "The essay looks back on {w}.",
        "Little was written about {w} then.",
    ),
    "word": (
        'The word that was used is "{w}".',
        "It was about {w}.",
        "In the text, {w} comes up again and again.",
        "{w}: what the term means and where it is used.",
        "Somebody spoke of {w}.",
        "The article deals with {w}.",
    ),
}


def seed_sentences(
    pairs: Sequence[tuple[str, str]], kinds: Sequence[str], n: int, random_state: RandomState
) -> list[str]:
    """At most `n` distinct sentences with the words of `pairs`, both sides of each drawn pair and pattern.

    Parameters
    ----------
    pairs : sequence of (first, second)
        The words.
    kinds : sequence of str
        Per pair its kind of word; one without patterns of its own is used as "word".
    n : int
        At most how many.
    random_state : int, Generator, RandomState or None
        What is drawn.

    Raises
    ------
    ValueError
        `n` is less than 1.

    Examples
    --------
    >>> seed_sentences([("he", "she")], ["subject"], 2, 0)
    ['He works in the city and travels a lot.', 'She works in the city and travels a lot.']
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    choices = [
        (pair, pattern)
        for pair, kind in zip(pairs, kinds, strict=True)
        for pattern in _PATTERNS.get(kind, _PATTERNS["word"])
    ]
    drawn: dict[str, None] = {}
    for number in as_generator(random_state).permutation(len(choices)):
        pair, pattern = choices[number]
        for word in pair:
            drawn[_written_out(pattern, word)] = None
        if len(drawn) >= n:
            break
    return list(drawn)[:n]


def _written_out(pattern: str, word: str) -> str:
    if pattern.startswith("A {w}") and word[:1].lower() in tuple("aeiou"):
        pattern = "An" + pattern[1:]
    pattern = pattern.replace(" a {w}", " an {w}") if word[:1].lower() in tuple("aeiou") else pattern
    sentence = pattern.replace("{w}", word)
    return sentence[:1].upper() + sentence[1:]
