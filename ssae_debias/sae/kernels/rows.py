"""The gradients of a latent's two weight rows.

A program holds one latent. With its tokens in `tokens` (see `ssae_debias.sae.kernels.transposition`) it sums

    ∂/∂d_j = Σ −2 w z e        over the residuals e,           for the decoder's row
    ∂/∂w_j = Σ −2 w (e·d) c    over the encoder inputs c,      for the encoder's row

A popular latent's sums are made in parts by several programs first, and then added in order.
"""

from __future__ import annotations

from torch import Tensor

from ssae_debias.sae.kernels.language import Operand, constexpr, jit, row_block, tl
from ssae_debias.sae.kernels.transposition import PART_ENTRIES, CodesByLatent


@jit
def sum_rows(
    begin: Operand,
    end: Operand,
    tokens: Operand,
    to_dec: Operand,
    to_enc: Operand,
    residual: Operand,
    centred: Operand,
    width: Operand,
    WIDTH: constexpr,
    ENTRIES: constexpr,
) -> Operand:
    """The two weighted sums of tokens' rows over the entries from `begin` to `end`."""
    at = tl.arange(0, WIDTH)
    inside = at < width
    dec_grad = tl.zeros((WIDTH,), tl.float32)
    enc_grad = tl.zeros((WIDTH,), tl.float32)
    for start in range(begin, end, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        live = entry < end
        token = tl.load(tokens + entry, mask=live, other=0).to(tl.int64)
        place = token[:, None] * width + at[None, :]
        mask = live[:, None] & inside[None, :]
        factor = tl.load(to_dec + entry, mask=live, other=0.0)
        dec_grad += tl.sum(tl.load(residual + place, mask=mask, other=0.0) * factor[:, None], 0)
        factor = tl.load(to_enc + entry, mask=live, other=0.0)
        enc_grad += tl.sum(tl.load(centred + place, mask=mask, other=0.0) * factor[:, None], 0)
    return dec_grad, enc_grad


@jit
def sum_parts(
    part_latents: Operand,
    part_offsets: Operand,
    offsets: Operand,
    tokens: Operand,
    to_dec: Operand,
    to_enc: Operand,
    residual: Operand,
    centred: Operand,
    parts: Operand,
    n_latents: Operand,
    width: Operand,
    PART: constexpr,
    WIDTH: constexpr,
    ENTRIES: constexpr,
) -> None:
    """One program per part of a popular latent: its two sums, side by side in `parts`."""
    part = tl.program_id(0).to(tl.int64)
    latent = tl.load(part_latents + part)
    if latent < n_latents:
        begin = tl.load(offsets + latent) + (part - tl.load(part_offsets + latent)) * PART
        end = tl.minimum(begin + PART, tl.load(offsets + latent + 1))
        dec_grad, enc_grad = sum_rows(
            begin, end, tokens, to_dec, to_enc, residual, centred, width, WIDTH, ENTRIES
        )
        at = tl.arange(0, WIDTH)
        tl.store(parts + 2 * part * width + at, dec_grad, mask=at < width)
        tl.store(parts + (2 * part + 1) * width + at, enc_grad, mask=at < width)


@jit
def gradient_rows(
    latent: Operand,
    offsets: Operand,
    part_offsets: Operand,
    parts: Operand,
    tokens: Operand,
    to_dec: Operand,
    to_enc: Operand,
    residual: Operand,
    centred: Operand,
    width: Operand,
    WIDTH: constexpr,
    ENTRIES: constexpr,
) -> Operand:
    """A latent's two gradient rows, from its entries or from its parts."""
    begin, end = tl.load(offsets + latent), tl.load(offsets + latent + 1)
    first_part, end_part = tl.load(part_offsets + latent), tl.load(part_offsets + latent + 1)
    # a latent in parts has no entries left to sum
    end = tl.where(end_part > first_part, begin, end)
    dec_grad, enc_grad = sum_rows(
        begin, end, tokens, to_dec, to_enc, residual, centred, width, WIDTH, ENTRIES
    )
    at = tl.arange(0, WIDTH)
    for part in range(first_part, end_part):
        dec_grad += tl.load(parts + 2 * part * width + at, mask=at < width, other=0.0)
        enc_grad += tl.load(parts + (2 * part + 1) * width + at, mask=at < width, other=0.0)
    return dec_grad, enc_grad


@jit
def latent_gradients(
    offsets: Operand,
    part_offsets: Operand,
    parts: Operand,
    tokens: Operand,
    to_dec: Operand,
    to_enc: Operand,
    residual: Operand,
    centred: Operand,
    W_dec_grad: Operand,
    W_enc_grad: Operand,
    width: Operand,
    WIDTH: constexpr,
    ENTRIES: constexpr,
) -> None:
    """One program per latent: writes its gradient rows."""
    latent = tl.program_id(0).to(tl.int64)
    dec_grad, enc_grad = gradient_rows(
        latent, offsets, part_offsets, parts, tokens, to_dec, to_enc, residual, centred, width, WIDTH, ENTRIES
    )
    at = tl.arange(0, WIDTH)
    tl.store(W_dec_grad + latent * width + at, dec_grad, mask=at < width)
    tl.store(W_enc_grad + latent * width + at, enc_grad, mask=at < width)


def part_sums(codes: CodesByLatent, residual: Tensor, centred: Tensor) -> Tensor:
    """Popular latents' sums by part, of shape (n_parts, 2, d_in)."""
    n_parts, width = len(codes.part_latents), residual.shape[1]
    parts = residual.new_empty((max(1, n_parts), 2, width))
    if n_parts:
        sum_parts[(n_parts,)](
            codes.part_latents, codes.part_offsets, codes.offsets, codes.tokens, codes.to_dec, codes.to_enc,
            residual, centred, parts, len(codes.b_enc_grad), width, PART=PART_ENTRIES, **row_block(width),
        )  # fmt: skip
    return parts


def gradients(codes: CodesByLatent, residual: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the decoder's and of the encoder's rows, each of shape (d_sae, d_in).

    Parameters
    ----------
    codes : CodesByLatent
    residual, centred : Tensor of shape (n, d_in)
        Residuals and encoder inputs, float32 and contiguous.
    """
    width, d_sae = residual.shape[1], len(codes.b_enc_grad)
    W_dec_grad, W_enc_grad = (residual.new_empty((d_sae, width)) for _ in range(2))
    latent_gradients[(d_sae,)](
        codes.offsets, codes.part_offsets, part_sums(codes, residual, centred), codes.tokens, codes.to_dec,
        codes.to_enc, residual, centred, W_dec_grad, W_enc_grad, width, **row_block(width),
    )  # fmt: skip
    return W_dec_grad, W_enc_grad
