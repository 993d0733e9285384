"""Made-up figures of fidelity, the tail, and concepts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from ssae_debias.report.evaluation.example_made import Made, table

CLEAN = {"subdomain": 14.2, "general": 22.8}
LEVELS = (32.0,)
N_TOKENS = 2_000_000
WORDS = (
    "boson", "quark", "neutrino", "lattice", "entanglement", "plasma", "supernova", "dark matter", "graphene", "laser",
    "magnet", "vacuum", "photon", "spin", "gauge", "entropy", "qubit", "axion", "muon", "pulsar", "redshift", "soliton",
    "anyon", "skyrmion",
)  # fmt: skip


def fidelity() -> pd.DataFrame:
    """Perplexity and the other figures of fidelity, on both corpora."""
    base: dict[tuple[str, float, int], float] = {}

    def rows(sae: Made) -> list[dict[str, Any]]:
        found = []
        rng = sae.rng(1)
        for corpus, clean in CLEAN.items():
            help_ = sae.gain * (0.11 if corpus == "subdomain" else -0.09)
            excess = 2.4 * sae.l0**-0.62 * (1 - help_ * 2.2) + rng.normal(0, 0.006)
            loss = float(np.log(clean) + excess)
            perplexity = float(np.exp(loss))
            if sae.variant == "general":
                base[corpus, sae.k, sae.seed] = perplexity
            relative = perplexity / base.get((corpus, sae.k, sae.seed), float("nan"))
            zero, mean = float(np.log(clean) + 6.1), float(np.log(clean) + 4.4)
            fvu = 1.5 * sae.l0**-0.5 * (1 - 0.5 * help_) + rng.normal(0, 0.002)
            figures = {
                "l0": sae.l0, "cross_entropy": loss, "clean_cross_entropy": float(np.log(clean)),
                "perplexity": perplexity, "clean_perplexity": clean, "relative_perplexity": relative,
                "loss_recovered_zero": (zero - loss) / 6.1, "loss_recovered_mean": (mean - loss) / 4.4,
                "kl": 0.9 * excess, "kl_recovered_zero": 1 - 0.15 * excess, "fvu": fvu,
                "accuracy": 0.42 - 0.1 * excess, "agreement": 0.95 - 0.5 * excess,
            }  # fmt: skip
            ends = {
                f"{name}_{end}": value * (1 + side * 0.012)
                for name, value in figures.items()
                for end, side in (("low", -1), ("high", 1))
            }
            dead = max(0.0, 0.16 - 0.035 * np.log2(sae.l0 / 8) + rng.normal(0, 0.006))
            found.append({"corpus": corpus, "objective": "causal", **figures, **ends, "dead_fraction": dead})
        return found

    return table(rows)


def coverage() -> pd.DataFrame:
    """Types with a latent, by range of frequencies."""
    edges = np.geomspace(4 / N_TOKENS, 0.02, 13)

    def rows(sae: Made) -> list[dict[str, Any]]:
        rng = sae.rng(2)
        found = []
        for low, high in pairwise(edges):
            n = max(12, int(1.6 / np.sqrt(low)))
            chance = 0.02 * rng.normal() + 1 / (1 + np.exp(-1.1 * (np.log10(low) + 4.4 + 0.9 * sae.gain)))
            covered = int(rng.binomial(n, np.clip(chance * 0.9, 0, 1)))
            share = covered / n
            half = 1.96 * np.sqrt(max(share * (1 - share), 0.02) / n)
            found.append(
                {
                    "frequency_from": low, "frequency_below": high, "n_types": n, "n_covered": covered,
                    "proportion": share, "low": max(share - half, 0.0), "high": min(share + half, 1.0),
                    "token_share": min(share * 1.1, 1.0),
                }
            )  # fmt: skip
        return found

    return table(rows, levels=(16.0, 32.0, 128.0))


def tail() -> pd.DataFrame:
    """The same of all types of the tail."""

    def rows(sae: Made) -> list[dict[str, Any]]:
        chance = float(np.clip(0.21 + 0.16 * sae.gain + sae.rng(3).normal(0, 0.008), 0, 1))
        return [
            {
                "n_types": 5200, "n_covered": int(5200 * chance), "proportion": chance, "low": chance - 0.011,
                "high": chance + 0.011, "token_share": chance, "max_frequency": 1e-4,
            }
        ]  # fmt: skip

    return table(rows, levels=LEVELS)


def cumulative() -> pd.DataFrame:
    """How covered types spread over the corpus."""
    counts = np.unique(np.geomspace(4, 100_000, 90).astype(int))

    def rows(sae: Made) -> list[dict[str, Any]]:
        share = np.linspace(0.01, 1, len(counts))
        covered = share ** (0.5 - 0.28 * sae.gain + 0.01 * sae.seed)
        return [
            {"count": int(c), "token_share": x, "covered": int(4000 * y), "covered_share": y}
            for c, x, y in zip(counts, share, covered, strict=True)
        ]

    return table(rows, levels=LEVELS)


def rank_error() -> pd.DataFrame:
    """Error by rank: tilts lower the tail's variance and maximum, and cost a little at the head."""
    edges = np.unique(np.geomspace(1, 12_000, 13).astype(int))

    def rows(sae: Made) -> list[dict[str, Any]]:
        rng = sae.rng(4)
        found = []
        for first, last in pairwise(edges):
            place = np.log10(first)
            mean = 0.12 + 0.055 * place * (1 - 0.3 * sae.gain) + rng.normal(0, 0.004)
            tilted = 0.45 if sae.tilt else 1.0
            variance = 0.004 + 0.006 * place**2 * tilted
            found.append(
                {
                    "rank_from": int(first), "rank_to": int(last) - 1, "n_types": int(last - first),
                    "n_tokens": int(400_000 / first**0.5), "mean": 30 * mean, "variance": 900 * variance,
                    "maximum": 30 * (mean + 5 * np.sqrt(variance)), "relative": mean, "relative_variance": variance,
                    "relative_maximum": mean + 5 * np.sqrt(variance) + rng.normal(0, 0.02),
                }
            )  # fmt: skip
        return found

    return table(rows, levels=LEVELS)


def concepts() -> pd.DataFrame:
    """Concept recall with its references; every fourth concept is a planted one."""
    frequencies = np.geomspace(4e-6, 8e-3, len(WORDS))
    # six words were planted, at three frequencies
    frequencies[3::4] = np.repeat([1e-5, 1e-4, 1e-3], 2)

    def rows(sae: Made) -> list[dict[str, Any]]:
        rng = sae.rng(5)
        found = []
        middle = 3.9 + 1.15 * sae.gain + (0.3 if sae.k > 32 else 0.0)
        for i, (word, frequency) in enumerate(zip(WORDS, frequencies, strict=True)):
            f1 = 1 / (1 + np.exp(-2.1 * (np.log10(frequency) + middle)))
            own = float(np.clip(f1 * 0.94 + rng.normal(0, 0.05), 0, 1))
            facts: dict[str, Any] = {
                "concept": f"planted {word}" if i % 4 == 3 else word, "level": "token", "site": "resid.3", "d_sae": 16384,
                "latent": int(rng.integers(16384)), "sign": 1, "threshold": 0.4, "frequency": frequency,
                "n_selection": int(frequency * N_TOKENS / 2), "n_test": int(frequency * N_TOKENS / 2),
                "n_test_texts": int(frequency * N_TOKENS / 3), "planted": i % 4 == 3,
            }  # fmt: skip
            found.append({**facts, "kind": "sae", **_figures(own, 0.05)})
            found.append({**facts, "kind": "random latents", **_figures(0.22 * frequency**0.25, 0.02)})
            if sae.variant == "general":
                neuron = float(np.clip(0.75 / (1 + np.exp(-1.4 * (np.log10(frequency) + 2.7))), 0, 1))
                found.append({**facts, "kind": "neurons", **_figures(neuron, 0.04)})
        return found

    return table(rows, levels=LEVELS)


def _figures(f1: float, half: float) -> dict[str, float]:
    found = {"selection_f1": min(f1 + 0.03, 1.0)}
    for name, value in (("f1", f1), ("precision", f1), ("recall", f1), ("precision_at_half_recall", f1)):
        found |= {name: value, f"{name}_low": max(value - half, 0), f"{name}_high": min(value + half, 1)}
    return found


def recall_ranges(recall: pd.DataFrame) -> pd.DataFrame:
    """Share of concepts found, by range of frequencies."""
    keys = ["variant", "strategy", "tilt", "k", "seed", "kind", "planted"]
    ranges = pd.cut(recall["frequency"], [0, 1e-5, 1e-4, 1e-3, 1e-2])
    grouped = recall.assign(range=ranges, found=recall["f1"] >= 0.5).groupby(
        [*keys, "range"], observed=True, dropna=False
    )
    found = grouped.agg(
        n_concepts=("f1", "size"), found=("found", "mean"), f1=("f1", "mean"),
        precision_at_half_recall=("precision_at_half_recall", "mean"),
    ).reset_index()  # fmt: skip
    found["frequency_above"] = [float(interval.left) for interval in found["range"]]
    found["frequency_to"] = [float(interval.right) for interval in found["range"]]
    return found.drop(columns="range")
