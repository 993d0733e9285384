"""The pictures of an audit: groups, leakage by site, and the trade-off as more latents are ablated.

As in the report, the edit is blue and what was before it grey, and shape or dash carries every distinction
that colour makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssae_debias.report.audit.content import SiteLeakage, TradeoffPoint, Variant
from ssae_debias.report.content import Estimate, GroupResult
from ssae_debias.report.marks import dot, legend, mark, name_rows, percent_axis, row_figure, value
from ssae_debias.report.plots import WIDTH
from ssae_debias.report.svg import PALETTE, page_style, to_svg
from ssae_debias.report.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_GROUPS = 16  # a picture of more rows than this is longer than a screen; the table has them all
SHIFT = 0.16  # of a row: how far before and after stand from its middle
LINE = {True: 30, False: 19}  # characters of a name's line on a wide and on a narrow picture


def groups_drawn(before: Variant, after: Variant | None) -> list[str]:
    """The groups that the picture shows: those that both variants have, the lowest at the start first.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> variants = example_audit_content().variants
    >>> groups_drawn(variants[0], variants[1])
    ['nurse/M', 'surgeon/F', 'surgeon/M', 'nurse/F']
    """
    old = before.groups or {}
    new = old if after is None else after.groups or {}
    shared = [name for name in old if name in new]
    return sorted(shared, key=lambda name: old[name]["accuracy"].mean)[:MOST_GROUPS]


def audit_group_plot(before: Variant, after: Variant | None, *, width: float = WIDTH) -> str:
    """Accuracy of every group before and after, lowest start on top; at most sixteen groups.

    Parameters
    ----------
    before, after : Variant
        The classifier as it came, and edited; None draws the former alone.
    width : float, default=8.4
        Inches.

    Raises
    ------
    ValueError
        There is no group to draw.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> variants = example_audit_content().variants
    >>> "nurse/M" in audit_group_plot(variants[0], variants[1])
    True
    """
    names = groups_drawn(before, after)
    if not names:
        raise ValueError("no group to draw; leave the plot out.")
    states: list[tuple[dict[str, GroupResult], str, str, float]] = [
        (dict(before.groups or {}), "rival", "o", -SHIFT if after else 0.0)
    ]
    if after:
        states.append((dict(after.groups or {}), "ours", "s", SHIFT))
    said = []
    with page_style():
        written = [_lines(name, width) for name in names]
        tall = max(map(len, written)) > 1
        figure, axes = row_figure(len(names), width, row=0.64 if tall else 0.5)
        for y, name in enumerate(names):
            for groups, role, shape, shift in states:
                estimate = groups[name]["accuracy"]
                mark(axes, estimate, y + shift, PALETTE[role], PALETTE[role], shape)
                value(axes, y + shift, estimate.mean, strong=role == "ours")
            levels = [percent(groups[name]["accuracy"].mean) for groups, *_ in states]
            said.append(f"{name} {' → '.join(levels)}")
        sizes = [
            "\n".join([*lines, f"n = {states[0][0][name]['n']:,}"])
            for lines, name in zip(written, names, strict=True)
        ]
        name_rows(axes, sizes, strong=[False] * len(names))
        percent_axis(axes, "Accuracy in the group")
        called = [before.name] + ([after.name] if after else [])
        most = LINE[width >= WIDTH] * 2
        entries = [
            dot(PALETTE[role], _squeezed(name, most), shape)
            for name, (_, role, shape, _) in zip(called, states, strict=True)
        ]
        # Two long names side by side would leave a narrow picture.
        beside = sum(min(len(name), most) for name in called) <= 1.4 * most
        legend(figure, entries, columns=None if beside else 1)
        return to_svg(figure, f"Accuracy by group, {' → '.join(called)}: {'; '.join(said)}.")


def _lines(name: str, width: float) -> list[str]:
    """A group's name on one line, or its label and its attribute on two; each short enough for the picture."""
    limit = LINE[width >= WIDTH]
    label, slash, attribute = name.partition("/")
    if len(name) <= limit or not slash:
        return [_squeezed(name, limit)]
    return [_squeezed(f"{label}/", limit), _squeezed(attribute, limit)]


def _squeezed(name: str, limit: int) -> str:
    """A long name without its middle: names that begin alike end differently."""
    if len(name) <= limit:
        return name
    tail = limit // 2
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


def site_leakage_plot(leakage: Sequence[SiteLeakage], *, chance: float = 0.5, width: float = WIDTH) -> str:
    """How well two probes read the attribute at each site, before and after the edit; the line is chance.

    Parameters
    ----------
    leakage : sequence of SiteLeakage
        In forward order, which is kept.
    chance : float, default=0.5
        Balanced accuracy of guessing.
    width : float, default=8.4
        Inches.

    Raises
    ------
    ValueError
        No site was measured.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> "MLP probe, edited" in site_leakage_plot(example_audit_content().leakage)
    True
    """
    if not leakage:
        raise ValueError("no site's leakage to draw; leave the plot out.")
    probes = [("linear", "o", _read(leakage, "linear"))]
    if any(row.mlp or row.edited_mlp for row in leakage):
        probes.append(("MLP", "D", _read(leakage, "mlp")))
    said, drawn = [], []
    with page_style():
        figure, axes = row_figure(len(leakage), width, row=0.5 if len(probes) == 2 else 0.36)
        for probe, shape, levels in probes:
            shift = 0.0 if len(probes) == 1 else -SHIFT if probe == "linear" else SHIFT
            for y, (old, new) in enumerate(levels):
                if old and new:
                    axes.plot([old.mean, new.mean], [y + shift] * 2, color=PALETTE["rule"], linewidth=4)
                if old:
                    mark(axes, old, y + shift, PALETTE["rival"], PALETTE["rival"], shape)
                if new:
                    mark(axes, new, y + shift, PALETTE["ours"], PALETTE["ours"], shape)
                last = new or old
                if last:
                    value(axes, y + shift, last.mean, strong=new is not None)
                    drawn += [estimate.low for estimate in (old, new) if estimate]
            said.append(f"{probe} probe: {'; '.join(_said(leakage, levels))}")
        limit = LINE[width >= WIDTH]
        name_rows(axes, [_squeezed(row.site, limit) for row in leakage], [False] * len(leakage))
        named = "Balanced accuracy of reading the attribute" if width >= WIDTH else "Balanced accuracy"
        percent_axis(axes, named, left=max(0.0, min([*drawn, chance]) - 0.04))
        axes.axvline(chance, color=PALETTE["ink"], linewidth=1)
        axes.annotate(
            "chance", (chance, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", color=PALETTE["muted"], fontsize=9,
        )  # fmt: skip
        edited = any(new for _, _, levels in probes for _, new in levels)
        states = [("rival", "as it is")] + ([("ours", "edited")] if edited else [])
        handles = [
            dot(PALETTE[role], f"{probe} probe, {state}", shape)
            for probe, shape, _ in probes
            for role, state in states
        ]
        legend(figure, handles, columns=2 if width < WIDTH and len(handles) > 2 else None)
        return to_svg(figure, f"Attribute leakage by site (chance {percent(chance, 0)}): {'. '.join(said)}.")


def _read(leakage: Sequence[SiteLeakage], probe: str) -> list[tuple[Estimate | None, Estimate | None]]:
    return [(getattr(row, probe), getattr(row, f"edited_{probe}")) for row in leakage]


def _said(
    leakage: Sequence[SiteLeakage], levels: Sequence[tuple[Estimate | None, Estimate | None]]
) -> list[str]:
    return [
        f"{row.site} {' → '.join(percent(estimate.mean) for estimate in pair if estimate)}"
        for row, pair in zip(leakage, levels, strict=True)
        if any(pair)
    ]


def tradeoff_plot(
    tradeoff: Sequence[TradeoffPoint], *, proposed: int | None = None, width: float = WIDTH
) -> str:
    """Worst group, accuracy and flips as more of the flagged latents are ablated, with their intervals.

    Parameters
    ----------
    tradeoff : sequence of TradeoffPoint
        At least two, by growing `n_latents`. Zero has its own place on the axis, the rest is logarithmic.
    proposed : int or None, default=None
        Number of latents of the proposed edit; a dotted line marks it where it lies within the axis.
    width : float, default=8.4
        Inches.

    Raises
    ------
    ValueError
        Fewer than two points.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> "Worst group" in tradeoff_plot(example_audit_content().tradeoff)
    True
    """
    if len(tradeoff) < 2:
        raise ValueError(f"a trade-off takes at least two points, got {len(tradeoff)}; leave the plot out.")
    curves: dict[str, tuple[str, Any, str, list[Estimate | None]]] = {
        "Worst group": ("ours", "-", "s", [point.worst_group_accuracy for point in tradeoff]),
        "Accuracy": ("muted", (0, (5, 2)), "o", [point.accuracy for point in tradeoff]),
        "Flips": ("series-2", (0, (1, 1.2)), "D", [point.flips for point in tradeoff]),
    }
    counts = [point.n_latents for point in tradeoff]
    said, handles = [], []
    with page_style():
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D

        figure = Figure(figsize=(width, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, (role, dash, shape, estimates) in curves.items():
            known = [(n, estimate) for n, estimate in zip(counts, estimates, strict=True) if estimate]
            if not known:
                continue
            at = [n for n, _ in known]
            style: dict[str, Any] = {
                "color": PALETTE[role], "linestyle": dash, "marker": shape, "markersize": 4.5, "linewidth": 2,
            }  # fmt: skip
            low, high = [e.low for _, e in known], [e.high for _, e in known]
            axes.fill_between(at, low, high, color=PALETTE[role], alpha=0.14, linewidth=0)
            axes.plot(at, [estimate.mean for _, estimate in known], **style)
            handles.append(Line2D([], [], label=name, **style))
            levels = ", ".join(f"{n}: {percent(estimate.mean)}" for n, estimate in known)
            said.append(f"{name} {levels}")
        _count_axis(axes, counts, width)
        if proposed is not None and counts[0] < proposed <= counts[-1]:
            axes.axvline(proposed, color=PALETTE["ink"], linewidth=1, linestyle=(0, (1, 2.5)))
            axes.annotate(
                "proposed", (proposed, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", ha="center", color=PALETTE["muted"], fontsize=9,
            )  # fmt: skip
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(lambda level, _: percent(level, 0))
        axes.tick_params(length=0, labelcolor=PALETTE["muted"])
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        legend(figure, handles)
        return to_svg(figure, f"By number of ablated latents: {'; '.join(said)}.")


def _count_axis(axes: Axes, counts: Sequence[int], width: float) -> None:
    """Zero, then powers: the first latents matter most, and the last hundreds need no room."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    axes.set_xlim(counts[0] - 0.15, counts[-1] * 1.15)
    axes.minorticks_off()
    # As many of the counts as stand apart: neighbours closer than this part of the axis would run together.
    place = axes.transScale.transform
    reach = place((counts[-1], 0))[0] - place((counts[0], 0))[0]
    room, ticks = (0.055 if width >= WIDTH else 0.1) * reach, [counts[-1]]
    for count in reversed(counts[:-1]):
        if place((ticks[-1], 0))[0] - place((count, 0))[0] >= room:
            ticks.append(count)
    axes.set_xticks(ticks, [f"{count:,}" for count in ticks])
    axes.set_xlabel("Latents ablated, the strongest first")
