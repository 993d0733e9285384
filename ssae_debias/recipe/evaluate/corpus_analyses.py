"""Tail, shape and error term of the SAEs of a seed, on the subdomain's test texts.

All are read from one store of activations. Where SAEs are compared by what their latents do, they are first brought to
one L0 (`at_equal_l0`): who may use more latents covers more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.metrics.error_term import PARTS, error_term
from ssae_debias.metrics.pooled_parts import leakage_of_parts, parts_of_tokens
from ssae_debias.metrics.shape import (
    activation_shape,
    count_log_ratio,
    counts_by_rank,
    decoder_cosines,
    decoder_map,
)
from ssae_debias.metrics.tail import reconstruction_by_rank, tail_coverage
from ssae_debias.recipe.evaluate.fidelity import keys, spread
from ssae_debias.recipe.evaluate.schema import GSAE
from ssae_debias.recipe.evaluate.training import EvaluateBench, Variant
from ssae_debias.sae import SparseAutoencoder

Saes = Mapping[Variant, SparseAutoencoder]
Tables = dict[str, pd.DataFrame]

ERROR_TEXTS = 100
"""Test texts that the error term is taken apart on: each needs a dozen forward passes."""
SHOWN_RANKS = 200
TAIL_FREQUENCY = 1e-3
"""Types that make up so much of the test tokens or less are the tail; a test set is too small for the 1e-4 of a corpus."""
MAP_SEED_LATENTS = 4096
"""Decoder rows on the map, at most: UMAP's time grows faster than their number."""


def measure_tail(bench: EvaluateBench, saes: Saes, seed: int) -> Tables:
    """Coverage by frequency, cumulative, of the tail; error by rank."""
    named = {str(i): sae for i, sae in enumerate(saes.values())}
    variants = dict(zip(named, saes, strict=True))
    read, site = bench.test.token_batches, bench.recipe.site
    coverage = tail_coverage(read, named, site=site)
    rarest = float(coverage.types["count"].min()) / coverage.n_tokens
    found = {
        "coverage": coverage.by_frequency(),
        "cumulative": _thinned(coverage.cumulative()),
        "tail": coverage.tail(max(TAIL_FREQUENCY, rarest)),
        "rank_error": reconstruction_by_rank(read(), named, site=site),
    }
    return {name: keyed(table, "sae", variants, seed) for name, table in found.items()}


def measure_shape(bench: EvaluateBench, saes: Saes, seed: int) -> Tables:
    """Entropy, maximum, counts and their ratio to the GSAE's; cosines of the dictionary; the map of the first seed."""
    named = {str(i): sae for i, sae in enumerate(saes.values())}
    variants = dict(zip(named, saes, strict=True))
    shapes = activation_shape(bench.test.token_batches(), named, site=bench.recipe.site)
    base = next((i for i, variant in variants.items() if variant.strategy == GSAE), None)
    parts: dict[str, list[pd.DataFrame]] = {}

    def add(table: str, i: str, frame: pd.DataFrame) -> None:
        parts.setdefault(table, []).append(frame.assign(sae=i))

    for i, shape in shapes.items():
        add("entropy", i, shape.entropy.to_frame())
        add("maximum", i, shape.maximum.to_frame())
        facts = {
            "entropy_mean": shape.entropy.mean,
            "entropy_std": shape.entropy.std,
            "maximum_mean": shape.maximum.mean,
            "maximum_std": shape.maximum.std,
            "silent_share": shape.n_silent / max(shape.n_tokens, 1),
            "l0": shape.l0,
        }
        add("shape", i, pd.DataFrame([facts]))
        # latents keep their number where one SAE was fine-tuned from the other, and have none in common elsewhere
        started = bench.recipe.train.start == "gsae" and variants[i].strategy not in bench.loaded
        if base is not None and i != base and len(shape.counts) == len(shapes[base].counts):
            ratio = count_log_ratio(shape.counts, shapes[base].counts, by="latent" if started else "rank")
            add("log_ratio", i, _histogram(ratio, np.linspace(-8, 8, 65)))
        cosines = decoder_cosines(named[i])
        add("cosines", i, _bins(cosines.edges, cosines.counts))
        add("largest", i, _histogram(cosines.largest, np.linspace(-1, 1, 101)))
    found = {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
    counts = counts_by_rank(shapes)
    found["counts"] = counts[counts["rank"].isin(_log_spaced(int(counts["rank"].max())))]
    if seed == bench.recipe.seeds[0] and (placed := _map(named)) is not None:
        found["umap"] = placed
    return {name: keyed(table, "sae", variants, seed) for name, table in found.items()}


def measure_error(bench: EvaluateBench, saes: Saes, seed: int) -> Tables:
    """How much of the error term a linear map predicts, what it costs the loss, and what of the attribute it holds."""
    recipe, rows = bench.recipe, []
    texts = bench.corpora.test.texts[:ERROR_TEXTS]
    for variant, sae in saes.items():
        found = error_term(
            bench.model,
            sae,
            recipe.site,
            texts,
            objective=None if bench.objective == "probe" else bench.objective,
            include_special=recipe.include_special,
            max_length=recipe.max_length,
            n_resamples=recipe.n_resamples,
            random_state=recipe.general.random_state,
            verbose=bench.verbose,
        )
        row = keys(variant, seed)
        for name in ("r2", "norm_r2", "share"):
            row |= spread(name, getattr(found, name))
        for part in PARTS:
            for figure in ("cross_entropy", "loss_recovered"):
                if part in getattr(found, figure):
                    row |= spread(f"{figure}_{part}", getattr(found, figure)[part])
        rows.append(row | _leakage(bench, sae, seed))
    return {"error_term": pd.DataFrame(rows)}


def keyed(table: pd.DataFrame, column: str, variants: Mapping[str, Variant], seed: int) -> pd.DataFrame:
    """A table whose column numbers SAEs, with the columns that say which they are in its place."""
    told = pd.DataFrame([keys(variants[i], seed) for i in table[column]], index=table.index)
    return pd.concat([told, table.drop(columns=column)], axis=1).reset_index(drop=True)


def _leakage(bench: EvaluateBench, sae: SparseAutoencoder, seed: int) -> dict[str, float]:
    """Balanced accuracy of reading the attribute from each part of pooled activations; nothing without an attribute."""
    test = bench.corpora.test
    if test.attribute is None:
        return {}
    half = _balanced_halves(test.labels, test.attribute, np.random.default_rng(seed))
    if half is None:
        return {}
    parts = parts_of_tokens(bench.test.token_batches, {bench.recipe.site: sae}, len(test))[bench.recipe.site]
    train, held = half
    found = leakage_of_parts(
        {name: x[train] for name, x in parts.items()},
        test.attribute[train].astype(str),
        {name: x[held] for name, x in parts.items()},
        test.attribute[held].astype(str),
        probes=["linear"],
    )
    named = {"activation": "activation", "reconstruction": "reconstruction", "error term": "error"}
    row = {f"leakage_{short}": found[part]["linear"] for part, short in named.items()}
    return row | {"leakage_chance": 1 / len(set(test.attribute[train]))}


def _balanced_halves(
    labels: NDArray[Any] | None, attribute: NDArray[Any], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Rows of two halves, each with equally many of every (label, attribute) cell; None where a cell has under 20."""
    cells: dict[tuple[Any, Any], list[int]] = {}
    for row, value in enumerate(attribute):
        label = None if labels is None else labels[row]
        if value is not None and (labels is None or label is not None):
            cells.setdefault((label, value), []).append(row)
    values, names = {value for _, value in cells}, {label for label, _ in cells}
    size = min((len(rows) for rows in cells.values()), default=0) // 2
    if len(values) < 2 or len(cells) < len(values) * len(names) or size < 10:
        return None
    drawn = [random.permutation(rows)[: 2 * size] for rows in cells.values()]
    return np.concatenate([rows[:size] for rows in drawn]), np.concatenate([rows[size:] for rows in drawn])


def _map(named: Mapping[str, SparseAutoencoder]) -> pd.DataFrame | None:
    """UMAP of the decoder rows; None without the extra, or where there are more rows than a look is worth."""
    if sum(sae.d_sae for sae in named.values()) > MAP_SEED_LATENTS * 4:
        return None
    try:
        return decoder_map(named)
    except ImportError:
        return None


def _histogram(values: NDArray[Any], edges: NDArray[np.float64]) -> pd.DataFrame:
    known = values[np.isfinite(values)]
    return _bins(edges, np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0])


def _bins(edges: NDArray[np.float64], counts: NDArray[np.int64]) -> pd.DataFrame:
    frame = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": counts})
    return frame.assign(share=counts / max(int(counts.sum()), 1))


def _thinned(cumulative: pd.DataFrame) -> pd.DataFrame:
    """At most `SHOWN_RANKS` rows of each SAE, the last one among them."""
    parts = []
    for _, part in cumulative.groupby("sae", sort=False):
        places = np.unique(np.linspace(0, len(part) - 1, SHOWN_RANKS).round().astype(int))
        parts.append(part.iloc[places])
    return pd.concat(parts, ignore_index=True)


def _log_spaced(n: int) -> NDArray[np.int64]:
    return np.unique(np.geomspace(1, n, SHOWN_RANKS).round().astype(np.int64))
