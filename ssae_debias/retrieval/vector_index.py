"""FAISS indexes, made and searched with sizes that fit the corpus.

An inverted file (*ivf*) cuts the space into cells and searches the few nearest to a query; product
quantisation (*pq*) stores each eighth-dimensional piece of a vector as one byte; *hnsw* walks a graph of
neighbours. The first two are trained on a sample of the corpus.
"""

from __future__ import annotations

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
    index: Any, queries: NDArray[np.float32], n: int, *, n_probe: int | None = None
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

    Returns
    -------
    ids : ndarray of int64, shape (m,)
        Each once, in no order, with m between n and n_queries · n (fewer where the index has fewer).
    scores : ndarray of float32, shape (m,)

    Examples
    --------
    >>> index = new_index("exact", lambda n: np.empty((0, 2), np.float32), 2)
    >>> index.add(np.eye(2, dtype=np.float32))
    >>> ids, scores = search(index, np.float32([[1, 0], [0, 1]]), n=1)
    >>> sorted(ids.tolist()), scores.tolist()
    ([0, 1], [1.0, 1.0])
    """
    n = min(n, index.ntotal)
    _widen(index, n, n_probe)
    scores, ids = index.search(queries, n)
    order = np.lexsort((-scores.ravel(), ids.ravel()))
    ids, scores = ids.ravel()[order], scores.ravel()[order]
    # sorted by id, best score first: an id's first score is its largest; −1 fills up short answers
    first = np.diff(ids, prepend=-1) != 0
    return ids[first], scores[first]


def unit_rows(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scale each row to length 1; rows of zeros stay.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == np.float32([[0.6, 0.8], [0, 0]]).tolist()
    True
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _widen(index: Any, n: int, n_probe: int | None) -> None:
    """Let an approximate index look at enough places to find `n` vectors."""
    import faiss

    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = max(64, 2 * n)
    elif isinstance(index, faiss.IndexIVF):
        if n_probe is None:
            # a cell holds ntotal / nlist vectors on average: at least twice as many cells as n vectors fill
            n_probe = max(index.nlist // 8, -(-2 * n * index.nlist // index.ntotal))
        index.nprobe = max(1, min(n_probe, index.nlist))


def _n_pieces(d: int) -> int:
    """Into how many pieces PQ cuts a vector: one for 8 dimensions, as far as d divides."""
    return next(pieces for pieces in range(max(1, d // 8), 0, -1) if d % pieces == 0)
