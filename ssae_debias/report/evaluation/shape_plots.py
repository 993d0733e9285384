"""The shape of a dictionary: how strongly and how evenly its latents fire, and where its decoder rows point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ssae_debias.report.evaluation.panels import (
    dots,
    heading,
    level_line,
    panels,
    powers,
    sparsity_name,
    steps,
)
from ssae_debias.report.evaluation.seeds import densities, sparsities
from ssae_debias.report.evaluation.styles import Style, handle, key, shortened, shown
from ssae_debias.report.svg import PALETTE, page_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACTORS = {0.001: "÷1000", 0.01: "÷100", 0.1: "÷10", 1.0: "same", 10.0: "×10", 100.0: "×100", 1000.0: "×1000"}
MOST_POINTS = 500  # of a variant on the map: more make the page heavy and no pattern clearer
MOST_MAPS = 12


def window(axes: Axes, found: pd.DataFrame, *, least: float = 0.002) -> None:
    """Show the bins in which some variant has more than that part of the highest density."""
    held = found[found["mean"] > least * found["mean"].max()]
    if len(held):
        axes.set_xlim(float(held["from"].min()), float(held["to"].max()))


def histogram_figure(
    table: pd.DataFrame, looks: Mapping[str, Style], width: float, *, axis: str, per: str, log: bool = False
) -> Figure:
    """Densities of one figure, a step line a variant."""
    ((k, part),) = sparsities(table)
    found = densities(part, log=log)
    with page_style():
        figure, (panel,) = panels(1, width, height=3.1)
        for style in shown(looks, found["variant"]):
            steps(panel, found[found["variant"] == style.name], style)
        panel.set_xlabel(axis)
        panel.set_ylim(bottom=0)
        window(panel, found)
        if log:
            powers(panel, most=8)
        panel.locator_params(axis="y", nbins=4)
        heading(panel, f"Share of tokens per {per}{f', {sparsity_name(k)}' if k is not None else ''}")
        key(figure, [handle(style, mark=False) for style in shown(looks, found["variant"])])
    return figure


def count_points(table: pd.DataFrame) -> pd.DataFrame:
    """Activation frequency by rank: mean, lowest and highest seed; ranks that never fire have no place on the axis."""
    by = ["variant", "k", "rank"]
    each = table.groupby([*by, "seed"], dropna=False, sort=False, as_index=False)["frequency"].mean()
    found = each.groupby(by, dropna=False, sort=False)["frequency"].agg(
        mean="mean", low="min", high="max", n_seeds="size"
    )
    return found[found["mean"] > 0].reset_index().sort_values("rank", kind="stable")


def counts_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """How often the r-th most active latent fires, both axes logarithmic."""
    ((k, part),) = sparsities(table)
    found = count_points(part)
    with page_style():
        figure, (panel,) = panels(1, width, height=3.3)
        for style in shown(looks, found["variant"]):
            own = found[found["variant"] == style.name]
            floor = float(found["mean"].min())
            if own["n_seeds"].max() > 1:
                panel.fill_between(
                    own["rank"], own["low"].clip(lower=floor), own["high"].clip(lower=floor), color=style.colour,
                    alpha=style.faint, linewidth=0,
                )  # fmt: skip
            panel.plot(own["rank"], own["mean"], color=style.colour, linestyle=style.dash, linewidth=1.7)
        powers(panel, most=6)
        powers(panel, "y", small=True, most=6)
        panel.set_xlabel("Rank of the latent, 1 the most active")
        heading(panel, f"Share of tokens on which it fires{f', {sparsity_name(k)}' if k is not None else ''}")
        key(figure, [handle(style, mark=False) for style in shown(looks, found["variant"])])
    return figure


def log_ratio_figure(
    table: pd.DataFrame, looks: Mapping[str, Style], width: float, *, base: str | None
) -> Figure:
    """How each latent's share of all activity differs from its share in the base."""
    table = table[table["variant"] != base] if (table["variant"] != base).any() else table
    ((k, part),) = sparsities(table)
    found = densities(part)
    with page_style():
        figure, (panel,) = panels(1, width, height=3.1)
        for style in shown(looks, found["variant"]):
            steps(panel, found[found["variant"] == style.name], style)
        panel.set_ylim(bottom=0)
        panel.locator_params(axis="y", nbins=4)
        held = found[found["mean"] > 0.002 * found["mean"].max()] if len(found) else found
        reach = max(float(held[["from", "to"]].abs().max().max()) if len(held) else 1.0, 1.0)
        panel.set_xlim(-reach, reach)
        ticks = {math.log(factor): said for factor, said in FACTORS.items() if abs(math.log(factor)) <= reach}
        panel.set_xticks(list(ticks), list(ticks.values()))
        level_line(panel, 0.0, "", axis="x")
        panel.set_xlabel("The latent's share of all activity, against the base")
        heading(panel, f"Share of latents per factor e{f', {sparsity_name(k)}' if k is not None else ''}")
        key(figure, [handle(style, mark=False) for style in shown(looks, found["variant"])])
    return figure


def cosine_figure(
    pairs: pd.DataFrame | None, largest: pd.DataFrame | None, looks: Mapping[str, Style], width: float
) -> Figure:
    """Cosines of all pairs of decoder rows, and each row's largest one."""
    drawn = [
        (name, table, log)
        for name, table, log in (
            ("All pairs of latents", pairs, True),
            ("Each latent and its nearest", largest, False),
        )
        if table is not None
    ]
    with page_style():
        figure, axes = panels(len(drawn), width, height=3.0)
        used: set[str] = set()
        for panel, (name, table, log) in zip(axes, drawn, strict=True):
            ((k, part),) = sparsities(table)
            found = densities(part)
            if log:
                # Nine in ten pairs lie around 0; what differs is the tail, which only a logarithm shows.
                panel.set_yscale("log")
                found = found.assign(low=found["low"].where(found["low"] > 0))
                panel.set_ylim(bottom=max(float(found["mean"][found["mean"] > 0].min()), 1e-7) * 0.8)
            for style in shown(looks, found["variant"]):
                own = found[found["variant"] == style.name]
                steps(panel, own.assign(mean=own["mean"].where(own["mean"] > 0)) if log else own, style)
                used.add(style.name)
            if log:
                powers(panel, "y", most=6)
            else:
                panel.set_ylim(bottom=0)
                panel.locator_params(axis="y", nbins=4)
            window(panel, found, least=0.0 if log else 0.002)
            panel.set_xlabel("Cosine of decoder rows")
            heading(panel, f"{name}{f', {sparsity_name(k)}' if k is not None else ''}")
        axes[0].set_ylabel("Density")
        key(figure, [handle(style, mark=False) for style in shown(looks, used)])
    return figure


def map_points(table: pd.DataFrame) -> pd.DataFrame:
    """The points that are drawn: one sparsity, one seed, every so-manieth latent."""
    ((_, part),) = sparsities(table)
    kept = []
    for _, own in part.groupby("variant", sort=False):
        own = own[own["seed"] == own["seed"].iloc[0]] if own["seed"].notna().any() else own
        kept.append(own.iloc[:: max(1, math.ceil(len(own) / MOST_POINTS))])
    return pd.concat(kept)


def map_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """One map of decoder rows, a panel a variant with all the others behind it."""
    found = map_points(table)
    found = found[np.isfinite(found["x"]) & np.isfinite(found["y"])]
    styles = shown(looks, found["variant"])[:MOST_MAPS]
    columns = 3 if width >= 6.5 else 2
    with page_style():
        from matplotlib.figure import Figure

        down = math.ceil(len(styles) / columns)
        # Distances mean the same in both directions; the panels' height follows from that.
        low, span = found[["x", "y"]].min(), found[["x", "y"]].max() - found[["x", "y"]].min()
        side, ratio = width / columns, float(np.clip(span["y"] / max(span["x"], 1e-9), 0.4, 1.4))
        figure = Figure(figsize=(width, (side * ratio + 0.35) * down), layout="constrained")
        axes = list(figure.subplots(down, columns, squeeze=False, sharex=True, sharey=True).ravel())
        everything = found.iloc[:: max(1, len(found) // 700)]
        for panel, style in zip(axes, styles, strict=False):
            dots(panel, everything["x"], everything["y"], PALETTE["rule"], 2.2)
            own = found[found["variant"] == style.name]
            dots(panel, own["x"], own["y"], style.colour, 2.2)
            panel.set_title(
                shortened(style.name, 30 if width >= 6.5 else 22),
                color=style.colour,
                fontweight="bold",
                fontsize=9.5,
            )
            panel.set_xticks([])
            panel.set_yticks([])
            panel.set_aspect("equal")
            for side_name in ("left", "bottom"):
                panel.spines[side_name].set_visible(False)
        for name in ("x", "y"):
            margin = 0.04 * max(float(span[name]), 1e-9)
            axes[0].set(**{f"{name}lim": (low[name] - margin, low[name] + span[name] + margin)})
        for spare in axes[len(styles) :]:
            spare.remove()
    return figure
