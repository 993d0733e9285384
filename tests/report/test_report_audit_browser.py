"""The page of an audit in a real headless Chromium: no errors, no overflow, nothing from the data runs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from ssae_debias.report import ReportContent
from ssae_debias.report.audit import (
    AuditContent,
    DataFacts,
    SiteLeakage,
    example_audit_content,
    render_audit,
)
from ssae_debias.report.content import Estimate

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

CONTENT = example_audit_content()
LEVEL = Estimate(0.8, 0.78, 0.82)
LONG = "module:encoder.layer.11.output.dense.of.a.model.with.a.name.without.blanks"


def long_names() -> AuditContent:
    """Everything that has a name has a long one, and there are many of each."""
    groups = {
        f"teacher of mathematics and physics {i}/she-words × {age}": {"accuracy": LEVEL, "n": 20 + i}
        for i in range(12)
        for age in ("under forty years of age", "of forty years and more")
    }
    worst = next(iter(groups))
    variants = [
        dataclasses.replace(variant, name=f"{variant.name}, {LONG}", groups=groups, worst_group=worst)
        for variant in CONTENT.variants
    ]
    counts = pd.DataFrame([[10, 20, 30, 40, 50]] * 12, columns=[f"{LONG} {i}" for i in range(5)])
    return dataclasses.replace(
        CONTENT,
        title=LONG,
        classifier=LONG,
        attribute="gender and age and everything that goes with them",
        groups_from="words",
        variants=variants,
        leakage=[SiteLeakage(f"{LONG}.{i}", LEVEL, LEVEL, LEVEL) for i in range(6)],
        data=dataclasses.replace(CONTENT.data, counts=counts),
        settings={LONG: [LONG]},
        versions={LONG: LONG},
        sets={LONG: 3},
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, tmp_path: Path):
    """Open HTML in the browser; the page's errors gather in `page.errors`."""
    contexts = []

    def open_html(html: str, *, width: int = 1280, scheme: str = "light", script: bool = True):
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.errors = []
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_html
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_no_errors_and_no_overflow(open_page, width, scheme) -> None:
    for html in (render_audit(CONTENT), render_audit(long_names())):
        page = open_page(html, width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.errors == []


def test_each_width_shows_its_own_pictures_with_no_text_outside(open_page) -> None:
    html = render_audit(CONTENT)
    for width, shown in ((1280, "wide"), (375, "narrow")):
        page = open_page(html, width=width)
        visible = page.locator("figure.plot svg:visible")
        assert visible.count() == html.count('<figure class="plot">')
        assert page.locator(f"figure.plot .{shown} svg:visible").count() == visible.count()
        outside = page.evaluate(
            """() => [...document.querySelectorAll("figure.plot svg")].filter((svg) => svg.checkVisibility())
            .flatMap((svg) => [...svg.querySelectorAll("text")])
            .filter((text) => text.getBoundingClientRect().right > innerWidth
                || text.getBoundingClientRect().left < 0).map((text) => text.textContent)"""
        )
        assert outside == []


def hostile_audit(attack: str) -> AuditContent:
    variants = [
        dataclasses.replace(variant, name=f"{attack}{variant.name}", worst_group=attack)
        for variant in CONTENT.variants
    ]
    texts = [[(attack, [("script", 2.0)])]]
    latents = pd.DataFrame({"site": [attack], "latent": [1], "name": [attack], "top_texts": texts})
    counts = pd.DataFrame({attack: [1], "M": [2]}, index=[attack])
    return dataclasses.replace(
        CONTENT,
        title=attack,
        attribute=attack,
        summary=[attack],
        variants=variants,
        latents=latents,
        data=DataFacts(counts, LEVEL, latents.assign(group=attack)),
        unknown=[attack],
        settings={attack: attack},
    )


@pytest.mark.parametrize("shield", ["policy and escaping", "escaping alone"])
def test_nothing_from_the_data_runs(open_page, hostile: ReportContent, shield: str) -> None:
    html = render_audit(hostile_audit(hostile.title))
    if shield == "escaping alone":
        html = html.replace("Content-Security-Policy", "X-No-Policy")
    page = open_page(html)
    assert page.title().startswith("<script>")
    assert page.locator("script").count() == 1


def test_the_policy_stops_a_script_that_slipped_through(open_page) -> None:
    slipped = "<script>document.title='RAN'</script></main>"
    page = open_page(render_audit(CONTENT).replace("</main>", slipped))
    assert page.title() == CONTENT.title
    assert len(page.errors) == 1
    # Without the policy it would have run: the browser of this test does run scripts.
    bare = render_audit(CONTENT).replace("Content-Security-Policy", "X-No-Policy").replace("</main>", slipped)
    assert open_page(bare).title() == "RAN"


def test_the_methods_sort_with_missing_figures_last(open_page) -> None:
    variants = [
        dataclasses.replace(variant, flips=None) if variant.name == "LEACE" else variant
        for variant in CONTENT.variants
    ]
    page = open_page(render_audit(dataclasses.replace(CONTENT, variants=variants)))
    table = page.locator("#variants table")

    def names() -> list[str]:
        return table.locator("tbody .name").all_text_contents()

    assert names()[:2] == ["as it is", "latents ablated"]
    head = table.get_by_role("button", name="Flips")
    head.click()
    assert (names()[0], names()[-1]) == ("as it is", "LEACE")
    head.press("Enter")
    assert (names()[0], names()[-1]) == ("words deleted", "LEACE")
    assert table.locator("[aria-sort]").count() == 1
    assert table.locator("[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_the_page_can_be_used_by_keyboard_and_read_aloud(open_page) -> None:
    page = open_page(render_audit(CONTENT))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    # Each control has a name, each figure a text, each scrolled table a name and the focus.
    assert (
        page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, summary")]
        .filter((control) => control.checkVisibility() && !(control.textContent.trim()
            || control.getAttribute("aria-label") || control.labels?.length)).length"""
        )
        == 0
    )
    assert page.evaluate("[...document.querySelectorAll('svg')].every((svg) => svg.ariaLabel)")
    assert page.evaluate(
        "[...document.querySelectorAll('main .scroll')].every((box) => box.ariaLabel && box.tabIndex === 0)"
    )
    concept = page.locator(".concept summary").first
    concept.focus()
    page.keyboard.press("Enter")
    assert page.locator(".concept").first.get_attribute("open") is not None
    assert page.locator(".concept mark:visible").count() > 0
    # A focus that cannot be seen is none.
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_text_stands_out_from_its_ground(open_page) -> None:
    """Contrast of at least 4.5 (WCAG AA) in both schemes, of every text on the page's own ground."""
    measure = """() => {
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data]; };
      const light = (channel) => (channel /= 255) <= .04045 ? channel / 12.92 : ((channel + .055) / 1.055) ** 2.4;
      const lum = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
      const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => (c * a + under[i] * (255 - a)) / 255);
      const faint = [];
      for (const element of document.querySelectorAll("main :not(svg *):not(script):not(style)")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const grounds = [];
        for (let at = element; at; at = at.parentElement) grounds.unshift(rgb(getComputedStyle(at).backgroundColor));
        let ground = [255, 255, 255];
        for (const layer of grounds) ground = over(layer, ground);
        const ink = over(rgb(getComputedStyle(element).color), ground);
        const [low, high] = [lum(ink), lum(ground)].sort((a, b) => a - b);
        const ratio = (high + .05) / (low + .05);
        if (ratio < 4.5) faint.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
      }
      return [...new Set(faint)];
    }"""
    worse = dataclasses.replace(CONTENT.variants[1], role="start", name="as it is")
    harm = dataclasses.replace(
        CONTENT, variants=[worse, dataclasses.replace(CONTENT.variants[0], role="ours", name="edited")]
    )
    for html in (render_audit(CONTENT), render_audit(harm)):
        for scheme in ("light", "dark"):
            assert open_page(html, scheme=scheme).evaluate(measure) == []


def test_without_script_everything_is_readable(open_page) -> None:
    page = open_page(render_audit(CONTENT), script=False)
    assert page.locator("#verdict").is_visible()
    assert page.locator(".script-hint:visible").count() == 0
    assert page.locator("#variants tbody tr:visible").count() == len(CONTENT.variants)
