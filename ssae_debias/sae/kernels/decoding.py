"""Codes to reconstruction, residual, squared error and the codes' gradient, in one kernel.

A program holds one token. It gathers the decoder rows of the token's active latents and sums them; what is left
of the activation is the residual e. The code's gradient is ``−2 w e·d_j`` for each active latent j: the dot
products ``e·d_j`` do not depend on the weight w, which is known only once all losses are, so they are made at once,
while the gathered rows are still in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssae_debias.sae.kernels.language import Operand, constexpr, jit, row_block, tl
from ssae_debias.sae.kernels.selection import KernelCodes


@jit
def decode_tokens(
    columns: Operand,
    values: Operand,
    offsets: Operand,
    W_dec: Operand,
    b_dec: Operand,
    x: Operand,
    residual: Operand,
    losses: Operand,
    products: Operand,
    width: Operand,
    WIDTH: constexpr,
    ENTRIES: constexpr,
) -> None:
    """One program per token; see the module."""
    token = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(offsets + token), tl.load(offsets + token + 1)
    at = tl.arange(0, WIDTH)
    inside = at < width
    told = tl.zeros((WIDTH,), tl.float32)
    for start in range(begin, end, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        live = entry < end
        column = tl.load(columns + entry, mask=live, other=0).to(tl.int64)
        value = tl.load(values + entry, mask=live, other=0.0)
        rows = tl.load(
            W_dec + column[:, None] * width + at[None, :], mask=live[:, None] & inside[None, :], other=0.0
        )
        told += tl.sum(rows * value[:, None], 0)
    left = tl.load(x + token * width + at, mask=inside, other=0.0) - told
    left -= tl.load(b_dec + at, mask=inside, other=0.0)
    tl.store(residual + token * width + at, left, mask=inside)
    tl.store(losses + token, tl.sum(left * left, 0))
    for start in range(begin, end, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        live = entry < end
        column = tl.load(columns + entry, mask=live, other=0).to(tl.int64)
        rows = tl.load(
            W_dec + column[:, None] * width + at[None, :], mask=live[:, None] & inside[None, :], other=0.0
        )
        tl.store(products + entry, tl.sum(rows * left[None, :], 1), mask=live)


def decode(codes: KernelCodes, W_dec: Tensor, b_dec: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Residual ``x − x̂`` (n, d_in), squared errors (n,), and for each active entry ``e·d_j`` (n_active,).

    Parameters
    ----------
    codes : KernelCodes
    W_dec, b_dec : Tensor of shape (d_sae, d_in), (d_in,)
    x : Tensor of shape (n, d_in)
        Activations. All are float32 and contiguous.
    """
    n, width = x.shape
    residual, losses, products = torch.empty_like(x), x.new_empty(n), torch.empty_like(codes.values)
    decode_tokens[(n,)](
        codes.columns, codes.values, codes.offsets, W_dec, b_dec, x, residual, losses, products, width,
        **row_block(width),
    )  # fmt: skip
    return residual, losses, products
