from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from ssae_debias.report import ReportContent
from ssae_debias.report.evaluation import (
    Claim,
    EvaluationContent,
    example_evaluation,
    render_evaluation,
    write_evaluation,
)

EXAMPLE = example_evaluation()
# A few quick plots stand for all where it does not matter which.
FEW = dataclasses.replace(
    EXAMPLE, tables={name: EXAMPLE.tables[name] for name in ("tail", "cumulative", "interpretability")}
)


def hostile_evaluation(attack: str) -> EvaluationContent:
    """The example's smaller tables with an attack wherever a text from the data stands."""
    tables = {}
    for name in ("fidelity", "tail", "recall", "interpretability", "umap", "error_term"):
        table = EXAMPLE.tables[name]
        table = table[table["variant"].isin(["general", "dense"]) & (table["seed"] == 0)]
        table = table.assign(variant=attack + table["variant"], strategy=attack + table["strategy"])
        for column in ("explanation", "concept", "corpus", "objective"):
            if column in table:
                table = table.assign(**{column: attack})
        tables[name] = table
    circuit = {
        "nodes": [{"node": attack, "site": attack, "latent": 3, "effect": 0.4}],
        "edges": [{"upstream": attack, "downstream": "decision", "effect": 0.4}],
        "names": {attack: attack},
    }
    return EvaluationContent(
        title=attack,
        summary=[attack],
        facts={attack: attack, f"{attack}2": {attack: attack}},
        seeds=(0,),
        versions={attack: attack},
        recipe={attack: [attack]},
        notes=[attack],
        seconds={attack: 1.0},
        claims=[Claim(attack, "unclear", attack, attack)],
        variants=[f"{attack}general", f"{attack}dense"],
        base=f"{attack}general",
        tables=tables,
        circuits={f"{attack}dense": circuit},
    )


class Elements(HTMLParser):
    """Tags, attributes and ids of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src") and not str(value).startswith("#"):
                self.links.append(value)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_evaluation(EXAMPLE, tmp_path_factory.mktemp("evaluation"))


@pytest.mark.slow
def test_the_whole_page_is_small_and_loads_nothing(written: Path) -> None:
    assert written.stat().st_size < 5_000_000
    page = Elements(written.read_text(encoding="utf-8"))
    assert page.links == []
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("svg") == 2 * 18


@pytest.mark.slow
def test_every_plot_is_a_file_that_other_programs_read(written: Path) -> None:
    files = sorted(path.name for path in (written.parent / "plots").iterdir())
    assert len(files) == 2 * 18
    for path in (written.parent / "plots").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.get("width").endswith("pt")
        assert "var(" not in path.read_text(encoding="utf-8")
    for path in (written.parent / "plots").glob("*.png"):
        with Image.open(path) as image:
            assert image.width > 1200
            image.verify()


def test_files_bear_their_title_and_nothing_is_left_aside(tmp_path: Path) -> None:
    page = write_evaluation(FEW, tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert "Rare token types that have a latent" in (page.parent / "plots" / "tail.svg").read_text("utf-8")
    assert "Some explanations" in page.read_text(encoding="utf-8")


def test_the_same_content_gives_the_same_page() -> None:
    assert render_evaluation(FEW) == render_evaluation(FEW)


def test_claims_are_told_by_mark_and_word() -> None:
    page = re.sub(r"\s+", " ", render_evaluation(dataclasses.replace(EXAMPLE, tables={}, circuits={})))
    assert '<span aria-hidden="true">✓</span> holds' in page
    assert '<span aria-hidden="true">✗</span> does not hold' in page
    assert '<span aria-hidden="true">?</span> unclear' in page


def test_an_evaluation_of_nothing_is_still_a_page() -> None:
    empty = dataclasses.replace(
        EXAMPLE, tables={}, circuits={}, claims=(), variants=(), base=None, notes=(), summary=(), seconds={},
        facts={}, versions={}, recipe={}, seeds=(),
    )  # fmt: skip
    assert Elements(render_evaluation(empty)).tags.count("svg") == 0


def test_explanations_are_picked_from_best_to_worst() -> None:
    page = render_evaluation(FEW)
    table = page[page.index('id="explanations"') :]
    scores = [float(score) for score in re.findall(r'<td class="number">(\d\.\d\d)</td>', table)][:12:3]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)


def test_nothing_of_the_data_becomes_an_element(hostile: ReportContent, tmp_path: Path) -> None:
    content = hostile_evaluation(hostile.title)
    path = write_evaluation(content, tmp_path)
    page = Elements(path.read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1
    assert page.tags.count("title") == 1
    assert not {"onerror", "onload", "onmouseover", "src"} & page.attributes
    assert "img" not in page.tags
    assert page.links == []
    for svg in (tmp_path / "plots").glob("*.svg"):
        tags = {node.tag.rpartition("}")[2] for node in ElementTree.parse(svg).iter()}
        assert not {"script", "img", "foreignObject", "a"} & tags


def test_signs_that_no_file_can_hold_are_left_out(tmp_path: Path) -> None:
    name = "half of \x00 a\npair $x^2$ _"
    curve = EXAMPLE.tables["cumulative"].query("variant == 'dense' and seed == 0")
    both = pd.concat([curve.assign(variant=name), curve.assign(variant="_hidden", strategy="other")])
    content = dataclasses.replace(
        EXAMPLE,
        variants=[name, "_hidden"],
        base=None,
        tables={"cumulative": both},
        title="half \ud800 of a pair",
        circuits={name: {**EXAMPLE.circuits["dense, tilt 3"], "names": {"embed/error": "\ud800 half"}}},
    )
    page = write_evaluation(content, tmp_path)
    said = "".join(ElementTree.parse(tmp_path / "plots" / "cumulative.svg").getroot().itertext())
    assert "half of a pair $x^2$ _" in said
    # matplotlib leaves names with an underscore in front out of legends
    assert "_hidden" in said
    assert "half ? of a pair</title>" in page.read_text(encoding="utf-8")
    circuit = "".join(ElementTree.parse(tmp_path / "plots" / "circuit.svg").getroot().itertext())
    assert "error term ? half" in circuit


def test_other_content_is_refused() -> None:
    with pytest.raises(TypeError, match="takes an EvaluationContent, got dict"):
        write_evaluation({}, "nowhere")
