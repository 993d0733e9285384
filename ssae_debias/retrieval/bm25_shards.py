"""One shard of a BM25 index: word counts first, scores once the whole corpus is known.

A word's score in a document depends on the corpus through three facts: how many documents there are, how many
of them hold the word, and how long they are on average. A shard's counts wait on disk until those are known.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import bm25s


@dataclass(frozen=True)
class WordCounts:
    """How often each word occurs in each document of a shard, sorted by word, then document.

    Parameters
    ----------
    words, documents : ndarray of int32, shape (n_pairs,)
        The pairs that occur; documents count from 0 within the shard.
    counts : ndarray of int32, shape (n_pairs,)
        How often.
    lengths : ndarray of int64, shape (n_documents,)
        Words in each document, repetitions included.

    Examples
    --------
    >>> counts = WordCounts.of([[0, 1, 0], [1]])
    >>> list(zip(counts.words.tolist(), counts.documents.tolist(), counts.counts.tolist()))
    [(0, 0, 2), (1, 0, 1), (1, 1, 1)]
    """

    words: NDArray[np.int32]
    documents: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, documents: Iterable[Sequence[int]]) -> Self:
        """Count the words of documents that are given as word numbers."""
        words, lengths = array("q"), array("q")
        for document in documents:
            words.extend(document)
            lengths.append(len(document))
        n = len(lengths)
        owner = np.repeat(np.arange(n), np.asarray(lengths))
        # one integer for a (word, document) pair, so that one sort both counts and orders them
        pairs, counts = np.unique(np.asarray(words) * n + owner, return_counts=True)
        return cls(
            words=(pairs // n).astype(np.int32),
            documents=(pairs % n).astype(np.int32),
            counts=counts.astype(np.int32),
            lengths=np.asarray(lengths, dtype=np.int64),
        )

    def document_frequency(self, n_words: int) -> NDArray[np.int64]:
        """In how many documents of the shard each of `n_words` words occurs."""
        return np.bincount(self.words, minlength=n_words)

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        np.savez(path, words=self.words, documents=self.documents, counts=self.counts, lengths=self.lengths)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**arrays)


def inverse_document_frequency(frequency: NDArray[np.int64], n_documents: int) -> NDArray[np.float32]:
    """Lucene's idf, log(1 + (N − n_t + ½) / (n_t + ½)), of each word.

    Parameters
    ----------
    frequency : ndarray of int64, shape (n_words,)
        In how many documents of the corpus each word occurs, n_t.
    n_documents : int
        Documents in the corpus, N.

    Returns
    -------
    ndarray of float32, shape (n_words,)
        Always positive.

    Examples
    --------
    >>> inverse_document_frequency(np.array([1, 4]), 4).round(2).tolist() == np.float32([1.2, 0.11]).tolist()
    True
    """
    values, inverse = np.unique(frequency, return_inverse=True)
    # math.log, not np.log, whose last bit may differ: scores are to equal bm25s' exactly
    idf = [math.log(1 + (n_documents - value + 0.5) / (value + 0.5)) for value in values.tolist()]
    return np.array(idf, dtype=np.float32)[inverse]


def index_shard(
    counts: WordCounts, idf: NDArray[np.float32], average_length: float, *, k1: float, b: float
) -> bm25s.BM25:
    """A bm25s index of a shard's documents, with the whole corpus' idf and average length.

    Parameters
    ----------
    counts : WordCounts
        The shard.
    idf : ndarray of float32, shape (n_words,)
        Of the whole corpus.
    average_length : float
        Words a document, over the whole corpus.
    k1, b : float
        See `BM25Retriever`.

    Returns
    -------
    bm25s.BM25
        Ready for ``get_scores_from_ids``; it has no vocabulary, since one serves all shards.

    Examples
    --------
    >>> counts = WordCounts.of([[0, 1, 0], [1]])
    >>> index = index_shard(counts, np.ones(2, dtype=np.float32), 2.0, k1=1.5, b=0.75)
    >>> index.get_scores_from_ids([0]).round(3).tolist()[1]
    0.0
    """
    import bm25s

    index = bm25s.BM25(k1=k1, b=b, method="lucene")
    # a corpus of empty documents has average length 0, and no pair to be scored
    damping = k1 * ((1 - b) + b * counts.lengths / (average_length or 1.0))
    scores = idf[counts.words] * (counts.counts / (damping[counts.documents] + counts.counts))
    index.scores = {
        "data": scores.astype(np.float32),
        "indices": counts.documents,
        "indptr": np.searchsorted(counts.words, np.arange(len(idf) + 1)),
        "num_docs": len(counts.lengths),
    }
    index.vocab_dict = {}
    index.nonoccurrence_array = None
    return index
