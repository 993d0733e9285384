r"""Okapi BM25: documents that share the seeds' rare words.

All seeds together are one query, in which a word counts as often as it occurs. A document scores

.. math:: \sum_{t \in \text{query}} \log\Big(1 + \frac{N - n_t + 1/2}{n_t + 1/2}\Big)
          \frac{f_{t}}{f_{t} + k_1 (1 - b + b\,\ell / \bar\ell)}

with :math:`f_t` the word's count in the document, :math:`\ell` the document's length in words, :math:`n_t`
how many of the :math:`N` documents hold the word: the form of Lucene, bm25s' default [1]_ [2]_.

:math:`N`, :math:`n_t` and :math:`\bar\ell` are facts of the whole corpus, known only at its end. So the
corpus is read once and its word counts are put to disk in shards; then each shard's counts become scores,
kept as a bm25s index of its own. The sum over all shards is exactly one bm25s index over the whole corpus,
bit for bit, but only one shard and the vocabulary are ever in memory.

References
----------
.. [1] Robertson & Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009.
.. [2] Kamphuis et al., Which BM25 Do You Mean?, ECIR 2020, table 1; Lù, BM25S, arXiv 2407.03618.
"""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from tqdm.auto import tqdm

from ssae_debias.data.texts import check_texts
from ssae_debias.files import folder_aside, read_json, read_manifest, write_json, write_manifest
from ssae_debias.retrieval.bm25_shards import WordCounts, index_shard, inverse_document_frequency
from ssae_debias.retrieval.corpus import CorpusLike
from ssae_debias.retrieval.indexed import IndexedCorpus
from ssae_debias.retrieval.retrieved import BestSoFar, Retrieved, warn_if_fewer

_KIND = "bm25_retriever"


class BM25Retriever:
    """Okapi BM25 over a corpus of any size, exact.

    Words are lower-cased runs of two or more word characters, as bm25s cuts them.

    Parameters
    ----------
    k1 : float, default 1.5
        How fast repeating a word stops counting; bm25s' default.
    b : float in [0, 1], default 0.75
        How much long documents are held back; bm25s' default.
    stopwords : str, list of str or None, default "english"
        Words left out, as in bm25s. ``"english"`` is Lucene's short list, which keeps *he*, *she* and other
        carriers of an attribute; ``"english_plus"`` would drop those.
    shard_size : int, default 100_000
        Documents a shard: the memory needed grows with it, the result does not depend on it.
    directory : path-like or None
        Folder in which a temporary folder with the index is made; None takes the system's. It needs about 8
        bytes per different word of each document, and disappears with the retriever: `save` what shall stay.
    verbose : int, default 0
        Above 0, a progress bar.

    Attributes
    ----------
    n_documents_ : int
        Documents in the corpus.
    vocabulary_ : dict of str to int
        Every word and its number.

    Examples
    --------
    >>> corpus = ["the surgeon operated", "ships sail at dawn", "a nurse and a surgeon", "dawn"]
    >>> found = BM25Retriever().fit(corpus).retrieve(["surgeon", "nurse"], n=2)
    >>> found.texts
    ['a nurse and a surgeon', 'the surgeon operated']
    """

    def __init__(
        self,
        k1: float = 1.5,
        b: float = 0.75,
        *,
        stopwords: str | list[str] | None = "english",
        shard_size: int = 100_000,
        directory: str | os.PathLike[str] | None = None,
        verbose: int = 0,
    ) -> None:
        self.k1 = k1
        self.b = b
        self.stopwords = stopwords
        self.shard_size = shard_size
        self.directory = directory
        self.verbose = verbose
        self._discard: weakref.finalize[..., BM25Retriever] | None = None

    def fit(self, corpus: CorpusLike) -> Self:
        """Index a corpus, reading it once.

        Parameters
        ----------
        corpus : Corpus, sequence of str, or path
            See `as_corpus`.

        Returns
        -------
        BM25Retriever
            Itself.

        Raises
        ------
        ValueError
            A parameter out of range, or a corpus without documents.
        """
        self._check_parameters()
        indexed = IndexedCorpus(corpus)
        with ExitStack() as temporary:
            folder = Path(temporary.enter_context(TemporaryDirectory(prefix="bm25-", dir=self.directory)))
            lengths, vocabulary = self._index(indexed, folder)
            kept = temporary.pop_all()
        if self._discard is not None:
            self._discard()
        self._discard = weakref.finalize(self, kept.close)
        return self._take(folder, lengths, vocabulary, indexed)

    def retrieve(self, seeds: Sequence[str], n: int) -> Retrieved:
        """Find the `n` documents that score highest for the seeds taken together.

        Parameters
        ----------
        seeds : sequence of str
            Texts around what is looked for.
        n : int
            How many documents. Documents that share no word with the seeds are never returned: with fewer
            than `n` others there is a `UserWarning`.

        Returns
        -------
        Retrieved
            Best first; ties by id.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            `n` below 1, or the corpus has changed since it was indexed.
        """
        query = self._query(check_texts(seeds, "seeds"))
        best = BestSoFar(n)
        start = 0
        for shard, length in enumerate(self._lengths):
            scores = self._scores(shard, query)
            hit = np.flatnonzero(scores)
            best.add(start + hit, scores[hit])
            start += length
        ids, scores = best.sorted()
        warn_if_fewer(len(ids), n, "no other document shares a word with the seeds")
        return Retrieved(ids, scores, self._corpus.fetch(ids))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the index (not the corpus) as a folder with a manifest.

        Each shard in it is a folder that ``bm25s.BM25.load(..., load_vocab=False)`` opens.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        OSError
            No permission or no space; nothing was changed.
        """
        self._check_fitted()
        with folder_aside(path) as aside:
            for shard in range(len(self._lengths)):
                shutil.copytree(self._folder / f"{shard:05d}", aside / f"{shard:05d}")
            self._corpus.save(aside)
            write_json(aside / "vocabulary.json", self.vocabulary_)
            parameters = {
                "k1": self.k1,
                "b": self.b,
                "stopwords": self.stopwords,
                "shard_size": self.shard_size,
            }
            write_manifest(aside, _KIND, parameters=parameters, lengths=self._lengths)

    @classmethod
    def load(cls, path: str | os.PathLike[str], corpus: CorpusLike | None = None) -> Self:
        """Load a saved index; its shards stay on disk and are read when needed.

        Parameters
        ----------
        path : path-like
            Folder written by `save`; it must stay in place while the retriever is used.
        corpus : Corpus, sequence of str, path, or None
            The corpus that was indexed. None opens the file that was indexed, where it was one.

        Raises
        ------
        DamagedFileError
            A file of the index is missing, altered or of another kind.
        ValueError
            The corpus was not a file and is not given.
        """
        folder = Path(path)
        manifest = read_manifest(folder, _KIND)
        retriever = cls(**manifest["parameters"])
        indexed = IndexedCorpus.load(folder, corpus)
        return retriever._take(folder, manifest["lengths"], read_json(folder / "vocabulary.json"), indexed)

    def _index(self, corpus: IndexedCorpus, folder: Path) -> tuple[list[int], dict[str, int]]:
        """Write an index of the corpus into `folder`; returns the shards' lengths and the vocabulary."""
        tokenizer = self._tokenizer()
        lengths: list[int] = []
        n_words = 0
        frequency: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        with tqdm(desc="BM25: count", unit=" documents", disable=not self.verbose) as progress:
            for shard, texts in enumerate(corpus.batches(self.shard_size)):
                counts = WordCounts.of(tokenizer.streaming_tokenize(texts, allow_empty=False))
                counts.save(folder / f"{shard:05d}.npz")
                in_shard = counts.document_frequency(len(tokenizer.word_to_id))
                # the vocabulary has grown by this shard's new words
                in_shard[: len(frequency)] += frequency
                frequency = in_shard
                n_words += int(counts.lengths.sum())
                lengths.append(len(texts))
                progress.update(len(texts))

        idf = inverse_document_frequency(frequency, len(corpus))
        for shard in tqdm(range(len(lengths)), desc="BM25: score", unit=" shards", disable=not self.verbose):
            counted = folder / f"{shard:05d}.npz"
            index = index_shard(WordCounts.load(counted), idf, n_words / len(corpus), k1=self.k1, b=self.b)
            index.save(folder / f"{shard:05d}", show_progress=False)
            counted.unlink()
        return lengths, tokenizer.word_to_id

    def _take(
        self, folder: Path, lengths: list[int], vocabulary: dict[str, int], corpus: IndexedCorpus
    ) -> Self:
        self._folder = folder
        self._lengths = lengths
        self._corpus = corpus
        self.vocabulary_ = vocabulary
        self.n_documents_ = len(corpus)
        return self

    def _check_parameters(self) -> None:
        if self.k1 < 0:
            raise ValueError(f"k1 must be at least 0, got {self.k1}.")
        if not 0 <= self.b <= 1:
            raise ValueError(f"b must lie in [0, 1], got {self.b}.")
        if self.shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, got {self.shard_size}.")

    def _check_fitted(self) -> None:
        if not hasattr(self, "vocabulary_"):
            raise NotFittedError(
                "this BM25Retriever has no index yet: call fit(corpus) or BM25Retriever.load(path)."
            )

    def _tokenizer(self) -> Any:
        from bm25s.tokenization import Tokenizer

        return Tokenizer(stopwords=self.stopwords)

    def _query(self, seeds: list[str]) -> list[int]:
        self._check_fitted()
        tokenizer = self._tokenizer()
        tokenizer.word_to_id = self.vocabulary_
        words = tokenizer.streaming_tokenize(seeds, update_vocab="never", allow_empty=False)
        return [word for seed in words for word in seed]

    def _scores(self, shard: int, query: list[int]) -> NDArray[np.float32]:
        import bm25s

        if not query:
            return np.zeros(self._lengths[shard], dtype=np.float32)
        index = bm25s.BM25.load(self._folder / f"{shard:05d}", load_vocab=False, mmap=True)
        return index.get_scores_from_ids(query)
