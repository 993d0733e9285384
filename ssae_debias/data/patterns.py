"""Labels that a text states itself: read by patterns, and their words taken out afterwards.

Many texts come without a column for the label, and say it in their first sentence: "… is an American actress",
"… is a 1957 comedy film". A pattern a label reads it there. What would then be left is a task for a search
engine, not for a classifier, so the label's words are deleted everywhere in the text and the label must be
read from the rest, as Bias in Bios takes out the first sentence of each biography.

A text is read only where exactly one pattern matches. So a further pattern can keep rows out: one that
matches "wife of" beside those of two professions takes out the texts that name somebody else's profession.

References
----------
M. De-Arteaga et al., Bias in Bios: A Case Study of Semantic Representation Bias in a High-Stakes Setting,
FAT* 2019, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from ssae_debias.data.columns import check_column, nearest
from ssae_debias.data.rewriting import join_over_gap, refit_article
from ssae_debias.data.sentences import first_sentence
from ssae_debias.data.task import Task
from ssae_debias.data.texts import check_texts

Patterns = Mapping[str, str | Sequence[str]]
"""Per name one regular expression, or several of which any may match; small and capital letters alike."""

ReadIn = Literal["first_sentence", "text"]

LABEL, ATTRIBUTE = "label by patterns", "attribute by patterns"
"""The columns that `columns_from_patterns` adds."""

_JOINER = re.compile(r"\s*(?:[-–/&,]|and|or)?\s*", re.IGNORECASE)
_REST_OF_WORD = re.compile(r"\w*(?:['’]s\b)?")


def check_patterns(patterns: Patterns, name: str = "patterns") -> dict[str, re.Pattern[str]]:
    """Patterns as compiled regular expressions, by name, or an error that says what is wrong with them.

    Parameters
    ----------
    patterns : mapping of str to str or sequence of str
        Per name one regular expression, or several of which any may match.
    name : str, default="patterns"
        What the caller's parameter is called, for the messages.

    Raises
    ------
    TypeError
        No mapping of this kind.
    ValueError
        No patterns, no regular expression, or one that matches the empty text and so every text.

    Examples
    --------
    >>> check_patterns({"actor": ["actor", "actress"], "poet": "poet("})
    Traceback (most recent call last):
        ...
    ValueError: patterns: 'poet(' of 'poet' is no regular expression: missing ), unterminated subpattern at ...
    """
    if not isinstance(patterns, Mapping):
        raise TypeError(f"{name} must map names to regular expressions, got {type(patterns).__name__}.")
    if not patterns:
        raise ValueError(f"{name} holds no patterns; give a name and a regular expression for each value.")
    return {
        str(key): re.compile("|".join(_alternatives(key, given, name)), re.IGNORECASE)
        for key, given in patterns.items()
    }


def read_patterns(
    texts: Sequence[str], patterns: Patterns, where: ReadIn = "first_sentence"
) -> list[str | None]:
    """Which of the patterns each text matches; None where it matches none or several.

    Parameters
    ----------
    texts : sequence of str, length n
    patterns : mapping of str to str or sequence of str
        Per name a regular expression, or several of which any may match, as `re.search` reads them with
        ``re.IGNORECASE``; write ``\\b`` where a word must begin or end.
    where : {"first_sentence", "text"}, default="first_sentence"
        What is searched. The first sentence, where encyclopedias and biographies say what they are about; later
        ones speak of others, too.

    Returns
    -------
    list of str or None, length n

    Raises
    ------
    TypeError, ValueError
        As for `check_patterns` and `check_texts`; an unknown `where`; or a pattern that matches no text.

    Examples
    --------
    >>> read_patterns(["Ann is an actress. She met a poet.", "Bo is a poet and actor.", "Cy sings."],
    ...               {"actor": r"\\bact(or|ress)\\b", "poet": r"\\bpoet"})
    ['actor', None, None]
    """
    if where not in ("first_sentence", "text"):
        raise ValueError(f"where must be 'first_sentence' or 'text', got {where!r}.")
    compiled = check_patterns(patterns)
    searched = check_texts(texts)
    if where == "first_sentence":
        searched = [first_sentence(text) for text in searched]
    hits = np.array([[bool(pattern.search(text)) for pattern in compiled.values()] for text in searched])
    names = list(compiled)
    idle = [repr(name) for name, count in zip(names, hits.sum(axis=0), strict=True) if count == 0]
    if idle:
        raise ValueError(
            f"the pattern of {', '.join(idle)} matches none of {len(searched)} texts "
            f"({'their first sentence was' if where == 'first_sentence' else 'all of each was'} searched); "
            "look at some texts and mend it."
        )
    return [names[int(row.argmax())] if row.sum() == 1 else None for row in hits]


def delete_patterns(texts: Sequence[str], patterns: Patterns) -> list[str]:
    """Texts without the words that any of the patterns matches, in part or whole.

    Parameters
    ----------
    texts : sequence of str, length n
    patterns : mapping of str to str or sequence of str
        As for `read_patterns`.

    Returns
    -------
    list of str, length n
        None of the patterns matches any of them. A word goes whole, with its possessive ending, where a pattern
        matches a part of it; articles and spaces around the gap are mended; all else stays as it was.

    Raises
    ------
    TypeError, ValueError
        As for `check_patterns` and `check_texts`; or a match without a letter or sign in it, which can be read
        but not deleted.

    Examples
    --------
    >>> delete_patterns(["An American comedy-drama film. Its dramatic end is an actor's dream."],
    ...                 {"comedy": "comed", "drama": "drama", "actor": r"\\bactor"})
    ['An American film. Its end is a dream.']
    """
    compiled = check_patterns(patterns)
    return [_without(text, compiled) for text in check_texts(texts)]


def columns_from_patterns(
    frame: pd.DataFrame,
    *,
    text: str = "text",
    label_patterns: Patterns | None = None,
    attribute_patterns: Patterns | None = None,
    labels: Sequence[str] | None = None,
    attributes: Sequence[str] | None = None,
    where: ReadIn = "first_sentence",
    delete_label_words: bool = True,
) -> pd.DataFrame:
    """The rows of a table whose label and attribute patterns can read, with what was read as new columns.

    Parameters
    ----------
    frame : DataFrame
    text : str, default="text"
        Column of the texts.
    label_patterns, attribute_patterns : mapping, optional
        As for `read_patterns`. At least one of the two.
    labels, attributes : sequence of str, optional
        The names to keep; rows of the others are left out, and the others' words stay in the texts. By default
        all.
    where : {"first_sentence", "text"}, default="first_sentence"
        What is searched.
    delete_label_words : bool, default=True
        Take the words of the label's patterns out of the texts. The attribute's stay: a text that hides them is
        what a debiasing method is for.

    Returns
    -------
    DataFrame
        A copy of the rows that could be read, in the same order and with their index, with the columns
        ``"label by patterns"`` and ``"attribute by patterns"``, as far as their patterns are given.

    Raises
    ------
    TypeError, ValueError
        As for `read_patterns` and `delete_patterns`; an unknown column or name; no row can be read.

    Examples
    --------
    >>> frame = pd.DataFrame({"text": ["Ann is an actress.", "Bo is a poet from Rome.", "Cy sings."]})
    >>> columns_from_patterns(frame, label_patterns={"actor": r"act(or|ress)", "poet": "poet"})
                     text label by patterns
    0          Ann is an.             actor
    1  Bo is a from Rome.              poet
    """
    check_column(text, list(frame.columns))
    if label_patterns is None and attribute_patterns is None:
        raise ValueError("give label_patterns, attribute_patterns or both.")
    texts = check_texts(frame[text], name=f"column {text!r}")
    read: dict[str, list[str | None]] = {}
    for column, patterns, wanted in (
        (LABEL, label_patterns, labels),
        (ATTRIBUTE, attribute_patterns, attributes),
    ):
        if patterns is not None:
            names = _known(wanted, patterns, column)
            read[column] = [name if name in names else None for name in read_patterns(texts, patterns, where)]
    kept = frame.assign(**read).dropna(subset=list(read))
    if kept.empty:
        raise ValueError(f"no text of column {text!r} matches exactly one pattern of those asked for.")
    if label_patterns is not None and delete_label_words:
        words = {name: label_patterns[name] for name in _known(labels, label_patterns, LABEL)}
        kept = kept.assign(**{text: delete_patterns(kept[text].tolist(), words)})
    return kept


def check_groups(task: Task, at_least: int = 20) -> None:
    """Raise a ValueError that names the groups of a task with fewer than `at_least` texts.

    Parameters
    ----------
    task : Task
    at_least : int, default=20
        The default is ours: of 20 texts a 60/20/20 split leaves 8 to judge a group by, whose accuracy then has a
        standard error of up to 18 points.

    Examples
    --------
    >>> from ssae_debias.data import synthetic_biographies
    >>> check_groups(synthetic_biographies(200), at_least=30)
    Traceback (most recent call last):
        ...
    ValueError: too few texts in surgeon/F (26), nurse/M (26); each group needs 30 or more. Widen the patterns, ...
    """
    sizes = np.bincount(task.groups(), minlength=len(task.group_names()))
    small = [
        f"{name} ({size})"
        for name, size in zip(task.group_names(), sizes.tolist(), strict=True)
        if size < at_least
    ]
    if small:
        raise ValueError(
            f"too few texts in {', '.join(small)}; each group needs {at_least} or more. Widen the patterns, or "
            "choose other labels or attribute values."
        )


def _alternatives(key: Any, given: Any, name: str) -> Iterator[str]:
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, Sequence) or not all(isinstance(pattern, str) for pattern in several):
        raise TypeError(f"{name}: {key!r} must be a regular expression or a list of them, got {given!r}.")
    if not several:
        raise ValueError(f"{name}: {key!r} has no pattern.")
    for pattern in several:
        try:
            compiled = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"{name}: {pattern!r} of {key!r} is no regular expression: {error}.") from error
        if compiled.search(""):
            raise ValueError(
                f"{name}: {pattern!r} of {key!r} matches the empty text, and so every text; "
                "name a word that must be there."
            )
        yield f"(?:{pattern})"


def _known(wanted: Sequence[str] | None, patterns: Patterns, column: str) -> list[str]:
    if isinstance(wanted, str):
        raise TypeError(f"{column}: the names to keep must be a sequence, got one bare string {wanted!r}.")
    names = list(patterns) if wanted is None else list(wanted)
    for name in names:
        if name not in patterns:
            raise ValueError(
                f"{column}: no pattern is called {name!r};{nearest(name, list(patterns))} "
                f"There are {', '.join(patterns)}."
            )
    return names


def _without(text: str, compiled: Mapping[str, re.Pattern[str]]) -> str:
    # taking words out may bring others together that match: "member of [the Senate and] parliament"
    while spans := _word_spans(text, compiled):
        done, position = "", 0
        for start, end in spans:
            between = text[position:start]
            done = join_over_gap(done, between) if position else between
            done = refit_article(done, text[start:end], text[end : end + 40].lstrip())
            position = end
        text = join_over_gap(done, text[position:])
    return text


def _word_spans(text: str, compiled: Mapping[str, re.Pattern[str]]) -> list[tuple[int, int]]:
    """Where the words stand that a pattern touches, from left to right; those with only a joiner between as one."""
    spans = sorted(
        _whole_words(text, match, name)
        for name, pattern in compiled.items()
        for match in pattern.finditer(text)
    )
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and (start <= merged[-1][1] or _JOINER.fullmatch(text, merged[-1][1], start)):
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _whole_words(text: str, match: re.Match[str], name: str) -> tuple[int, int]:
    inner = match[0].strip()
    if not inner:
        raise ValueError(
            f"the pattern of {name!r} matches without a letter or sign at position {match.start()} of "
            f"{text[:60]!r}; its words cannot be deleted. Let it match the word itself, or keep the words "
            "(delete_label_words=False)."
        )
    start = match.start() + match[0].index(inner)
    end = start + len(inner)
    if re.match(r"\w", inner):
        while start and re.match(r"\w", text[start - 1]):
            start -= 1
    if re.match(r"\w", inner[-1]):
        rest = _REST_OF_WORD.match(text, end)
        end = end if rest is None else rest.end()
    return start, end
