"""Adam's update of a latent's two weight rows by the program that summed their gradients.

`update_latents` goes on where `ssae_debias.sae.kernels.rows` ends: it takes from the decoder's gradient what would
change the row's length, moves both rows by Adam, and brings the decoder's row back to norm 1. Each weight and
moment is read and written once, where gradients in memory, Adam and norms as separate passes would touch the tables
some ten times; at batches of a few thousand tokens this traffic outweighs the encoder's product. A latent without
tokens has gradient 0 and is moved by its moments all the same, as by torch's Adam.

References
----------
Kingma, Ba: "Adam", 2015, algorithm 1. The constraint: see `ssae_debias.sae.optimizer`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssae_debias.sae.kernels.language import Operand, constexpr, jit, next_power_of_2, row_block, tl
from ssae_debias.sae.kernels.rows import gradient_rows, part_sums
from ssae_debias.sae.kernels.transposition import CodesByLatent


@dataclass
class AdamRate:
    """What an Adam step needs beside its moments.

    Parameters
    ----------
    lr : float
        Learning rate.
    step : int
        Number of this step, from 1.
    """

    lr: float
    step: int

    @property
    def bias_corrections(self) -> tuple[float, float]:
        """``1 − β₁ᵗ`` and ``√(1 − β₂ᵗ)``."""
        return 1 - 0.9**self.step, (1 - 0.999**self.step) ** 0.5


@dataclass
class Revived:
    """What AuxK adds to the gradients of dead latents.

    Parameters
    ----------
    places : int32 Tensor of shape (d_sae,)
        A dead latent's row in the two tables; −1 for the living.
    to_enc, to_dec : float32 Tensor of shape (n_dead, d_in)
    """

    places: Tensor
    to_enc: Tensor
    to_dec: Tensor


@jit
def adam(
    weight: Operand,
    mean: Operand,
    square: Operand,
    grad: Operand,
    lr: Operand,
    bias_mean: Operand,
    bias_square: Operand,
) -> Operand:
    """Adam with betas .9 and .999 and eps 1e-8, torch's defaults: the new weight and moments."""
    mean = 0.9 * mean + 0.1 * grad
    square = 0.999 * square + 0.001 * grad * grad
    weight -= (lr / bias_mean) * mean / (tl.sqrt(square) / bias_square + 1e-8)
    return weight, mean, square


@jit
def update_latents(
    offsets: Operand,
    part_offsets: Operand,
    parts: Operand,
    tokens: Operand,
    to_dec: Operand,
    to_enc: Operand,
    residual: Operand,
    centred: Operand,
    revived_places: Operand,
    revived_dec: Operand,
    revived_enc: Operand,
    W_dec: Operand,
    dec_mean: Operand,
    dec_square: Operand,
    W_enc: Operand,
    enc_mean: Operand,
    enc_square: Operand,
    lr: Operand,
    bias_mean: Operand,
    bias_square: Operand,
    width: Operand,
    WIDTH: constexpr,
    ENTRIES: constexpr,
) -> None:
    """One program per latent: moves its decoder and encoder rows and their moments."""
    latent = tl.program_id(0).to(tl.int64)
    dec_grad, enc_grad = gradient_rows(
        latent, offsets, part_offsets, parts, tokens, to_dec, to_enc, residual, centred, width, WIDTH, ENTRIES
    )
    at = tl.arange(0, WIDTH)
    inside = at < width
    extra = tl.load(revived_places + latent)
    if extra >= 0:
        row = extra.to(tl.int64) * width + at
        dec_grad += tl.load(revived_dec + row, mask=inside, other=0.0)
        enc_grad += tl.load(revived_enc + row, mask=inside, other=0.0)
    own = latent * width + at

    direction = tl.load(W_dec + own, mask=inside, other=0.0)
    dec_grad -= tl.sum(dec_grad * direction, 0) * direction
    direction, mean, square = adam(
        direction,
        tl.load(dec_mean + own, mask=inside, other=0.0),
        tl.load(dec_square + own, mask=inside, other=0.0),
        dec_grad,
        lr,
        bias_mean,
        bias_square,
    )
    direction /= tl.sqrt(tl.sum(direction * direction, 0))
    tl.store(W_dec + own, direction, mask=inside)
    tl.store(dec_mean + own, mean, mask=inside)
    tl.store(dec_square + own, square, mask=inside)

    weight, mean, square = adam(
        tl.load(W_enc + own, mask=inside, other=0.0),
        tl.load(enc_mean + own, mask=inside, other=0.0),
        tl.load(enc_square + own, mask=inside, other=0.0),
        enc_grad,
        lr,
        bias_mean,
        bias_square,
    )
    tl.store(W_enc + own, weight, mask=inside)
    tl.store(enc_mean + own, mean, mask=inside)
    tl.store(enc_square + own, square, mask=inside)


@jit
def update_vector(
    weights: Operand,
    means: Operand,
    squares: Operand,
    grads: Operand,
    lr: Operand,
    bias_mean: Operand,
    bias_square: Operand,
    length: Operand,
    BLOCK: constexpr,
) -> None:
    """One program per block of a vector: moves it and its moments."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < length
    weight, mean, square = adam(
        tl.load(weights + at, mask=inside, other=0.0),
        tl.load(means + at, mask=inside, other=0.0),
        tl.load(squares + at, mask=inside, other=0.0),
        tl.load(grads + at, mask=inside, other=0.0),
        lr,
        bias_mean,
        bias_square,
    )
    tl.store(weights + at, weight, mask=inside)
    tl.store(means + at, mean, mask=inside)
    tl.store(squares + at, square, mask=inside)


def update_rows(
    codes: CodesByLatent,
    residual: Tensor,
    centred: Tensor,
    revived: Revived,
    decoder: tuple[Tensor, Tensor, Tensor],
    encoder: tuple[Tensor, Tensor, Tensor],
    rate: AdamRate,
) -> None:
    """Move all latents' rows and moments in place.

    Parameters
    ----------
    codes, residual, centred
        As in `gradients`.
    revived : Revived
    decoder, encoder : tuple of Tensor of shape (d_sae, d_in)
        Rows, first and second moments, contiguous.
    rate : AdamRate
    """
    width, d_sae = residual.shape[1], len(codes.b_enc_grad)
    update_latents[(d_sae,)](
        codes.offsets, codes.part_offsets, part_sums(codes, residual, centred), codes.tokens, codes.to_dec,
        codes.to_enc, residual, centred, revived.places, revived.to_dec, revived.to_enc, *decoder, *encoder,
        rate.lr, *rate.bias_corrections, width, **row_block(width),
    )  # fmt: skip


def update_bias(bias: tuple[Tensor, Tensor, Tensor], grad: Tensor, rate: AdamRate) -> None:
    """Move a bias vector and its moments in place.

    Parameters
    ----------
    bias : tuple of Tensor of shape (length,)
        Values, first and second moments.
    grad : Tensor of shape (length,)
    rate : AdamRate
    """
    length = len(grad)
    block = min(1024, next_power_of_2(length))
    grid = (-(-length // block),)
    update_vector[grid](*bias, grad, rate.lr, *rate.bias_corrections, length, BLOCK=block)
