"""The SAEs of the made-up evaluation: how each was made, and how good at rare things it is supposed to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

# name, strategy, tilt, how much better than the base in the tail, sparsity levels, seeds
VARIANTS: tuple[tuple[str, str, float, float, tuple[float, ...], int], ...] = (
    ("general", "general", 0.0, 0.0, (16, 32, 64, 128), 3),
    ("bm25", "bm25", 0.0, 0.35, (16, 32, 64, 128), 3),
    ("dense", "dense", 0.0, 0.5, (16, 32, 64, 128), 3),
    ("dense, tilt 3", "dense", 3.0, 0.75, (16, 32, 64, 128), 3),
    ("dense+tracin", "dense+tracin", 0.0, 0.65, (16, 32, 64, 128), 3),
    ("seeds only", "seeds", 0.0, -0.3, (16, 32, 64, 128), 3),
    ("loaded: gemma-scope-like", "loaded", 0.0, 0.1, (float("nan"),), 1),
)


@dataclass(frozen=True)
class Made:
    """One made-up SAE."""

    variant: str
    strategy: str
    tilt: float
    k: float
    seed: int
    gain: float

    @property
    def l0(self) -> float:
        """Active latents a token, as trained."""
        return 90.0 if np.isnan(self.k) else self.k * (1 + 0.02 * self.seed)

    def rng(self, salt: int) -> np.random.Generator:
        """Numbers of its own, the same at every call."""
        k = 0 if np.isnan(self.k) else int(self.k)
        return np.random.default_rng([salt, k, self.seed, round(1000 * (self.gain + 1))])


def made(*, levels: tuple[float, ...] | None = None) -> Iterator[Made]:
    """All SAEs, or those of some sparsity levels and the loaded one."""
    for variant, strategy, tilt, gain, ks, seeds in VARIANTS:
        for k in ks:
            if levels is None or np.isnan(k) or k in levels:
                for seed in range(seeds):
                    yield Made(variant, strategy, tilt, k, seed, gain)


def table(
    rows: Callable[[Made], list[dict[str, Any]]], *, levels: tuple[float, ...] | None = None
) -> pd.DataFrame:
    """A table with the columns that every one has, and the rows that a figure makes of each SAE."""
    found = []
    for sae in made(levels=levels):
        keys = {
            "variant": sae.variant,
            "strategy": sae.strategy,
            "tilt": sae.tilt,
            "k": sae.k,
            "seed": sae.seed,
        }
        found += [{**keys, **row} for row in rows(sae)]
    return pd.DataFrame(found)
