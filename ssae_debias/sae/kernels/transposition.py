"""The codes by latent: one stable sort, and popular latents' work in parts of equal size.

A latent's weight gradients are sums over the tokens that used it. Most latents have a few dozen tokens, some have
thousands: a program that summed such a latent's tokens alone would finish long after all others. Latents with
more than `PART_ENTRIES` entries are therefore summed in parts, which are then added in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssae_debias.sae.kernels.language import Operand, constexpr, jit, tl
from ssae_debias.sae.kernels.selection import KernelCodes

PART_ENTRIES = 256
"""Entries that one program sums."""

BLOCK = 1024


@dataclass
class CodesByLatent:
    """The active entries sorted by latent, with what each adds to its latent's gradients.

    Parameters
    ----------
    tokens : int32 Tensor of shape (n_active,)
        The entries' tokens.
    to_dec, to_enc : float32 Tensor of shape (n_active,)
        What the token's residual is multiplied by in the decoder row's gradient (``−2 w z``), and its encoder input
        in the encoder row's (``−2 w e·d``).
    offsets : int64 Tensor of shape (d_sae + 1,)
        Where each latent's entries begin, and the end.
    part_offsets : int64 Tensor of shape (d_sae + 1,)
        Where the parts of each latent begin; a latent of one part has none.
    part_latents : int64 Tensor
        Each part's latent; d_sae where there is no such part.
    b_enc_grad : float32 Tensor of shape (d_sae,)
        The sum of `to_enc` over each latent's entries.
    """

    tokens: Tensor
    to_dec: Tensor
    to_enc: Tensor
    offsets: Tensor
    part_offsets: Tensor
    part_latents: Tensor
    b_enc_grad: Tensor


@jit
def weigh_entries(
    order: Operand,
    rows: Operand,
    values: Operand,
    products: Operand,
    weights: Operand,
    tokens: Operand,
    to_dec: Operand,
    to_enc: Operand,
    n_active: Operand,
    BLOCK: constexpr,
) -> None:
    """One program per block of entries, in the order of latents."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n_active
    entry = tl.load(order + at, mask=inside, other=0)
    token = tl.load(rows + entry, mask=inside, other=0)
    pull = -2.0 * tl.load(weights + token, mask=inside, other=0.0)
    tl.store(tokens + at, token, mask=inside)
    tl.store(to_dec + at, pull * tl.load(values + entry, mask=inside, other=0.0), mask=inside)
    tl.store(to_enc + at, pull * tl.load(products + entry, mask=inside, other=0.0), mask=inside)


@jit
def sum_entries(entries: Operand, offsets: Operand, sums: Operand, BLOCK: constexpr) -> None:
    """One program per latent: the sum of its entries."""
    latent = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(offsets + latent), tl.load(offsets + latent + 1)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(begin, end, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(entries + at, mask=at < end, other=0.0)
    tl.store(sums + latent, tl.sum(total, 0))


def by_latent(codes: KernelCodes, products: Tensor, weights: Tensor, d_sae: int) -> CodesByLatent:
    """The transposed codes.

    Parameters
    ----------
    codes : KernelCodes
    products : Tensor of shape (n_active,)
        ``e·d_j`` of each active entry, from `ssae_debias.sae.kernels.decoding`.
    weights : Tensor of shape (n_tokens,)
        The tokens' weights in the gradient.
    d_sae : int
        Number of latents.
    """
    n_active, device = codes.values.numel(), codes.values.device
    columns, order = torch.sort(codes.columns, stable=True)
    latents = torch.arange(d_sae + 1, dtype=torch.int32, device=device)
    offsets = torch.searchsorted(columns, latents)
    tokens = torch.empty_like(codes.rows)
    to_dec, to_enc = torch.empty_like(products), torch.empty_like(products)
    if n_active:
        weigh_entries[(-(-n_active // BLOCK),)](
            order, codes.rows, codes.values, products, weights.float().contiguous(),
            tokens, to_dec, to_enc, n_active, BLOCK=BLOCK,
        )  # fmt: skip
    b_enc_grad = products.new_empty(d_sae)
    sum_entries[(d_sae,)](to_enc, offsets, b_enc_grad, BLOCK=128, num_warps=1)

    counts = offsets.diff()
    parts = torch.where(counts > PART_ENTRIES, (counts + PART_ENTRIES - 1) // PART_ENTRIES, 0)
    part_offsets = torch.nn.functional.pad(parts.cumsum(0), (1, 0))
    # a latent in parts has fewer than twice as many as it fills: a bound that need not be read from the device
    at_most = 2 * n_active // PART_ENTRIES
    part_latents = torch.searchsorted(part_offsets[1:], torch.arange(at_most, device=device), right=True)
    return CodesByLatent(tokens, to_dec, to_enc, offsets, part_offsets, part_latents, b_enc_grad)
