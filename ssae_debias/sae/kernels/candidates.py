"""From pre-activations to the few entries that may be active: the one pass over the large matrix.

A token's k largest entries are found by *lane maxima*: let lane l be the entries l, l + L, l + 2L, …. The k-th
largest of the lanes' maxima is a lower bound of the k-th largest entry, because k distinct entries are as large;
and unless large entries crowd into few lanes, hardly more than k entries reach it. The maxima are kept while the
row streams past, the bound is found by bisection over the bits of a float, and a second sweep of the same row,
by then in the cache, writes down what reaches the bound.

Where the pre-activations were computed in bfloat16, *slack* (`ssae_debias.sae.kernels.rounding`) says by how much
each may be wrong, and the bound is lowered so far that no active entry can be missed; `exact_values` then
computes the candidates' values anew in float32.

Each token's candidates stand together, latents ascending: `counts` of them from `starts` on.
"""

from __future__ import annotations

from ssae_debias.sae.kernels.language import Operand, constexpr, jit, tl


@jit
def order_keys(values: Operand) -> Operand:
    """Integers that rank like the positive values; 0 for all others."""
    return tl.where(values > 0, values, 0.0).to(tl.int32, bitcast=True)


@jit
def kth_largest_key(keys: Operand, k: Operand, BITS: constexpr) -> Operand:
    """The upper `BITS` bits of the k-th largest key; 0 if fewer than k are positive."""
    cut = tl.full((), 0, tl.int32)
    step = tl.full((), 1 << 30, tl.int32)
    for _ in range(BITS):
        enough = tl.sum((keys >= cut + step).to(tl.int32), 0) >= k
        cut = tl.where(enough, cut + step, cut)
        step = step >> 1
    return cut


@jit
def topk_candidates(
    p: Operand,
    slack: Operand,
    rounding: Operand,
    columns: Operand,
    values: Operand,
    counts: Operand,
    first: Operand,
    n_latents: Operand,
    k: Operand,
    capacity: Operand,
    LANES: constexpr,
) -> None:
    """One program per token: its entries that may be among its k largest positive ones.

    A count above `capacity` says that the token's candidates are incomplete.
    """
    row = tl.program_id(0).to(tl.int64)
    token = first + row
    lanes = tl.arange(0, LANES)
    p_row = p + row * n_latents
    best = tl.full((LANES,), float("-inf"), tl.float32)
    for start in range(0, n_latents, LANES):
        at = start + lanes
        best = tl.maximum(best, tl.load(p_row + at, mask=at < n_latents, other=float("-inf")).to(tl.float32))
    # 19 bits, relative precision 2⁻¹¹: a coarse bound costs a candidate now and then, a fine one costs time
    cut = kth_largest_key(order_keys(best), k, 19).to(tl.float32, bitcast=True)
    error = tl.load(slack + token)
    least = tl.maximum(cut - 2 * (rounding * cut + error), -error)
    found = tl.full((), 0, tl.int32)
    for start in range(0, n_latents, LANES):
        at = start + lanes
        value = tl.load(p_row + at, mask=at < n_latents, other=float("-inf")).to(tl.float32)
        kept = ((value >= least) & (value > -error)).to(tl.int32)
        number = tl.sum(kept, 0)
        if number > 0:
            place = found + tl.cumsum(kept, 0) - 1
            room = (kept > 0) & (place < capacity)
            tl.store(columns + token * capacity + place, at, mask=room)
            tl.store(values + token * capacity + place, value, mask=room)
        found += number
    tl.store(counts + token, found)


@jit
def candidates_above(
    p: Operand,
    slack: Operand,
    rounding: Operand,
    floor: Operand,
    columns: Operand,
    values: Operand,
    starts: Operand,
    counts: Operand,
    total: Operand,
    first: Operand,
    n_latents: Operand,
    capacity: Operand,
    LANES: constexpr,
) -> None:
    """One program per token: its entries that may exceed `floor`, wherever the common buffer has room next.

    `total` counts all tokens' candidates; where it ends above `capacity`, some were not written.
    """
    row = tl.program_id(0).to(tl.int64)
    token = first + row
    lanes = tl.arange(0, LANES)
    p_row = p + row * n_latents
    least = floor - rounding * floor - tl.load(slack + token)
    numbers = tl.zeros((LANES,), tl.int32)
    for start in range(0, n_latents, LANES):
        at = start + lanes
        value = tl.load(p_row + at, mask=at < n_latents, other=float("-inf")).to(tl.float32)
        numbers += (value > least).to(tl.int32)
    count = tl.sum(numbers, 0)
    # tokens take their places in any order: what follows goes by token again
    begin = tl.atomic_add(total, count.to(tl.int64))
    tl.store(starts + token, begin)
    tl.store(counts + token, count)
    if begin + count <= capacity:
        place_of_next = begin
        for start in range(0, n_latents, LANES):
            at = start + lanes
            value = tl.load(p_row + at, mask=at < n_latents, other=float("-inf")).to(tl.float32)
            kept = (value > least).to(tl.int32)
            number = tl.sum(kept, 0)
            if number > 0:
                place = place_of_next + tl.cumsum(kept, 0) - 1
                tl.store(columns + place, at, mask=kept > 0)
                tl.store(values + place, value, mask=kept > 0)
            place_of_next += number


@jit
def exact_values(
    x: Operand,
    W_enc_rows: Operand,
    b_enc: Operand,
    columns: Operand,
    values: Operand,
    starts: Operand,
    counts: Operand,
    capacity: Operand,
    width: Operand,
    WIDTH: constexpr,
    ENTRIES: constexpr,
) -> None:
    """One program per token: its candidates' pre-activations anew, in float32, over the rounded ones.

    At most `capacity` candidates a token: what exceeds it was not written.
    """
    token = tl.program_id(0).to(tl.int64)
    begin = tl.load(starts + token)
    count = tl.minimum(tl.load(counts + token), capacity)
    at = tl.arange(0, WIDTH)
    inside = at < width
    own = tl.load(x + token * width + at, mask=inside, other=0.0)
    for start in range(0, count, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        live = entry < count
        column = tl.load(columns + begin + entry, mask=live, other=0).to(tl.int64)
        rows = tl.load(
            W_enc_rows + column[:, None] * width + at[None, :],
            mask=live[:, None] & inside[None, :],
            other=0.0,
        )
        value = tl.sum(rows * own[None, :], 1) + tl.load(b_enc + column, mask=live, other=0.0)
        tl.store(values + begin + entry, value, mask=live)
