from __future__ import annotations

import dataclasses
import os
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ssae_debias.report import ReportContent, example_content, write_report
from ssae_debias.report.page import render

EXAMPLE = render(example_content())


class Elements(HTMLParser):
    """Every element and attribute that a browser would see, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone() -> None:
    attributes = Elements(EXAMPLE).attributes
    links = [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert re.findall(r"@import|url\((?!#)", EXAMPLE) == []
    assert len(EXAMPLE.encode()) < 5_000_000


def test_links_inside_the_page_lead_somewhere() -> None:
    attributes = Elements(EXAMPLE).attributes
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in attributes if name in ("href", "xlink:href")} <= set(ids)


def test_the_summary_holds_verdict_figures_edit_and_limits() -> None:
    summary = EXAMPLE.split('<section id="groups">')[0]
    text = Elements(summary).text.replace("\u202f", " ")
    for said in (
        "The worst-served group gains 45.8 points; Word deletion, which needs no group labels, does at least",
        "32.3 %", "29.2–35.4", "78.1 %", "74.6–81.6",
        "5 latents ablated: 2 at embed, 2 at resid.1 and 1 at resid.3.",
        "What is not known", "The smallest group, nurse/M, has 99 texts",
        "All figures and texts on this page are invented",
    ):  # fmt: skip
        assert said in text


def test_every_figure_of_the_rows_is_in_the_table() -> None:
    body = EXAMPLE.split("<tbody>")[1].split("</tbody>")[0]
    for row in example_content().rows:
        for estimate in (
            row.worst_group_accuracy,
            row.task_accuracy,
            row.attribute_accuracy,
            *row.leakage.values(),
        ):
            assert f'data-value="{estimate.mean}"' in body
    assert body.count("best without labels") == 1
    assert body.count(">best<") == 1


def test_run_data_is_shown() -> None:
    text = Elements(EXAMPLE.split('<section id="run">')[1]).text
    for said in ("3,170", "0, 1, 2, 3, 4", "transformers", "4.57.1", "rule: counterfactual"):
        assert said in text


def test_nothing_from_the_data_becomes_an_element(hostile: ReportContent) -> None:
    page = render(hostile)
    seen, plain = Elements(page), Elements(EXAMPLE)
    assert seen.tags.count("script") == 1
    assert set(seen.tags) <= set(plain.tags)
    assert [name for name, _ in seen.attributes if name.startswith("on")] == []
    assert "img" not in seen.tags
    # and it is there to read, in the summary, in a text and in the recipe
    assert seen.text.count("document.title='RAN'") > 10
    assert "{{ 7 * 7 }}" in seen.text


def test_only_the_pages_own_script_may_run() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', EXAMPLE)[1]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)


def test_the_smallest_content_renders(make_row) -> None:
    content = ReportContent("t", "s", [make_row("leace", 0.5, leak=None)], {}, [], {}, {})
    page = render(content)
    assert 'id="latents"' not in page
    assert 'id="training"' not in page
    assert "Nothing to judge" in page


def test_an_empty_list_of_flagged_latents_says_so() -> None:
    content = example_content()
    page = render(dataclasses.replace(content, flagged=content.flagged.iloc[:0]))
    assert "No latent was flagged" in page


def test_a_training_without_history_shows_the_table_alone() -> None:
    page = render(dataclasses.replace(example_content(), training={"embed": {"fvu": 0.25}}))
    assert "25.0\u202f%" in page
    assert "Training curves" not in page


def test_a_recipe_of_odd_values_is_shown() -> None:
    recipe = {"path": Path("x/y"), "sites": ("embed", "resid.1"), "lr": np.float64(0.1), "name": "Zoë"}
    page = render(dataclasses.replace(example_content(), recipe=recipe))
    for line in ("path: x/y", "- embed", "name: Zoë"):
        assert line in page


def test_writing_makes_folders_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a" / "report.html"
    assert write_report(path, example_content()) == path
    assert write_report(str(path), dataclasses.replace(example_content(), title="Second")) == path
    assert "<title>Second</title>" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_half_a_character_in_a_text_does_not_lose_the_report(tmp_path: Path) -> None:
    content = dataclasses.replace(example_content(), notes=["cut \ud83d here"])
    assert "cut ? here" in write_report(tmp_path / "r.html", content).read_text(encoding="utf-8")


def test_bad_content_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(TypeError, match="ReportContent, got dict"):
        write_report(path, {"title": "x"})  # type: ignore[arg-type]
    assert not path.exists()


@pytest.mark.skipif(
    os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root may write anywhere"
)
def test_no_permission_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(PermissionError, match=r"report\.html"):
            write_report(tmp_path / "report.html", example_content())
    finally:
        tmp_path.chmod(stat.S_IRWXU)
