"""Made-up figures of activity and directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.report.evaluation.example_made import Made, table

LEVELS = (32.0,)
MORE_LEVELS = (32.0, 128.0)  # so that a page says which of several levels it draws
D_SAE = 4096


def histogram(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The bins that hold something, as `Histogram.to_frame()` gives them."""
    counts = np.histogram(values, edges)[0]
    return [
        {"low": low, "high": high, "count": int(n), "share": n / counts.sum()}
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
        if n
    ]


def _histograms(
    draw: Callable[[Made, np.random.Generator], NDArray[np.float64]],
    edges: NDArray[np.float64],
    salt: int,
    levels: tuple[float, ...] = LEVELS,
) -> pd.DataFrame:
    return table(lambda sae: histogram(draw(sae, sae.rng(salt)), edges), levels=levels)


def entropy() -> pd.DataFrame:
    """Entropy of a token's activation."""
    edges = np.linspace(0, 12, 129)
    return _histograms(
        lambda sae, rng: np.clip(rng.normal(0.82 * np.log2(sae.l0) - 0.5 * sae.gain, 0.55, 6000), 0, 12),
        edges,
        11,
        MORE_LEVELS,
    )


def maximum() -> pd.DataFrame:
    """Largest activation of a token."""
    edges = np.concatenate(([0.0], 2.0 ** np.arange(-20, 20.125, 0.125), [np.inf]))
    return _histograms(
        lambda sae, rng: rng.lognormal(2.1 + 0.5 * sae.gain, 0.5, 6000) * (rng.random(6000) > 0.004),
        edges,
        12,
    )


def shape() -> pd.DataFrame:
    """Means and deviations of both."""

    def rows(sae: Made) -> list[dict[str, Any]]:
        rng = sae.rng(13)
        return [
            {
                "entropy_mean": 0.82 * np.log2(sae.l0) + rng.normal(0, 0.02), "entropy_std": 0.55,
                "maximum_mean": 9.3 + 4 * sae.gain + rng.normal(0, 0.1), "maximum_std": 5.1, "silent_share": 0.004,
                "l0": sae.l0,
            }
        ]  # fmt: skip

    return table(rows, levels=LEVELS)


def counts() -> pd.DataFrame:
    """Activation counts at log-spaced ranks."""
    ranks = np.unique(np.geomspace(1, D_SAE, 200).astype(int))

    def rows(sae: Made) -> list[dict[str, Any]]:
        weight = (np.arange(1, D_SAE + 1) + 12.0) ** (-1.25 + 0.3 * sae.gain)
        weight[int(D_SAE * (0.93 - 0.02 * sae.seed)) :] = 0
        frequency = np.minimum(weight / weight.sum() * sae.l0, 0.97)
        return [
            {"rank": int(r), "count": int(2e6 * frequency[r - 1]), "frequency": float(frequency[r - 1])}
            for r in ranks
        ]

    return table(rows, levels=LEVELS)


def log_ratio() -> pd.DataFrame:
    """Log-ratio of counts to the base; of the base itself there is none."""
    found = _histograms(
        lambda sae, rng: rng.normal(0.15 * sae.gain, 0.25 + abs(1.6 * sae.gain), D_SAE),
        np.linspace(-9, 9, 91),
        14,
    )
    return found[found["variant"] != "general"]


def cosines() -> pd.DataFrame:
    """Cosines of all pairs."""
    return _histograms(
        lambda sae, rng: np.clip(
            np.concatenate([rng.normal(0, 0.07, 30_000), rng.normal(0.25 - 0.1 * sae.gain, 0.16, 900)]), -1, 1
        ),
        np.linspace(-1, 1, 101),
        15,
    )


def largest() -> pd.DataFrame:
    """Each latent's largest cosine."""
    return _histograms(
        lambda sae, rng: np.clip(rng.beta(5 - 2 * sae.gain, 5 + sae.gain, D_SAE), 0, 1),
        np.linspace(0, 1, 51),
        16,
    )
