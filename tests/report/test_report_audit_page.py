from __future__ import annotations

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from ssae_debias.report import ReportContent
from ssae_debias.report.audit import (
    AuditContent,
    DataFacts,
    SiteLeakage,
    TradeoffPoint,
    Variant,
    example_audit_content,
    render_audit,
    write_audit,
)
from ssae_debias.report.content import Estimate

CONTENT = example_audit_content()
START, OURS, *OTHERS = CONTENT.variants
EXAMPLE = render_audit(CONTENT)
LEVEL = Estimate(0.8, 0.78, 0.82)
BARE = AuditContent(
    title="t",
    classifier="c",
    summary=(),
    variants=[Variant("as it is", "start", False, LEVEL)],
    attribute="gender",
    groups_from="words",
    leakage=(),
    chance=0.5,
    tradeoff=(),
    latents=pd.DataFrame({"site": [], "latent": []}),
    data=DataFacts(pd.DataFrame()),
    unknown=(),
    sets={},
    seed=0,
    settings={},
    versions={},
)


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


def section(page: str, name: str) -> str:
    return page.split(f'<section id="{name}"')[1].split("</section>")[0]


def text_of(page: str) -> str:
    return " ".join(Elements(page).text.replace("\u202f", " ").split())


def test_the_page_stands_alone() -> None:
    attributes = Elements(EXAMPLE).attributes
    links = [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert re.findall(r"@import|url\((?!#)", EXAMPLE) == []
    assert len(EXAMPLE.encode()) < 5_000_000


@pytest.mark.parametrize("page", [EXAMPLE, render_audit(BARE)], ids=["whole", "bare"])
def test_links_lead_somewhere_and_headings_are_in_order(page) -> None:
    seen = Elements(page)
    ids = [value for name, value in seen.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in seen.attributes if name in ("href", "xlink:href")} <= set(ids)
    levels = [int(tag[1]) for tag in seen.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_summary_holds_verdict_figures_rivals_and_limits() -> None:
    text = text_of(EXAMPLE.split('<section id="groups">')[0])
    for said in (
        "The classifier leans on gender: its decision changes on 31.4 % of texts",
        "Words deleted, which needs no group labels, does better on flips",
        "32.3 %", "28.3–36.3", "78.1 %", "31.4 %", "4.1 %", "3.3–4.9",
        "5 latents ablated inside the model", "Accuracy over all texts: 88.4 % → 89.7 %, within the intervals.",
        "it matters which latents are ablated", "What is not known", "The smallest group, nurse/M, has 99 texts",
        "All figures and texts on this page are invented",
    ):  # fmt: skip
        assert said in text


def test_every_figure_of_the_variants_is_in_the_table() -> None:
    body = section(EXAMPLE, "variants")
    for variant in CONTENT.variants:
        for estimate in (
            variant.accuracy,
            variant.balanced_accuracy,
            variant.worst_group_accuracy,
            variant.flips["rate"],
        ):
            assert f'data-value="{estimate.mean}"' in body
    assert body.count(">proposed<") == 1
    assert body.count(">control<") == 1


def test_groups_sites_steps_counts_and_run_are_in_numbers() -> None:
    for name, said in {
        "groups": ("nurse/M", "+45.8", "intervals meet", "1,245"),
        "leakage": ("resid.5", "71.3", "69.9–72.7"),
        "tradeoff": ("100", "74.1"),
        "data": ("1,245", "86.4 %", "most in nurse/F", "+1.84", "The label alone tells gender at 88.3 %"),
        "run": ("2,214", "transformers", "4.57.1", "rule: counterfactual", *CONTENT.saes.values()),
    }.items():
        text = text_of("<section" + section(EXAMPLE, name))
        for words in said:
            assert words in text


def test_texts_of_concepts_are_marked() -> None:
    marks = re.findall(r"<mark[^>]*>([^<]+)</mark>", section(EXAMPLE, "data"))
    assert {"She", "her"} <= set(marks)


def test_groups_by_words_are_called_so() -> None:
    words = dataclasses.replace(
        LIGHT,
        groups_from="words",
        data=dataclasses.replace(
            CONTENT.data,
            counts=pd.DataFrame({"she-words": [1], "he-words": [2]}, index=["nurse"]),
        ),
    )
    text = text_of(render_audit(words))
    assert "Groups by words: nobody's gender was given." in text
    assert "she-words or he-words" in text
    assert "Groups by words" not in text_of(EXAMPLE)


def test_the_smallest_content_says_what_is_missing() -> None:
    page = render_audit(BARE)
    for absent in ("groups", "leakage", "tradeoff", "training"):
        assert f'id="{absent}"' not in page
    text = text_of(page)
    for said in (
        "is not measured: neither groups",
        "No groups:",
        "No word swaps:",
        "Nothing: the classifier is as it came.",
    ):
        assert said in text
    assert "Groups by words" not in text


# Pictures take most of a page's time; what is not about them is tried without.
LIGHT = dataclasses.replace(CONTENT, leakage=(), tradeoff=(), training=None)
UNGROUPED = {"groups": {}, "worst_group": None, "worst_group_accuracy": None, "balanced_accuracy": None}


def those(**changes) -> list[Variant]:
    return [dataclasses.replace(variant, **changes) for variant in CONTENT.variants]


@pytest.mark.parametrize(
    "changes",
    [
        {"leakage": [SiteLeakage("embed", LEVEL)], "latents": CONTENT.latents.iloc[:0]},
        {"tradeoff": [TradeoffPoint(0, LEVEL)], "latents": CONTENT.latents[["site", "latent"]]},
        {"tradeoff": [TradeoffPoint(0, LEVEL), TradeoffPoint(3, LEVEL)], "variants": those(**UNGROUPED)},
        {
            "data": DataFacts(CONTENT.data.counts, LEVEL, CONTENT.data.concepts[["site", "latent"]]),
            "variants": [START],
        },
        {
            "data": DataFacts(pd.DataFrame({"F": [0], "M": [0], "X": [0]}, index=[1.5])),
            "variants": those(flips=None, flips_by_group=None),
        },
        {"subdomain": None, "variants": [START, dataclasses.replace(OURS, groups=None, flips=None)]},
        {"saes": None, "variants": [dataclasses.replace(START, groups=None, flips=None), OURS]},
        {"variants": [START, dataclasses.replace(OURS, groups={"else/1": START.groups["nurse/M"]})]},
    ],
)
def test_each_optional_part_may_be_absent(changes) -> None:
    page = render_audit(dataclasses.replace(LIGHT, **changes))
    seen = Elements(page)
    assert seen.tags.count("script") == 1
    assert "variants" in {value for name, value in seen.attributes if name == "id"}
    shown = page.split("<body>")[1].split("<script>")[0]
    for word in ("None", "nan", "Undefined"):
        assert not re.search(rf"\b{word}\b", shown)


def test_many_labels_and_crossed_attributes_render() -> None:
    groups = {
        f"label {i}/{side} × {age}": {"accuracy": LEVEL, "n": 20 + i}
        for i in range(28)
        for side in "FMX"
        for age in ("old", "young")
    }
    crossed = [dataclasses.replace(v, groups=groups, flips_by_group=None) for v in (START, OURS)]
    counts = pd.DataFrame([[1] * 6] * 28, columns=[f"{s} × {a}" for s in "FMX" for a in ("old", "young")])
    page = render_audit(dataclasses.replace(LIGHT, variants=crossed, data=DataFacts(counts)))
    assert section(page, "groups").count('<th scope="row"') == 168
    assert "the 16 lowest groups of 168, all are in the table" in page
    assert len(page.encode()) < 5_000_000


@pytest.mark.slow
def test_thousands_of_latents_and_concepts_keep_the_page_small() -> None:
    latents = pd.concat([CONTENT.latents] * 700, ignore_index=True)
    latents["latent"] = range(len(latents))
    concepts = pd.concat([CONTENT.data.concepts] * 300, ignore_index=True)
    data = dataclasses.replace(CONTENT.data, concepts=concepts)
    page = render_audit(dataclasses.replace(CONTENT, latents=latents, data=data))
    assert len(page.encode()) < 5_000_000
    assert "852 more are left out." in page


@pytest.fixture
def hostile_audit(hostile: ReportContent) -> AuditContent:
    """An audit with the attack of the `hostile` report in every text, name, key and value."""
    attack = hostile.title
    variants = [
        dataclasses.replace(
            variant,
            name=f"{attack}{variant.name}",
            worst_group=attack,
            groups={f"{attack}{name}": group for name, group in variant.groups.items()},
            flips_by_group={f"{attack}{name}": flips for name, flips in variant.flips_by_group.items()},
        )
        for variant in CONTENT.variants
    ]
    by_label = dataclasses.replace(variants[1], flips_by_group={f"only {attack}": variants[1].flips})
    concepts = hostile.flagged.assign(name=attack, group=attack, effect=1.0, n=3)
    return dataclasses.replace(
        CONTENT,
        title=attack,
        classifier=attack,
        summary=[attack],
        variants=[variants[0], by_label, *variants[2:]],
        attribute=attack,
        groups_from="words",
        leakage=[dataclasses.replace(row, site=f"{attack}{row.site}") for row in CONTENT.leakage],
        latents=hostile.flagged.assign(name=attack),
        data=DataFacts(pd.DataFrame({attack: [1, 2], "M": [2, 1]}, index=[attack, "b"]), LEVEL, concepts),
        unknown=[attack],
        sets={attack: 3},
        settings={attack: [attack]},
        versions={attack: attack},
        subdomain=hostile.subdomain,
        training=hostile.training,
        saes={attack: attack},
    )


def test_nothing_from_the_data_becomes_an_element(hostile_audit: AuditContent) -> None:
    page = render_audit(hostile_audit)
    seen, plain = Elements(page), Elements(EXAMPLE)
    assert seen.tags.count("script") == 1
    assert set(seen.tags) <= set(plain.tags)
    assert [name for name, _ in seen.attributes if name.startswith("on")] == []
    assert "img" not in seen.tags
    assert seen.text.count("document.title='RAN'") > 30
    assert "{{ 7 * 7 }}" in seen.text


def test_only_the_pages_own_script_may_run() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', EXAMPLE)[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)


def test_the_same_content_gives_the_same_bytes() -> None:
    assert render_audit(example_audit_content()) == EXAMPLE


def test_tables_have_captions_and_scopes_and_figures_a_text() -> None:
    outside = EXAMPLE.split('<section id="latents"')[0] + section(EXAMPLE, "data")
    assert outside.count("<table") == outside.count("<caption")
    assert "<th>" not in EXAMPLE
    assert all(len(label) > 40 for label in re.findall(r'<svg[^>]*aria-label="([^"]*)"', EXAMPLE))
    assert '<a class="skip" href="#main">' in EXAMPLE


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "audit.html"
    assert write_audit(path, dataclasses.replace(LIGHT, unknown=["cut \ud83d here"])) == path
    assert "cut ? here" in path.read_text(encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(TypeError, match="AuditContent, got dict"):
        write_audit(path, {"title": "x"})  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
