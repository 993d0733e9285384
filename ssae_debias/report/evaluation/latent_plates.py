"""Plates on parts of SAEs: single latents, the error term, circuits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ssae_debias.report.evaluation.circuit_plots import MOST_NODES, circuit_figure, graph
from ssae_debias.report.evaluation.content import EvaluationContent
from ssae_debias.report.evaluation.error_plots import (
    LEAKS,
    LOSSES,
    drawable_error,
    error_figure,
    part_points,
    share_points,
)
from ssae_debias.report.evaluation.latent_plots import (
    SCORES,
    diversity_by_activity,
    diversity_figure,
    interpretability_figure,
    score_points,
    scores,
)
from ssae_debias.report.evaluation.numbers import Column, as_rows, by_variant, plain, share, with_interval
from ssae_debias.report.evaluation.plates import NOT_IN_PAPER, Plate, at_level, other_levels, spread
from ssae_debias.report.evaluation.seeds import sparsities
from ssae_debias.report.evaluation.styles import Style, drawable, shown, styles
from ssae_debias.report.wording import counted, listed, percent

LATENTS, ERROR, CIRCUITS = "Latents", "Error term", "Circuit"


def latent_plates(content: EvaluationContent) -> Iterator[Plate]:
    """Single latents, the error term and circuits."""
    looks = styles(content)
    if (table := content.table("interpretability")) is not None and scores(table):
        yield _interpretability(table, looks)
    if (table := content.table("diversity")) is not None and table["diversity"].notna().any():
        yield _diversity(table, looks)
    if (table := content.table("error_term")) is not None and drawable_error(table):
        yield _error(table, looks)
    for i, (variant, circuit) in enumerate(content.circuits.items()):
        if circuit["nodes"]:
            yield _circuit(variant, circuit, "circuit" if i == 0 else f"circuit_{i + 1}")


def _interpretability(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    ((k, part),) = sparsities(table)
    tables = []
    for score in scores(part):
        found = score_points(part, score)
        rows = [
            {**row, "said": with_interval(row["mean"], row["low"], row["high"])}
            for style in shown(looks, found["variant"])
            for row in found[found["variant"] == style.name].to_dict("records")
        ]
        heads: dict[str, Column] = {
            "variant": ("Variant", str), "n_latents": ("Latents", plain), "said": ("Mean over seeds", str),
            "quarter": ("Lower quartile", plain), "median": ("Median", plain), "three_quarters": ("Upper quartile", plain),
        }  # fmt: skip
        tables.append(as_rows(f"{SCORES[score][0]}{at_level(k)}", rows, heads))
    return Plate(
        "interpretability",
        LATENTS,
        "How well latents are explained",
        f"Points are latents, the bar is the middle half of them, the stroke the median.{other_levels(table, [k])}",
        "An explanation is written from a latent's strongest examples and then predicts others. Token F1: on which tokens it "
        "fires. Detection: in which texts. Fuzzing: whether the marked tokens are the right ones. A text that cannot be "
        "answered counts as wrong.",
        "figure 8",
        spread(table, "The bar spans latents. In the table", over="95\u202f% intervals of the mean"),
        lambda width: interpretability_figure(table, looks, width),
        tables,
    )


def _diversity(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    ((k, part),) = sparsities(table)
    place = {"n_active": ("Tokens on which it fires (geometric mean)", plain)}
    return Plate(
        "diversity",
        LATENTS,
        "Of how many token types latents speak",
        "A latent that fires rarely cannot be diverse, so variants are best compared on the right, among latents that fire "
        f"alike often.{other_levels(table, [k])}",
        "Entropy of a latent's activation over token types, divided by that of all types alike: 0 is one type, 1 all. Ours; the "
        "paper gives no formula.",
        "figure 4",
        spread(table, "Left, shades are the lowest and the highest seed; right, bands"),
        lambda width: diversity_figure(table, looks, width),
        [by_variant(f"Median score{at_level(k)}", diversity_by_activity(part), place, list(looks))],
    )


def _error(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    ((k, part),) = sparsities(table)
    tables = []
    if "share" in part and part["share"].notna().any():
        rows = [
            {**row, "said": with_interval(row["mean"], row["low"], row["high"], share)}
            for style in shown(looks, part["variant"])
            for row in share_points(part[part["variant"] == style.name]).to_dict("records")
        ]
        heads: dict[str, Column] = {
            "variant": ("Variant", str), "said": ("Error over variance", str),
            "r2": ("Of it linearly predictable (R²)", share),
        }  # fmt: skip
        tables.append(as_rows(f"Size{at_level(k)}", rows, heads))
    for name, prefix, parts in (
        ("Loss recovered", "loss_recovered", LOSSES),
        ("Balanced accuracy", "leakage", LEAKS),
    ):
        found = part_points(part, prefix, parts)
        if not found.empty:
            said = found.assign(part=found["part"].map({key: value[0] for key, value in parts.items()}))
            tables.append(
                by_variant(f"{name}{at_level(k)}", said, {"part": ("Part", str)}, list(looks), say=share)
            )
    return Plate(
        "error_term",
        ERROR,
        "What the error term is made of and what stands in it",
        "Hollow crosses are the error term by itself: an attribute that is read from it survives every edit of latents."
        f"{other_levels(table, [k])}",
        "Error term: x − x̂. Predictable is what a linear map of x gives on texts it has not seen: directions that a larger "
        "dictionary could learn. Loss recovered: against replacing x by the corpus mean.",
        f"{NOT_IN_PAPER}; Engels et al., “Dark Matter of SAEs”",
        spread(table, "Thin lines on the left and intervals in the table", one_seed="intervals over texts"),
        lambda width: error_figure(table, looks, width),
        tables,
    )


def _circuit(variant: str, circuit: Mapping[str, Any], name: str) -> Plate:
    drawn = graph(circuit)
    left = []
    if drawn.nodes_left:
        left.append(counted(drawn.nodes_left, "weaker node"))
    if drawn.edges_left:
        left.append(counted(drawn.edges_left, "edge"))
    said = (
        f"At most {MOST_NODES} nodes a site are drawn; left out: {' and '.join(left)}."
        if left
        else "All nodes are drawn."
    )
    facts = []
    for key, called in (("faithfulness", "faithfulness"), ("completeness", "completeness")):
        if circuit.get(key) is not None:
            facts.append(f"{called} {percent(float(circuit[key]), 0)}")
    sizes = f"{counted(len(circuit['nodes']), 'node')} and {counted(len(circuit['edges']), 'edge')}"
    worth = f": {', '.join(facts)}" if facts else ""
    names = circuit.get("names") or {}
    nodes = [
        {"node": row["node"], "name": names.get(row["node"], ""), "effect": row["effect"]}
        for row in circuit["nodes"]
    ]
    thresholds = [
        f"{called} of at least {plain(circuit[key])}"
        for key, called in (("node_threshold", "nodes"), ("edge_threshold", "edges"))
        if circuit.get(key) is not None
    ]
    n, labels = circuit.get("n_texts"), circuit.get("labels") or ()
    decision = (
        f"A probe tells {listed([f'“{drawable(label)}”' for label in labels])} apart. "
        if len(labels) == 2
        else ""
    )
    return Plate(
        name,
        CIRCUITS,
        f"The circuit behind the decision, {drawable(variant)}",
        f"{decision}{sizes}{worth}. {said} Wider and darker edges act more; dashed ones hurt. Faithfulness near 100\u202f% and "
        "completeness near 0\u202f% are a circuit that has all that matters.",
        f"Effect on the decision's logit of zeroing a node, and the part of it that goes through an edge"
        f"{'; ' + ', '.join(thresholds) if thresholds else ''}.",
        "figures 15 and 16",
        f"No band: one SAE{f', {n:,} texts' if n else ''}.",
        lambda width: circuit_figure(circuit, width),
        [
            as_rows(
                "Nodes", nodes, {"node": ("Node", str), "name": ("Name", str), "effect": ("Effect", plain)}
            ),
            as_rows(
                "Edges",
                circuit["edges"],
                {"upstream": ("From", str), "downstream": ("to", str), "effect": ("Effect", plain)},
            ),
        ],
    )
