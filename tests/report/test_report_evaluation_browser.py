"""The page of an evaluation in a real headless Chromium: no errors, no overflow, legible light and dark."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssae_debias.report import ReportContent
from ssae_debias.report.evaluation import EvaluationContent, example_evaluation, render_evaluation
from ssae_debias.report.evaluation.styles import BASE, HUES

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

EXAMPLE = example_evaluation()
LONG = "dense-retrieval-of-a-corpus-with-a-name-without-any-blank-in-it"
LIGHTNESS = """
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (channel) => (channel /= 255) <= .04045 ? channel / 12.92 : ((channel + .055) / 1.055) ** 2.4;
  const lum = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
  const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => (c * a + under[i] * (255 - a)) / 255);
  const ratio = (a, b) => { const [low, high] = [lum(a), lum(b)].sort((x, y) => x - y);
    return (high + .05) / (low + .05); };
"""


def long_names() -> EvaluationContent:
    """Every variant, fact and explanation has a long name without a blank."""
    tables = {}
    for name in ("tail", "coverage", "recall", "interpretability", "error_term"):
        table = EXAMPLE.tables[name]
        table = table.assign(variant=f"{LONG}-" + table["variant"])
        tables[name] = table.assign(explanation=LONG * 2) if "explanation" in table else table
    circuit = EXAMPLE.circuits["dense, tilt 3"]
    named = {**circuit, "names": dict.fromkeys(circuit["names"], LONG)}
    variants = [f"{LONG}-{name}" for name in EXAMPLE.variants]
    return dataclasses.replace(
        EXAMPLE, title=LONG, summary=[LONG * 3], notes=[LONG * 3], facts={LONG: LONG, "more": {LONG: LONG * 2}},
        versions={LONG: LONG}, recipe={LONG: [LONG]}, seconds={LONG: 1.0}, variants=variants, base=variants[0],
        tables=tables, circuits={variants[1]: named},
        claims=[dataclasses.replace(claim, statement=LONG, figures=LONG * 2) for claim in EXAMPLE.claims],
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {"example": folder / "example.html", "long names": folder / "long.html"}
    found["example"].write_text(render_evaluation(EXAMPLE), encoding="utf-8")
    found["long names"].write_text(render_evaluation(long_names()), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """Open a file in the browser; the page's errors gather in `page.errors`."""
    contexts = []

    def open_file(path: Path, *, width: int = 1280, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(180_000)  # a page of 36 pictures, on a machine that may be busy
        page.errors = []
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["example", "long names"])
@pytest.mark.parametrize("width", [1280, 375])
def test_no_errors_no_overflow_and_no_text_outside_its_picture(open_page, pages, name, width) -> None:
    page = open_page(pages[name], width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("figure.plot svg")].filter((svg) => svg.checkVisibility())
        .flatMap((svg) => [...svg.querySelectorAll("text")]).filter((text) => {
          const [box, frame] = [text.getBoundingClientRect(), text.closest("figure").getBoundingClientRect()];
          return box.right > innerWidth || box.left < 0 || box.top < frame.top || box.bottom > frame.bottom;
        }).map((text) => text.textContent)"""
    )
    assert outside == []
    assert page.locator("figure.plot svg:visible").count() == page.locator("figure.plot").count()
    assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_hues_stand_out_from_the_ground(open_page, pages, scheme) -> None:
    """Contrast of at least 4.5 of text, and of at least 3 of lines and marks (WCAG AA, 1.4.3 and 1.4.11)."""
    page = open_page(pages["example"], scheme=scheme)
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    faint = page.evaluate(
        f"""() => {{ {LIGHTNESS}
      const faint = [];
      for (const element of document.querySelectorAll("main :not(svg *):not(script):not(style)")) {{
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const grounds = [];
        for (let at = element; at; at = at.parentElement) grounds.unshift(rgb(getComputedStyle(at).backgroundColor));
        let ground = [255, 255, 255];
        for (const layer of grounds) ground = over(layer, ground);
        const found = ratio(over(rgb(getComputedStyle(element).color), ground), ground);
        if (found < 4.5) faint.push(`${{element.className || element.tagName}}: ${{found.toFixed(2)}}`);
      }}
      return [...new Set(faint)];
    }}"""
    )
    assert faint == []
    hues = page.evaluate(
        f"""(roles) => {{ {LIGHTNESS}
      const said = getComputedStyle(document.documentElement);
      return Object.fromEntries(roles.map((role) =>
        [role, ratio(rgb(said.getPropertyValue("--" + role)), rgb(said.getPropertyValue("--paper")))]));
    }}""",
        [BASE, *HUES],
    )
    # The light theme's sky blue and pink are the last hues to be given out, and marks and dashes stand beside them.
    assert {role for role, found in hues.items() if found < 3} <= {"series-4", "series-5"}
    assert min(hues.values()) > 2.2


def test_the_page_can_be_used_by_keyboard_and_read_aloud(open_page, pages) -> None:
    page = open_page(pages["example"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("[...document.querySelectorAll('svg')].every((svg) => svg.ariaLabel)")
    assert page.evaluate(
        "[...document.querySelectorAll('main .scroll')].every((box) => box.ariaLabel && box.tabIndex === 0)"
    )
    numbers = page.locator("#recall summary")
    numbers.focus()
    page.keyboard.press("Enter")
    assert page.locator("#recall table.numbers:visible").count() == 4
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_nothing_from_the_data_runs(open_page, hostile: ReportContent, tmp_path: Path) -> None:
    attack = hostile.title
    table = EXAMPLE.tables["interpretability"].query("variant == 'dense' and seed == 0")
    content = dataclasses.replace(
        EXAMPLE, title=attack, summary=[attack], variants=[attack], base=None, circuits={},
        tables={"interpretability": table.assign(variant=attack, explanation=attack)},
    )  # fmt: skip
    path = tmp_path / "page.html"
    # Without the policy: escaping has to hold alone.
    path.write_text(
        render_evaluation(content).replace("Content-Security-Policy", "X-No-Policy"), encoding="utf-8"
    )
    page = open_page(path)
    assert page.title().startswith("<script>")
    assert page.locator("script").count() == 1


def test_paper_shows_the_plots_in_ink(open_page, pages) -> None:
    page = open_page(pages["example"], scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("figure.plot .wide svg:visible").count() == 18
    assert page.locator("details.figures:visible").count() == 0
