"""A circuit as a graph: sites from left to right, nodes by size of effect, edges by width; blue helps, amber hurts.

On a narrow figure all nodes stand in one column, a line each, and the edges are arcs beside them: names keep their room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssae_debias.report.evaluation.panels import BESIDE
from ssae_debias.report.evaluation.styles import drawable, shortened
from ssae_debias.report.svg import PALETTE, page_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECISION = "decision"
MOST_NODES = 12  # of a site
MOST_EDGES = 90
HELPS, HURTS = "ours", "series-2"


@dataclass(frozen=True)
class Node:
    """A node that is drawn: `said` is its name, `error` whether it is a site's error term."""

    name: str
    site: str
    said: str
    effect: float
    error: bool


@dataclass(frozen=True)
class Graph:
    """What is drawn of a circuit, and how much of it is left out."""

    columns: dict[str, list[Node]]
    edges: list[tuple[str, str, float]]
    nodes_left: int
    edges_left: int


def graph(circuit: Mapping[str, Any]) -> Graph:
    """The strongest nodes of each site, in forward order, the decision last, and the strongest edges among them.

    Examples
    --------
    >>> circuit = {"nodes": [{"node": "embed/3", "site": "embed", "latent": 3, "effect": 0.5}],
    ...            "edges": [{"upstream": "embed/3", "downstream": "decision", "effect": 0.5}], "names": {"embed/3": "she"}}
    >>> drawn = graph(circuit)
    >>> [(site, [node.said for node in nodes]) for site, nodes in drawn.columns.items()]
    [('embed', ['3 she']), ('decision', ['decision'])]
    """
    names = circuit.get("names") or {}
    left = 0
    # Sites as they come: `Circuit` lists them in forward order.
    columns: dict[str, list[Node]] = {row["site"]: [] for row in circuit["nodes"]}
    for row in sorted(circuit["nodes"], key=lambda row: -abs(row["effect"])):
        if len(columns[row["site"]]) == MOST_NODES:
            left += 1
            continue
        columns[row["site"]].append(_node(row, names))
    columns[DECISION] = [Node(DECISION, DECISION, DECISION, 0.0, error=False)]
    there = {node.name for nodes in columns.values() for node in nodes}
    edges = [
        (edge["upstream"], edge["downstream"], float(edge["effect"]))
        for edge in sorted(circuit["edges"], key=lambda edge: -abs(edge["effect"]))
        if edge["upstream"] in there and edge["downstream"] in there
    ]
    kept = edges[:MOST_EDGES]
    return Graph(columns, kept, left, len(circuit["edges"]) - len(kept))


def _node(row: Mapping[str, Any], names: Mapping[str, str]) -> Node:
    error = row.get("latent") is None
    own = "error term" if error else str(row["latent"])
    name = names.get(row["node"], "")
    return Node(row["node"], row["site"], f"{own} {drawable(name)}".strip(), float(row["effect"]), error)


def circuit_figure(circuit: Mapping[str, Any], width: float) -> Figure:
    """The graph in columns where the figure is wide enough for their names, else as arcs beside a list."""
    drawn = graph(circuit)
    room = width / len(drawn.columns)
    with page_style():
        return _columns(drawn, width) if width >= BESIDE and room >= 1.3 else _arcs(drawn, width)


def _columns(drawn: Graph, width: float) -> Figure:
    from matplotlib.figure import Figure

    tallest = max(len(nodes) for nodes in drawn.columns.values())
    figure = Figure(figsize=(width, max(2.6, 0.46 * tallest + 0.9)), layout="constrained")
    axes = figure.subplots()
    _bare(axes)
    gap = 1.0
    last = len(drawn.columns) - 1
    axes.set_xlim(-0.16, last * gap + 0.34)
    axes.set_ylim(tallest - 0.3, -1.15)
    places: dict[str, tuple[float, float]] = {}
    letters = int(12.2 * width / (last + 0.5))
    for column, (site, nodes) in enumerate(drawn.columns.items()):
        start = (tallest - len(nodes)) / 2
        axes.text(
            column * gap, -0.85, "" if site == DECISION else shortened(site, 18), ha="center", fontweight="bold",
            color=PALETTE["ink"],
        )  # fmt: skip
        for row, node in enumerate(nodes):
            places[node.name] = (column * gap, start + row)
    _edges(axes, drawn, places, bend="columns")
    for nodes in drawn.columns.values():
        for node in nodes:
            x, y = places[node.name]
            _disc(axes, node, x, y, drawn)
            axes.text(
                x, y + 0.36, shortened(node.said, letters), ha="center", va="center", fontsize=7.8,
                color=PALETTE["ink"], bbox={"facecolor": PALETTE["paper"], "edgecolor": "none", "pad": 0.6, "alpha": 0.75},
            )  # fmt: skip
    _legend(figure)
    return figure


def _arcs(drawn: Graph, width: float) -> Figure:
    from matplotlib.figure import Figure

    lines = sum(len(nodes) + 1 for nodes in drawn.columns.values()) - 1
    figure = Figure(figsize=(width, 0.235 * lines + 0.75), layout="constrained")
    axes = figure.subplots()
    _bare(axes)
    axes.set_xlim(-1.0, 1.35)
    axes.set_ylim(lines - 0.3, -0.9)
    places: dict[str, tuple[float, float]] = {}
    y = 0.0
    for site, nodes in drawn.columns.items():
        if site != DECISION:
            axes.text(
                0.1, y, shortened(site, 26), va="center", fontweight="bold", fontsize=9, color=PALETTE["ink"]
            )
            y += 1
        for node in nodes:
            places[node.name] = (0.0, y)
            y += 1
    _edges(axes, drawn, places, bend="arcs")
    for nodes in drawn.columns.values():
        for node in nodes:
            x, at = places[node.name]
            _disc(axes, node, x, at, drawn)
            axes.text(
                x + 0.1,
                at,
                shortened(node.said, int(6.4 * width)),
                va="center",
                fontsize=8.5,
                color=PALETTE["ink"],
            )
    _legend(figure)
    return figure


def _edges(axes: Axes, drawn: Graph, places: Mapping[str, tuple[float, float]], *, bend: str) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    strongest = max((abs(effect) for *_, effect in drawn.edges), default=1.0) or 1.0
    farthest = max(abs(places[a][1] - places[b][1]) for a, b, _ in drawn.edges) if drawn.edges else 1.0
    for upstream, downstream, effect in reversed(drawn.edges):  # the strongest on top
        (x, y), (u, v) = places[upstream], places[downstream]
        strength = abs(effect) / strongest
        if bend == "columns":
            reach = (u - x) * 0.45
            vertices = [(x, y), (x + reach, y), (u - reach, v), (u, v)]
        else:
            reach = 0.22 + 0.95 * abs(v - y) / max(farthest, 1.0)
            vertices = [(x, y), (x - reach, y), (u - reach, v), (u, v)]
        codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
        axes.add_patch(
            PathPatch(
                Path(vertices, codes), facecolor="none", edgecolor=PALETTE[HELPS if effect > 0 else HURTS],
                linewidth=0.5 + 3.6 * strength, alpha=0.25 + 0.5 * strength, capstyle="round",
                linestyle="-" if effect > 0 else (0, (3, 1.4)), zorder=1,
            )
        )  # fmt: skip


def _disc(axes: Axes, node: Node, x: float, y: float, drawn: Graph) -> None:
    if node.name == DECISION:
        colour, size, shape = PALETTE["ink"], 9.0, "D"
    else:
        strongest = max(abs(each.effect) for nodes in drawn.columns.values() for each in nodes) or 1.0
        colour = PALETTE[HELPS if node.effect > 0 else HURTS]
        size = 4.5 + 6.5 * math.sqrt(abs(node.effect) / strongest)
        shape = "s" if node.error else "o"
    filled = not (node.error or node.effect < 0)
    axes.plot(
        [x], [y], shape, color=colour, markersize=size, markerfacecolor=colour if filled else PALETTE["paper"],
        markeredgewidth=1.6, zorder=3, clip_on=False,
    )  # fmt: skip


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    from ssae_debias.report.evaluation.styles import key

    mark: dict[str, Any] = {"linewidth": 2.2, "marker": "o", "markersize": 6}
    key(
        figure,
        [
            Line2D([], [], color=PALETTE[HELPS], label="helps the decision", **mark),
            Line2D(
                [], [], color=PALETTE[HURTS], linestyle=(0, (3, 1.4)), label="hurts it",
                markerfacecolor=PALETTE["paper"], **mark,
            ),
            Line2D(
                [], [], color=PALETTE["muted"], linestyle="none", marker="s", markersize=6, label="error term",
                markerfacecolor=PALETTE["paper"],
            ),
        ],
    )  # fmt: skip
