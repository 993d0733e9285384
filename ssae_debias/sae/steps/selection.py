"""Finding the active latents of a batch without holding all its pre-activations.

The encoder's product is made for some hundred tokens at a time into one reused buffer. TopK picks each token's k
largest on the spot. BatchTopK needs the n·k largest of the whole batch: what lies above a *floor* a little below
the last batch's cut is collected, and the cut is then made among those few. If the floor was too high (fewer
than n·k found) it is lowered and the batch done again, so that the result is exact whatever the floor was.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ssae_debias.sae.steps.codes import SparseCodes

CHUNK_ROWS = 512
FLOOR_BELOW_CUT = 0.85
"""Batches' cuts differ by a few per cent: this far below the last one, some half too many candidates are found
and hardly ever too few."""


class ActiveLatents:
    """Selects a batch's active latents from ``x W_enc + b_enc``; remembers a buffer and the last cut for speed.

    Parameters
    ----------
    k : int
        Latents per token.
    per_token : bool
        k for each token (TopK), or n·k for the batch (BatchTopK).

    Examples
    --------
    >>> import torch
    >>> x, W_enc, b_enc = torch.tensor([[3.0, 2.0], [0.2, 0.1]]), torch.eye(2), torch.zeros(2)
    >>> ActiveLatents(k=1, per_token=False)(x, W_enc, b_enc).values.tolist()
    [3.0, 2.0]
    >>> ActiveLatents(k=1, per_token=True)(x, W_enc, b_enc).values.tolist()
    [3.0, 0.20000000298023224]
    """

    def __init__(self, k: int, *, per_token: bool) -> None:
        self.k = k
        self.per_token = per_token
        self._floor: float | None = None
        self._buffers: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor, W_enc: Tensor, b_enc: Tensor) -> SparseCodes:
        """The codes of encoder inputs `x` (n, d_in) under `W_enc` (d_in, d_sae) and `b_enc` (d_sae,)."""
        n, d_sae = x.shape[0], W_enc.shape[1]
        places, values = (self._topk if self.per_token else self._batch_topk)(x, W_enc, b_enc)
        rows = torch.div(places, d_sae, rounding_mode="floor")
        return SparseCodes(rows, places - rows * d_sae, values, (n, d_sae))

    def _chunks(self, x: Tensor, W_enc: Tensor, b_enc: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Some tokens' first place in the flattened batch, their pre-activations, and room for a mask of these."""
        shape = (min(CHUNK_ROWS, x.shape[0]), W_enc.shape[1])
        if self._buffers is None or self._buffers[0].shape != shape or self._buffers[0].dtype != x.dtype:
            self._buffers = (x.new_empty(shape), x.new_empty(shape, dtype=torch.bool))
        p, mask = self._buffers
        for start in range(0, x.shape[0], CHUNK_ROWS):
            chunk = x[start : start + CHUNK_ROWS]
            n = chunk.shape[0]
            yield start * shape[1], torch.addmm(b_enc, chunk, W_enc, out=p[:n]), mask[:n]

    def _topk(self, x: Tensor, W_enc: Tensor, b_enc: Tensor) -> tuple[Tensor, Tensor]:
        found_places, found_values = [], []
        for start, p, _ in self._chunks(x, W_enc, b_enc):
            values, latents = p.topk(self.k, dim=1, sorted=False)
            first = torch.arange(p.shape[0], device=p.device)[:, None] * p.shape[1] + start
            positive = values > 0
            found_places.append((latents + first)[positive])
            found_values.append(values[positive])
        return torch.cat(found_places), torch.cat(found_values)

    def _batch_topk(self, x: Tensor, W_enc: Tensor, b_enc: Tensor) -> tuple[Tensor, Tensor]:
        budget = min(self.k * x.shape[0], x.shape[0] * W_enc.shape[1])
        floor = self._floor
        if floor is None:
            _, first, _ = next(self._chunks(x, W_enc, b_enc))
            floor = _likely_floor(first, self.k)
        places, values = self._above(floor, x, W_enc, b_enc)
        while values.numel() < budget and floor > 0:
            floor = floor / 2 if floor > 1e-6 else 0.0
            places, values = self._above(floor, x, W_enc, b_enc)
        if values.numel() <= budget:
            self._floor = None
            return places, values
        cut = values.topk(budget, sorted=False).values.min()
        self._floor = FLOOR_BELOW_CUT * float(cut)
        kept = values >= cut
        return places[kept], values[kept]

    def _above(self, floor: float, x: Tensor, W_enc: Tensor, b_enc: Tensor) -> tuple[Tensor, Tensor]:
        found_places, found_values = [], []
        for start, p, mask in self._chunks(x, W_enc, b_enc):
            places = _nonzero(torch.gt(p, floor, out=mask).flatten())
            found_places.append(places + start)
            found_values.append(p.flatten().index_select(0, places))
        return torch.cat(found_places), torch.cat(found_values)


def _likely_floor(p: Tensor, k: int) -> float:
    rank = min(2 * k * p.shape[0], p.numel())
    return max(0.0, float(p.flatten().topk(rank, sorted=False).values.min()))


def _nonzero(mask: Tensor) -> Tensor:
    if mask.device.type == "cpu":
        # numpy's search of a sparse boolean mask is several times as fast as torch's
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)
