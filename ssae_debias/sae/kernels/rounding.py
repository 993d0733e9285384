"""bfloat16 copies of rows, and how far a product of such copies can lie from the exact one.

Tensor cores multiply bfloat16 numbers at many times the rate of float32 ones, at 8 bits of precision. To choose
latents from such a product exactly, one must know how wrong it can be. With x̃ and w̃ the rounded rows,

    |x·w − x̃·w̃|  ≤  ‖x − x̃‖ ‖w‖ + ‖x̃‖ ‖w − w̃‖

(Cauchy and Schwarz), where the norms of what rounding took away are measured, not assumed: they are about a
third of the worst case. To this come the bias' rounding, the float32 accumulation and the rounding of the
result, which is relative to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssae_debias.sae.kernels.language import Operand, constexpr, jit, next_power_of_2, tl

RESULT_ROUNDING = 2.0**-7
"""Relative error of a bfloat16 result: twice the unit roundoff 2⁻⁸."""

ACCUMULATION = 2.0**-22
"""Error of a float32 sum per term and unit of ‖x‖‖w‖: four unit roundoffs, for tensor cores may cut off bits."""


@jit
def round_rows(
    rows: Operand, rounded: Operand, norms: Operand, errors: Operand, width: Operand, WIDTH: constexpr
) -> None:
    """One program per row: its bfloat16 copy, its norm, the norm of what rounding took away."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, WIDTH)
    inside = at < width
    exact = tl.load(rows + row * width + at, mask=inside, other=0.0)
    short = exact.to(tl.bfloat16)
    tl.store(rounded + row * width + at, short, mask=inside)
    lost = exact - short.to(tl.float32)
    tl.store(norms + row, tl.sqrt(tl.sum(exact * exact, 0)))
    tl.store(errors + row, tl.sqrt(tl.sum(lost * lost, 0)))


def rounded(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A contiguous float32 (n, d) table in bfloat16, its rows' norms (n,), the norms of the rounding errors (n,)."""
    n, width = rows.shape
    copy = torch.empty_like(rows, dtype=torch.bfloat16)
    norms, errors = rows.new_empty(n), rows.new_empty(n)
    block = next_power_of_2(width)
    round_rows[(n,)](rows, copy, norms, errors, width, WIDTH=block, num_warps=max(1, min(16, block // 256)))
    return copy, norms, errors


def product_error(x: tuple[Tensor, Tensor, Tensor], w: tuple[Tensor, Tensor, Tensor], bias: Tensor) -> Tensor:
    """For each token, a bound on the absolute error of its rounded pre-activations, of shape (n,).

    The result's own rounding (`RESULT_ROUNDING`, relative) is not in it.

    Parameters
    ----------
    x, w : tuple of Tensor
        What `rounded` gave for the encoder's inputs and for its rows.
    bias : Tensor of shape (d_sae,)
        The encoder's bias, which enters the product rounded to bfloat16.
    """
    (_, x_norm, x_error), (_, w_norm, w_error) = x, w
    longest, worst = w_norm.max(), w_error.max()
    bias_error = (bias - bias.bfloat16()).abs().max()
    inputs = x_error * longest + (x_norm + x_error) * worst
    accumulation = ACCUMULATION * x[0].shape[1] * (x_norm + x_error) * (longest + worst)
    # the factor covers the rounding of this bound's own arithmetic and products of two small errors
    return (inputs + accumulation + bias_error) * (1 + 4 * RESULT_ROUNDING)
