"""Where a training run gets its activations: an array in memory, or anything that yields batches.

An on-disk store, a generator over a model or an array look the same to the trainer: they know how many tokens
they hold and how wide these are, and can be gone through in batches, in an order fixed by a seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor


@runtime_checkable
class ActivationSource(Protocol):
    """Activations that can be gone through again and again.

    A source may also have a string attribute ``fingerprint`` of its content; a checkpoint is then never continued
    on other data.
    """

    @property
    def n_tokens(self) -> int:
        """Number of rows."""
        ...

    @property
    def d_in(self) -> int:
        """Width of a row."""
        ...

    def batches(
        self, batch_size: int, *, shuffle: bool = True, random_state: int | None = None
    ) -> Iterator[Tensor]:
        """Yield float tensors of shape (batch_size, d_in), the last one shorter, in an order fixed by the seed."""
        ...


class ArraySource:
    """An in-memory or memory-mapped array as an `ActivationSource`.

    Parameters
    ----------
    activations : Tensor or ndarray of shape (n, d_in)
        Floating; float16 and bfloat16 are widened to float32 batch by batch.

    Raises
    ------
    TypeError
        Not an array of floating numbers.
    ValueError
        Not two-dimensional, empty, or NaN or infinity in it.

    Examples
    --------
    >>> import numpy as np
    >>> source = ArraySource(np.ones((5, 3), dtype="float16"))
    >>> [tuple(batch.shape) for batch in source.batches(2)]
    [(2, 3), (2, 3), (1, 3)]
    """

    def __init__(self, activations: Tensor | np.ndarray) -> None:
        if isinstance(activations, np.ndarray):
            if not np.issubdtype(activations.dtype, np.floating):
                raise TypeError(f"activations must be floating numbers, got an array of {activations.dtype}.")
            if not activations.flags.writeable:
                # torch would warn of a read-only view; batches are copies, so nothing writes to it
                activations = activations.view()
        elif not (isinstance(activations, Tensor) and activations.is_floating_point()):
            kind = activations.dtype if isinstance(activations, Tensor) else type(activations).__name__
            raise TypeError(f"activations must be a floating Tensor or ndarray, got {kind}.")
        if activations.ndim != 2 or 0 in activations.shape:
            raise ValueError(f"activations must have shape (n_tokens, d_in), got {tuple(activations.shape)}.")
        self.activations = activations.detach() if isinstance(activations, Tensor) else activations
        for start in range(0, self.n_tokens, 65536):
            require_finite(self._rows(slice(start, start + 65536)), start)

    @property
    def n_tokens(self) -> int:
        """Number of rows."""
        return int(self.activations.shape[0])

    @property
    def d_in(self) -> int:
        """Width of a row."""
        return int(self.activations.shape[1])

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the array's content."""
        digest = hashlib.sha256()
        for start in range(0, self.n_tokens, 65536):
            digest.update(self._rows(slice(start, start + 65536)).cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def batches(
        self, batch_size: int, *, shuffle: bool = True, random_state: int | None = None
    ) -> Iterator[Tensor]:
        """See `ActivationSource.batches`."""
        n = self.n_tokens
        order = np.random.default_rng(random_state).permutation(n) if shuffle else np.arange(n)
        for start in range(0, n, batch_size):
            yield self._rows(order[start : start + batch_size])

    def _rows(self, rows: slice | np.ndarray) -> Tensor:
        if isinstance(self.activations, Tensor):
            index = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self.activations.device)
            return self.activations[index].float()
        return torch.from_numpy(np.array(self.activations[rows], dtype=np.float32))


def as_source(activations: Any) -> ActivationSource:
    """An array wrapped as a source, a source as it is.

    Raises
    ------
    TypeError
        Neither.
    """
    if isinstance(activations, Tensor | np.ndarray):
        return ArraySource(activations)
    if isinstance(activations, ActivationSource):
        return activations
    raise TypeError(
        "activations must be a Tensor, an ndarray, or an object with n_tokens, d_in and batches(), "
        f"got {type(activations).__name__}."
    )


def require_finite(x: Tensor, first_row: int = 0) -> None:
    """Raise ValueError that counts the rows of `x` with NaN or infinity and names the first."""
    # one sum instead of an elementwise test: NaN and infinity survive addition
    if torch.isfinite(x.sum()):
        return
    bad = (~torch.isfinite(x)).any(1)
    if bad.any():
        where = int(bad.nonzero()[0]) + first_row
        raise ValueError(
            f"activations hold NaN or infinity in {int(bad.sum())} of {x.shape[0]} rows, first in row {where}."
        )
