"""The page in a real headless Chromium: nothing from the data runs, and the table sorts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ssae_debias.report import ReportContent, example_content
from ssae_debias.report.page import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture
def dom_after(tmp_path: Path):
    """Open a page in Chromium and give its elements as HTML once it has settled."""

    def open_page(page: str) -> str:
        path = tmp_path / "page.html"
        path.write_text(page, encoding="utf-8")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [CHROMIUM, *FLAGS, profile, "--virtual-time-budget=3000", "--dump-dom", path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return open_page


@pytest.fixture
def title_after(dom_after):
    """Open a page in Chromium and give its title once it has settled."""
    return lambda page: re.search(r"<title>(.*?)</title>", dom_after(page), re.DOTALL)[1]


def without_policy(page: str) -> str:
    bare, found = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n', "", page)
    assert found == 1
    return bare


@pytest.mark.parametrize("shield", ["policy and escaping", "escaping alone"])
def test_nothing_from_the_data_runs(title_after, hostile: ReportContent, shield: str) -> None:
    page = render(hostile)
    title = title_after(page if shield == "policy and escaping" else without_policy(page))
    assert title.startswith("&lt;script&gt;")


def test_the_attack_would_have_run_unescaped(title_after) -> None:
    # Without this, the test above would also pass in a browser that runs no script at all.
    page = without_policy(render(example_content()))
    assert title_after(page.replace("</main>", "<script>document.title='RAN'</script></main>")) == "RAN"


def test_the_policy_stops_a_script_that_slipped_through(title_after) -> None:
    page = render(example_content()).replace("</main>", "<script>document.title='RAN'</script></main>")
    assert title_after(page) == example_content().title


def test_the_table_sorts_by_the_column_pressed_and_turns_round(title_after) -> None:
    probe = """<script>
    const table = document.querySelector("table.sortable");
    const names = () => [...table.tBodies[0].rows].map((row) => row.querySelector(".name").textContent);
    const heads = [...table.querySelectorAll("thead button")];
    const press = (name) => heads.find((head) => head.textContent === name).click();
    const seen = [names()[0]];
    press("Worst group"); seen.push(names()[0]);
    press("Attribute"); seen.push(names()[0], names().at(-1));
    press("Method"); seen.push(names()[0], names().at(-1));
    const sorted = table.querySelectorAll("[aria-sort]");
    document.title = [...seen, sorted.length, sorted[0].getAttribute("aria-sort")].join("|");
    </script></body>"""
    page = without_policy(render(example_content())).replace("</body>", probe)
    assert title_after(page).split("|") == [
        "Oracle", "Original model",  # by worst group, then turned round
        "Original model", "LEACE",  # the prediction that agrees most with the attribute, and least
        "Group reweighting", "Word deletion",
        "1", "ascending",
    ]  # fmt: skip


def test_the_pages_own_script_runs_under_its_policy(dom_after) -> None:
    assert '<html lang="en" class="scripted">' in dom_after(render(example_content()))
