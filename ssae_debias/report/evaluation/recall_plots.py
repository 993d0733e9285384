"""Concept recall: how well the best latent finds a concept, by how rare the concept is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ssae_debias.report.evaluation.panels import BESIDE, dots, heading, line, panels, percents, powers
from ssae_debias.report.evaluation.recall_points import (
    NEURONS,
    RANDOM,
    concept_points,
    found_points,
    groups,
    recall_lines,
)
from ssae_debias.report.evaluation.styles import Style, handle, key, shown
from ssae_debias.report.svg import PALETTE, page_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCES = {
    NEURONS: ("the site's neurons", (0, (5, 1.5))),
    RANDOM: ("random latents", (0, (1, 1.6))),
}


def recall_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """F1 of the best latent against the concept's frequency: lines over points, with neurons and random latents."""
    drawn = groups(table)
    with page_style():
        figure, axes = panels(len(drawn), width, height=3.7, share_y=True)
        used: set[str] = set()
        references: dict[str, Any] = {}
        for panel, group in zip(axes, drawn, strict=True):
            _concepts(panel, concept_points(group.part), looks)
            references |= _lines(panel, group.part, recall_lines, looks, used)
            powers(panel, small=True)
            panel.set_ylim(-0.02, 1.02)
            heading(panel, group.heading)
            panel.set_xlabel(group.axis)
        axes[0].set_ylabel("F1 on the test half" if width >= BESIDE else "")
        key(figure, [*(handle(style) for style in shown(looks, used)), *references.values()])
    return figure


def found_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """Share of concepts that have a latent in each range of frequencies; how many there are stands on top."""
    drawn = groups(table, "found", most=1)
    with page_style():
        figure, axes = panels(len(drawn), width, height=3.3, share_y=True)
        used: set[str] = set()
        references: dict[str, Any] = {}
        for panel, group in zip(axes, drawn, strict=True):
            references |= _lines(
                panel,
                group.part,
                lambda part, kind="sae": found_points(part[part["kind"] == kind]),
                looks,
                used,
            )
            found = found_points(group.part).drop_duplicates("frequency")
            for at, n in zip(found["frequency"], found["n_concepts"], strict=True):
                panel.annotate(
                    f"{n:g}", (at, 1.03), xycoords=("data", "data"), ha="center", va="bottom", fontsize=8,
                    color=PALETTE["muted"],
                )  # fmt: skip
            powers(panel, small=True)
            panel.set_ylim(-0.03, 1.1)
            panel.set_yticks([0, 0.25, 0.5, 0.75, 1])
            heading(panel, group.heading)
            panel.set_xlabel(group.axis)
        percents(axes[0])
        axes[0].set_ylabel("Concepts with a latent" if width >= BESIDE else "")
        key(figure, [*(handle(style) for style in shown(looks, used)), *references.values()])
    return figure


def _lines(
    axes: Axes, part: pd.DataFrame, points: Any, looks: Mapping[str, Style], used: set[str]
) -> dict[str, Any]:
    """A line each variant, and the references; their entries for the key."""
    from matplotlib.lines import Line2D

    entries: dict[str, Any] = {}
    for kind, (name, dash) in REFERENCES.items():
        found = points(part, kind)
        if len(found):
            look: dict[str, Any] = {"color": PALETTE["ink"], "linestyle": dash, "linewidth": 1.3}
            # Neurons are the site's: of several variants' random latents, one line is enough.
            mean = found.groupby("frequency", as_index=False)["mean"].mean()
            axes.plot(mean["frequency"], mean["mean"], zorder=1.9, **look)
            entries[kind] = Line2D([], [], label=name, **look)
    found = points(part, "sae")
    for style in shown(looks, found["variant"]):
        own = found[found["variant"] == style.name]
        line(axes, own["frequency"], own, style, shares=True)
        used.add(style.name)
    return entries


def _concepts(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Style]) -> None:
    for style in shown(looks, points["variant"]):
        own = points[points["variant"] == style.name]
        words, planted = own[~own["planted"]], own[own["planted"]]
        axes.plot(
            planted["frequency"], planted["f1"], "x", color=style.colour, markersize=4.5, markeredgewidth=1,
            alpha=min(0.5, 6 * style.faint), zorder=1.8,
        )  # fmt: skip
        dots(axes, words["frequency"], words["f1"], style.colour, 2.9, alpha=min(0.5, 6 * style.faint))
