"""The page's four pictures, each a plain function from figures to an SVG string.

Ours is blue, every other method grey; a filled mark works without group labels, a hollow one needs them.
Shape and position carry every distinction that colour makes. Matplotlib is imported when the first picture is
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ssae_debias.report.content import Estimate, MethodRow, SiteTraining
from ssae_debias.report.marks import bar, dot, legend, mark, name_rows, percent_axis, row_figure, value
from ssae_debias.report.methods import best, by_worst_group, describe, edit_name
from ssae_debias.report.svg import PALETTE, page_style, to_svg
from ssae_debias.report.wording import percent

WIDTH = 8.4  # inches; a figure's text is drawn for this width, the page scales it by about 1.2
NARROW = 4.6  # for a phone: below this, labels leave no room for the marks
CURVES = {
    "fvu": "Variance unexplained",
    "l0": "Active latents per token",
    "dead_fraction": "Dead latents",
}
DASHES = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))


class Bar(NamedTuple):
    """Where a probe's bar stands in its row, and how strongly it is inked."""

    shift: float
    opacity: float


PROBES = {"linear": Bar(-0.17, 1.0), "MLP": Bar(0.17, 0.5)}


def worst_group_plot(rows: Sequence[MethodRow], *, width: float = WIDTH) -> str:
    """Worst-group accuracy of every method with its interval, best on top.

    Parameters
    ----------
    rows : sequence of MethodRow
        Methods to draw. Rows of the published tables are squares, the ceiling is a diamond; a dotted line marks
        where the original model stands.
    width : float, default=8.4
        Inches; heights follow from the number of rows.

    Returns
    -------
    str
        An ``<svg>`` element.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> worst_group_plot(example_content().rows)[:4]
    '<svg'
    """
    ranked = by_worst_group(rows)
    with page_style():
        figure, axes = row_figure(len(ranked), width)
        start = best(rows, "start")
        if start:
            axes.axvline(
                start.worst_group_accuracy.mean, color=PALETTE["rival"], linewidth=1, linestyle=(0, (1, 2.5))
            )
        for y, row in enumerate(ranked):
            colour = _colour(row)
            mark(axes, row.worst_group_accuracy, y, colour, _face(row, colour), _shape(row))
            value(axes, y, row.worst_group_accuracy.mean, strong=_is_ours(row))
        name_rows(axes, [describe(row.method).label for row in ranked], [_is_ours(row) for row in ranked])
        percent_axis(axes, "Accuracy in the worst group")
        handles = _label_handles(ranked)
        legend(figure, handles, columns=2 if width < WIDTH and len(handles) > 3 else None)
        said = ", ".join(f"{describe(r.method).label} {percent(r.worst_group_accuracy.mean)}" for r in ranked)
        return to_svg(figure, f"Worst-group accuracy by method, best first: {said}.")


def group_plot(before: MethodRow, after: MethodRow, *, width: float = WIDTH) -> str:
    """Accuracy of every group before and after, joined by a line, lowest start on top.

    Parameters
    ----------
    before, after : MethodRow
        Usually the original model and our best row. Groups that only one of them has are left out.
    width : float, default=8.4
        Inches.

    Raises
    ------
    ValueError
        The two rows share no group.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> rows = example_content().rows
    >>> "nurse/M" in group_plot(rows[0], rows[2])
    True
    """
    shared = [name for name in before.groups if name in after.groups]
    if not shared:
        raise ValueError(f"no group in common: {sorted(before.groups)} before, {sorted(after.groups)} after.")
    shared.sort(key=lambda name: before.groups[name]["accuracy"].mean)
    names = describe(before.method).label, describe(after.method).label
    said = []
    with page_style():
        figure, axes = row_figure(len(shared), width, row=0.5)
        for y, name in enumerate(shared):
            old, new = before.groups[name]["accuracy"], after.groups[name]["accuracy"]
            mark(axes, old, y - 0.16, PALETTE["rival"], PALETTE["rival"], "o")
            mark(axes, new, y + 0.16, PALETTE["ours"], PALETTE["ours"], "s")
            value(axes, y - 0.16, old.mean, strong=False)
            value(axes, y + 0.16, new.mean, strong=True)
            said.append(f"{name} {percent(old.mean)} → {percent(new.mean)}")
        sizes = [f"{name}\nn = {after.groups[name]['n']:,}" for name in shared]
        name_rows(axes, sizes, strong=[False] * len(shared))
        percent_axis(axes, "Accuracy in the group")
        legend(figure, [dot(PALETTE["rival"], names[0], "o"), dot(PALETTE["ours"], names[1], "s")])
        return to_svg(figure, f"Accuracy by group, {names[0]} → {names[1]}: {'; '.join(said)}.")


def leakage_plot(rows: Sequence[MethodRow], *, chance: float = 0.5, width: float = WIDTH) -> str:
    """How well the attribute can still be read, by a linear and an MLP probe; bars start at chance.

    Parameters
    ----------
    rows : sequence of MethodRow
        Rows without a measured leakage are left out, and of rows that differ in the classifier alone (kept,
        retrained) one is drawn, for they share their activations. The order is kept.
    chance : float, default=0.5
        Balanced accuracy of guessing. A bar to the left of it is a probe worse than guessing: chance, too.
    width : float, default=8.4
        Inches.

    Raises
    ------
    ValueError
        No row has a measured leakage.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> "MLP probe" in leakage_plot(example_content().rows)
    True
    """
    shown = _one_for_each_edit([row for row in rows if _probes(row)])
    if not shown:
        raise ValueError("no row has a leakage to draw; leave the plot out.")
    said = []
    with page_style():
        figure, axes = row_figure(len(shown), width, row=0.46)
        for y, row in enumerate(shown):
            for probe, estimate in _probes(row).items():
                at = y + PROBES[probe].shift
                axes.barh(
                    at,
                    estimate.mean - chance,
                    left=chance,
                    height=0.28,
                    color=_colour(row),
                    alpha=PROBES[probe].opacity,
                    linewidth=0,
                )
                if estimate.has_interval:
                    axes.plot([estimate.low, estimate.high], [at, at], color=PALETTE["ink"], linewidth=1)
            value(axes, y, max(estimate.mean for estimate in _probes(row).values()), strong=_is_ours(row))
            levels = ", ".join(
                f"{probe} {percent(estimate.mean)}" for probe, estimate in _probes(row).items()
            )
            said.append(f"{describe(row.method).label} {levels}")
        name_rows(axes, [describe(row.method).label for row in shown], [_is_ours(row) for row in shown])
        lowest = min(estimate.low for row in shown for estimate in _probes(row).values())
        percent_axis(
            axes, "Balanced accuracy of reading the attribute", left=max(0.0, min(lowest, chance) - 0.04)
        )
        axes.axvline(chance, color=PALETTE["ink"], linewidth=1)
        legend(figure, [bar(style.opacity, f"{probe} probe") for probe, style in PROBES.items()])
        return to_svg(
            figure, f"Attribute leakage by method (chance {percent(chance, 0)}): {'; '.join(said)}."
        )


def training_plot(training: Mapping[str, SiteTraining], *, width: float = WIDTH) -> str:
    """Training curves of the SAEs: variance unexplained, active latents and dead latents over steps.

    Parameters
    ----------
    training : mapping of str to SiteTraining
        Per site. Curves that no site logged are left out.
    width : float, default=8.4
        Inches; from 6 on the panels stand side by side.

    Raises
    ------
    ValueError
        No site has a history with ``step`` and one of ``fvu``, ``l0``, ``dead_fraction``.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> "Variance unexplained" in training_plot(example_content().training)
    True
    """
    curves = training_curves(training)
    if not curves:
        raise ValueError("no site has a history of steps to draw; leave the plot out.")
    with page_style():
        from matplotlib.figure import Figure

        beside = width >= 6
        shape = (1, len(curves)) if beside else (len(curves), 1)
        figure = Figure(figsize=(width, 2.5 if beside else 1.9 * len(curves) + 0.4), layout="constrained")
        panels = figure.subplots(*shape, squeeze=False).ravel()
        hues = [PALETTE[f"series-{i}"] for i in range(1, 7)]
        styles = {site: (hues[i % 6], DASHES[i % 4]) for i, site in enumerate(training)}
        for panel, (key, sites) in zip(panels, curves.items(), strict=True):
            for site, points in sites.items():
                colour, dash = styles[site]
                panel.plot(
                    *zip(*points, strict=True), color=colour, linestyle=dash, linewidth=1.6, label=site
                )
            panel.set_title(CURVES[key], color=PALETTE["ink"], fontweight="bold")
            panel.set_ylim(bottom=0)
            panel.margins(x=0.02)
            panel.grid(axis="y")
            panel.locator_params(nbins=4)
            panel.tick_params(length=0, labelcolor=PALETTE["muted"])
            panel.spines["left"].set_visible(False)
            if key == "dead_fraction":
                panel.yaxis.set_major_formatter(lambda value, _: percent(value, 0))
        (panels[len(panels) // 2] if beside else panels[-1]).set_xlabel("Training step")
        handles = {line.get_label(): line for panel in panels for line in panel.lines}
        legend(figure, list(handles.values()), columns=6 if beside else 3)
        return to_svg(figure, f"SAE training curves of {', '.join(training)}.")


def training_curves(training: Mapping[str, SiteTraining]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Points (step, value) by curve and site, of the curves of `CURVES` that any site logged.

    Examples
    --------
    >>> training_curves({"embed": {"history": [{"step": 0, "fvu": 1.0}, {"step": 9, "fvu": 0.2}]}})
    {'fvu': {'embed': [(0, 1.0), (9, 0.2)]}}
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for key in CURVES:
        for site, run in training.items():
            logged = [
                (row["step"], row[key]) for row in run.get("history", ()) if "step" in row and key in row
            ]
            if logged:
                curves.setdefault(key, {})[site] = logged
    return curves


def _label_handles(rows: Sequence[MethodRow]) -> list[Any]:
    kinds = {
        "no group labels": (PALETTE["muted"], "o"),
        "group labels": (PALETTE["paper"], "o"),
        "published": (PALETTE["muted"], "s"),
        "ceiling": (PALETTE["paper"], "D"),
    }
    used = {
        "group labels" if row.needs_group_labels else "no group labels" for row in rows if _shape(row) != "D"
    }
    used |= {"published" for row in rows if _shape(row) == "s"}
    used |= {"ceiling" for row in rows if _shape(row) == "D"}
    return [dot(PALETTE["muted"], name, shape, face) for name, (face, shape) in kinds.items() if name in used]


def _one_for_each_edit(rows: Sequence[MethodRow]) -> list[MethodRow]:
    """Rows without those that differ from another in the classifier alone: they share its activations."""
    shortest: dict[tuple[str, str], MethodRow] = {}
    for row in rows:
        key = (edit_name(row.method), repr(row.leakage))
        if key not in shortest or len(row.method) < len(shortest[key].method):
            shortest[key] = row
    return [row for row in rows if any(row is kept for kept in shortest.values())]


def _probes(row: MethodRow) -> dict[str, Estimate]:
    measured = {"linear": row.leakage["linear"], "MLP": row.leakage["mlp"]}
    return {probe: estimate for probe, estimate in measured.items() if estimate}


def _is_ours(row: MethodRow) -> bool:
    return describe(row.method).role == "ours"


def _colour(row: MethodRow) -> str:
    return PALETTE["ours"] if _is_ours(row) else PALETTE["rival"]


def _face(row: MethodRow, colour: str) -> str:
    return PALETTE["paper"] if row.needs_group_labels else colour


def _shape(row: MethodRow) -> str:
    return {"ceiling": "D", "published": "s"}.get(describe(row.method).role, "o")
