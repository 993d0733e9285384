"""Word pairs as files: two columns, or a JSON list, with optional notes beside each pair."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

Written = Literal["any", "lower", "title", "sentence"]

Pairs = tuple[tuple[str, str], ...]


class PairNote(NamedTuple):
    """What is known about a pair besides its words.

    Attributes
    ----------
    neutral : str
        What stands for either word in a neutral text; empty: nothing does.
    written : {"any", "lower", "title", "sentence"}
        How the words must be written to count: in any case; in lower case only (King is a name, king a
        word); with a capital first letter only (Ms. is a title, MS a disease); in any case, but capitalised
        only where a sentence begins (Women's Hospital is a name).
    kind : str
        Kind of word, which picks the patterns of seed sentences.

    Examples
    --------
    >>> PairNote(neutral="parent")
    PairNote(neutral='parent', written='any', kind='word')
    """

    neutral: str = ""
    written: Written = "any"
    kind: str = "word"


def read_pairs(path: str | os.PathLike[str]) -> tuple[Pairs, tuple[PairNote, ...]]:
    """Pairs and notes of a .csv, .tsv or .json file; see `WordPairs.from_file`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of word pairs at {path}.")
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _parse_json(path)
    if suffix not in (".csv", ".tsv"):
        raise ValueError(f"{path} must end in .csv, .tsv or .json to be read as word pairs.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        return parse_table(file, delimiter="\t" if suffix == ".tsv" else ",", source=str(path))


def parse_table(lines: Iterable[str], *, delimiter: str, source: str) -> tuple[Pairs, tuple[PairNote, ...]]:
    """Pairs and notes from the lines of a delimited table.

    Parameters
    ----------
    lines : iterable of str
        The table. A first row ``first, second, …`` names the columns; else there are two of them.
    delimiter : str
        Comma or tab.
    source : str
        Where the lines come from, for the messages.

    Raises
    ------
    ValueError
        A row is no pair, or its `written` is unknown.

    Examples
    --------
    >>> parse_table(["young,old"], delimiter=",", source="here")[0]
    (('young', 'old'),)
    """
    reader = csv.reader(lines, delimiter=delimiter)
    columns = ["first", "second"]
    pairs: list[tuple[str, str]] = []
    notes: list[PairNote] = []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if not pairs and [cell.strip().lower() for cell in row[:2]] == ["first", "second"]:
            columns = [cell.strip().lower() for cell in row]
            continue
        cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False)}
        if not cells.get("first") or not cells.get("second") or len(row) > len(columns):
            raise ValueError(f"{source}, line {reader.line_num}: expected a pair of words, got {row}.")
        pairs.append((cells["first"], cells["second"]))
        notes.append(note_from(cells, f"{source}, line {reader.line_num}"))
    return tuple(pairs), tuple(notes)


def note_from(cells: Mapping[str, str], source: str) -> PairNote:
    """Note of a pair from the cells of its row, by column name; a missing or empty cell takes the default.

    Raises
    ------
    ValueError
        `written` is unknown; the message begins with `source`.

    Examples
    --------
    >>> note_from({"neutral": "person", "written": "lower"}, "here")
    PairNote(neutral='person', written='lower', kind='word')
    """
    written = cells.get("written") or "any"
    if written not in get_args(Written):
        raise ValueError(f"{source}: written is {written!r}; expected one of {get_args(Written)}.")
    return PairNote(cells.get("neutral", ""), cast(Written, written), cells.get("kind") or "word")


def _parse_json(path: Path) -> tuple[Pairs, tuple[PairNote, ...]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, list):
        raise ValueError(f"{path} must hold a list of pairs, got {type(content).__name__}.")
    for number, pair in enumerate(content):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(word, str) for word in pair):
            raise ValueError(f"{path}, entry {number}: expected a pair of words, got {pair!r}.")
    return tuple((pair[0], pair[1]) for pair in content), (PairNote(),) * len(content)
