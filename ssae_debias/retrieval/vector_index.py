"""FAISS indexes, made and searched with sizes that fit the corpus.

An inverted file (*ivf*) cuts the space into cells and searches the few nearest to a query; product
quantisation (*pq*) stores each eighth-dimensional piece of a vector as one byte; *hnsw* walks a graph of
neighbours. The first two are trained on a sample of the corpus.

On one thread a vector's inner product with a query comes out the same, to the last bit, in whatever company it is
computed, and all vectors that tie with the last one found are found: so an index that is cut into shards finds what
a single one does. With several threads FAISS deals the vectors out otherwise, and the last digit may differ.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

INDEXES = ("exact", "ivf", "ivfpq", "hnsw")

# FAISS wants at least 39 training vectors a centroid, and needs no more than 256
_TRAINING_PER_CELL = 39
_TRAINING_VECTORS = 65_536
_PQ_CENTROIDS = 256
_HNSW_NEIGHBOURS = 32

# above it, product quantisation: reading 4 d bytes a document for each search then takes seconds
EXACT_UP_TO = 1_000_000

# for many queries (20 in FAISS 1.9; 128,000 numbers in 1.15) FAISS multiplies matrices, and the last bits of their
# products depend on how they are cut
_QUERIES_AT_ONCE = 8


def chosen_index(kind: str, n_documents: int) -> str:
    """The kind of index that ``"auto"`` means for a corpus of this size; any other kind is returned as it is.

    ``"exact"`` up to a million documents (1.5 GB at d = 384), ``"ivfpq"`` beyond. The limit is our choice.

    Raises
    ------
    ValueError
        Unknown `kind`.

    Examples
    --------
    >>> chosen_index("auto", 20_000), chosen_index("auto", 50_000_000), chosen_index("hnsw", 20_000)
    ('exact', 'ivfpq', 'hnsw')
    """
    if kind == "auto":
        return "exact" if n_documents <= EXACT_UP_TO else "ivfpq"
    if kind not in INDEXES:
        raise ValueError(f"index must be one of {', '.join(INDEXES)}, auto; got {kind!r}.")
    return kind


def new_index(kind: str, sample: Callable[[int], NDArray[np.float32]], d: int) -> Any:
    """An empty FAISS index for inner products, trained if it must be.

    Parameters
    ----------
    kind : {"exact", "ivf", "ivfpq", "hnsw"}
        See `DenseRetriever`.
    sample : callable
        Gives up to so many vectors of the corpus, float32 ``(n, d)``; called only for ``"ivf"`` and
        ``"ivfpq"``.
    d : int
        Length of a vector.

    Returns
    -------
    faiss.Index
        Ready for ``add``.

    Raises
    ------
    ValueError
        Unknown `kind`, or too few vectors to train on.

    Examples
    --------
    >>> new_index("exact", lambda n: np.empty((0, 8), np.float32), 8).ntotal
    0
    """
    import faiss

    if kind not in INDEXES:
        raise ValueError(f"index must be one of {', '.join(INDEXES)}; got {kind!r}.")
    if kind == "exact":
        return faiss.IndexFlatIP(d)
    if kind == "hnsw":
        return faiss.IndexHNSWFlat(d, _HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    vectors = sample(_TRAINING_VECTORS)
    needed = _TRAINING_PER_CELL * (_PQ_CENTROIDS if kind == "ivfpq" else 1)
    if len(vectors) < needed:
        raise ValueError(
            f"index={kind!r} is trained on at least {needed} documents, the corpus has {len(vectors)}; "
            "use index='exact'."
        )
    # 4 √n cells is FAISS' own advice, as far as there is something to train them on
    n_cells = min(int(4 * np.sqrt(len(vectors))), len(vectors) // _TRAINING_PER_CELL)
    pieces = f"PQ{_n_pieces(d)}" if kind == "ivfpq" else "Flat"
    index: Any = faiss.index_factory(d, f"IVF{n_cells},{pieces}", faiss.METRIC_INNER_PRODUCT)
    if kind == "ivfpq":
        # the factory asks for codes that also compare as bit strings: slow to train, and not used here
        index.do_polysemous_training = False
    index.train(vectors)
    return index


def search(
    index: Any,
    queries: NDArray[np.float32],
    n: int,
    *,
    n_probe: int | None = None,
    n_total: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The vectors nearest to any of the queries.

    Parameters
    ----------
    index : faiss.Index
        Made by `new_index`.
    queries : ndarray of float32, shape (n_queries, d)
        A vector's score is its largest inner product with one of these.
    n : int
        How many vectors to look for with each query.
    n_probe : int or None
        Cells to search in an inverted file; None takes an eighth of them, or more where 2 n vectors are
        likely to need more.
    n_total : int or None
        Vectors in all shards, if `index` is one of several: all of them then search the same cells. None: no
        other shards.

    Returns
    -------
    ids : ndarray of int64, shape (m,)
        Each once, in no order. Every vector that is among the n best for some query, or ties with the last of
        them (``"hnsw"`` may leave out ties); fewer where the index has fewer.
    scores : ndarray of float32, shape (m,)

    Examples
    --------
    >>> index = new_index("exact", lambda n: np.empty((0, 2), np.float32), 2)
    >>> index.add(np.eye(2, dtype=np.float32))
    >>> ids, scores = search(index, np.float32([[1, 0], [0, 1]]), n=1)
    >>> sorted(ids.tolist()), scores.tolist()
    ([0, 1], [1.0, 1.0])
    """
    _widen(index, n, n_probe, index.ntotal if n_total is None else n_total)
    found = [
        _nearest(index, queries[start : start + _QUERIES_AT_ONCE], n)
        for start in range(0, len(queries), _QUERIES_AT_ONCE)
    ]
    ids, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((-scores, ids))
    ids, scores = ids[order], scores[order]
    # sorted by id, best score first: an id's first score is its largest; −1 fills up short answers
    first = np.diff(ids, prepend=-1) != 0
    return ids[first], scores[first]


def open_index(path: str | os.PathLike[str]) -> Any:
    """A saved index, mapped from its file as far as FAISS can: what is not searched is not read.

    Examples
    --------
    >>> import faiss, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "index.faiss")
    >>> faiss.write_index(faiss.IndexFlatIP(2), path)
    >>> open_index(path).d
    2
    """
    import faiss

    # FAISS maps inverted lists by one flag, and (from 1.11 on) plain vectors by the other
    index = faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    if isinstance(index, faiss.IndexIVF):
        del index
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    return index


def unit_rows(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scale each row to length 1; rows of zeros stay.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == np.float32([[0.6, 0.8], [0, 0]]).tolist()
    True
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _nearest(
    index: Any, queries: NDArray[np.float32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and scores of each query's n best, with all that tie with the last of them."""
    import faiss

    if n >= index.ntotal or isinstance(index, faiss.IndexHNSW):
        scores, ids = index.search(queries, min(n, index.ntotal))
        return ids.ravel(), scores.ravel()
    scores, ids = index.search(queries, n + 1)
    tied = (scores[:, n - 1] == scores[:, n]) & (ids[:, n] >= 0)
    all_ids, all_scores = [ids[:, :n].ravel()], [scores[:, :n].ravel()]
    for query in np.flatnonzero(tied):
        # one more is as good as the last: look once again, for all that are not worse
        radius = float(np.nextafter(scores[query, n], np.float32(-np.inf)))
        _, scores_within, ids_within = index.range_search(queries[query : query + 1], radius)
        all_ids.append(ids_within)
        all_scores.append(scores_within)
    return np.concatenate(all_ids), np.concatenate(all_scores)


def _widen(index: Any, n: int, n_probe: int | None, n_total: int) -> None:
    """Let an approximate index look at enough places to find `n` of `n_total` vectors."""
    import faiss

    n = min(n, n_total)
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = max(64, 2 * n)
    elif isinstance(index, faiss.IndexIVF):
        if n_probe is None:
            # a cell holds n_total / nlist vectors on average: at least twice as many cells as n vectors fill
            n_probe = max(index.nlist // 8, -(-2 * n * index.nlist // n_total))
        index.nprobe = max(1, min(n_probe, index.nlist))


def _n_pieces(d: int) -> int:
    """Into how many pieces PQ cuts a vector: one for 8 dimensions, as far as d divides."""
    return next(pieces for pieces in range(max(1, d // 8), 0, -1) if d % pieces == 0)
