"""What retrieval gives back, and how the best of a stream are kept.

A retriever sees scores a shard at a time and needs only the n best of all of them. `BestSoFar` holds those n
and nothing else. Ties go to the smaller id, so that the result does not depend on how the stream was cut.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssae_debias.retrieval.corpus import CorpusLike


@dataclass(frozen=True, eq=False)
class Retrieved:
    """Documents found in a corpus, best first.

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
        Places in the corpus, counting from 0.
    scores : ndarray of float32, shape (n,)
        The larger, the closer to the seeds; never increasing. Scores of different retrievers have different
        units.
    texts : list of str, length n
        The documents.

    Raises
    ------
    ValueError
        The lengths differ, or the scores are not sorted best first.

    Examples
    --------
    >>> found = Retrieved(np.array([7, 2]), np.array([3.5, 1.0]), ["a nurse", "a ship"])
    >>> len(found), found.head(1).texts
    (2, ['a nurse'])
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    texts: list[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", np.asarray(self.ids, dtype=np.int64))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float32))
        object.__setattr__(self, "texts", list(self.texts))
        if not self.ids.shape == self.scores.shape == (len(self.texts),):
            raise ValueError(
                f"ids {self.ids.shape}, scores {self.scores.shape} and {len(self.texts)} texts "
                "do not belong together."
            )
        if np.any(np.diff(self.scores) > 0):
            raise ValueError("scores must be sorted best first.")

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, n: int) -> Retrieved:
        """The best `n`, or all where there are fewer."""
        return Retrieved(self.ids[:n], self.scores[:n], self.texts[:n])


@runtime_checkable
class Retriever(Protocol):
    """What BM25 and dense retrieval have in common."""

    def fit(self, corpus: CorpusLike) -> Self:
        """Index a corpus."""
        ...

    def retrieve(self, seeds: Sequence[str], n: int) -> Retrieved:
        """Find the `n` documents closest to the seeds."""
        ...


class BestSoFar:
    """The n best of a stream of scored ids.

    Parameters
    ----------
    n : int
        How many to keep.

    Raises
    ------
    ValueError
        `n` is below 1.

    Examples
    --------
    >>> best = BestSoFar(2)
    >>> best.add([0, 1, 2], [0.5, 2.0, 0.1])
    >>> best.add([3, 4], [0.5, 0.2])
    >>> ids, scores = best.sorted()
    >>> ids.tolist(), scores.tolist()
    ([1, 0], [2.0, 0.5])
    """

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}.")
        self._n = n
        self._ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._scores: NDArray[np.float32] = np.empty(0, dtype=np.float32)

    def add(self, ids: ArrayLike, scores: ArrayLike) -> None:
        """Offer more scored ids; none may be offered twice."""
        all_ids = np.concatenate([self._ids, np.asarray(ids, dtype=np.int64)])
        all_scores = np.concatenate([self._scores, np.asarray(scores, dtype=np.float32)])
        if len(all_ids) > self._n:
            # a partition first: only what can still win is sorted
            can_win = all_scores >= np.partition(all_scores, -self._n)[-self._n]
            all_ids, all_scores = all_ids[can_win], all_scores[can_win]
        order = np.lexsort((all_ids, -all_scores))[: self._n]
        self._ids, self._scores = all_ids[order], all_scores[order]

    def sorted(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and scores, best first."""
        return self._ids, self._scores


def warn_if_fewer(found: int, n: int, reason: str) -> None:
    """Say so when a retriever finds fewer documents than it was asked for."""
    if found < n:
        warnings.warn(f"{n} documents were asked for, {found} found: {reason}.", UserWarning, stacklevel=3)
