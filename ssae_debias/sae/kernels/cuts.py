"""From candidates to active latents: the exact cut, and the codes in compressed sparse rows.

A token keeps its candidates above its *cut* and, of those equal to it, the first `ties`. TopK's cut is the
token's k-th largest value, and so many ties are kept that there are k; BatchTopK's is one for the batch, and all
ties are kept. A cut of 0 with no ties keeps what is positive.
"""

from __future__ import annotations

from ssae_debias.sae.kernels.candidates import kth_largest_key, order_keys
from ssae_debias.sae.kernels.language import Operand, constexpr, jit, tl


@jit
def topk_cuts(
    values: Operand,
    counts: Operand,
    cuts: Operand,
    ties: Operand,
    kept: Operand,
    k: Operand,
    capacity: Operand,
    CAPACITY: constexpr,
) -> None:
    """One program per token: its exact cut, the ties to keep at it, and how many entries that keeps."""
    token = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, CAPACITY)
    valid = at < tl.load(counts + token)
    keys = order_keys(tl.load(values + token * capacity + at, mask=valid, other=0.0))
    cut = kth_largest_key(keys, k, 31)
    above = tl.sum((keys > cut).to(tl.int32), 0)
    tl.store(cuts + token, cut.to(tl.float32, bitcast=True))
    tl.store(ties + token, tl.where(cut > 0, k - above, 0))
    tl.store(kept + token, tl.where(cut > 0, k, above))


@jit
def count_kept(
    values: Operand,
    starts: Operand,
    counts: Operand,
    cuts: Operand,
    ties: Operand,
    kept: Operand,
    BLOCK: constexpr,
) -> None:
    """One program per token: how many of its candidates its cut and ties keep."""
    token = tl.program_id(0).to(tl.int64)
    begin, count = tl.load(starts + token), tl.load(counts + token)
    cut = tl.load(cuts + token)
    above = tl.full((), 0, tl.int32)
    equal = tl.full((), 0, tl.int32)
    for start in range(0, count, BLOCK):
        entry = start + tl.arange(0, BLOCK)
        value = tl.load(values + begin + entry, mask=entry < count, other=float("-inf"))
        above += tl.sum((value > cut).to(tl.int32), 0)
        equal += tl.sum((value == cut).to(tl.int32), 0)
    tl.store(kept + token, above + tl.minimum(equal, tl.load(ties + token)))


@jit
def keep_candidates(
    columns: Operand,
    values: Operand,
    starts: Operand,
    counts: Operand,
    cuts: Operand,
    ties: Operand,
    offsets: Operand,
    kept_rows: Operand,
    kept_columns: Operand,
    kept_values: Operand,
    BLOCK: constexpr,
) -> None:
    """One program per token: its kept candidates, from `offsets` on, in the order they had."""
    token = tl.program_id(0).to(tl.int64)
    begin, count = tl.load(starts + token), tl.load(counts + token)
    cut, allowed = tl.load(cuts + token), tl.load(ties + token)
    next_place = tl.load(offsets + token)
    equal_before = tl.full((), 0, tl.int32)
    for start in range(0, count, BLOCK):
        entry = start + tl.arange(0, BLOCK)
        value = tl.load(values + begin + entry, mask=entry < count, other=float("-inf"))
        equal = (value == cut).to(tl.int32)
        rank = equal_before + tl.cumsum(equal, 0)
        kept = ((value > cut) | ((equal > 0) & (rank <= allowed))).to(tl.int32)
        place = next_place + tl.cumsum(kept, 0) - 1
        column = tl.load(columns + begin + entry, mask=kept > 0, other=0)
        tl.store(kept_rows + place, tl.zeros_like(column) + token.to(tl.int32), mask=kept > 0)
        tl.store(kept_columns + place, column, mask=kept > 0)
        tl.store(kept_values + place, value, mask=kept > 0)
        next_place += tl.sum(kept, 0)
        equal_before += tl.sum(equal, 0)
