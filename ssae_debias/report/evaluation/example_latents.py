"""Made-up figures of single latents, the error term, and a circuit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ssae_debias.report.evaluation.example_made import Made, table

LEVELS = (32.0,)
TOPICS = (
    "particles of the standard model", "spin chains and lattices", "light in cavities", "surveys of the sky",
    "proofs by induction", "the word “the” before a name", "numbers with an exponent", "cold atoms", "years in brackets",
    "black holes and their horizons",
)  # fmt: skip


def umap() -> pd.DataFrame:
    """One map: clusters that all share, and some that specialised SAEs fill."""
    centres = np.random.default_rng(0).normal(0, 5, (14, 2))

    def rows(sae: Made) -> list[dict[str, Any]]:
        if sae.seed:
            return []
        rng = sae.rng(21)
        weight = np.where(np.arange(14) < 9, 1.0, np.clip(0.3 + sae.gain, 0.05, None))
        at = rng.choice(14, 700, p=weight / weight.sum())
        spots = centres[at] + rng.normal(0, 0.7, (700, 2))
        return [{"x": x, "y": y, "latent": i} for i, (x, y) in enumerate(spots)]

    return table(rows, levels=LEVELS)


def interpretability() -> pd.DataFrame:
    """Explanations with their scores."""

    def rows(sae: Made) -> list[dict[str, Any]]:
        rng = sae.rng(22)
        level = rng.beta(4 + 2 * sae.gain, 3.2 - 1.5 * sae.gain, 90)
        return [
            {
                "latent": int(i * 37 + sae.seed), "explanation": TOPICS[int(rng.integers(len(TOPICS)))], "n_active": 20,
                "n_inactive": 20, "detection_accuracy": 0.5 + 0.48 * score, "detection_f1": score,
                "fuzzing_accuracy": 0.45 + 0.5 * score, "fuzzing_f1": score,
                "token_f1": float(np.clip(score + rng.normal(0, 0.1), 0, 1)), "unanswered": 0,
            }
            for i, score in enumerate(level)
        ]  # fmt: skip

    return table(rows, levels=LEVELS)


def diversity() -> pd.DataFrame:
    """Diversity scores; those of rare latents are low."""

    def rows(sae: Made) -> list[dict[str, Any]]:
        rng = sae.rng(23)
        active = rng.lognormal(6, 1.8, 500).astype(int) + 1
        score = np.clip(0.09 * np.log(active) - 0.12 * sae.gain + rng.normal(0.05, 0.09, 500), 0, 1)
        return [
            {
                "latent": i,
                "diversity": s,
                "n_types": 1 + 800 * s,
                "top_type": 5,
                "top_share": 1 - s,
                "n_active": int(n),
            }
            for i, (s, n) in enumerate(zip(score, active, strict=True))
        ]

    return table(rows, levels=LEVELS)


def error_term() -> pd.DataFrame:
    """What the error term is made of."""

    def rows(sae: Made) -> list[dict[str, Any]]:
        rng = sae.rng(24)
        share = 0.26 - 0.05 * sae.gain + rng.normal(0, 0.004)
        figures = {
            "r2": 0.46 - 0.12 * sae.gain, "norm_r2": 0.8, "share": share, "loss_recovered_reconstruction": 0.91,
            "loss_recovered_and_predictable": 0.95, "loss_recovered_and_nonlinear": 0.97,
            "loss_recovered_error_only": 0.31 - 0.1 * sae.gain, "leakage_activation": 0.94,
            "leakage_reconstruction": 0.92, "leakage_error": 0.79 - 0.1 * sae.gain + rng.normal(0, 0.01),
            "cross_entropy_clean": 2.7,
        }  # fmt: skip
        ends = {
            f"{name}_{end}": value + side * 0.012
            for name, value in figures.items()
            for end, side in (("low", -1), ("high", 1))
        }
        return [{**figures, **ends, "leakage_chance": 0.5}]

    return table(rows, levels=LEVELS)


def circuit() -> dict[str, Any]:
    """A circuit over four sites, as `Circuit.to_dict()` gives it, with names."""
    rng = np.random.default_rng(7)
    words = (
        "she",
        "nurse",
        "hospital",
        "her",
        "surgeon",
        "ward",
        "operated",
        "he",
        "patients",
        "care",
        "residency",
        "theatre",
    )
    nodes: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for site, n in (("embed", 15), ("resid.1", 9), ("mlp.2", 5), ("resid.3", 11)):
        effects = np.sort(rng.exponential(0.35, n))[::-1] + 0.1
        for i, effect in enumerate(effects):
            latent = None if i == 2 else int(rng.integers(4096))
            node = f"{site}/{'error' if latent is None else latent}"
            nodes.append(
                {
                    "node": node,
                    "site": site,
                    "latent": latent,
                    "effect": float(effect * (-1 if i % 4 == 3 else 1)),
                }
            )
            if latent is not None:
                names[node] = words[int(rng.integers(len(words)))] + (
                    ", " + words[i % len(words)] if i % 2 else ""
                )
    sites = list(dict.fromkeys(node["site"] for node in nodes))
    edges = []
    for own in nodes:
        later = [n["node"] for n in nodes if sites.index(n["site"]) > sites.index(own["site"])]
        for target in (
            [*rng.choice(later, min(4, len(later)), replace=False), "decision"] if later else ["decision"]
        ):
            if target != "decision" or own["site"] == "resid.3" or rng.random() < 0.3:
                effect = float(rng.exponential(0.08) * own["effect"] + 0.01)
                edges.append({"upstream": own["node"], "downstream": str(target), "effect": effect})
    return {
        "node_threshold": 0.1, "edge_threshold": 0.01, "method": "gradient", "n_nodes": 4 * 4097, "n_texts": 100,
        "faithfulness": 0.91, "completeness": 0.08, "nodes": nodes,
        "edges": sorted(edges, key=lambda edge: -abs(edge["effect"])), "margins": {}, "names": names,
    }  # fmt: skip
