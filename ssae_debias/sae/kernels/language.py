"""Triton where it is installed, and the reason where its kernels cannot run.

Kernel modules take `jit`, `tl` and `constexpr` from here, so that they can be imported, documented and checked on
a machine without Triton; only launching a kernel needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None
    tl = None

# Triton's compiler looks up the names in a kernel's annotations and takes none but its own
if TYPE_CHECKING or tl is None:
    constexpr: TypeAlias = Any
    Operand: TypeAlias = Any
else:
    constexpr = tl.constexpr
    """Marks a kernel's compile-time constants; where they are sizes, they are powers of 2."""
    Operand = tl.tensor
    """A kernel's other arguments and what it computes with: pointers, numbers, blocks of numbers."""

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")
"""Whether kernels were made for Triton's interpreter; it is settled when they are defined."""


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit`; without Triton, the plain function, which nothing launches (see `why_unavailable`)."""
    return function if triton is None else triton.jit(function)


def why_unavailable(device: torch.device, dtype: torch.dtype = torch.float32) -> str | None:
    """Why the kernels cannot serve weights on a device, or None where they can.

    Parameters
    ----------
    device : torch.device
        Where the weights and activations are.
    dtype : torch.dtype, default float32
        Their type.

    Returns
    -------
    str or None
        A sentence that says what is missing and what to do.

    Examples
    --------
    >>> import torch
    >>> "use SparseStep" in why_unavailable(torch.device("meta"))
    True
    """
    if triton is None:
        return "Triton is not installed: pip install 'ssae-debias[gpu]' (Linux), or use SparseStep."
    if device.type != "cuda" and not (INTERPRETED and device.type == "cpu"):
        return (
            f"Triton's kernels need a CUDA device (or TRITON_INTERPRET=1 on the CPU, for tests), got {device}; "
            "use SparseStep."
        )
    if dtype != torch.float32:
        return f"Triton's kernels serve float32 weights and activations, got {dtype}; use SparseStep."
    return None


def next_power_of_2(n: int) -> int:
    """The smallest power of 2 that is at least n: Triton's blocks have such sizes.

    Examples
    --------
    >>> [next_power_of_2(n) for n in (1, 5, 64)]
    [1, 8, 64]
    """
    return 1 << max(0, n - 1).bit_length()


def row_block(width: int) -> dict[str, int]:
    """Block sizes for kernels that sum rows of a (·, width) table, a whole row in registers.

    WIDTH covers the row; ENTRIES rows are read at a time, enough to hide memory's latency and few enough for a
    tile to fit in registers.

    Examples
    --------
    >>> row_block(384), row_block(4096)["ENTRIES"]
    ({'WIDTH': 512, 'ENTRIES': 8, 'num_warps': 4}, 1)
    """
    block = next_power_of_2(width)
    return {
        "WIDTH": block,
        "ENTRIES": max(1, min(8, 4096 // block)),
        "num_warps": max(4, min(16, block // 512)),
    }
