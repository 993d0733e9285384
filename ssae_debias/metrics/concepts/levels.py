r"""Thresholds in bounded memory: how many examples reach each of a unit's levels.

A unit of largest value m is cut at ``m · (k/K)²`` for k = 0 … K − 1. Level 0 is "fires at all"; the square puts more
levels where most activations are, near 0, and still resolves the top to a few per cent. Counting examples by level,
and examples of the concept by level, gives precision, recall and F1 at all K thresholds at once, whatever the number
of tokens:

.. math:: F_1 = \frac{2\,TP}{2\,TP + FP + FN} = \frac{2\,TP}{\text{predicted} + \text{occurrences}}
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

N_LEVELS = 64
"""Thresholds tried for each unit when units are selected; the selected ones are read at four times as many."""
FINER = 4

_COMPACT = 1 << 22
"""Counts kept one by one before they are summed: 32 MB."""


def level_edges(n_levels: int) -> Tensor:
    """Thresholds relative to a unit's largest value, ascending from 0, shape (n_levels,).

    Examples
    --------
    >>> level_edges(4).tolist()
    [0.0, 0.0625, 0.25, 0.5625]
    """
    return (torch.arange(n_levels, dtype=torch.float32) / n_levels).square()


def levels_of(relative: Tensor, edges: Tensor) -> Tensor:
    """How many thresholds each value exceeds, 0 … n_levels; of values relative to the unit's largest.

    Examples
    --------
    >>> levels_of(torch.tensor([0.0, 0.01, 0.0625, 0.07, 3.0]), level_edges(4)).tolist()
    [0, 1, 1, 2, 4]
    """
    return torch.bucketize(relative, edges, right=False)


@dataclass
class LevelCounts:
    """Examples by unit and level; only what is above level 0 is told, the rest follows from the total.

    Memory is that of the pairs that occur: few for a rare concept, at most n_units · n_levels.

    Attributes
    ----------
    n_units, n_levels : int

    Examples
    --------
    >>> counts = LevelCounts(n_units=2, n_levels=4)
    >>> counts.add(torch.tensor([[0.0, 1.0], [0.0, 0.07]]), largest=torch.tensor([1.0, 1.0]))
    >>> counts.reaching().tolist()
    [[0, 0, 0, 0], [2, 2, 1, 1]]
    """

    n_units: int
    n_levels: int
    _pairs: list[NDArray[np.int64]] = field(default_factory=list)
    _waiting: int = 0
    _summed: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def add(self, values: Tensor, largest: Tensor) -> None:
        """Count examples with values (n_examples, n_units); `largest` of each unit is what the levels refer to."""
        rows, units = values.nonzero(as_tuple=True)
        relative = values[rows, units] / largest[units].clamp(min=1e-30)
        levels = levels_of(relative, level_edges(self.n_levels))
        self._pairs.append((units * (self.n_levels + 1) + levels).numpy())
        self._waiting += len(rows)
        if self._waiting > _COMPACT:
            self._compact()

    def reaching(self) -> NDArray[np.int64]:
        """How many examples exceed each threshold, shape (n_units, n_levels)."""
        self._compact()
        assert self._summed is not None
        pairs, counts = self._summed
        table = np.zeros(self.n_units * (self.n_levels + 1), dtype=np.int64)
        table[pairs] = counts
        by_level = table.reshape(self.n_units, -1)
        return np.cumsum(by_level[:, ::-1], axis=1)[:, ::-1][:, 1:]

    def _compact(self) -> None:
        pairs, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *self._pairs]), return_counts=True)
        if self._summed is not None:
            known, before = self._summed
            every, place = np.unique(np.concatenate([known, pairs]), return_inverse=True)
            total = np.zeros(len(every), dtype=np.int64)
            np.add.at(total, place, np.concatenate([before, counts]))
            pairs, counts = every, total
        self._summed, self._pairs, self._waiting = (pairs, counts), [], 0


@dataclass(frozen=True)
class Choice:
    """A unit and the threshold at which it found a concept best.

    Attributes
    ----------
    unit : int
    level : int
        Its threshold is ``largest · level_edges(n_levels)[level]``.
    f1 : float
        On the texts that it was chosen on: too good, since chosen.
    """

    unit: int
    level: int
    f1: float


def best_choice(
    found: NDArray[np.int64],
    predicted: NDArray[np.int64],
    n_occurrences: int,
    units: NDArray[np.int64] | None = None,
) -> Choice:
    """The unit and threshold of largest F1.

    Where several thresholds in a row do equally well (a gap lies between the concept and the rest), the middle one is
    taken, which holds on other texts most likely; of units that do equally well, the one of the widest gap.

    Parameters
    ----------
    found, predicted : ndarray of int, shape (n_units, n_levels)
        Occurrences, and all examples, that exceed each threshold.
    n_occurrences : int
        At least 1.
    units : ndarray of int, optional
        Choose among these alone.

    Examples
    --------
    >>> found, predicted = np.array([[2, 2, 2, 2, 1]]), np.array([[9, 2, 2, 2, 1]])
    >>> best_choice(found, predicted, n_occurrences=2)
    Choice(unit=0, level=2, f1=1.0)
    """
    f1 = 2 * found / (predicted + n_occurrences)
    candidates = np.arange(len(f1)) if units is None else np.asarray(units)
    f1 = f1[candidates]
    best = f1.max(axis=1)
    top = np.flatnonzero(best >= best.max() - 1e-12)
    spans = [_plateau(f1[row]) for row in top]
    widest = int(np.argmax([end - start for start, end in spans]))
    start, end = spans[widest]
    row = top[widest]
    return Choice(int(candidates[row]), (start + end) // 2, float(best[row]))


def _plateau(f1: NDArray[np.float64]) -> tuple[int, int]:
    """First and last of the thresholds in a row that are best."""
    start = int(np.argmax(f1))
    equal = np.flatnonzero(f1[start:] < f1[start] - 1e-12)
    return start, start + (int(equal[0]) if len(equal) else len(f1) - start) - 1
