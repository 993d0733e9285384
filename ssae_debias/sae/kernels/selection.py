"""The active latents of a batch: a library's product for some thousand tokens at a time, and the kernels' cuts.

TopK keeps each token's k largest positive pre-activations, the lowest latents first among equal ones. BatchTopK
keeps the n·k largest of the batch and all that equal the smallest of them. As in
`ssae_debias.sae.steps.selection`, BatchTopK collects what lies above a floor a little below the last batch's cut,
and lowers the floor if that was too little: the result is exact whatever the floor was. So is it where the
product is computed in bfloat16, which only chooses candidates (see `ssae_debias.sae.kernels.rounding`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ssae_debias.sae.kernels import candidates, cuts
from ssae_debias.sae.kernels.language import next_power_of_2, row_block
from ssae_debias.sae.kernels.rounding import RESULT_ROUNDING, product_error, rounded
from ssae_debias.sae.sparsity import likely_floor

Precision = Literal["fp32", "bf16"]

CHUNK_ENTRIES = 2**26
"""Pre-activations in memory at a time: enough for a product at full rate, 256 MiB in float32."""

LANES = 1024
"""Lanes of the first bound (see `ssae_debias.sae.kernels.candidates`), at least four for each of a token's k."""

FLOOR_BELOW_CUT = 0.85
"""How far below the last batch's cut BatchTopK looks for candidates: cuts differ by a few per cent."""

BLOCK = 256
"""Candidates that a program looks at together."""


@dataclass
class KernelCodes:
    """Codes in compressed sparse rows, tokens ascending and each token's latents ascending.

    Parameters
    ----------
    rows, columns : int32 Tensor of shape (n_active,)
        Token and latent of each active entry.
    values : float32 Tensor of shape (n_active,)
        The entries, all positive.
    offsets : int64 Tensor of shape (n_tokens + 1,)
        Where each token's entries begin, and the end.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    offsets: Tensor


@dataclass
class _Candidates:
    """Each token's entries that may be active: `counts` of them from `starts` on; BatchTopK counts them all."""

    columns: Tensor
    values: Tensor
    starts: Tensor
    counts: Tensor
    total: int = 0


class KernelSelection:
    """Selects a batch's active latents from ``x W_enc + b_enc``; remembers buffers and the last cut for speed.

    Parameters
    ----------
    k : int
        Latents per token.
    per_token : bool
        k for each token (TopK), or n·k for the batch (BatchTopK).
    precision : {"fp32", "bf16"}, default "fp32"
        How the product is computed. "bf16" serves to choose candidates alone, with a margin that covers every
        rounding error; their values, and so the codes, are those of float32.

    Raises
    ------
    ValueError
        Another precision.
    """

    def __init__(self, k: int, *, per_token: bool, precision: Precision = "fp32") -> None:
        if precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}.")
        self.k = k
        self.per_token = per_token
        self.precision = precision
        self._floor: float | None = None
        self._buffer: Tensor | None = None
        # room for candidates, grown when it proves too small
        self._room_per_token = next_power_of_2(max(32, (2 if precision == "fp32" else 4) * k))

    @torch.no_grad()
    def __call__(self, x: Tensor, W_enc_rows: Tensor, b_enc: Tensor) -> KernelCodes:
        """The codes of encoder inputs.

        Parameters
        ----------
        x : Tensor of shape (n, d_in)
            What the encoder is applied to, float32 and contiguous.
        W_enc_rows : Tensor of shape (d_sae, d_in)
            The encoder latent by latent, contiguous.
        b_enc : Tensor of shape (d_sae,)
        """
        product = _Product(x, W_enc_rows, b_enc, self.precision)
        if self.per_token:
            found = self._topk_candidates(product)
            cut, ties, kept = self._topk_cuts(found)
        else:
            found = self._batch_candidates(product)
            cut, ties = self._batch_cut(found, product)
            kept = torch.empty_like(found.counts)
            grid = (product.n,)
            cuts.count_kept[grid](found.values, found.starts, found.counts, cut, ties, kept, BLOCK=BLOCK)
        offsets = torch.nn.functional.pad(kept.cumsum(0), (1, 0))
        n_active = int(offsets[-1])
        rows, columns = (found.columns.new_empty(n_active) for _ in range(2))
        values = found.values.new_empty(n_active)
        if n_active:
            cuts.keep_candidates[(product.n,)](
                found.columns, found.values, found.starts, found.counts, cut, ties, offsets,
                rows, columns, values, BLOCK=BLOCK,
            )  # fmt: skip
        return KernelCodes(rows, columns, values, offsets)

    def _chunks(self, product: _Product) -> Iterator[tuple[int, Tensor]]:
        """Some tokens' first number and their pre-activations, in one buffer that is used again."""
        rows = max(1, CHUNK_ENTRIES // product.n_latents)
        rows = min(product.n, rows // 128 * 128 or rows)
        shape = (rows, product.n_latents)
        if self._buffer is None or self._buffer.shape != shape:
            self._buffer = product.empty(shape)
        for start in range(0, product.n, rows):
            end = min(start + rows, product.n)
            yield start, product.of(start, end, out=self._buffer[: end - start])

    def _topk_candidates(self, product: _Product) -> _Candidates:
        n, capacity = product.n, self._room_per_token
        found = product.candidates(n * capacity)
        found.starts = torch.arange(n, device=found.starts.device) * capacity
        lanes = min(next_power_of_2(max(LANES, 4 * self.k)), next_power_of_2(product.n_latents))
        for first, p in self._chunks(product):
            candidates.topk_candidates[(p.shape[0],)](
                p, product.slack, product.rounding, found.columns, found.values, found.counts,
                first, product.n_latents, self.k, capacity, LANES=lanes,
            )  # fmt: skip
        product.make_exact(found, capacity)
        # large entries crowd into few lanes, or very many are equal: rare, and no matter for speed
        crowded = (found.counts > capacity).nonzero().squeeze(1)
        for some in crowded.split(max(1, CHUNK_ENTRIES // product.n_latents)):
            values, latents = product.exactly(some).topk(self.k, dim=1)
            latents, order = latents.sort(dim=1)
            places = (some[:, None] * capacity + torch.arange(self.k, device=some.device)).flatten()
            found.values[places] = values.gather(1, order).flatten()
            found.columns[places] = latents.flatten().int()
            found.counts[some] = self.k
        return found

    def _topk_cuts(self, found: _Candidates) -> tuple[Tensor, Tensor, Tensor]:
        ties, kept = torch.empty_like(found.counts), torch.empty_like(found.counts)
        cut = found.values.new_empty(len(found.counts))
        capacity = self._room_per_token
        cuts.topk_cuts[(len(cut),)](
            found.values, found.counts, cut, ties, kept, self.k, capacity, CAPACITY=capacity
        )
        return cut, ties, kept

    def _batch_candidates(self, product: _Product) -> _Candidates:
        budget = min(self.k * product.n, product.n * product.n_latents)
        floor = self._likely_floor(product) if self._floor is None else self._floor
        estimated = self._floor is None
        while True:
            capacity = product.n * self._room_per_token
            found = product.candidates(capacity)
            found.total = self._collect(floor, found, product, capacity)
            if found.total > capacity:
                # a floor from a batch of larger activations costs room: estimate it before making more
                if not estimated:
                    floor, estimated = self._likely_floor(product), True
                else:
                    self._room_per_token = next_power_of_2(-(-found.total // product.n))
                continue
            product.make_exact(found, capacity)
            if floor == 0 or self._count_above(floor, found) >= budget:
                return found
            floor, estimated = floor / 2 if floor > 1e-6 else 0.0, True

    def _collect(self, floor: float, found: _Candidates, product: _Product, capacity: int) -> int:
        total = torch.zeros((), dtype=torch.int64, device=found.values.device)
        lanes = min(LANES, next_power_of_2(product.n_latents))
        for first, p in self._chunks(product):
            candidates.candidates_above[(p.shape[0],)](
                p, product.slack, product.rounding, floor, found.columns, found.values, found.starts,
                found.counts, total, first, product.n_latents, capacity, LANES=lanes,
            )  # fmt: skip
        return int(total)

    def _count_above(self, floor: float, found: _Candidates) -> int:
        if self.precision == "fp32":
            return found.total
        # what the margin let in below the floor does not count: others like it were not collected
        return int((found.values[: found.total] > floor).sum())

    def _batch_cut(self, found: _Candidates, product: _Product) -> tuple[Tensor, Tensor]:
        budget = min(self.k * product.n, product.n * product.n_latents)
        values = found.values[: found.total]
        cut = 0.0
        if found.total >= budget:
            # the margin's candidates may be negative
            cut = max(0.0, float(values.topk(budget, sorted=False).values.min()))
        self._floor = FLOOR_BELOW_CUT * cut if cut > 0 else None
        ties = torch.iinfo(torch.int32).max if cut > 0 else 0
        return values.new_full((product.n,), cut), torch.full_like(found.counts, ties)

    def _likely_floor(self, product: _Product) -> float:
        _, p = next(self._chunks(product))
        return likely_floor(p, self.k)


class _Product:
    """``x W_enc + b_enc`` in one of two precisions, and how wrong it can be."""

    def __init__(self, x: Tensor, W_enc_rows: Tensor, b_enc: Tensor, precision: Precision) -> None:
        self.x, self.W_enc_rows, self.b_enc = x, W_enc_rows, b_enc
        self.n, self.n_latents = x.shape[0], W_enc_rows.shape[0]
        self.rounding = 0.0
        if precision == "fp32":
            self._factors = (x, W_enc_rows, b_enc)
            self.slack = x.new_zeros(self.n)
        else:
            short_x, short_W = rounded(x), rounded(W_enc_rows)
            self._factors = (short_x[0], short_W[0], b_enc.bfloat16())
            self.slack = product_error(short_x, short_W, b_enc)
            self.rounding = RESULT_ROUNDING

    def empty(self, shape: tuple[int, int]) -> Tensor:
        return self._factors[0].new_empty(shape)

    def candidates(self, capacity: int) -> _Candidates:
        new = self.x.new_empty
        return _Candidates(
            columns=new(capacity, dtype=torch.int32),
            values=new(capacity),
            starts=new(self.n, dtype=torch.int64),
            counts=new(self.n, dtype=torch.int32),
        )

    def of(self, start: int, end: int, out: Tensor) -> Tensor:
        x, W_enc_rows, b_enc = self._factors
        with _full_precision_sums():
            return torch.addmm(b_enc, x[start:end], W_enc_rows.t(), out=out)

    def exactly(self, tokens: Tensor) -> Tensor:
        return torch.addmm(self.b_enc, self.x[tokens], self.W_enc_rows.t())

    def make_exact(self, found: _Candidates, capacity: int) -> None:
        """The candidates' values in float32, if they are not."""
        if self._factors[0] is self.x:
            return
        width = self.x.shape[1]
        candidates.exact_values[(self.n,)](
            self.x, self.W_enc_rows, self.b_enc, found.columns, found.values, found.starts, found.counts,
            capacity, width, **row_block(width),
        )  # fmt: skip


@contextmanager
def _full_precision_sums() -> Iterator[None]:
    """Keep the library from adding partial sums in bfloat16, which the error bound does not cover."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_bf16_reduced_precision_reduction = before
