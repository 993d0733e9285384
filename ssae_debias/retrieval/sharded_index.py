"""A FAISS index in shards on disk: built, and searched, one shard at a time.

An exact index is the vectors themselves. An inverted file is trained once, on vectors drawn from all shards;
each shard then holds its own vectors in the same cells, with the same codes, so that all shards together
score exactly as one index over everything would, and the n best of all shards are its n best. Every shard of
an ``"hnsw"`` index is a graph of its own.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ssae_debias.files import DamagedFileError, request_key
from ssae_debias.retrieval.embedding import shard_name
from ssae_debias.retrieval.retrieved import BestSoFar
from ssae_debias.retrieval.shard_folder import ShardFolder
from ssae_debias.retrieval.vector_index import chosen_index, new_index, open_index, search

_TRAINED = "trained.faiss"
# what is moved from the vectors to an approximate index at a time
_ROWS = 8_192


@dataclass(frozen=True)
class Shard:
    """One file of an index.

    Attributes
    ----------
    path : pathlib.Path
    n : int
        Vectors in it.
    n_bytes : int
        Size of the file.
    """

    path: Path
    n: int
    n_bytes: int

    def open(self) -> Any:
        """The index in the file.

        Raises
        ------
        DamagedFileError
            The file is gone, or not as long as it was.
        """
        size = self.path.stat().st_size if self.path.is_file() else None
        if size != self.n_bytes:
            raise DamagedFileError(
                f"{self.path} {'is missing' if size is None else f'has {size} bytes instead of {self.n_bytes}'}:"
                " an index stays on disk, and must be left as it is while it is used. Load it, or fit, again."
            )
        return open_index(self.path)


@dataclass(frozen=True)
class ShardedIndex:
    """An index whose vectors stay on disk.

    Made by `build` or `open`.

    Attributes
    ----------
    kind : {"exact", "ivf", "ivfpq", "hnsw"}
        See `DenseRetriever`.
    shards : tuple of Shard
        In the order of the corpus.

    Examples
    --------
    >>> import tempfile
    >>> from ssae_debias.retrieval.embedding import embed_corpus
    >>> from ssae_debias.retrieval.indexed import IndexedCorpus
    >>> def embed(texts):
    ...     return np.float32([[len(text), 1] for text in texts])
    >>> folder, corpus = Path(tempfile.mkdtemp()), IndexedCorpus(["a ship", "a surgeon", "a nurse"])
    >>> vectors = embed_corpus(folder, corpus, embed, 2, shard_size=2)
    >>> index = ShardedIndex.build(vectors, "exact", seed=0)
    >>> ids, scores = index.search(np.float32([[1, 0]]), n=2)
    >>> len(index.shards), index.ntotal, ids.tolist(), scores.tolist()
    (2, 3, [1, 2], [9.0, 7.0])
    """

    kind: str
    shards: tuple[Shard, ...]

    @classmethod
    def build(cls, vectors: ShardFolder, kind: str, *, seed: int, verbose: int = 0) -> Self:
        """Index embedded documents, or make the part of the index that is missing.

        Parameters
        ----------
        vectors : ShardFolder
            Made by `embed_corpus`. An exact index is these files; another kind has a subfolder of its own
            beside them, named by the kind and the vectors that it is made of.
        kind : {"exact", "ivf", "ivfpq", "hnsw", "auto"}
            See `DenseRetriever`.
        seed : int
            For the vectors that ``"ivf"`` and ``"ivfpq"`` are trained on.
        verbose : int, default 0
            Above 0, a progress bar.

        Returns
        -------
        ShardedIndex
            With one shard for each of `vectors`. An interrupted build that goes on ends with the same bytes
            (FAISS links a ``"hnsw"`` graph in the order in which its threads come: the same on one thread).

        Raises
        ------
        ValueError
            Unknown `kind`, or too few documents to train on.
        OSError
            No space or no permission. The shards written so far stay, and a later build goes on from them.
        """
        names = vectors.names()
        n_documents = sum(vectors[name]["n"] for name in names)
        kind = chosen_index(kind, n_documents)
        if kind == "exact":
            return cls(kind, _shards(vectors, names))
        request = {
            "index": kind,
            "seed": None if kind == "hnsw" else seed,
            "vectors": [vectors[name]["sha256"] for name in names],
        }
        folder = vectors.folder / f"{kind}-{request_key(request)}"
        indexed = ShardFolder(folder, "dense index", request)
        if kind != "hnsw" and _TRAINED not in indexed:
            indexed.write(_TRAINED, _trained(vectors, kind, seed))
        for name in tqdm(names, desc="dense: index", unit=" shards", disable=not verbose):
            if name not in indexed:
                stored = open_index(vectors.folder / name)
                index = _empty(indexed, kind, stored.d)
                for start in range(0, stored.ntotal, _ROWS):
                    index.add(stored.reconstruct_n(start, min(_ROWS, stored.ntotal - start)))
                indexed.write(name, index, n=stored.ntotal)
        return cls(kind, _shards(indexed, names))

    @classmethod
    def open(cls, folder: Path, kind: str, lengths: list[int] | None) -> Self:
        """An index that `save` wrote; nothing is read yet.

        Parameters
        ----------
        folder : pathlib.Path
        kind : {"exact", "ivf", "ivfpq", "hnsw"}
        lengths : list of int or None
            Vectors in each shard. None: a single one, of any length.
        """
        if lengths is None:
            lengths = [open_index(folder / _saved_names(1)[0]).ntotal]
        paths = [folder / name for name in _saved_names(len(lengths))]
        return cls(
            kind,
            tuple(Shard(path, n, path.stat().st_size) for path, n in zip(paths, lengths, strict=True)),
        )

    @property
    def ntotal(self) -> int:
        """Number of vectors."""
        return sum(shard.n for shard in self.shards)

    def search(
        self, queries: NDArray[np.float32], n: int, *, n_probe: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The `n` vectors nearest to any of the queries.

        Only one shard is open at a time.

        Parameters
        ----------
        queries : ndarray of float32, shape (n_queries, d)
            A vector's score is its largest inner product with one of these.
        n : int
            How many vectors.
        n_probe : int or None
            Cells to search in an inverted file: see `DenseRetriever`.

        Returns
        -------
        ids : ndarray of int64, shape (n,)
            Best first, ties by id; fewer where the index finds fewer.
        scores : ndarray of float32, shape (n,)

        Raises
        ------
        ValueError
            `n` is below 1.
        DamagedFileError
            A shard's file is gone or changed.
        """
        best = BestSoFar(n)
        start = 0
        for shard in self.shards:
            # a vector that is among the n best overall is among the n best of its own nearest query and shard
            ids, scores = search(shard.open(), queries, n, n_probe=n_probe, n_total=self.ntotal)
            best.add(start + ids, scores)
            start += shard.n
        return best.sorted()

    def save(self, folder: Path) -> list[int]:
        """Copy the shards into a folder; returns what `open` needs to know of their lengths.

        The only shard of a small index is ``index.faiss``, of more each has its number: FAISS reads them all.
        """
        for shard, name in zip(self.shards, _saved_names(len(self.shards)), strict=True):
            shutil.copyfile(shard.path, folder / name)
        return [shard.n for shard in self.shards]


def _shards(folder: ShardFolder, names: list[str]) -> tuple[Shard, ...]:
    return tuple(Shard(folder.folder / name, folder[name]["n"], folder[name]["bytes"]) for name in names)


def _saved_names(n_shards: int) -> list[str]:
    return [f"index-{shard_name(i)}" for i in range(n_shards)] if n_shards > 1 else ["index.faiss"]


def _empty(indexed: ShardFolder, kind: str, d: int) -> Any:
    """An index to be filled: for an inverted file, with the cells and codes that all shards share."""
    import faiss

    if _TRAINED in indexed:
        return faiss.read_index(str(indexed.folder / _TRAINED))
    return new_index(kind, lambda n: np.empty((0, d), dtype=np.float32), d)


def _trained(vectors: ShardFolder, kind: str, seed: int) -> Any:
    """An inverted file without vectors, trained on some of all shards."""
    names = vectors.names()
    starts = np.cumsum([0, *(vectors[name]["n"] for name in names)])
    d = open_index(vectors.folder / names[0]).d

    def sample(n: int) -> NDArray[np.float32]:
        total = int(starts[-1])
        if n < total:
            rows = np.sort(np.random.default_rng(seed).choice(total, n, replace=False, shuffle=False))
        else:
            rows = np.arange(total)
        drawn = np.empty((len(rows), d), dtype=np.float32)
        cuts = np.searchsorted(rows, starts)
        for name, start, low, high in zip(names, starts, cuts, cuts[1:], strict=False):
            if low < high:
                stored = open_index(vectors.folder / name)
                drawn[low:high] = stored.reconstruct_batch(rows[low:high] - start)
        return drawn

    return new_index(kind, sample, d)
