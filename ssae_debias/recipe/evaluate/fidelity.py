"""Fidelity of every SAE of a seed, on the subdomain's test texts and on general ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ssae_debias.metrics.fidelity import fidelities
from ssae_debias.metrics.fidelity_figures import SPLICED, Fidelity
from ssae_debias.metrics.intervals import Interval
from ssae_debias.metrics.predictions import CLEAN
from ssae_debias.recipe.evaluate.schema import GSAE
from ssae_debias.recipe.evaluate.training import EvaluateBench, Variant
from ssae_debias.sae import SparseAutoencoder


def measure_fidelity(
    bench: EvaluateBench, saes: Mapping[Variant, SparseAutoencoder], seed: int
) -> pd.DataFrame:
    """A row for each SAE and corpus; perplexity relative to the GSAE of the same sparsity level."""
    recipe = bench.recipe
    corpora: dict[str, tuple[list[str], Any]] = {"subdomain": (bench.corpora.test.texts, None)}
    if bench.objective == "probe":
        labels = bench.corpora.test.labels
        assert labels is not None  # the bench has asked for them
        known = np.array([label is not None for label in labels])
        texts = [text for text, is_known in zip(bench.corpora.test.texts, known, strict=True) if is_known]
        corpora = {"subdomain": (texts, labels[known])}
    elif bench.corpora.general_test:
        corpora["general"] = (bench.corpora.general_test, None)
    rows = []
    for corpus, (texts, y) in corpora.items():
        for level in _levels(saes, recipe.compared_k):
            # by number: any name may be a loaded SAE's
            numbered = {str(i): variant for i, variant in enumerate(level)}
            reference = next((i for i, variant in numbered.items() if variant.strategy == GSAE), None)
            options: dict[str, Any] = {"probe_site": recipe.probe_site} if bench.objective == "probe" else {}
            found = fidelities(
                bench.model,
                {i: saes[variant] for i, variant in numbered.items()},
                recipe.site,
                texts,
                reference=reference,
                y=y,
                objective=bench.objective,
                include_special=recipe.include_special,
                max_length=recipe.max_length,
                n_resamples=recipe.n_resamples,
                random_state=recipe.general.random_state,
                verbose=bench.verbose,
                **options,
            )
            rows += [keys(numbered[i], seed) | {"corpus": corpus} | flat(each) for i, each in found.items()]
    return pd.DataFrame(rows)


def keys(variant: Variant, seed: int) -> dict[str, Any]:
    """The columns that say which SAE a row is about."""
    return {
        "variant": variant.name,
        "strategy": variant.strategy,
        "tilt": variant.tilt,
        "k": np.nan if variant.k is None else variant.k,
        "seed": seed,
    }


def flat(found: Fidelity) -> dict[str, Any]:
    """Figures of one SAE as columns, each interval's ends beside it."""
    intervals: dict[str, Interval | None] = {
        "l0": found.l0,
        "cross_entropy": found.cross_entropy[SPLICED],
        "clean_cross_entropy": found.cross_entropy[CLEAN],
        "perplexity": found.perplexity[SPLICED],
        "clean_perplexity": found.perplexity[CLEAN],
        "relative_perplexity": found.relative_perplexity,
        "loss_recovered_zero": found.loss_recovered["zero"],
        "loss_recovered_mean": found.loss_recovered["mean"],
        "kl": found.kl[SPLICED],
        "kl_recovered_zero": found.kl_recovered["zero"],
        "fvu": found.fvu,
        "accuracy": found.accuracy[SPLICED],
        "agreement": found.agreement[SPLICED],
    }
    row: dict[str, Any] = {"objective": found.objective, "n_texts": found.n_texts, "n_tokens": found.n_tokens}
    for name, interval in intervals.items():
        row |= spread(name, interval)
    return row | {"dead_fraction": found.dead_fraction}


def spread(name: str, interval: Interval | None) -> dict[str, float]:
    """A figure and the ends of its interval as three columns; NaN where there is none."""
    mean, low, high = interval or (np.nan, np.nan, np.nan)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _levels(saes: Mapping[Variant, SparseAutoencoder], compared: int | None) -> list[list[Variant]]:
    """Variants by sparsity level; the loaded ones go with the level that all are compared at."""
    levels: dict[int | None, list[Variant]] = {}
    for variant in saes:
        levels.setdefault(compared if variant.k is None else variant.k, []).append(variant)
    return list(levels.values())
