"""What a format is: how it is recognised, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssae_debias.sae.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class Format:
    """A released file format of SAEs.

    Parameters
    ----------
    name : str
    layout : str
        The files it is recognised by, for messages.
    weights : callable
        The weights file that a path of this format means, or None where the path is of another.
    read : callable
        ``read(weights, **options)`` makes the SAE; settings lie beside the weights.
    options : tuple of str, default ()
        Options of `load_sae` that `read` takes.
    """

    name: str
    layout: str
    weights: Callable[[Path], Path | None]
    read: Callable[..., SparseAutoencoder]
    options: tuple[str, ...] = ()


def integer(value: Any, least: int = 1) -> bool:
    """Whether a setting is a whole number of at least `least` (JSON's true and false are none)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def positive(value: Any) -> bool:
    """Whether a setting is a positive finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
