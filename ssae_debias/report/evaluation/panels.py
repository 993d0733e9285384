"""Panels and the strokes on them: lines with bands, steps, dots in rows, and axes that say what they measure.

Wide figures stand their panels side by side, narrow ones (for a phone) one below the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ssae_debias.report.evaluation.styles import Style, in_two_lines
from ssae_debias.report.plots import NARROW, WIDTH
from ssae_debias.report.svg import PALETTE
from ssae_debias.report.wording import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BESIDE = (NARROW + WIDTH) / 2  # inches: narrower figures stand their panels one below the other


def panels(
    n: int, width: float, *, height: float = 2.9, columns: int | None = None, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels in reading order, `height` inches each; at most `columns` stand side by side."""
    from matplotlib.figure import Figure

    across = min(n, columns or n) if width >= BESIDE else 1
    down = math.ceil(n / across)
    # The key above takes its room from the figure.
    figure = Figure(figsize=(width, height * down + 0.55), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, hspace=0.04, wspace=0.03)  # type: ignore[union-attr,call-arg]
    axes = list(figure.subplots(down, across, squeeze=False, sharey=share_y).ravel())
    for spare in axes[n:]:
        spare.remove()
    for panel in axes[:n]:
        panel.grid(axis="y")
        panel.spines["left"].set_visible(False)
        panel.tick_params(length=0, labelcolor=PALETTE["muted"])
        panel.tick_params(which="minor", length=0)
    return figure, axes[:n]


def heading(axes: Axes, text: str) -> None:
    """What a panel shows, above it."""
    axes.set_title(text, color=PALETTE["ink"], fontweight="bold", pad=7)


def line(
    axes: Axes,
    x: Any,
    points: pd.DataFrame,
    style: Style,
    *,
    marks: bool = True,
    shares: bool = False,
    log: bool = False,
) -> None:
    """Means as a line with marks, their intervals as a band; of a single point, as a bar.

    Bands of shares end at 0 and 1; on a logarithmic axis there is none where it would reach below 0.
    """
    known = points[["low", "high"]].notna().all(axis=1).to_numpy()
    x = np.asarray(x, dtype=np.float64)
    mean, low, high = (points[name].to_numpy(np.float64) for name in ("mean", "low", "high"))
    if shares:
        low, high = low.clip(0, 1), high.clip(0, 1)
    if log:
        known = known & (low > 0)
    if len(points) == 1:
        if known[0] and high[0] > low[0]:
            axes.plot([x[0], x[0]], [low[0], high[0]], color=style.colour, linewidth=1.4, alpha=0.6)
    elif known.any():
        axes.fill_between(x, low, high, where=known, color=style.colour, alpha=style.faint, linewidth=0)
    look = style.mark() if marks or len(points) == 1 else {}
    axes.plot(x, mean, color=style.colour, linestyle=style.dash, linewidth=1.8, **look)


def steps(axes: Axes, bins: pd.DataFrame, style: Style) -> None:
    """A density as a step line, with the range of seeds behind it."""
    if bins.empty:
        return
    edges = np.append(bins["from"].to_numpy(np.float64), float(bins["to"].iloc[-1]))
    if bins["n_seeds"].max() > 1:
        low, high = (np.append(bins[end], bins[end].iloc[-1]) for end in ("low", "high"))
        axes.fill_between(edges, low, high, step="post", color=style.colour, alpha=style.faint, linewidth=0)
    axes.stairs(
        bins["mean"], edges, color=style.colour, linestyle=style.dash, linewidth=1.6, baseline=None
    )  # fmt: skip


def dots(axes: Axes, x: Any, y: Any, colour: str, size: float, *, alpha: float = 1.0) -> None:
    """Points as one path of strokes with round ends: a tenth of what as many marks weigh in SVG."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    at = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=1)
    at = at[np.isfinite(at).all(axis=1)]
    if not len(at):
        return
    # A stroke without length has no end to be round; upward, as x may be logarithmic.
    ends = at + np.array([0.0, max(float(np.ptp(at[:, 1])), 1e-6) * 1e-4])
    path = Path(np.stack([at, ends], axis=1).reshape(-1, 2), np.tile([Path.MOVETO, Path.LINETO], len(at)))
    path.should_simplify = False
    marks = PathPatch(
        path,
        facecolor="none",
        edgecolor=colour,
        linewidth=size,
        capstyle="round",
        joinstyle="round",
        alpha=alpha,
    )
    # Snapped to pixels, a stroke as short as these is none in a PNG.
    marks.set_snap(False)
    axes.add_patch(marks)


def room(axes: Axes, points: Sequence[pd.DataFrame], *, least: float | None = None) -> None:
    """Scale y by the means, with as much of the intervals as leaves the lines legible.

    Student's t over two seeds is wide; drawn whole, it would press all lines into one.
    """
    means = np.concatenate([part["mean"].to_numpy(np.float64) for part in points] or [np.zeros(0)])
    means = means[np.isfinite(means)]
    if not len(means):
        return
    ends = np.concatenate([part[["low", "high"]].to_numpy(np.float64).ravel() for part in points])
    ends = ends[np.isfinite(ends)]
    span = float(np.ptp(means)) or abs(float(means[0])) * 0.05 or 1.0
    low = max(min([*ends, means.min()]), means.min() - 0.6 * span)
    high = min(max([*ends, means.max()]), means.max() + 0.6 * span)
    margin = 0.06 * (high - low or span)
    low, high = low - margin, high + margin
    axes.set_ylim(low if least is None else max(low, least), high)


def percents(axes: Axes, axis: str = "y", digits: int = 0) -> None:
    """Say an axis of fractions in percent."""
    getattr(axes, f"{axis}axis").set_major_formatter(lambda level, _: percent(level, digits))


def powers(axes: Axes, axis: str = "x", *, small: bool = False, most: int = 4) -> None:
    """A logarithmic axis of counts or frequencies over the limits as they are, with at most so many numbers on it."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    getattr(axes, f"set_{axis}scale")("log")
    own = getattr(axes, f"{axis}axis")
    own.set_major_locator(FixedLocator(log_ticks(*getattr(axes, f"get_{axis}lim")(), most=most)))
    own.set_minor_locator(NullLocator())
    own.set_major_formatter(lambda level, _: power_of_ten(level) if small else _count(level))
    own.set_minor_formatter(NullFormatter())


def log_ticks(low: float, high: float, *, most: int = 4) -> list[float]:
    """Round places on a logarithmic axis: as many as fit, at least two where there are any.

    Examples
    --------
    >>> log_ticks(1.5e-4, 0.02), log_ticks(3, 4e5), log_ticks(0.21, 0.38)
    ([0.0003, 0.001, 0.003, 0.01], [10.0, 1000.0, 100000.0], [0.25, 0.3, 0.35])
    """
    powers_ = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    # From the densest that fits; then every second, third … power.
    for times in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{each}e{power}") for power in powers_ for each in times]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if 2 <= len(ticks) <= most:
            return ticks
    if len(ticks) > most:
        return ticks[:: -(-len(ticks) // most)]
    from matplotlib.ticker import MaxNLocator

    return [float(f"{tick:.6g}") for tick in MaxNLocator(most).tick_values(low, high) if low <= tick <= high]


def doublings(axes: Axes, values: Sequence[float]) -> None:
    """A horizontal axis of L0 or k: logarithmic where the values spread over more than a factor of three."""
    known = np.asarray([value for value in values if value > 0], dtype=np.float64)
    if not len(known) or known.max() < 3 * known.min():
        axes.margins(x=0.06)
        axes.locator_params(axis="x", nbins=6)
        return
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    first, last = math.ceil(math.log2(known.min()) - 0.3), math.floor(math.log2(known.max()) + 0.3)
    stride = max(1, (last - first) // 5)
    ticks = [2.0**power for power in range(first, last + 1, stride)]
    axes.set_xlim(min(ticks[0], known.min()) * 0.85, max(ticks[-1], known.max()) * 1.18)
    axes.xaxis.set_major_locator(_fixed(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda level, _: number(level))


def level_line(axes: Axes, at: float, name: str, *, axis: str = "y") -> None:
    """A dotted line that others are read against, with its name at its end."""
    stroke: dict[str, Any] = {
        "color": PALETTE["ink"],
        "linewidth": 1,
        "linestyle": (0, (1, 2.2)),
        "zorder": 1.5,
    }
    words: dict[str, Any] = {"textcoords": "offset points", "color": PALETTE["muted"], "fontsize": 8.5}
    if axis == "y":
        axes.axhline(at, **stroke)
        axes.annotate(
            name, (1, at), xycoords=("axes fraction", "data"), xytext=(4, 0), ha="left", va="center", **words
        )
    else:
        axes.axvline(at, **stroke)
        axes.annotate(
            name,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            ha="center",
            va="bottom",
            **words,
        )


def rows(axes: Axes, looks: Sequence[Style], width: float, *, named: bool = True) -> None:
    """One row a variant, the first on top, with its name on the left."""
    axes.set_ylim(len(looks) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x")
    axes.spines["bottom"].set_visible(False)
    limit = 20 if width >= BESIDE else 15
    names = [in_two_lines(style.name, limit) for style in looks] if named else []
    axes.set_yticks(range(len(looks)) if named else [], names)
    for tick, style in zip(axes.get_yticklabels(), looks, strict=False):
        tick.set_color(PALETTE["ink"] if style.role == "muted" else style.colour)


def sparsity_name(k: float | None) -> str:
    """How a panel of one sparsity level is headed."""
    return "" if k is None else f"k = {number(k)}"


def _fixed(ticks: Sequence[float]) -> Any:
    from matplotlib.ticker import FixedLocator

    return FixedLocator(list(ticks))


def _count(level: float) -> str:
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if level >= unit:
            return f"{level / unit:g}{sign}"
    return f"{level:g}"


def power_of_ten(level: float) -> str:
    """A frequency by its power of ten; in percent, those of tokens would be rows of zeros.

    Examples
    --------
    >>> power_of_ten(1e-5), power_of_ten(2e-4), power_of_ten(1.0), power_of_ten(0.0)
    ('10⁻⁵', '2·10⁻⁴', '1', '0')
    """
    if level <= 0:
        return "0"
    if level >= 0.1:
        return f"{level:.2g}"
    power = math.floor(math.log10(level) + 1e-9)
    times = f"{level / 10**power:.2g}"
    return f"{'' if times == '1' else f'{times}·'}10{str(power).translate(_RAISED)}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
