"""Sparse codes as three vectors, and the one product that everything in a sparse step is made of.

A batch of codes is stored row after row: the active latents' numbers, their values, and where each token's part
begins (compressed sparse rows). Decoding sums, for each token, value times decoder row over its active latents.
The weight gradients are the same sum over the transposed codes: for each latent, over the tokens that used it.
`torch.nn.functional.embedding_bag` computes such sums without ever forming the (n, d_sae) matrix, every sum in
one thread and in order, so that results repeat bit for bit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

with warnings.catch_warnings():
    # torch says once in a process that these matrices are in beta: not every user's business
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)

PART_ROWS = 4096
"""Memory of some megabytes is found again at the next step; larger pieces come from the system, empty, each time."""


class Buffers:
    """Memory that a step uses again at the next one: pages that the system hands out anew cost more than the work.

    Examples
    --------
    >>> buffers = Buffers()
    >>> one = buffers("pre-activations", (2, 3), torch.float32)
    >>> buffers("pre-activations", (2, 3), torch.float32) is one
    True
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def __call__(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None
    ) -> Tensor:
        """A tensor with this name and form; what is in it is what was left there."""
        kept = self._kept.get(name)
        if (
            kept is None
            or kept.shape != shape
            or kept.dtype != dtype
            or kept.device != (device or kept.device)
        ):
            kept = self._kept[name] = torch.empty(shape, dtype=dtype, device=device)
        return kept


@dataclass
class SparseCodes:
    """An (n_rows, n_columns) matrix with few entries, in compressed sparse rows.

    Parameters
    ----------
    rows, columns : int64 Tensor of shape (n_entries,)
        Where the entries are; rows ascending.
    values : Tensor of shape (n_entries,)
        The entries.
    shape : (n_rows, n_columns)

    Examples
    --------
    >>> import torch
    >>> codes = SparseCodes(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]), torch.tensor([1.0, 2.0, 3.0]), (2, 3))
    >>> codes.times(torch.eye(3)).tolist()
    [[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]
    >>> by_column, order = codes.transposed()
    >>> by_column.times(torch.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]]
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        counts = torch.bincount(self.rows, minlength=self.shape[0])
        self.offsets = counts.cumsum(0) - counts

    def times(self, table: Tensor, out: Tensor | None = None) -> Tensor:
        """The product with a dense (n_columns, d) table; written to `out` part by part if that is given."""
        if out is None:
            return embedding_bag(
                self.columns, table, self.offsets, mode="sum", per_sample_weights=self.values
            )
        for start in range(0, self.shape[0], PART_ROWS):
            offsets = self.offsets[start : start + PART_ROWS]
            first = int(offsets[0])
            after = start + PART_ROWS
            entries = slice(first, int(self.offsets[after]) if after < self.shape[0] else None)
            out[start:after] = embedding_bag(
                self.columns[entries],
                table,
                offsets - first,
                mode="sum",
                per_sample_weights=self.values[entries],
            )
        return out

    def transposed(self) -> tuple[SparseCodes, Tensor]:
        """The transpose, and the order in which it takes this matrix's entries."""
        # 32-bit keys: torch sorts them by radix
        columns, order = torch.sort(self.columns.int(), stable=True)
        shape = (self.shape[1], self.shape[0])
        return SparseCodes(columns.long(), self.rows[order], self.values[order], shape), order

    def with_values(self, values: Tensor) -> SparseCodes:
        """The same places, other entries."""
        return SparseCodes(self.rows, self.columns, values, self.shape)

    def sampled_product(self, left: Tensor, table: Tensor) -> Tensor:
        """``left @ table.T`` at this matrix's places alone: a dot product per entry, of shape (n_entries,)."""
        ends = torch.cat([self.offsets, self.offsets.new_tensor([len(self.rows)])])
        zeros = torch.zeros_like(self.values)
        places = torch.sparse_csr_tensor(ends, self.columns, zeros, self.shape, check_invariants=False)
        return torch.sparse.sampled_addmm(places, left, table.t(), beta=0).values()
