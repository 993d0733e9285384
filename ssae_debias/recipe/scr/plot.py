"""The picture of a run: score against the number of zeroed latents, one panel a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssae_debias.recipe.scr.results import ScoreRow
from ssae_debias.report.svg import PALETTE, page_style, to_svg

WIDTH, HEIGHT = 8.4, 2.8  # inches; the height is a row's
COLUMNS = 2
HUES = tuple(PALETTE[f"series-{i}"] for i in range(1, 7))
MARKS = ("o", "s", "^", "D", "v", "P")


def score_plot(metrics: Mapping[str, Sequence[ScoreRow]]) -> str:
    """Scores over n, each SAE in its colour and mark, its random control dotted.

    Parameters
    ----------
    metrics : mapping of str to sequence of ScoreRow
        By the metric's name; a panel each. Bands are the intervals over seeds.

    Returns
    -------
    str
        An ``<svg>`` element that is also a file of its own.

    Examples
    --------
    >>> from ssae_debias.metrics import Interval
    >>> rows = [ScoreRow("mine", "effect", n, Interval(n / 10, 0.0, 1.0), (0.5,), {}) for n in (2, 5)]
    >>> score_plot({"SCR": rows})[:4]
    '<svg'
    """
    with page_style():
        from matplotlib.figure import Figure

        columns = min(COLUMNS, len(metrics))
        lines = -(-len(metrics) // columns)
        figure = Figure(figsize=(WIDTH, HEIGHT * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for empty in panels[len(metrics) :]:
            empty.set_axis_off()
        names = list(dict.fromkeys(row.sae for rows in metrics.values() for row in rows))
        said = []
        for panel, (metric, rows) in zip(panels, metrics.items(), strict=False):
            panel.axhline(0, color=PALETTE["ink"], linewidth=0.8)
            for sae, ranking in dict.fromkeys((row.sae, row.ranking) for row in rows):
                points = [row for row in rows if (row.sae, row.ranking) == (sae, ranking)]
                colour, ns = HUES[names.index(sae) % len(HUES)], [row.n for row in points]
                ours = ranking == "effect"
                panel.plot(
                    ns,
                    [row.score.mean for row in points],
                    color=colour,
                    linestyle="-" if ours else (0, (1, 1.6)),
                    marker=MARKS[names.index(sae) % len(MARKS)] if ours else None,
                    markersize=5,
                    linewidth=1.6,
                    label=sae if ours else f"{sae}, random latents",
                )
                panel.fill_between(
                    ns,
                    [row.score.low for row in points],
                    [row.score.high for row in points],
                    color=colour,
                    alpha=0.12,
                    linewidth=0,
                )
                best = max(points, key=lambda row: row.score.mean)
                said.append(
                    f"{metric} of {sae} ({ranking}) is at most {best.score.mean:.2f}, at n = {best.n}"
                )
            panel.set_title(metric, color=PALETTE["ink"], fontweight="bold")
            panel.set_xscale("log")
            ticks = sorted({row.n for row in rows})
            panel.set_xticks(ticks, [str(n) for n in ticks])
            panel.xaxis.set_minor_locator(_no_ticks())
            panel.set_xlabel("Zeroed latents")
            panel.grid(axis="y")
            panel.tick_params(length=0, labelcolor=PALETTE["muted"])
            panel.spines["left"].set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, labelcolor=PALETTE["muted"])
        return to_svg(figure, f"Score against zeroed latents. {'; '.join(said)}.")


def _no_ticks() -> object:
    from matplotlib.ticker import NullLocator

    return NullLocator()
