"""A corpus: documents that can be read again and again, a batch at a time.

Retrieval reads a corpus from front to back to index it, and once more to fetch what it found; nothing here
holds more than one batch, so that a corpus may be larger than memory. A document's *id* is its place in that
order, counting from 0.
"""

from __future__ import annotations

import csv
import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ssae_debias.data.texts import check_texts

BATCH_SIZE = 1024


@runtime_checkable
class Corpus(Protocol):
    """Anything with these two methods is a corpus; its length may be unknown."""

    def batches(self, size: int) -> Iterator[list[str]]:
        """Yield all documents in order, `size` at a time; every call starts from the first one again."""
        ...

    def fetch(self, ids: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Documents by id, in the order asked for."""
        ...


CorpusLike: TypeAlias = Corpus | Sequence[str] | str | os.PathLike[str]
"""What `as_corpus` makes a corpus of."""


class TextCorpus:
    """Documents that are in memory already.

    Parameters
    ----------
    texts : sequence of str
        List, tuple, numpy array or pandas Series of texts; the documents' ids are their positions in it.

    Raises
    ------
    TypeError
        A bare string, or something among the texts that is not a string.

    Examples
    --------
    >>> corpus = TextCorpus(["a surgeon", "a nurse", "a ship"])
    >>> list(corpus.batches(2))
    [['a surgeon', 'a nurse'], ['a ship']]
    >>> corpus.fetch([2, 0])
    ['a ship', 'a surgeon']
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = check_texts(texts, "corpus")

    def __len__(self) -> int:
        return len(self._texts)

    def batches(self, size: int) -> Iterator[list[str]]:
        """Yield all documents in order, `size` at a time."""
        return _batched(self._texts, size)

    def fetch(self, ids: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Documents by id, in the order asked for."""
        return [self._texts[i] for i in check_ids(ids, len(self._texts))]


class FileCorpus:
    """Documents in files, streamed.

    Parameters
    ----------
    path : path-like
        A file, or a folder of files of one kind that are read in the order of their names. The suffix
        decides: ``.parquet`` (read by row group), ``.csv``, ``.jsonl`` / ``.ndjson`` (one object a line) or
        ``.txt`` (one document a line, blank lines included, so that a document's id is its line number).
    text : str, default "text"
        The column or key that holds the text; ``.txt`` has none.

    Raises
    ------
    FileNotFoundError
        There is no such file, or the folder has no file of a known kind.
    ValueError
        Unknown suffix, a folder of several kinds, or no column `text` (the message lists those there are).
    TypeError
        On reading: a document that is missing or not a string, named by file and row.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "corpus.txt"
    >>> _ = path.write_text("a surgeon\\na nurse\\na ship\\n")
    >>> corpus = FileCorpus(path)
    >>> [len(batch) for batch in corpus.batches(2)]
    [2, 1]
    >>> corpus.fetch([1])
    ['a nurse']
    """

    def __init__(self, path: str | os.PathLike[str], text: str = "text") -> None:
        self.path = Path(path)
        self.text = text
        self._files = _files_of(self.path)

    def batches(self, size: int) -> Iterator[list[str]]:
        """Yield all documents in order, `size` at a time."""
        return _batched(self._documents(), size)

    def fetch(self, ids: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Documents by id, in the order asked for; reads the files up to the last of them."""
        ids = check_ids(ids, sys.maxsize)
        last = max(ids, default=-1)
        wanted = set(ids)
        found = {i: text for i, text in enumerate(islice(self._documents(), last + 1)) if i in wanted}
        if last not in found and ids:
            raise IndexError(f"document {last} was asked for, but {self.path} holds fewer documents.")
        return [found[i] for i in ids]

    def _documents(self) -> Iterator[str]:
        for file in self._files:
            for row, text in enumerate(_READERS[file.suffix.lower()](file, self.text)):
                if not isinstance(text, str):
                    raise TypeError(
                        f"{file}, row {row}: {self.text!r} is {text!r}, expected a string. "
                        "Drop the rows without text first."
                    )
                yield text


def as_corpus(corpus: CorpusLike) -> Corpus:
    """Make a corpus of what was given.

    Parameters
    ----------
    corpus : Corpus, sequence of str, or path
        A corpus is returned as it is; texts become a `TextCorpus`; a path becomes a `FileCorpus` whose column
        is named ``text`` (for another name give ``FileCorpus(path, text=...)``).

    Raises
    ------
    TypeError
        An iterator, which could be read only once, or anything else that is no corpus.
    FileNotFoundError
        A string that names no file.

    Examples
    --------
    >>> as_corpus(["a surgeon", "a nurse"]).fetch([1])
    ['a nurse']
    """
    if isinstance(corpus, Corpus):
        return corpus
    if isinstance(corpus, (str, os.PathLike)):
        return FileCorpus(corpus)
    if isinstance(corpus, Iterator):
        raise TypeError(
            f"corpus is a {type(corpus).__name__}, which can be read only once; give a list of texts, a "
            "path, or an object with batches(size) and fetch(ids)."
        )
    return TextCorpus(corpus)


def check_ids(ids: Sequence[int] | NDArray[np.int64], n: int) -> list[int]:
    """Ids as a list of ints, each in [0, n)."""
    checked = [int(i) for i in ids]
    outside = [i for i in checked if not 0 <= i < n]
    if outside:
        raise IndexError(f"document {outside[0]} was asked for, but the ids go from 0 to {n - 1}.")
    return checked


def _batched(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    if size < 1:
        raise ValueError(f"a batch must hold at least 1 document, got size={size}.")
    texts = iter(texts)
    while batch := list(islice(texts, size)):
        yield batch


def _files_of(path: Path) -> list[Path]:
    known = ", ".join(_READERS)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _READERS)
        if not files:
            raise FileNotFoundError(f"{path} holds no file of a known kind ({known}).")
        kinds = sorted({file.suffix.lower() for file in files})
        if len(kinds) > 1:
            raise ValueError(
                f"{path} holds files of several kinds ({', '.join(kinds)}); give a folder of one kind."
            )
        return files
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}. A corpus is a path or a list of texts; a single text goes into a list."
        )
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path} has the unknown suffix {path.suffix!r}; known are {known}.")
    return [path]


def _read_parquet(path: Path, text: str) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    # pyarrow's defaults fetch ahead and keep what they fetched: the whole column, by the end of the file
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
        _check_column(text, file.schema_arrow.names, path)
        for batch in file.iter_batches(batch_size=BATCH_SIZE, columns=[text]):
            yield from batch.column(0).to_pylist()


def _read_csv(path: Path, text: str) -> Iterator[Any]:
    # web text can exceed the csv module's default limit of 128 KiB a field
    csv.field_size_limit(2**31 - 1)
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        _check_column(text, list(rows.fieldnames or []), path)
        for row in rows:
            yield row[text]


def _read_jsonl(path: Path, text: str) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is not valid JSON: {error}.") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number} is a {type(row).__name__}, expected an object.")
            _check_column(text, list(row), path)
            yield row[text]


def _read_lines(path: Path, text: str) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield line.removesuffix("\n")


def _check_column(text: str, columns: list[str], path: Path) -> None:
    if text not in columns:
        nearest = difflib.get_close_matches(text, columns, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{path} has no column {text!r}; it has {', '.join(columns) or 'none'}.{hint}")


_READERS: dict[str, Callable[[Path, str], Iterator[Any]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".txt": _read_lines,
}
