"""Shuffling more rows than memory holds.

A training step wants rows in random order; a file gives them fast only in the order they lie. A *shuffle
buffer* reconciles the two: it is filled from the stream of rows, each batch is drawn from random slots, and
the next rows of the stream are written into the slots just emptied. Memory is bounded by the buffer, every
row comes out exactly once, and neighbours in the file end up about one buffer's length apart.

The buffer stays in the stored dtype, so half precision halves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ssae_debias.data.randomness import RandomState, as_generator


def shuffled_batches(
    chunks: Iterable[Tensor], batch_size: int, *, buffer_rows: int, random_state: RandomState = None
) -> Iterator[Tensor]:
    """Batches of rows in random order from a stream of chunks, within a buffer of fixed size.

    Parameters
    ----------
    chunks : iterable of Tensor, each (m, d)
        All of one dtype and width; read once, no faster than batches are taken. A chunk's memory may be used
        again for the next.
    batch_size : int
        Rows a batch; the last may hold fewer.
    buffer_rows : int
        Rows held in memory, at least `batch_size`. With as many as there are rows in all, every order is
        equally likely; with fewer, a row does not come out earlier than `buffer_rows` before its place in the
        stream.
    random_state : int, numpy Generator, numpy RandomState or None
        Same seed and chunks, same batches.

    Yields
    ------
    Tensor of float32, (b, d)
        New memory each time: the caller may keep or change it.

    Raises
    ------
    ValueError
        `batch_size` is below 1 or above `buffer_rows`.

    Examples
    --------
    >>> rows = torch.arange(6.0)[:, None]
    >>> batches = list(shuffled_batches([rows[:4], rows[4:]], 4, buffer_rows=4, random_state=0))
    >>> [len(batch) for batch in batches], sorted(torch.cat(batches)[:, 0].tolist())
    ([4, 2], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    """
    if not 1 <= batch_size <= buffer_rows:
        raise ValueError(f"batch_size={batch_size} must be at least 1 and at most buffer_rows={buffer_rows}.")
    return _shuffled(_Rows(chunks), batch_size, buffer_rows, as_generator(random_state))


def _shuffled(rows: _Rows, batch_size: int, buffer_rows: int, rng: np.random.Generator) -> Iterator[Tensor]:
    first = rows.peek()
    if first is None:
        return
    # NumPy asks the system for huge pages, PyTorch does not: rows far apart are found twice as fast
    memory = np.empty((buffer_rows, first.shape[1] * first.element_size()), dtype=np.uint8)
    buffer = torch.from_numpy(memory).view(first.dtype)
    filled = rows.fill(buffer)
    emptied = torch.empty(0, dtype=torch.int64)
    while filled == buffer_rows and not len(emptied):
        slots = torch.from_numpy(rng.choice(buffer_rows, batch_size, replace=False, shuffle=False))
        yield _batch(buffer, slots)
        emptied = slots[rows.copy_into(buffer, slots) :]
    left = np.setdiff1d(np.arange(filled), emptied.numpy(), assume_unique=True)
    for slots in torch.from_numpy(rng.permutation(left)).split(batch_size):
        if len(slots):  # splitting nothing gives one empty part
            yield _batch(buffer, slots)


class _Rows:
    """A stream of chunks from which any number of rows can be taken."""

    def __init__(self, chunks: Iterable[Tensor]) -> None:
        self._chunks = iter(chunks)
        self._current: Tensor | None = None
        self._start = 0

    def peek(self) -> Tensor | None:
        """The chunk at hand, the next one if it is used up, None at the end."""
        while self._current is None or self._start == len(self._current):
            self._current, self._start = next(self._chunks, None), 0
            if self._current is None:
                return None
        return self._current

    def fill(self, buffer: Tensor) -> int:
        """Copy the next rows to the buffer's, from the first on; how many there were."""
        done = 0
        while done < len(buffer) and (taken := self._take(len(buffer) - done)) is not None:
            buffer[done : done + len(taken)] = taken
            done += len(taken)
        return done

    def copy_into(self, buffer: Tensor, slots: Tensor) -> int:
        """Copy the next rows into the slots; how many there were."""
        done = 0
        while done < len(slots) and (taken := self._take(len(slots) - done)) is not None:
            _bits(buffer).index_copy_(0, slots[done : done + len(taken)], _bits(taken))
            done += len(taken)
        return done

    def _take(self, n: int) -> Tensor | None:
        """At most `n` of the rows that come next, None at the end."""
        chunk = self.peek()
        if chunk is None:
            return None
        taken = chunk[self._start : self._start + n]
        self._start += len(taken)
        return taken


def _bits(rows: Tensor) -> Tensor:
    # PyTorch moves half precision several times slower than integers of its size
    return rows.view(torch.int16) if rows.element_size() == 2 else rows


def _batch(buffer: Tensor, slots: Tensor) -> Tensor:
    return _bits(buffer).index_select(0, slots).view(buffer.dtype).float()
