"""Which latents are active in training: each token's k largest, or the n·k largest of a batch.

BatchTopK needs the n·k largest of the whole batch: what lies above a *floor* a little below the last batch's cut
is collected, and the cut is then made among those few. If the floor was too high (fewer than n·k found) it is
lowered and the batch done again, so that the result is exact whatever the floor was. Ranks that share a batch
(`ssae_debias.ranks`) agree on the floor and make the cut among all that they found above it.

On a CPU the pre-activations are screened (`ssae_debias.sae.steps.screening`) and never held all at once.
Elsewhere they are made some thousand tokens at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae.sparsity import likely_floor
from ssae_debias.sae.steps.codes import Buffers, SparseCodes
from ssae_debias.sae.steps.screening import Entries, Precision, Screen

LEAST_MARGIN = 0.03
"""The floor lies at least this part below the last cut, and twice as far as cuts have lately differed."""
FORGETTING = 0.9
CHUNK_ROWS = 2048


class ActiveLatents:
    """Selects a batch's active latents from ``x W_enc + b_enc``; remembers the last cut for speed.

    Parameters
    ----------
    k : int
        Latents per token.
    per_token : bool
        k for each token (TopK), or n·k for the batch (BatchTopK).
    precision : {"auto", "full", "bfloat16"}, default "auto"
        Of the screening on a CPU; what is selected does not depend on it.
    ranks : Ranks, default: alone
        Who shares a batch; each selects among its rows by the cut of all.

    Examples
    --------
    >>> import torch
    >>> x, W_enc, b_enc = torch.tensor([[3.0, 2.0], [0.2, 0.1]]), torch.eye(2), torch.zeros(2)
    >>> ActiveLatents(k=1, per_token=False)(x, W_enc, b_enc).values.tolist()
    [3.0, 2.0]
    >>> ActiveLatents(k=1, per_token=True)(x, W_enc, b_enc).values.tolist()
    [3.0, 0.20000000298023224]
    """

    def __init__(
        self, k: int, *, per_token: bool, precision: Precision = "auto", ranks: Ranks = ALONE
    ) -> None:
        self.k = k
        self.per_token = per_token
        self.precision: Precision = precision
        self.ranks = ranks
        self._buffers = Buffers()
        self._floor: float | None = None
        self._last_cut: float | None = None
        self._spread = 0.1

    @torch.no_grad()
    def __call__(self, x: Tensor, W_enc: Tensor, b_enc: Tensor) -> SparseCodes:
        """The codes of encoder inputs `x` (n, d_in) under `W_enc` (d_in, d_sae) and `b_enc` (d_sae,)."""
        shape = (x.shape[0], W_enc.shape[1])
        k = min(self.k, shape[1])
        # a rank may have no row of a last short batch
        if x.device.type == "cpu" and len(x):
            product: Screen | Whole = Screen(
                x, W_enc, b_enc, k, precision=self.precision, buffers=self._buffers
            )
        else:
            product = Whole(x, W_enc, b_enc, k)
        entries = product.largest() if self.per_token else self._above_cut(product, k * shape[0])
        return SparseCodes(*entries, shape)

    def _above_cut(self, product: Screen | Whole, budget: int) -> Entries:
        budget = self.ranks.total(budget)
        floor = self.ranks.least(product.likely_floor()) if self._floor is None else self._floor
        rows, columns, values = product.above(floor)
        while (found := self.ranks.total(values.numel())) < budget and floor > 0:
            floor = floor / 2 if floor > 1e-6 else 0.0
            rows, columns, values = product.above(floor)
        if found <= budget:
            self._floor = self._last_cut = None
            return rows, columns, values
        candidates = torch.cat(self.ranks.gathered(values))
        cut = candidates.topk(budget, sorted=False).values.min()
        self._floor = self._next_floor(float(cut))
        kept = values >= cut
        return rows[kept], columns[kept], values[kept]

    def _next_floor(self, cut: float) -> float:
        """A little below where the next batch is likely to be cut."""
        if self._last_cut is not None:
            self._spread = max(abs(cut / self._last_cut - 1), FORGETTING * self._spread)
        self._last_cut = cut
        return cut * max(0.0, 1 - max(LEAST_MARGIN, 2 * self._spread))


class Whole:
    """A batch's pre-activations, looked at one by one; the same questions as to a `Screen`, on any device.

    Parameters are those of `Screen`.

    Examples
    --------
    >>> import torch
    >>> x, W_enc = torch.tensor([[3.0, 2.0], [0.25, 0.1]]), torch.eye(2)
    >>> rows, columns, values = Whole(x, W_enc, torch.zeros(2), k=1).above(0.15)
    >>> rows.tolist(), columns.tolist(), values.tolist()
    ([0, 0, 1], [0, 1, 0], [3.0, 2.0, 0.25])
    """

    def __init__(self, x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> None:
        self.x, self.W_enc, self.b_enc, self.k = x, W_enc, b_enc, k

    def above(self, floor: float) -> Entries:
        """All entries greater than `floor`."""
        parts = []
        for start, p in self._chunks():
            rows, columns = (p > floor).nonzero(as_tuple=True)
            parts.append((rows + start, columns, p[rows, columns]))
        rows, columns, values = (torch.cat(part) for part in zip(*parts, strict=True))
        return rows, columns, values

    def largest(self) -> Entries:
        """Each token's k largest entries, without those that are not positive."""
        parts = []
        for start, p in self._chunks():
            values, columns = p.topk(self.k, dim=1, sorted=False)
            rows, places = (values > 0).nonzero(as_tuple=True)
            parts.append((rows + start, columns[rows, places], values[rows, places]))
        rows, columns, values = (torch.cat(part) for part in zip(*parts, strict=True))
        return rows, columns, values

    def likely_floor(self) -> float:
        """A value that hardly too few of the batch's entries exceed for k a token, told from its first tokens."""
        _, p = next(self._chunks())
        return likely_floor(p, self.k)

    def _chunks(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, max(1, self.x.shape[0]), CHUNK_ROWS):
            yield start, torch.addmm(self.b_enc, self.x[start : start + CHUNK_ROWS], self.W_enc)
