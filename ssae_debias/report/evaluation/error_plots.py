"""The error term: how large it is, what a linear map could still take from it, and what stands in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ssae_debias.report.evaluation.panels import BESIDE, heading, level_line, percents, rows, sparsity_name
from ssae_debias.report.evaluation.seeds import over_seeds, sparsities
from ssae_debias.report.evaluation.styles import Style, shown
from ssae_debias.report.svg import PALETTE, page_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES = {
    "reconstruction": ("reconstruction", "o", True),
    "and_predictable": ("… and the predictable error", "^", True),
    "and_nonlinear": ("… and the other error", "v", True),
    "error_only": ("error term alone", "X", False),
}
LEAST = -1.5  # of loss recovered: beyond it the other parts would stand in one place
LEAKS = {
    "activation": ("activation", "o", True),
    "reconstruction": ("reconstruction", "s", True),
    "error": ("error term", "X", False),
}


def share_points(table: pd.DataFrame) -> pd.DataFrame:
    """Share of variance that the error is, and the part of it that is linearly predictable, over seeds."""
    by = ["variant", "k"]
    found = over_seeds(table, by, "share")
    if "r2" in table and table["r2"].notna().any():
        part = over_seeds(table.assign(part=table["r2"] * table["share"]), by, "part")
        r2 = over_seeds(table, by, "r2")[[*by, "mean"]].rename(columns={"mean": "r2"})
        return found.merge(
            part[[*by, "mean"]].rename(columns={"mean": "predictable"}), on=by, how="left"
        ).merge(r2, on=by, how="left")
    return found.assign(predictable=float("nan"), r2=float("nan"))


def part_points(table: pd.DataFrame, prefix: str, parts: Mapping[str, Any]) -> pd.DataFrame:
    """A figure of each part over seeds: `part` and what `over_seeds` gives."""
    found = [
        over_seeds(table, ["variant", "k"], f"{prefix}_{part}").assign(part=part)
        for part in parts
        if f"{prefix}_{part}" in table and table[f"{prefix}_{part}"].notna().any()
    ]
    columns = ["variant", "k", "mean", "low", "high", "n_seeds", "part"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def error_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """Up to three panels, a row a variant: the error's size and parts, loss recovered, and leakage by part."""
    ((k, part),) = sparsities(table)
    styles = shown(looks, part["variant"])
    losses = part_points(part, "loss_recovered", LOSSES)
    leaks = part_points(part, "leakage", LEAKS)
    drawn = [name for name, there in _there(part, losses, leaks).items() if there]
    with page_style():
        from matplotlib.figure import Figure

        beside = width >= BESIDE
        each = 0.5 * len(styles) + 1.6
        size = (width, each) if beside else (width, each * len(drawn))
        figure = Figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(wspace=0.11, h_pad=0.08)  # type: ignore[union-attr,call-arg]
        shape = (1, len(drawn)) if beside else (len(drawn), 1)
        axes = list(figure.subplots(*shape, squeeze=False).ravel())
        for place, (panel, name) in enumerate(zip(axes, drawn, strict=True)):
            panel.spines["left"].set_visible(False)
            rows(panel, styles, width, named=place == 0 or not beside)
            if name == "share":
                _shares(panel, share_points(part), styles)
                heading(panel, f"Size{f', {sparsity_name(k)}' if k is not None else ''}")
            elif name == "loss":
                _dots(panel, losses, LOSSES, styles)
                heading(panel, "Loss recovered by")
                low, high = float(losses["mean"].min()), float(losses["mean"].max())
                panel.set_xlim(max(min(-0.04, low - 0.12), LEAST), max(1.04, min(high + 0.08, 1.5)))
            else:
                _dots(panel, leaks, LEAKS, styles)
                panel.set_title("Attribute read from", color=PALETTE["ink"], fontweight="bold", pad=14)
                chance = float(part["leakage_chance"].mean()) if "leakage_chance" in part else 0.5
                level_line(panel, chance, "chance", axis="x")
                panel.set_xlim(min(chance, float(leaks["mean"].min())) - 0.04, 1.02)
                panel.set_xlabel("Balanced accuracy")
            percents(panel, "x")
            panel.tick_params(length=0)
            panel.locator_params(axis="x", nbins=4)
    return figure


def _there(table: pd.DataFrame, losses: pd.DataFrame, leaks: pd.DataFrame) -> dict[str, bool]:
    return {
        "share": "share" in table and bool(table["share"].notna().any()),
        "loss": not losses.empty,
        "leak": not leaks.empty,
    }


def drawable_error(table: pd.DataFrame) -> bool:
    """Whether the table has any of the figures that are drawn."""
    losses = part_points(table, "loss_recovered", LOSSES)
    return any(_there(table, losses, part_points(table, "leakage", LEAKS)).values())


def _shares(axes: Axes, found: pd.DataFrame, styles: list[Style]) -> None:
    found = found.set_index("variant")
    for y, style in enumerate(styles):
        if style.name not in found.index:
            continue
        whole, part = (float(found.loc[style.name, name]) for name in ("mean", "predictable"))
        low, high = (float(found.loc[style.name, name]) for name in ("low", "high"))
        axes.barh(y, whole, height=0.5, color=style.colour, alpha=0.35, linewidth=0)
        if part == part:
            axes.barh(y, max(part, 0.0), height=0.5, color=style.colour, linewidth=0)
        if low == low:
            axes.plot([max(low, 0), min(high, 1.6 * whole)], [y, y], color=PALETTE["ink"], linewidth=1)
    axes.set_xlim(0, 1.12 * float(found["mean"].max()) or 1.0)
    axes.set_xlabel("Share of variance; dark: predictable")


def _dots(
    axes: Axes, found: pd.DataFrame, parts: Mapping[str, tuple[str, str, bool]], styles: list[Style]
) -> None:
    """Each part as a mark on its variant's row; shapes tell the parts apart, and stand below the axis."""
    from matplotlib.lines import Line2D

    there = [part for part in parts if (found["part"] == part).any()]
    for y, style in enumerate(styles):
        own = found[found["variant"] == style.name].set_index("part")["mean"]
        if own.empty:
            continue
        for i, part in enumerate(there):
            if part in own.index:
                _, shape, filled = parts[part]
                # Neighbours that lie on one another would hide what the panel is for.
                at = y + 0.17 * (i - (len(there) - 1) / 2)
                # What lies beyond the panel points there; the table has the number.
                beyond = own[part] < LEAST
                axes.plot(
                    [max(own[part], LEAST)], [at], "<" if beyond else shape, clip_on=not beyond, color=style.colour, markersize=6.2, markeredgewidth=1.2,
                    markerfacecolor=style.colour if filled else PALETTE["paper"],
                )  # fmt: skip
    entries = [
        Line2D(
            [], [], linestyle="none", marker=parts[part][1], color=PALETTE["muted"], label=parts[part][0], markersize=6,
            markerfacecolor=PALETTE["muted"] if parts[part][2] else PALETTE["paper"],
        )
        for part in there
    ]  # fmt: skip
    axes.legend(
        handles=entries, loc="upper left", bbox_to_anchor=(0, -0.5 / (0.5 * len(styles) + 0.6)), borderpad=0, handletextpad=0.2, fontsize=8.5,
        labelcolor=PALETTE["muted"], labelspacing=0.25, bbox_transform=axes.transAxes,
    )  # fmt: skip
