"""Finding the few large pre-activations of a batch without looking at most of them twice.

The encoder's product is made for some hundred tokens at a time into one reused buffer and *screened*: the largest
of each group of neighbouring latents is taken, groups whose largest is too small are passed over, and only the
members of the others are looked at one by one. The k-th largest group maximum is at most the k-th largest value,
so that nothing of a token's k largest is passed over.

On CPUs that multiply bfloat16 in hardware the product is made in that precision, two to three times as fast. Its
rounding error is bounded by Cauchy and Schwarz from the parts that rounding cut off,

    |p − p̃| ≤ ‖x − x̃‖ · max_j ‖w_j‖ + ‖x̃‖ · max_j ‖w_j − w̃_j‖ + max_j |b_j − b̃_j| + what summation loses,

every entry that could matter within that bound becomes a candidate, and the candidates' values are computed
again in full precision: what is selected is the same as without.

For positive floating numbers, bits read as integers have the same order; integers are compared and searched
faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.sae.sparsity import likely_floor
from ssae_debias.sae.steps.codes import Buffers, SparseCodes

Precision = Literal["auto", "full", "bfloat16"]

CHUNK_BYTES = 2**25
MOST_ROWS = 1024
GROUP_SIZES = (32, 16, 8, 4, 2)
GROUPS_PER_LATENT = 8
"""A token's k largest should fall into different groups mostly: at least this many groups for each of the k."""
MOST_CANDIDATES = 16
"""A token with more candidates than this for each of its k latents is looked at whole."""
SAMPLE_ROWS = 512
BLOCK_LATENTS = 512
CACHE_BYTES = 2**24
"""What a processor's last cache is likely to hold beside other things."""

KEYS = {torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16}
ROUNDING = 2.0**-8
"""Of a number in bfloat16, relative to it."""


@cache
def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware.

    Examples
    --------
    >>> has_fast_bfloat16() in (True, False)
    True
    """
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


Entries = tuple[Tensor, Tensor, Tensor]
"""Rows (ascending), columns and values of some pre-activations."""


class Screen:
    """The pre-activations ``x W_enc + b_enc`` of one batch on a CPU, of which only the large ones are wanted.

    Parameters
    ----------
    x : Tensor of shape (n, d_in)
        Encoder inputs.
    W_enc, b_enc : Tensor of shape (d_in, d_sae), (d_sae,)
    k : int
        How many latents a token is expected to need.
    precision : {"auto", "full", "bfloat16"}, default "auto"
        In which the product is made; what is found does not depend on it. "auto" is bfloat16 for float32 inputs
        where the CPU is fast at it.
    buffers : Buffers, optional
        Memory to use again.

    Examples
    --------
    >>> import torch
    >>> x, W_enc = torch.tensor([[3.0, 2.0], [0.25, 0.1]]), torch.eye(2)
    >>> rows, columns, values = Screen(x, W_enc, torch.zeros(2), k=1).above(0.15)
    >>> rows.tolist(), columns.tolist(), values.tolist()
    ([0, 0, 1], [0, 1, 0], [3.0, 2.0, 0.25])
    """

    def __init__(
        self,
        x: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        k: int,
        *,
        precision: Precision = "auto",
        buffers: Buffers | None = None,
    ) -> None:
        self.x, self.W_enc, self.b_enc, self.k = x, W_enc, b_enc, k
        self._buffers = Buffers() if buffers is None else buffers
        if precision == "auto":
            precision = "bfloat16" if x.dtype == torch.float32 and has_fast_bfloat16() else "full"
        self._rounded = precision == "bfloat16"
        self._factors = (x, W_enc)
        self._error = x.new_zeros(x.shape[0])
        if self._rounded:
            self._factors, self._error = _rounded(x, W_enc, b_enc, self._buffers)
        d_sae = W_enc.shape[1]
        wide_enough = (s for s in GROUP_SIZES if d_sae % s == 0 and d_sae // s >= GROUPS_PER_LATENT * k)
        self._group_size = next(wide_enough, 1)
        self._n_groups = d_sae // self._group_size
        self._chunk_rows = min(MOST_ROWS, max(64, CHUNK_BYTES // (d_sae * self._factors[0].element_size())))

    def above(self, floor: float) -> Entries:
        """All entries greater than `floor`, which is not negative."""
        least = floor - float(self._error.max())
        if self._rounded and least <= 0:
            return Screen(self.x, self.W_enc, self.b_enc, self.k, precision="full").above(floor)
        key = int(self._keys(self._error.new_tensor([least])))
        parts = [
            self._members(start, values, groups, np.full(len(groups), key, dtype=groups.dtype))
            for start, values, groups in self._chunks()
        ]
        rows, columns, values = self._exact(parts)
        kept = values > floor
        return rows[kept], columns[kept], values[kept]

    def largest(self) -> Entries:
        """Each token's k largest entries, without those that are not positive."""
        parts, poor = [], []
        for start, values, groups in self._chunks():
            bounds = np.partition(groups, self._n_groups - self.k, axis=1)[:, self._n_groups - self.k]
            keys = torch.from_numpy(bounds)
            if self._rounded:
                # k entries are not below p = (1 − 2⁻⁸) p̃ − error; what is not below p has p̃ ≥ p − error
                error = self._error[start : start + len(groups)]
                keys = self._keys(keys.view(values.dtype).float() * (1 - ROUNDING) - 2 * error)
            poor.append((keys <= 0).nonzero().squeeze(1) + start)
            keys[keys <= 0] = torch.iinfo(keys.dtype).max
            parts.append(self._members(start, values, groups, keys.numpy()))
        rows, columns, values = self._exact(parts)
        counts = torch.bincount(rows, minlength=self.x.shape[0])
        crowded = (counts > MOST_CANDIDATES * self.k).nonzero().squeeze(1)
        whole = torch.cat([*poor, crowded])
        if len(whole):
            kept = torch.ones(len(counts), dtype=torch.bool).index_fill_(0, whole, False)[rows]
            rows, columns, values = rows[kept], columns[kept], values[kept]
        found = [_largest_of(rows, columns, values, self.k, self.x.shape[0])]
        found += [self._largest_of_all(some) for some in whole.split(self._chunk_rows)]
        rows, columns, values = (torch.cat(part) for part in zip(*found, strict=True))
        if len(whole):
            rows, order = rows.sort(stable=True)
            columns, values = columns[order], values[order]
        return rows, columns, values

    def likely_floor(self) -> float:
        """A value that hardly too few of the batch's entries exceed for k a token, told from its first tokens."""
        return likely_floor(torch.addmm(self.b_enc, self.x[:SAMPLE_ROWS], self.W_enc), self.k)

    def _chunks(self) -> Iterator[tuple[int, Tensor, NDArray[Any]]]:
        """First token, pre-activations, and the key of each group's largest, chunk by chunk in one buffer."""
        x, W_enc = self._factors
        shape = (min(self._chunk_rows, x.shape[0]), W_enc.shape[1])
        buffer = self._buffers("pre-activations", shape, x.dtype)
        for start in range(0, x.shape[0], self._chunk_rows):
            chunk = x[start : start + self._chunk_rows]
            values = buffer[: len(chunk)]
            if self._rounded:  # the bias is among the factors
                torch.mm(chunk, W_enc, out=values)
            else:
                torch.addmm(self.b_enc, chunk, W_enc, out=values)
            grouped = values.view(KEYS[values.dtype]).view(len(chunk), self._n_groups, self._group_size)
            yield start, values, grouped.amax(2).numpy()

    def _members(self, start: int, values: Tensor, groups: NDArray[Any], floors: NDArray[Any]) -> Entries:
        """The entries whose key is not below their row's floor."""
        hits = np.flatnonzero(groups >= floors[:, None])
        rows = hits // self._n_groups
        members = values.view(KEYS[values.dtype]).view(-1, self._group_size)
        keys = members.index_select(0, torch.from_numpy(hits))
        places = np.flatnonzero(torch.ge(keys, torch.from_numpy(floors[rows])[:, None]).numpy())
        hit = places // self._group_size
        columns = hits[hit] % self._n_groups * self._group_size + places % self._group_size
        found = keys.view(-1)[torch.from_numpy(places)].view(values.dtype)
        return torch.from_numpy(rows[hit] + start), torch.from_numpy(columns), found

    def _exact(self, parts: list[Entries]) -> Entries:
        """The parts in one, values in full precision."""
        rows, columns, values = (torch.cat(part) for part in zip(*parts, strict=True))
        if self._rounded:
            places = SparseCodes(rows, columns, values.float(), (self.x.shape[0], self.W_enc.shape[1]))
            rows_of_latents = self.W_enc.t()
            if rows_of_latents.nbytes <= CACHE_BYTES:
                values = places.sampled_product(self.x, rows_of_latents)
            else:  # latent after latent, each encoder row is fetched once
                by_latent, order = places.transposed()
                found = by_latent.sampled_product(rows_of_latents, self.x)
                values = torch.empty_like(found).index_copy_(0, order, found)
            values += self.b_enc[columns]
        return rows, columns, values

    def _largest_of_all(self, rows: Tensor) -> Entries:
        """Some tokens' k largest, from all their entries."""
        p = torch.addmm(self.b_enc, self.x[rows], self.W_enc)
        values, columns = p.topk(self.k, dim=1, sorted=False)
        positive = values > 0
        return rows[:, None].expand_as(columns)[positive], columns[positive], values[positive]

    def _keys(self, floors: Tensor) -> Tensor:
        """Keys of numbers; those of negative ones are not positive. Where the product is rounded, rounded down."""
        floors = floors.clamp(min=0)
        if self._rounded:
            # a positive number without its last 16 bits is the next smaller bfloat16
            return (floors.view(torch.int32) >> 16).to(torch.int16)
        return floors.view(KEYS[floors.dtype])


def _rounded(
    x: Tensor, W_enc: Tensor, b_enc: Tensor, buffers: Buffers
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Both factors in bfloat16, with the bias among them, and for each token the largest error of their product.

    The bias stands in two columns, each multiplied by 1: its first 8 bits, and the next 8.
    """
    n, d_in = x.shape
    d_sae = W_enc.shape[1]
    left = buffers("left", (n, d_in + 2), torch.bfloat16)
    left[:, :d_in], left[:, d_in:] = x, 1
    right = buffers("right", (d_sae, d_in + 2), torch.bfloat16)
    longest, cut_off = x.new_zeros(()), x.new_zeros(())
    norm = torch.linalg.vector_norm
    for start in range(0, d_sae, BLOCK_LATENTS):  # small enough to stay in the processor's cache
        rows = slice(start, start + BLOCK_LATENTS)
        exact = W_enc.t()[rows]
        right[rows, :d_in] = exact
        lost = right[rows, :d_in].float().sub_(exact)
        longest = torch.maximum(longest, norm(exact, dim=1).max())
        cut_off = torch.maximum(cut_off, norm(lost, dim=1).max())
    right[:, d_in] = b_enc
    right[:, d_in + 1] = b_enc - right[:, d_in].float()
    in_bias = (b_enc - right[:, d_in].float() - right[:, d_in + 1].float()).abs().max()
    lengths, lost_lengths = norm(x, dim=1), norm(x - left[:, :d_in].float(), dim=1)
    lengths_kept = lengths + lost_lengths
    largest = lengths_kept * (longest + cut_off) + b_enc.abs().max()
    summation = 2.0**-23 * (d_in + 2) * largest
    return (left, right.t()), lost_lengths * longest + lengths_kept * cut_off + summation + in_bias


def _largest_of(rows: Tensor, columns: Tensor, values: Tensor, k: int, n: int) -> Entries:
    """Of each row's entries the k largest, without those that are not positive."""
    counts = torch.bincount(rows, minlength=n)
    most = int(counts.max()) if len(rows) else 0
    # each entry's place in a table of n rows, as wide as the fullest of them
    places = torch.arange(len(rows)) + (torch.arange(n) * most - counts.cumsum(0) + counts)[rows]
    table = values.new_full((n * most,), -torch.inf).index_copy_(0, places, values).view(n, most)
    kept = torch.zeros(n, most, dtype=torch.bool)
    kept.scatter_(1, table.topk(min(k, most), dim=1, sorted=False).indices, True)
    chosen = (kept.view(-1)[places] & (values > 0)).nonzero().squeeze(1)
    return rows[chosen], columns[chosen], values[chosen]
