"""The tail of token types: which have a latent, and how badly those are reconstructed that are rare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ssae_debias.report.evaluation.panels import (
    BESIDE,
    heading,
    line,
    panels,
    percents,
    powers,
    room,
    rows,
    sparsity_name,
)
from ssae_debias.report.evaluation.seeds import over_seeds, sparsities
from ssae_debias.report.evaluation.styles import Style, handle, key, shown
from ssae_debias.report.svg import page_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LEVELS = 3
ERRORS = {
    "relative": "Mean",
    "relative_variance": "Variance",
    "relative_maximum": "Maximum",
}
STEPS = 40  # points of a cumulative curve: one row a distinct count is more than a line shows


def coverage_points(table: pd.DataFrame) -> pd.DataFrame:
    """Proportion of token types with a latent, by the geometric middle of each range of frequencies."""
    table = table.rename(columns={"low": "proportion_low", "high": "proportion_high"})
    found = over_seeds(table, ["variant", "k", "frequency_from", "frequency_below"], "proportion")
    middle = np.sqrt(found["frequency_from"] * found["frequency_below"])
    return found.assign(frequency=middle).sort_values("frequency", kind="stable")


def coverage_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """Share of token types that have a latent, by frequency; a panel for each of up to three sparsities."""
    levels = sparsities(table, MOST_LEVELS)
    with page_style():
        figure, axes = panels(len(levels), width, share_y=True)
        used: set[str] = set()
        for panel, (k, part) in zip(axes, levels, strict=True):
            found = coverage_points(part)
            drawn = []
            for style in shown(looks, found["variant"]):
                own = found[found["variant"] == style.name]
                line(panel, own["frequency"], own, style, shares=True)
                drawn.append(own)
                used.add(style.name)
            powers(panel, small=True)
            heading(panel, sparsity_name(k))
            panel.set_xlabel("Frequency of the token type")
            room(panel, drawn, least=-0.01)
        top = max(panel.get_ylim()[1] for panel in axes)
        for panel in axes:
            panel.set_ylim(-0.01, min(top, 1.02))
        percents(axes[0])
        axes[0].set_ylabel("Types with a latent" if width >= BESIDE else "")
        key(figure, [handle(style) for style in shown(looks, used)])
    return figure


def cumulative_points(table: pd.DataFrame) -> pd.DataFrame:
    """Each seed's curve read at even shares of the tokens, then the mean over seeds."""
    at = np.linspace(0, 1, STEPS + 1)
    parts = []
    for (variant, k, seed), own in table.groupby(["variant", "k", "seed"], dropna=False, sort=False):
        own = own.sort_values("token_share")
        x = np.concatenate([[0.0], own["token_share"]])
        y = np.interp(at, x, np.concatenate([[0.0], own["covered_share"]]))
        parts.append(pd.DataFrame({"variant": variant, "k": k, "seed": seed, "token_share": at, "y": y}))
    return over_seeds(pd.concat(parts, ignore_index=True), ["variant", "k", "token_share"], "y")


def cumulative_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """How each SAE's covered types spread over the corpus, the rarest first; and how much of the tail has a latent."""
    ((k, part),) = sparsities(table)
    with page_style():
        figure, (panel,) = panels(1, width, height=3.6)
        found = cumulative_points(part)
        for style in shown(looks, found["variant"]):
            own = found[found["variant"] == style.name]
            line(panel, own["token_share"], own, style, marks=False, shares=True)
        panel.set_xlabel("Share of tokens, the rarest types first")
        panel.set_ylabel("Share of the variant's covered types")
        heading(panel, sparsity_name(k))
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.01)
        percents(panel)
        percents(panel, "x")
        key(figure, [handle(style, mark=False) for style in shown(looks, found["variant"])])
    return figure


def tail_points(table: pd.DataFrame) -> pd.DataFrame:
    """Proportion of the tail's types that have a latent, by variant and k."""
    table = table.rename(columns={"low": "proportion_low", "high": "proportion_high"})
    return over_seeds(table, ["variant", "k"], "proportion")


def tail_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """Share of the tail's types that have a latent: a row for each variant, a panel for each sparsity."""
    levels = sparsities(table, MOST_LEVELS)
    styles = shown(looks, table["variant"])
    with page_style():
        figure, axes = panels(len(levels), width, height=0.36 * len(styles) + 0.75)
        top = 0.0
        for place, (panel, (k, part)) in enumerate(zip(axes, levels, strict=True)):
            found = tail_points(part).set_index("variant")
            rows(panel, styles, width, named=place == 0 or width < BESIDE)
            for y, style in enumerate(styles):
                if style.name not in found.index:
                    continue
                mean, low, high = (float(found.loc[style.name, name]) for name in ("mean", "low", "high"))
                if low == low:
                    panel.plot([max(low, 0), high], [y, y], color=style.colour, linewidth=1.8)
                panel.plot([mean], [y], linestyle="none", **style.mark(6.5))
                top = max(top, min(high, 1.5 * mean) if high == high else mean, mean)
            heading(panel, sparsity_name(k))
            panel.set_xlabel("Tail types with a latent")
        for panel in axes:
            reach = min(1.0, 1.12 * top) or 1.0
            panel.set_xlim(-0.03 * reach, reach)
            panel.locator_params(axis="x", nbins=5)
            percents(panel, "x", 0 if top > 0.05 else 1)
    return figure


def rank_points(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """An error by the geometric middle of each range of ranks."""
    found = over_seeds(table, ["variant", "k", "rank_from", "rank_to"], column)
    return found.assign(rank=np.sqrt(found["rank_from"] * found["rank_to"])).sort_values(
        "rank", kind="stable"
    )


def rank_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """Mean, variance and maximum of the reconstruction error by rank of the token's type."""
    ((k, part),) = sparsities(table)
    with page_style():
        figure, axes = panels(len(ERRORS), width, height=2.8)
        used: set[str] = set()
        for panel, (column, name) in zip(axes, ERRORS.items(), strict=True):
            found = rank_points(part, column)
            by_style = {
                style: found[found["variant"] == style.name] for style in shown(looks, found["variant"])
            }
            means = np.concatenate([own["mean"] for own in by_style.values()] or [np.ones(1)])
            log = bool(means.min() > 0 and means.max() > 30 * means.min())
            for style, own in by_style.items():
                line(panel, own["rank"], own, style, log=log)
                used.add(style.name)
            powers(panel)
            if log:
                powers(panel, "y", most=5)
            else:
                room(panel, list(by_style.values()), least=0.0)
                panel.locator_params(axis="y", nbins=5)
            heading(panel, f"{name}{f' ({sparsity_name(k)})' if k is not None else ''}")
            panel.set_xlabel("Rank of the type")
        axes[0].set_ylabel("Error over total variance" if width >= BESIDE else "")
        key(figure, [handle(style) for style in shown(looks, used)])
    return figure
