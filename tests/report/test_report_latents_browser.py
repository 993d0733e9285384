"""The latents section in real headless Chromium, driven as a person would: by mouse, by keyboard, on paper."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ssae_debias.decisions import Decision, read_decisions
from ssae_debias.report import ReportContent, example_content
from ssae_debias.report.page import render
from ssae_debias.review import open_review

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(example_content()), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser: Any, page_file: Path) -> Iterator[Callable[..., Any]]:
    """Open an address in a fresh profile; whatever the console says against the page fails the test."""
    contexts, said = [], []

    def opened(address: str | None = None, **options: Any) -> Any:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address or page_file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def listed(page: Any) -> list[str]:
    """Site and number of every row in view, in order."""
    rows = page.locator("table.latents tbody:visible tr.latent")
    return rows.evaluate_all(
        "rows => rows.map(row => row.cells[0].innerText.trim() + ' ' + row.cells[1].innerText)"
    )


def row_of(page: Any, latent: int) -> Any:
    return page.locator(f'table.latents tbody[data-latent="{latent}"]')


def count(page: Any) -> str:
    return page.locator("#latents-count").inner_text()


def decide(page: Any, latent: int, word: str) -> None:
    row_of(page, latent).get_by_role("radio", name=word).check()


def downloaded(page: Any, tmp_path: Path) -> Any:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download decisions").click()
    assert waiting.value.suggested_filename == "decisions.json"
    waiting.value.save_as(tmp_path / "decisions.json")
    return read_decisions(tmp_path / "decisions.json")


def test_a_head_sorts_and_turns_round_and_rows_keep_what_they_open_to(open_page) -> None:
    page = open_page()
    assert listed(page)[0] == "embed 118"
    head = page.locator("table.latents thead").get_by_role("button", name="Swap effect")
    head.click()
    assert listed(page)[0] == "embed 118"
    head.click()
    assert listed(page)[0] == "resid.1 893"
    assert head.locator("..").get_attribute("aria-sort") == "ascending"
    page.locator("table.latents thead").get_by_role("button", name="Name").click()
    assert listed(page)[:2] == ["resid.3 12", "embed 402"]
    row_of(page, 640).locator(".toggle").click()
    assert "practitioner" in row_of(page, 640).locator(".texts").inner_text()


def test_rows_are_found_by_words_site_and_decision(open_page) -> None:
    page = open_page()
    page.get_by_label("Find").fill("WOMEN resid")
    assert listed(page) == ["resid.1 57"]
    assert page.locator("#latents-shown").inner_text() == "1 of 6 latents shown"
    page.get_by_label("Find").fill("nowhere")
    assert listed(page) == []
    assert page.locator("#latents-none").is_visible()
    page.get_by_label("Find").fill("")
    page.get_by_role("combobox", name="Site", exact=True).select_option("resid.3")
    assert listed(page) == ["resid.3 12", "resid.3 640"]
    page.locator("#latents-decision").select_option("keep")
    assert listed(page) == ["resid.3 640"]
    page.get_by_role("combobox", name="Site", exact=True).select_option("")
    page.locator("#latents-decision").select_option("changed")
    assert listed(page) == []
    page.locator("#latents-decision").select_option("")
    decide(page, 893, "keep")
    page.locator("#latents-decision").select_option("changed")
    assert listed(page) == ["resid.1 893"]


def test_a_row_opens_to_texts_figures_their_meaning_and_neighbours(open_page) -> None:
    page = open_page()
    row, toggle = row_of(page, 57), row_of(page, 57).locator(".toggle")
    assert not row.locator(".texts").is_visible()
    assert toggle.get_attribute("aria-expanded") == "false"
    toggle.click()
    assert toggle.get_attribute("aria-expanded") == "true"
    assert page.locator(f"#{toggle.get_attribute('aria-controls')}").is_visible()
    assert row.locator("mark").first.is_visible()
    assert re.search(r"Swap effect\s+0\.93 response over its standard deviation", row.inner_text())
    row.get_by_role("link", name="resid.1 893").click()
    assert row_of(page, 893).locator(".texts").is_visible()
    assert page.evaluate("document.activeElement.closest('tbody').dataset.latent") == "893"
    row_of(page, 893).locator(".named").click()  # anywhere on the row closes it again
    assert not row_of(page, 893).locator(".texts").is_visible()


def test_a_link_to_a_latent_that_is_filtered_away_brings_it_back(open_page) -> None:
    page = open_page()
    row_of(page, 57).locator(".toggle").click()
    page.get_by_label("Find").fill("women")
    assert "resid.1 893" not in listed(page)
    row_of(page, 57).get_by_role("link", name="resid.1 893").click()
    assert row_of(page, 893).locator(".texts").is_visible()


def test_decisions_and_notes_are_counted_downloaded_and_survive_a_reload(open_page, tmp_path: Path) -> None:
    page = open_page()
    assert count(page) == "5 ablated, 1 kept, 0 changed by you, 1 note"
    assert downloaded(page, tmp_path).words == {("resid.3", 640): "keep"}  # a person's from before
    decide(page, 118, "keep")
    decide(page, 402, "keep")
    decide(page, 402, "ablate")
    row_of(page, 118).locator(".toggle").click()
    row_of(page, 118).get_by_label("Your note").fill('task word\n"quoted" <b>☂</b>')
    assert count(page) == "4 ablated, 2 kept, 1 changed by you, 2 notes"
    assert row_of(page, 118).locator(".was").inner_text() == "was ablate · note"
    read = downloaded(page, tmp_path)
    assert read.items == {
        ("embed", 118): Decision("keep", 'task word\n"quoted" <b>☂</b>'),
        ("resid.3", 640): Decision("keep", "Fires on the profession itself, in texts about men too."),
    }
    assert read.saes == example_content().saes
    page.reload()
    assert count(page) == "4 ablated, 2 kept, 1 changed by you, 2 notes"
    assert row_of(page, 118).get_by_role("radio", name="keep").is_checked()
    row_of(page, 118).locator(".toggle").click()
    assert row_of(page, 118).get_by_label("Your note").input_value().startswith("task word")
    page.get_by_role("button", name="Undo my changes").click()
    assert count(page) == "5 ablated, 1 kept, 0 changed by you, 1 note"
    page.reload()
    assert count(page) == "5 ablated, 1 kept, 0 changed by you, 1 note"


def test_what_was_decided_on_one_page_does_not_turn_up_on_another(
    open_page, tmp_path: Path, page_file: Path
) -> None:
    page = open_page()
    decide(page, 118, "keep")
    other = dataclasses.replace(example_content(), saes={"embed": "f" * 16})
    (tmp_path / "other.html").write_text(render(other), encoding="utf-8")
    page.goto((tmp_path / "other.html").as_uri())
    assert "0 changed by you" in count(page)
    page.goto(page_file.as_uri())
    assert "1 changed by you" in count(page)


def test_without_storage_the_page_works(open_page, page_file: Path, tmp_path: Path) -> None:
    page = open_page("about:blank")
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } });"
    )
    page.goto(page_file.as_uri())
    decide(page, 118, "keep")
    assert "1 changed by you" in count(page)
    assert downloaded(page, tmp_path).words["embed", 118] == "keep"


def test_all_is_done_by_keyboard_alone(open_page) -> None:
    page = open_page()
    page.locator("#latents-find").focus()
    page.keyboard.type("she / her")
    assert listed(page) == ["embed 118"]
    pressed: list[str] = []
    for _ in range(24):  # past the menus, the buttons and the heads to the row
        page.keyboard.press("Tab")
        pressed.append(page.evaluate("document.activeElement.className + document.activeElement.type"))
        if pressed[-1].startswith("toggle"):
            break
    page.keyboard.press("Enter")
    assert row_of(page, 118).locator(".texts").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.value") == "ablate"
    page.keyboard.press("ArrowLeft")
    assert "1 changed by you" in count(page)
    assert row_of(page, 118).get_by_role("radio", name="keep").is_checked()
    page.keyboard.press("Tab")
    page.keyboard.type("by hand")
    assert "2 notes" in count(page)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_every_control_is_named_and_headings_are_in_order(open_page) -> None:
    page = open_page()
    row_of(page, 57).locator(".toggle").click()
    unnamed = page.evaluate("""() => [...document.querySelectorAll("#latents :is(input, select, textarea, button)")]
        .filter((control) => !control.labels?.length && !control.ariaLabel && !control.textContent.trim()).length""")
    assert unnamed == 0
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((head) => +head.tagName[1])")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    groups = page.get_by_role("radiogroup", name="Decision on embed 118")
    assert groups.count() == 1
    assert page.locator("#latents-count").get_attribute("aria-live") == "polite"
    assert page.get_by_role("table").filter(has=page.locator("tbody[data-latent]")).count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_overflows_and_text_can_be_read(open_page, scheme: str, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for toggle in page.locator("table.latents .toggle").all():
        toggle.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    beyond = page.evaluate("""() => [...document.querySelectorAll("#latents *")]
        .filter((element) => element.checkVisibility() && element.getBoundingClientRect().width)
        .filter((element) => !element.closest("thead"))
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))""")
    assert beyond == []
    assert page.evaluate(CONTRAST) == []


# WCAG AA asks for 4.5 to 1; colours that the page mixes itself (marks) are painted to read them.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const painted = (under, colour) => {
    canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const low = [];
  for (const element of document.querySelectorAll("#latents *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.disabled) continue;
    const behind = [];
    for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    let under = "rgb(255, 255, 255)";
    for (const colour of behind) under = `rgb(${painted(under, colour)})`;
    const [a, b] = [light(painted(under, getComputedStyle(element).color)), light(painted(under, under))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([ratio.toFixed(2), element.className, element.textContent.slice(0, 30)]);
  }
  return low;
}"""


def test_on_paper_rows_stand_open_and_controls_are_gone(open_page) -> None:
    page = open_page()
    decide(page, 893, "keep")
    page.emulate_media(media="print")
    assert page.locator("table.latents .texts:visible").count() == 6
    assert (
        page.locator(
            "#latents :is(input, textarea, select, button:not(thead button, .toggle)):visible"
        ).count()
        == 0
    )
    assert row_of(page, 893).locator(".decision").inner_text() == "keep"
    assert row_of(page, 640).locator(".note").is_visible()
    assert page.locator("#latents-legend").is_visible()


def test_without_scripts_all_is_there_to_read_and_nothing_to_press(open_page) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("table.latents .texts:visible").count() == 6
    assert page.locator(":is(#latents-tools, .switch, .noting):visible").count() == 0
    assert row_of(page, 640).locator(".note").is_visible()


def test_a_narrow_screen_sorts_by_a_menu(open_page) -> None:
    page = open_page(viewport={"width": 375, "height": 800})
    page.get_by_label("Sort by").select_option(label="Frequency")
    names = page.locator("table.latents tbody").evaluate_all("rows => rows.map(row => row.dataset.latent)")
    assert names[0] == "640"


@pytest.mark.parametrize("served", [False, True])
def test_nothing_from_the_data_runs(open_page, hostile: ReportContent, tmp_path: Path, served: bool) -> None:
    path = tmp_path / "report.html"
    # without the policy: escaping alone must hold
    text = render(dataclasses.replace(hostile, saes={} if served else hostile.saes))
    path.write_text(
        text if served else re.sub(r'<meta http-equiv="Content-Sec[^>]*>', "", text), encoding="utf-8"
    )
    page = open_page(path.as_uri()) if not served else None
    review = open_review(path) if served else None
    try:
        if review is not None:
            threading.Thread(target=review.serve_forever, daemon=True).start()
            page = open_page(review.url)
        assert page is not None
        page.locator("table.latents .toggle").click()
        page.locator("#latents-find").fill("<script>")
        page.get_by_role("radio", name="keep").check()
        page.locator("table.latents thead button").first.click()
        assert page.title().startswith("<script>")
        assert page.evaluate("document.querySelectorAll('script, img, iframe').length") == 1
        assert page.locator('a[href^="javascript"]').count() == 0
        assert "document.title='RAN'" in row_of(page, 1).inner_text()
    finally:
        if review is not None:
            review.shutdown()
            review.server_close()


def test_a_review_saves_as_it_goes_and_two_tabs_agree(open_page, page_file: Path, tmp_path: Path) -> None:
    shutil.copy(page_file, tmp_path / "report.html")
    kept = tmp_path / "decisions.json"
    with open_review(tmp_path) as review:
        threading.Thread(target=review.serve_forever, daemon=True).start()
        page = open_page(review.url)
        saved = page.locator("#latents-saved")
        playwright.expect(saved).to_contain_text("as you make them")
        decide(page, 118, "keep")
        playwright.expect(saved).to_have_text("Saved to decisions.json.")
        assert read_decisions(kept).words == {("embed", 118): "keep", ("resid.3", 640): "keep"}
        row_of(page, 118).locator(".toggle").click()
        row_of(page, 118).get_by_label("Your note").press_sequentially("task word", delay=5)
        page.wait_for_timeout(200)
        assert read_decisions(kept).notes["embed", 118] == "task word"
        assert page.evaluate("localStorage.length") == 0
        second = open_page(review.url)
        assert "1 changed by you" in count(second)
        decide(second, 402, "keep")
        playwright.expect(second.locator("#latents-saved")).to_have_text("Saved to decisions.json.")
        decide(page, 118, "ablate")
        playwright.expect(saved).to_have_text("Saved to decisions.json.")
        page.wait_for_timeout(200)
        assert read_decisions(kept).words == {
            ("embed", 118): "ablate", ("embed", 402): "keep", ("resid.3", 640): "keep",
        }  # fmt: skip
        review.shutdown()


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_review_that_was_stopped_says_so_and_loses_nothing(
    browser: Any, page_file: Path, tmp_path: Path
) -> None:
    shutil.copy(page_file, tmp_path / "report.html")
    command = [sys.executable, "-m", "ssae_debias", "review", str(tmp_path), "--no-browser"]
    context = browser.new_context()
    page = context.new_page()
    # as in a terminal: what a shell starts in the background ignores Ctrl-C, and so does all that it starts
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heard) as running:
        assert running.stdout is not None
        page.goto(running.stdout.readline().split()[-1])
        decide(page, 402, "keep")
        playwright.expect(page.locator("#latents-saved")).to_have_text("Saved to decisions.json.")
        running.send_signal(signal.SIGINT)
        try:
            assert "ssae-debias run" in running.communicate(timeout=30)[0]
        finally:
            running.kill()  # leaving the block waits for it
    assert running.returncode == 0
    decide(page, 118, "keep")
    playwright.expect(page.locator("#latents-saved")).to_contain_text("Not saved")
    assert downloaded(page, tmp_path).words["embed", 118] == "keep"
    context.close()
