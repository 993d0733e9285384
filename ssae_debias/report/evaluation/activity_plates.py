"""Plates on what an SAE as a whole is like: how its latents fire, and where their directions lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ssae_debias.report.evaluation.content import EvaluationContent
from ssae_debias.report.evaluation.numbers import (
    Column,
    Numbers,
    as_rows,
    by_variant,
    plain,
    share,
    with_interval,
)
from ssae_debias.report.evaluation.plates import Plate, at_level, other_levels, spread
from ssae_debias.report.evaluation.seeds import densities, over_seeds, sparsities
from ssae_debias.report.evaluation.shape_plots import (
    MOST_MAPS,
    MOST_POINTS,
    cosine_figure,
    count_points,
    counts_figure,
    histogram_figure,
    log_ratio_figure,
    map_figure,
    map_points,
)
from ssae_debias.report.evaluation.styles import Style, drawable, shown, styles
from ssae_debias.report.wording import counted

ACTIVITY, DIRECTIONS = "Activity", "Directions"
BINS = {"from": ("From", plain), "to": ("to", plain)}
SEEDS_RANGE = "the lowest and the highest seed"


def activity_plates(content: EvaluationContent) -> Iterator[Plate]:
    """Activity and directions."""
    looks = styles(content)
    shape = content.table("shape")
    if (table := content.table("entropy")) is not None:
        yield _entropy(table, shape, looks)
    if (table := content.table("maximum")) is not None:
        yield _maximum(table, shape, looks)
    if (table := content.table("counts")) is not None:
        yield _counts(table, looks)
    if (table := content.table("log_ratio")) is not None:
        yield _log_ratio(table, looks, content.base)
    pairs, largest = content.table("cosines"), content.table("largest")
    if pairs is not None or largest is not None:
        yield _cosines(pairs, largest, looks)
    if (table := content.table("umap")) is not None:
        yield _map(table, looks)


def _entropy(table: pd.DataFrame, shape: pd.DataFrame | None, looks: dict[str, Style]) -> Plate:
    ((k, part),) = sparsities(table)
    return Plate(
        "entropy",
        ACTIVITY,
        "How a token's activation is spread over latents",
        f"To the left few latents say most of it, to the right many say a little each.{other_levels(table, [k])}",
        "Token activation entropy: −Σ p log₂ p over the latents of a token, p a latent's part of the token's activation; over "
        "latents is our reading of the caption. Tokens on which nothing fires are left out.",
        "figure 5, left",
        spread(table, "Shades", over=SEEDS_RANGE),
        lambda width: histogram_figure(
            table, looks, width, axis="Entropy of the token's activation, bits", per="bit"
        ),
        [
            *_shape(shape, looks, "entropy"),
            by_variant(f"Density{at_level(k)}", _held(densities(part)), BINS, list(looks)),
        ],
    )


def _maximum(table: pd.DataFrame, shape: pd.DataFrame | None, looks: dict[str, Style]) -> Plate:
    ((k, part),) = sparsities(table)
    return Plate(
        "maximum",
        ACTIVITY,
        "The strongest activation of a token",
        f"The horizontal axis is logarithmic; tokens on which nothing fires are counted but not drawn.{other_levels(table, [k])}",
        "Largest activation of any latent on a token, in the activations' unit.",
        "figure 5, right",
        spread(table, "Shades", over=SEEDS_RANGE),
        lambda width: histogram_figure(
            table, looks, width, axis="Largest activation on the token", per="doubling", log=True
        ),
        [
            *_shape(shape, looks, "maximum"),
            by_variant(f"Density{at_level(k)}", _held(densities(part, log=True)), BINS, list(looks)),
        ],
    )


def _shape(shape: pd.DataFrame | None, looks: dict[str, Style], figure: str) -> list[Numbers]:
    if shape is None:
        return []
    by = ["variant", "k"]
    records: dict[tuple[str, str], dict[str, Any]] = {}
    columns = {f"{figure}_mean": plain, f"{figure}_std": plain, "silent_share": share, "l0": plain}
    for column, say in columns.items():
        for row in over_seeds(shape, by, column).to_dict("records"):
            record = records.setdefault(
                (row["variant"], plain(row["k"])), {"variant": row["variant"], "k": row["k"]}
            )
            record[column] = with_interval(row["mean"], row["low"], row["high"], say)
    order = list(looks)
    heads: dict[str, Column] = {
        "variant": ("Variant", str),
        "k": ("k", plain),
        f"{figure}_mean": ("Mean", _cell),
        f"{figure}_std": ("Standard deviation", _cell),
        "silent_share": ("Tokens on which nothing fires", _cell),
        "l0": ("L0", _cell),
    }
    ranked = sorted(records.values(), key=lambda record: (order.index(record["variant"]), record["k"]))
    return [as_rows("Summary, means over seeds", ranked, heads)]


def _counts(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    ((k, part),) = sparsities(table)
    return Plate(
        "counts",
        ACTIVITY,
        "How often latents fire, by rank",
        f"Both axes are logarithmic. A line that ends early has latents that never fire.{other_levels(table, [k])}",
        "Share of the tokens on which the latent of that rank fires, the most active first.",
        "figure 7",
        spread(table, "Shades", over=SEEDS_RANGE),
        lambda width: counts_figure(table, looks, width),
        [
            by_variant(
                f"Share of tokens{at_level(k)}",
                count_points(part),
                {"rank": ("Rank", plain)},
                list(looks),
                say=plain,
            )
        ],
    )


def _log_ratio(table: pd.DataFrame, looks: dict[str, Style], base: str | None) -> Plate:
    ((k, part),) = sparsities(table)
    others = part[part["variant"] != base] if (part["variant"] != base).any() else part
    called = f"“{drawable(base)}”" if base is not None else "the base"
    return Plate(
        "log_ratio",
        ACTIVITY,
        "How much more often latents fire than in the base",
        f"Right of the middle: latents that fire more than in {called}; left: less.{other_levels(table, [k])}",
        "Logarithm of a latent's share of all activity over its share in the base SAE, one half added to each count; latent "
        "by latent where the one SAE was fine-tuned from the other, else rank by rank.",
        "figures 17 and 18",
        spread(others, "Shades", over=SEEDS_RANGE),
        lambda width: log_ratio_figure(table, looks, width, base=base),
        [by_variant(f"Density by log-ratio{at_level(k)}", _held(densities(others)), BINS, list(looks))],
    )


def _cosines(pairs: pd.DataFrame | None, largest: pd.DataFrame | None, looks: dict[str, Style]) -> Plate:
    tables = []
    for name, table in (("All pairs", pairs), ("Each latent's largest", largest)):
        if table is not None:
            ((k, part),) = sparsities(table)
            tables.append(
                by_variant(f"{name}, density{at_level(k)}", _held(densities(part)), BINS, list(looks))
            )
    known = pairs if pairs is not None else largest
    assert known is not None
    ((k, _),) = sparsities(known)
    return Plate(
        "cosines",
        DIRECTIONS,
        "How alike the directions are that latents write",
        "Left, all pairs, on a logarithmic axis; right, each latent with the one most like it. A latent with a near copy "
        f"(cosine near 1) says twice what once would do.{other_levels(known, [k])}",
        "Cosine of two decoder rows.",
        "figure 20",
        spread(known, "Shades", over=SEEDS_RANGE),
        lambda width: cosine_figure(pairs, largest, looks, width),
        tables,
    )


def _map(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    drawn = map_points(table)
    variants = len(shown(looks, drawn["variant"]))
    left = f" The first {MOST_MAPS} of {variants} variants." if variants > MOST_MAPS else ""
    counts = table.groupby("variant", sort=False).size().to_dict()
    sizes = [
        {"variant": name, "n": n, "drawn": int((drawn["variant"] == name).sum())}
        for name, n in counts.items()
    ]
    columns: dict[str, Column] = {
        "variant": ("Variant", str),
        "n": ("Latents on the map", plain),
        "drawn": ("Drawn", plain),
    }
    return Plate(
        "umap",
        DIRECTIONS,
        "Where decoder directions lie, variant by variant",
        "One map for all; each panel has one variant in colour and the others in grey behind it. At most "
        f"{counted(MOST_POINTS, 'latent')} of each are drawn, of one seed.{left}",
        "UMAP of decoder rows by cosine distance. Distances within a neighbourhood mean something, those across the map "
        "hardly do.",
        "figure 19",
        "No band: one seed of each variant.",
        lambda width: map_figure(table, looks, width),
        [as_rows("Latents", sizes, columns)],
    )


def _held(bins: pd.DataFrame) -> pd.DataFrame:
    """The bins in which any variant has something to speak of."""
    if bins.empty:
        return bins
    peak = bins.groupby(["from", "to"])["mean"].transform("max")
    return bins[peak > 0.001 * bins["mean"].max()]


def _cell(cell: Any) -> str:
    return cell or "–"
