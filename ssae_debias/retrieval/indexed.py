"""What an index remembers of its corpus.

An index holds numbers, not texts, and may be loaded long after its corpus was read. So it keeps an 8-byte
digest of each document and, for a corpus in files, where they are: enough to find the texts again, and to
notice that they are no longer the ones that were indexed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ssae_debias.files import read_json, write_json
from ssae_debias.retrieval.corpus import CorpusLike, FileCorpus, as_corpus

_DIGESTS = "digests.npy"
_PLACE = "corpus.json"


class IndexedCorpus:
    """A corpus that takes a digest of each document as it is read, and checks it when documents are fetched.

    Parameters
    ----------
    corpus : Corpus, sequence of str, or path
        See `as_corpus`.

    Examples
    --------
    >>> corpus = IndexedCorpus(["a surgeon", "a nurse", "a ship"])
    >>> sum(len(batch) for batch in corpus.batches(2)) == len(corpus) == 3
    True
    >>> corpus.fetch([1])
    ['a nurse']
    """

    def __init__(self, corpus: CorpusLike) -> None:
        self._corpus = as_corpus(corpus)
        self._digests: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    def __len__(self) -> int:
        """Documents read so far."""
        return len(self._digests)

    def batches(self, size: int) -> Iterator[list[str]]:
        """Yield all documents in order, `size` at a time, and remember their digests.

        Raises
        ------
        ValueError
            At the end, where there was no document.
        """
        # on disk, for they too outgrow memory; the file has no name, and goes when its last reader goes
        with TemporaryFile() as spool:
            for texts in self._corpus.batches(size):
                spool.write(digests_of(texts).astype("<u8").tobytes())
                yield texts
            n = spool.tell() // 8
            if not n:
                raise ValueError("the corpus holds no documents; nothing to retrieve from.")
            spool.flush()
            self._digests = np.memmap(spool, dtype="<u8", mode="r", shape=n)

    def fetch(self, ids: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Documents by id, in the order asked for.

        Raises
        ------
        ValueError
            A document is not the one that was read before.
        """
        try:
            texts = self._corpus.fetch(ids)
        except IndexError as error:
            raise ValueError(f"the corpus has changed since it was indexed: {error} Fit again.") from error
        changed = np.flatnonzero(digests_of(texts) != self._digests[np.asarray(ids, dtype=np.int64)])
        if changed.size:
            raise ValueError(
                f"the corpus has changed since it was indexed: {changed.size} of the {len(texts)} documents "
                f"asked for differ, first id {ids[changed[0]]}. Fit again, or give the one indexed."
            )
        return texts

    def save(self, folder: Path) -> None:
        """Write the digests and, for a `FileCorpus`, its place into `folder`."""
        np.save(folder / _DIGESTS, self._digests)
        place = None
        if isinstance(self._corpus, FileCorpus):
            place = {"path": str(self._corpus.path.resolve()), "text": self._corpus.text}
        write_json(folder / _PLACE, place)

    @classmethod
    def load(cls, folder: Path, corpus: CorpusLike | None = None) -> Self:
        """Read what `save` wrote; `corpus` None opens the files that were indexed.

        Raises
        ------
        ValueError
            The corpus was not in files, and is not given.
        """
        if corpus is None:
            place = read_json(folder / _PLACE)
            if place is None:
                raise ValueError(f"{folder} is the index of texts that were in memory; give them as corpus=.")
            corpus = FileCorpus(**place)
        indexed = cls(corpus)
        indexed._digests = np.load(folder / _DIGESTS, mmap_mode="r")
        return indexed


def digests_of(texts: Iterable[str]) -> NDArray[np.uint64]:
    """8-byte BLAKE2b digest of each text, as uint64.

    Examples
    --------
    >>> first, second, again = digests_of(["a", "b", "a"])
    >>> bool(first == again), bool(first == second)
    (True, False)
    """
    blob = b"".join(
        hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=8).digest() for t in texts
    )
    return np.frombuffer(blob, dtype="<u8").astype(np.uint64)
