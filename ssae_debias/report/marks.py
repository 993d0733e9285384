"""The strokes that the plots are made of: rows with a name, a mark with its interval, a value at the edge.

Every plot over methods or groups has the same build, one row each, so that the eye finds a method at the same
kind of place in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssae_debias.report.content import Estimate
from ssae_debias.report.svg import PALETTE
from ssae_debias.report.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.34  # inches a row
MANY, CLOSER = 16, 0.78  # more rows than this stand closer, so that a full table still fits a tall screen
LONGEST_NAME = 30  # characters: a longer name would leave the marks no room on a phone


def row_figure(n: int, width: float, *, row: float = ROW) -> tuple[Figure, Axes]:
    """A figure of `n` rows, the first on top, without frame; `row` is the height of one of a few in inches."""
    from matplotlib.figure import Figure

    height = row * n * (CLOSER if n > MANY else 1)
    figure = Figure(figsize=(width, height + 0.95), layout="constrained")
    axes = figure.subplots()
    axes.set_ylim(n - 0.4, -0.6)
    axes.grid(axis="x")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure, axes


def name_rows(axes: Axes, names: Sequence[str], strong: Sequence[bool]) -> None:
    """Write the rows' names on the left; strong ones are ours."""
    axes.set_yticks(range(len(names)), ["\n".join(map(_shortened, name.split("\n"))) for name in names])
    axes.tick_params(length=0)
    for tick, bold in zip(axes.get_yticklabels(), strong, strict=True):
        if bold:
            tick.set_fontweight("bold")
            tick.set_color(PALETTE["ours"])


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def percent_axis(axes: Axes, name: str, *, left: float = 0.0) -> None:
    """Scale the horizontal axis in percent, up to 100."""
    axes.set_xlim(left, 1)
    axes.set_xlabel(name)
    axes.xaxis.set_major_formatter(lambda value, _: percent(value, 0))


def mark(axes: Axes, estimate: Estimate, y: float, colour: str, face: str, shape: str) -> None:
    """An estimate as a mark with its interval as a line through it."""
    axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=2, solid_capstyle="round")
    axes.plot(
        [estimate.mean],
        [y],
        shape,
        color=colour,
        markerfacecolor=face,
        markersize=7,
        markeredgewidth=1.6,
        clip_on=False,
    )


def value(axes: Axes, y: float, value: float, *, strong: bool) -> None:
    """A percentage written at the right edge of a row."""
    axes.annotate(
        f"{100 * value:.1f}",
        (1.02, y),
        xycoords=("axes fraction", "data"),
        va="center",
        color=PALETTE["ours"] if strong else PALETTE["muted"],
        fontweight="bold" if strong else "normal",
    )


def legend(figure: Figure, handles: Sequence[Any], *, columns: int | None = None) -> None:
    """A legend above the plot, from the figure's left edge, where the names of the rows begin."""
    figure.legend(
        handles=list(handles),
        loc="outside upper left",
        ncols=columns or len(handles),
        handletextpad=0.4,
        columnspacing=1.2,
        borderpad=0,
        labelcolor=PALETTE["muted"],
    )


def dot(colour: str, label: str, shape: str, face: str | None = None) -> Any:
    """A legend's entry for a mark; `face` None fills it."""
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=colour,
        linestyle="none",
        marker=shape,
        markersize=6.5,
        markerfacecolor=face or colour,
        markeredgewidth=1.6,
        label=label,
    )


def bar(opacity: float, label: str) -> Any:
    """A legend's entry for a bar."""
    from matplotlib.patches import Patch

    return Patch(facecolor=PALETTE["muted"], alpha=opacity, linewidth=0, label=label)
