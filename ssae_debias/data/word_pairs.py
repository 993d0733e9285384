"""Describing an attribute by word pairs, and rewriting texts with them.

A pair such as (he, she) says the attribute in a single word, and what else the text says stays. Swapping
every such word gives the *counterfactual* text: the same person, the attribute turned over. What a model
does differently on the two is what it does with the attribute, and no row needed a label for it. Deleting
or neutralising the words gives a text that no longer says the attribute outright.

A list knows words, not meanings. `gender` therefore leaves alone what is mostly something else: names (King,
Guy's Hospital, Brigham and Women's Hospital), acronyms (MS, HER2), generic words (alumni, host, master's).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ssae_debias.data.matching import Match, WordMatcher
from ssae_debias.data.pair_files import PairNote, Pairs, note_from, read_pairs
from ssae_debias.data.randomness import RandomState
from ssae_debias.data.resources import read_resource
from ssae_debias.data.rewriting import agree_with_they, join_over_gap, match_case, possessive, refit_article
from ssae_debias.data.seed_sentences import seed_sentences


@dataclass(frozen=True)
class WordPairs:
    """Pairs of words that differ in the attribute alone.

    Parameters
    ----------
    pairs : sequence of (first, second)
        Side 0 and side 1 of each pair, in plain form: lower case, or capitals where the word has them always.
        A word may have several partners on the other side; the first listed is the one it is swapped for.
    name : str, default="custom"
        What the attribute is called in reports.
    notes : sequence of PairNote, optional
        Per pair its neutral word, where it counts, and its kind of word.

    Raises
    ------
    TypeError
        A pair is not two strings.
    ValueError
        No pairs, an empty word, or a word on both sides.

    Notes
    -----
    Swapping twice restores a text that holds none of the words in `ambiguous`.

    Examples
    --------
    >>> gender = WordPairs.gender()
    >>> gender.swap("Mr. Lee loves his work; patients thank him.")
    'Ms. Lee loves her work; patients thank her.'
    >>> gender.swap("She's raising her daughter. They adore HER!")
    "He's raising his son. They adore HIM!"
    >>> gender.neutralize("She is an actress and her brother's agent.")
    "They are a performer and their sibling's agent."
    """

    pairs: Pairs
    name: str = "custom"
    notes: tuple[PairNote, ...] = ()
    _matcher: WordMatcher = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = tuple(_checked_pair(pair) for pair in self.pairs)
        if not pairs:
            raise ValueError("no word pairs; give at least one.")
        notes = tuple(self.notes) or (PairNote(),) * len(pairs)
        if len(notes) != len(pairs):
            raise ValueError(f"{len(pairs)} pairs have {len(notes)} notes; give one each, or none.")
        both = sorted({first.lower() for first, _ in pairs} & {second.lower() for _, second in pairs})
        if both:
            raise ValueError(f"{both} stand on both sides; each word must belong to one side.")
        object.__setattr__(self, "pairs", pairs)
        object.__setattr__(self, "notes", notes)
        object.__setattr__(self, "_matcher", WordMatcher(pairs, [note.written for note in notes]))

    def __repr__(self) -> str:
        shown = ", ".join(f"{first}/{second}" for first, second in self.pairs[:3])
        more = ", …" if len(self.pairs) > 3 else ""
        return f"WordPairs({self.name!r}, {len(self.pairs)} pairs: {shown}{more})"

    @classmethod
    def gender(cls) -> WordPairs:
        """The built-in English list: pronouns, titles, kinship, roles; side 0 male, side 1 female.

        Examples
        --------
        >>> gender = WordPairs.gender()
        >>> gender.pairs[0], len(gender.pairs) > 100
        (('he', 'she'), True)
        """
        return _gender()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> WordPairs:
        """Word pairs from a .csv, .tsv or .json file.

        Parameters
        ----------
        path : path-like
            A table whose first two columns are the sides (a first row of ``first, second`` is a heading;
            further columns ``neutral``, ``written``, ``kind`` are read by name under such a heading), or a
            JSON list of pairs.

        Raises
        ------
        FileNotFoundError, ValueError
            No such file; another suffix; a row that is no pair (its line is named).

        Examples
        --------
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "age.csv"
        >>> _ = path.write_text("young,old\\nyouth,age\\n")
        >>> WordPairs.from_file(path).swap("In his youth he was young.")
        'In his age he was old.'
        """
        pairs, notes = read_pairs(path)
        return cls(pairs, Path(path).stem, notes)

    @property
    def ambiguous(self) -> frozenset[str]:
        """Words, in lower case, that two swaps may not restore, for they share a partner: her, Mrs., mum."""
        partners = self._matcher.partners
        lost = set()
        for word, (side, numbers) in partners.items():
            back = partners[self.pairs[numbers[0]][1 - side].lower()][1]
            if len(numbers) > 1 or len(back) > 1:
                lost.add(word)
        return frozenset(lost)

    def words(self, side: int) -> tuple[str, ...]:
        """Distinct words of side 0 or 1, in the order listed."""
        return tuple(dict.fromkeys(pair[side] for pair in self.pairs))

    def swap(self, text: str) -> str:
        """The counterfactual text: every word of either side replaced by its partner.

        Capitals and possessives are kept. "her" becomes "him" or "his", and "his" becomes "her" or "hers", by
        the words around it.

        Examples
        --------
        >>> WordPairs.gender().swap("Find her reading; the ladies' room, and a friend of his.")
        "Find him reading; the gentlemen's room, and a friend of hers."
        >>> WordPairs([("Irish", "English")]).swap("An Irish doctor")
        'An English doctor'
        """
        return self._rewritten(text, lambda match: self.pairs[match.pair][1 - match.side])

    def delete(self, text: str) -> str:
        """The text without these words and their endings ('s, 'll); spaces tidied, articles fitted.

        Examples
        --------
        >>> WordPairs.gender().delete("As a mother, she is an actress (she/her) and her own boss.")
        'As a, is an and own boss.'
        """
        return self._rewritten(text, lambda _: "")

    def neutralize(self, text: str) -> str:
        """The text with neutral words in place of these: they, their, parent, chairperson; titles fall away.

        A pair without a neutral word is deleted. The verbs is, was, has and does are made to agree with
        "they" right before them; other verbs are left as they are.

        Examples
        --------
        >>> WordPairs.gender().neutralize("Mr. Wu said that he or she was a male nurse.")
        'Wu said that they were a nurse.'
        """
        neutral = self._rewritten(text, lambda match: self.notes[match.pair].neutral)
        return agree_with_they(neutral) if neutral != text else text

    def spans(self, text: str) -> list[tuple[int, int, int]]:
        """Where the words stand.

        Returns
        -------
        list of (start, end, side)
            Character positions, without possessive endings, in order; the side is 0 or 1.

        Examples
        --------
        >>> WordPairs.gender().spans("He met her.")
        [(0, 2, 0), (7, 10, 1)]
        """
        return [(match.start, match.end, match.side) for match in self._matcher.matches(text)]

    def count(self, text: str) -> int:
        """Number of words of either side in the text.

        Examples
        --------
        >>> WordPairs.gender().count("He met her in HER2 trials.")
        2
        """
        return sum(1 for _ in self._matcher.matches(text))

    def sides(self, text: str) -> tuple[int, int]:
        """Number of words of side 0 and of side 1 in the text.

        Examples
        --------
        >>> WordPairs.gender().sides("He met her and her son.")
        (2, 2)
        """
        second = [match.side for match in self._matcher.matches(text)]
        return len(second) - sum(second), sum(second)

    def sentences(self, n: int = 100, random_state: RandomState = 0) -> list[str]:
        """Short sentences about the attribute, to retrieve text around it.

        Parameters
        ----------
        n : int, default=100
            At most how many; fewer where the pairs make fewer distinct ones.
        random_state : int, Generator, RandomState or None, default=0
            Which pairs and sentence patterns are drawn.

        Returns
        -------
        list of str
            Distinct sentences. Each comes with its twin for the other side, so the seeds lean to neither.

        Raises
        ------
        ValueError
            `n` is less than 1.

        Examples
        --------
        >>> WordPairs([("young", "old")]).sentences(2)
        ['Young: what the term means and where it is used.', 'Old: what the term means and where it is used.']
        """
        return seed_sentences(self.pairs, [note.kind for note in self.notes], n, random_state)

    def _rewritten(self, text: str, replacement: Callable[[Match], str]) -> str:
        done, position, gap = "", 0, False
        for match in self._matcher.matches(text):
            old, new = text[match.start : match.end], replacement(match)
            between = text[position : match.start]
            if gap and not new and between.strip().lower() in ("or", "and", "&", "/"):
                between = " "
            done = join_over_gap(done, between) if gap else done + between
            position = match.end + len(match.clitic)
            gap = not new
            if new:
                word = match_case(old, self.pairs[match.pair][match.side], new)
                done = refit_article(done, old, new) + word
                done += possessive(match.clitic, word) if match.clitic else ""
            else:
                done = refit_article(done, old, text[position : position + 40].lstrip())
        return join_over_gap(done, text[position:]) if gap else done + text[position:]


def as_word_pairs(source: str | os.PathLike[str] | WordPairs | Sequence[tuple[str, str]]) -> WordPairs:
    """Word pairs from whatever describes them.

    Parameters
    ----------
    source : "gender", WordPairs, sequence of (first, second), or path of a file
        Which list.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        Not one of these.

    Examples
    --------
    >>> as_word_pairs("gender").name, as_word_pairs([("young", "old")]).pairs
    ('gender', (('young', 'old'),))
    """
    if isinstance(source, WordPairs):
        return source
    if isinstance(source, str | os.PathLike):
        if source == "gender":
            return WordPairs.gender()
        if not Path(source).is_file():
            raise FileNotFoundError(f"{source} is neither a built-in list ('gender') nor a file.")
        return WordPairs.from_file(source)
    if isinstance(source, list | tuple):
        return WordPairs(tuple(source))
    raise TypeError(
        f"word pairs are 'gender', WordPairs, a list of pairs or a file, got {type(source).__name__}."
    )


@cache
def _gender() -> WordPairs:
    rows = read_resource("gender_pairs.tsv")
    pairs = tuple((row["first"], row["second"]) for row in rows)
    return WordPairs(pairs, "gender", tuple(note_from(row, "gender_pairs.tsv") for row in rows))


def _checked_pair(pair: object) -> tuple[str, str]:
    if (
        not isinstance(pair, tuple | list)
        or len(pair) != 2
        or not all(isinstance(word, str) for word in pair)
    ):
        raise TypeError(f"a word pair is two strings, got {pair!r}.")
    first, second = (" ".join(word.split()) for word in pair)
    if not first or not second:
        raise ValueError(f"a word pair has an empty word: {pair!r}.")
    return first, second
