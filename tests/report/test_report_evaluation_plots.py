"""Every plot of an evaluation, of full tables and of the poorest that may come."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from ssae_debias.report.evaluation import EvaluationContent, evaluation_plots, example_evaluation
from ssae_debias.report.evaluation.circuit_plots import MOST_NODES, circuit_figure, graph
from ssae_debias.report.evaluation.fidelity_plots import pareto_measures
from ssae_debias.report.evaluation.page import lighter
from ssae_debias.report.evaluation.plates import plates
from ssae_debias.report.plots import NARROW, WIDTH
from ssae_debias.report.svg import page_style, to_svg

EXAMPLE = example_evaluation()
NAMES = [
    "recall", "recall_found", "pareto", "fidelity", "coverage", "tail", "cumulative", "rank_error", "entropy", "maximum",
    "counts", "log_ratio", "cosines", "umap", "interpretability", "diversity", "error_term", "circuit",
]  # fmt: skip
PLATES = {plate.name: plate for plate in plates(EXAMPLE)}


def svg_of(plate, width: float) -> str:
    figure = plate.draw(width)
    with page_style():
        return lighter(to_svg(figure, plate.title))


def words(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]


def kept(*variants: str, seeds: tuple[int, ...] = (0, 1, 2), **changes) -> EvaluationContent:
    """The example with some variants and seeds alone."""
    tables = {
        name: table[table["variant"].isin(variants) & table["seed"].isin(seeds)]
        for name, table in EXAMPLE.tables.items()
    }
    base = "general" if "general" in variants else None
    return dataclasses.replace(
        EXAMPLE, variants=list(variants), base=base, tables=tables, **{"circuits": {}, **changes}
    )


SMALL = kept("dense", seeds=(0,))


def test_every_table_has_its_plot_and_every_plot_its_words() -> None:
    assert list(PLATES) == NAMES
    for plate in PLATES.values():
        assert plate.title
        assert plate.caption
        assert plate.definition
        assert plate.mirrors
        assert plate.spread
        assert plate.numbers
        assert all(len(row) == len(table.head) for table in plate.numbers for row in table.rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_is_valid_follows_the_theme_and_names_who_is_drawn(name) -> None:
    # One width each keeps the file quick; the browser's test draws both.
    width = NARROW if NAMES.index(name) % 2 else WIDTH
    svg = svg_of(PLATES[name], width)
    assert ElementTree.fromstring(svg).get("role") == "img"
    assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)) == []
    if name != "circuit":
        assert "dense, tilt 3" in words(svg)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(SMALL, id="one variant, one seed"),
        pytest.param(kept("loaded: gemma-scope-like"), id="a loaded SAE alone"),
        pytest.param(kept("general", seeds=(0, 1)), id="the base alone"),
    ],
)
def test_little_is_drawn_as_what_it_is(content) -> None:
    found = plates(content)
    expected = set(NAMES) - {"circuit"}
    if content.base is None:
        # relative perplexity needs a base, and so does the log-ratio; both tables say what they have
        assert "pareto" in {plate.name for plate in found}
    if "general" in content.variants:
        expected -= {"log_ratio"}
    assert {plate.name for plate in found} == expected
    for plate in found:
        plate.draw(NARROW).draw_without_rendering()
    if content.variants != ["general"]:
        assert "One seed each" in found[0].spread


@pytest.mark.slow
@pytest.mark.parametrize("gone", sorted(EXAMPLE.tables))
def test_a_missing_table_takes_its_own_plot_away_alone(gone) -> None:
    content = dataclasses.replace(SMALL, tables={**SMALL.tables, gone: None})
    left = {"fidelity": {"pareto", "fidelity"}, "recall_by_frequency": {"recall_found"}, "shape": set()}
    # either of the two tables of cosines is drawn without the other
    left |= {"cosines": set(), "largest": set()}
    assert set(NAMES) - {"circuit"} - {plate.name for plate in plates(content)} == left.get(gone, {gone})


def test_no_table_at_all_gives_no_plot() -> None:
    assert evaluation_plots(dataclasses.replace(EXAMPLE, tables={}, circuits={})) == {}


def test_a_probe_is_shown_by_log_loss_and_agreement() -> None:
    table = EXAMPLE.tables["fidelity"].assign(objective="probe", perplexity=np.nan)
    assert [measure.column for measure in pareto_measures(table)] == ["cross_entropy", "agreement"]
    content = dataclasses.replace(EXAMPLE, tables={"fidelity": table}, circuits={})
    plate = plates(content)[0]
    assert "probe" in plate.title
    assert "Agreement with the clean model, subdomain text" in words(svg_of(plate, WIDTH))


def test_masked_models_have_pseudo_perplexity() -> None:
    table = EXAMPLE.tables["fidelity"].assign(objective="masked")
    assert pareto_measures(table)[0].name == "Pseudo-perplexity"


@pytest.mark.slow
def test_figures_that_are_not_finite_break_nothing() -> None:
    tables = {
        "fidelity": EXAMPLE.tables["fidelity"].assign(perplexity=np.inf, kl=np.nan),
        "recall": EXAMPLE.tables["recall"].assign(f1=lambda t: t["f1"].where(t["variant"] != "bm25")),
        "interpretability": EXAMPLE.tables["interpretability"].assign(token_f1=np.nan),
        "coverage": EXAMPLE.tables["coverage"].assign(proportion=0.0, low=0.0, high=0.0),
    }
    found = {plate.name: plate for plate in plates(dataclasses.replace(EXAMPLE, tables=tables, circuits={}))}
    assert list(found) == ["recall", "pareto", "fidelity", "coverage", "interpretability"]
    for plate in found.values():
        plate.draw(NARROW).draw_without_rendering()
    shown = words(svg_of(found["recall"], NARROW))
    assert "bm25" not in shown
    assert "the site's neurons" in shown


def test_neurons_and_random_latents_are_references_without_a_variant() -> None:
    table = EXAMPLE.tables["recall"]
    assert "random latents" in words(svg_of(PLATES["recall"], NARROW))
    bare = dataclasses.replace(EXAMPLE, tables={"recall": table[table["kind"] == "sae"]}, circuits={})
    plate = plates(bare)[0]
    assert "without marks" not in plate.caption
    assert "random latents" not in words(svg_of(plate, NARROW))


def test_the_base_is_not_compared_with_itself() -> None:
    table = EXAMPLE.tables["log_ratio"]
    base = table[table["variant"] == "bm25"].assign(variant="general")
    content = dataclasses.replace(EXAMPLE, tables={"log_ratio": pd.concat([table, base])}, circuits={})
    assert "general" not in words(svg_of(plates(content)[0], NARROW))


CIRCUIT = EXAMPLE.circuits["dense, tilt 3"]


def test_a_circuit_draws_the_strongest_nodes_and_counts_the_rest() -> None:
    drawn = graph(CIRCUIT)
    assert list(drawn.columns) == ["embed", "resid.1", "mlp.2", "resid.3", "decision"]
    effects = [abs(node.effect) for node in drawn.columns["embed"]]
    assert len(effects) == MOST_NODES
    assert effects == sorted(effects, reverse=True)
    assert drawn.nodes_left == 3
    assert drawn.edges_left + len(drawn.edges) == len(CIRCUIT["edges"])
    assert "left out: 3 weaker nodes and" in PLATES["circuit"].caption


@pytest.mark.parametrize("width", [WIDTH, NARROW])
def test_a_circuit_names_its_nodes_at_any_width(width) -> None:
    with page_style():
        shown = words(to_svg(circuit_figure(CIRCUIT, width), "circuit"))
    drawn = graph(CIRCUIT)
    assert {"decision", "error term", "resid.3"} <= set(shown)
    assert sum(text[:1].isdigit() for text in shown) == sum(
        not node.error and node.name != "decision" for nodes in drawn.columns.values() for node in nodes
    )


def test_circuits_of_one_node_and_of_many_sites_are_drawn() -> None:
    one = {"nodes": [{"node": "embed/1", "site": "embed", "latent": 1, "effect": -0.2}], "edges": []}
    sites = [{"node": f"resid.{i}/1", "site": f"resid.{i}", "latent": 1, "effect": 0.2} for i in range(24)]
    for circuit in (one, {"nodes": sites, "edges": []}):
        for width in (WIDTH, NARROW):
            circuit_figure(circuit, width).draw_without_rendering()
    content = dataclasses.replace(EXAMPLE, tables={}, circuits={"bm25": one, "dense": one})
    assert [plate.name for plate in plates(content)] == ["circuit", "circuit_2"]
