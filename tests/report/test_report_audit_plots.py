from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import pytest

from ssae_debias.report.audit import (
    SiteLeakage,
    TradeoffPoint,
    audit_group_plot,
    example_audit_content,
    site_leakage_plot,
    tradeoff_plot,
)
from ssae_debias.report.audit.plots import MOST_GROUPS, groups_drawn
from ssae_debias.report.content import Estimate
from ssae_debias.report.plots import NARROW, WIDTH

EXAMPLE = example_audit_content()
START, OURS = EXAMPLE.variants[:2]
DRAWINGS = {
    "groups": lambda **options: audit_group_plot(START, OURS, **options),
    "groups before": lambda **options: audit_group_plot(START, None, **options),
    "leakage": lambda **options: site_leakage_plot(EXAMPLE.leakage, **options),
    "tradeoff": lambda **options: tradeoff_plot(EXAMPLE.tradeoff, proposed=5, **options),
}


@pytest.fixture(params=DRAWINGS)
def draw(request):
    return DRAWINGS[request.param]


def words(svg: str) -> list[str]:
    return [
        "".join(node.itertext()).strip()
        for node in ElementTree.fromstring(svg).iter()
        if node.tag.endswith("text")
    ]


@pytest.mark.parametrize("width", [WIDTH, NARROW])
def test_a_plot_is_spoken_follows_the_theme_and_repeats(draw, width) -> None:
    svg = draw(width=width)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert len(root.get("aria-label")) > 60
    assert root.get("width") is None
    assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)) == []
    assert svg == draw(width=width)


def test_ids_do_not_collide_on_a_page() -> None:
    pictures = [draw(width=width) for draw in DRAWINGS.values() for width in (WIDTH, NARROW)]
    ids = [name for svg in pictures for name in re.findall(r' id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))


def test_groups_are_drawn_with_their_values_and_sizes() -> None:
    shown = words(audit_group_plot(START, OURS))
    for said in ("32.3", "78.1", "as it is", "latents ablated", "n = 99"):
        assert said in " ".join(shown)
    assert "latents ablated" not in audit_group_plot(START, None)


def test_the_lowest_of_many_groups_are_drawn() -> None:
    groups = {
        f"label {i}/{side}": {"accuracy": Estimate(0.9 - 0.01 * i, 0.2, 0.95), "n": 50}
        for i in range(30)
        for side in "FM"
    }
    many = dataclasses.replace(START, groups=groups)
    assert len(groups_drawn(many, many)) == MOST_GROUPS
    assert groups_drawn(many, None)[0].startswith("label 29/")
    shown = " ".join(words(audit_group_plot(many, many)))
    assert "label 29/F" in shown
    assert "label 1/" not in shown


@pytest.mark.parametrize("width", [WIDTH, NARROW])
def test_names_that_begin_alike_stay_apart(width) -> None:
    label = "teacher of mathematics and physics"
    names = [f"{label}/she-words × under forty years of age", f"{label}/she-words × of forty years and more"]
    groups = {name: {"accuracy": Estimate(0.5, 0.4, 0.6), "n": 50} for name in names}
    shown = words(audit_group_plot(dataclasses.replace(START, groups=groups), None, width=width))
    lines = [line for line in shown if "…" in line and "she" in line]
    assert len(set(lines)) == 2
    assert max(map(len, lines)) <= 30


def test_leakage_says_every_site_probe_and_state() -> None:
    svg = site_leakage_plot(EXAMPLE.leakage)
    label = ElementTree.fromstring(svg).get("aria-label").replace("\u202f", " ")
    assert "linear probe: embed 96.2 % → 57.1 %" in label
    assert "MLP probe: embed 96.6 % → 64.2 %" in label
    assert "chance" in words(svg)


def test_leakage_without_edit_or_mlp_draws_what_is_there() -> None:
    level = Estimate(0.9, 0.88, 0.92)
    svg = site_leakage_plot(
        [SiteLeakage("embed", level), SiteLeakage("module:encoder.layer.11.output", level)]
    )
    assert "edited" not in svg
    assert "MLP" not in svg
    partly = [SiteLeakage("embed", level), SiteLeakage("resid.1", level, edited_mlp=level)]
    assert "MLP probe: resid.1 90.0\u202f%." in site_leakage_plot(partly)


def test_the_tradeoff_has_its_values_and_marks_the_proposal() -> None:
    svg = tradeoff_plot(EXAMPLE.tradeoff, proposed=5)
    label = ElementTree.fromstring(svg).get("aria-label").replace("\u202f", " ")
    for said in ("Worst group 0: 32.3 %", "5: 78.1 %", "Flips 0: 31.4 %", "100: 3.4 %"):
        assert said in label
    assert "proposed" in words(svg)
    assert "proposed" not in words(tradeoff_plot(EXAMPLE.tradeoff, proposed=5000))
    assert "0" in words(svg)


def test_a_tradeoff_of_accuracy_alone_has_one_curve() -> None:
    points = [TradeoffPoint(n, Estimate(0.9, 0.88, 0.92)) for n in (0, 1, 7000)]
    shown = words(tradeoff_plot(points, width=NARROW))
    assert "Accuracy" in shown
    assert "7,000" in shown
    assert "Flips" not in shown


@pytest.mark.parametrize(
    "empty",
    [
        lambda: audit_group_plot(dataclasses.replace(START, groups=None), None),
        lambda: site_leakage_plot([]),
        lambda: tradeoff_plot(EXAMPLE.tradeoff[:1]),
    ],
)
def test_nothing_to_draw_is_an_error_that_says_so(empty) -> None:
    with pytest.raises(ValueError, match="leave the plot out"):
        empty()
