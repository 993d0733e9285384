"""One HTML file that holds the whole report: styles, pictures, and the script that sorts, filters and takes decisions.

The page loads nothing. Every text from the data goes through jinja2's autoescape; a content security policy
in the page then forbids any script but its own (`ssae_debias.report.templating`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from ssae_debias.files import file_aside
from ssae_debias.report.caveats import caveats
from ssae_debias.report.content import ReportContent
from ssae_debias.report.flagged import edited
from ssae_debias.report.latents_section import latents_section
from ssae_debias.report.methods import best, by_worst_group
from ssae_debias.report.plots import (
    NARROW,
    WIDTH,
    group_plot,
    leakage_plot,
    training_curves,
    training_plot,
    worst_group_plot,
)
from ssae_debias.report.templating import page_assets, page_environment
from ssae_debias.report.verdict import Verdict, judge


def write_report(path: str | os.PathLike[str], content: ReportContent) -> Path:
    """Write the report as one self-contained HTML file, whole or not at all.

    Parameters
    ----------
    path : path-like
        File to write. Parent folders are made; what stands there is replaced once the page is whole.
    content : ReportContent
        What to show.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    TypeError
        `content` is no `ReportContent`.
    OSError
        No permission or no space left; what stood at `path` still does.

    Examples
    --------
    >>> import tempfile
    >>> from ssae_debias.report import example_content
    >>> path = write_report(Path(tempfile.mkdtemp()) / "report.html", example_content())
    >>> path.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    page = render(content)
    path = Path(path)
    with file_aside(path) as aside:
        # A text cut inside a character may hold half of a surrogate pair, which UTF-8 cannot say.
        aside.write_text(page, encoding="utf-8", errors="replace")
    return path


def render(content: ReportContent) -> str:
    """The page as a string. The same content gives the same bytes: no date, no random id.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> page = render(example_content())
    >>> page.count("<script>"), page == render(example_content())
    (1, True)
    """
    if not isinstance(content, ReportContent):
        raise TypeError(f"a page takes a ReportContent, got {type(content).__name__}.")
    verdict = judge(content.rows)
    return (
        page_environment()
        .get_template("page.html.j2")
        .render(
            content=content,
            verdict=verdict,
            caveats=caveats(content),
            edited=edited(content.flagged),
            latents=None if content.flagged is None else latents_section(content.flagged, content.saes),
            ranked=by_worst_group(content.rows),
            best_free=best(content.rows, label_free=True),
            best_overall=best(content.rows),
            pictures=_pictures(content, verdict),
            recipe=as_yaml(content.recipe),
            assets=page_assets(),
        )
    )


def _pictures(content: ReportContent, verdict: Verdict) -> dict[str, tuple[Markup, ...]]:
    """Each picture for a wide and for a narrow screen; one that has nothing to show is left out."""
    # Markup is right here: matplotlib escapes what it writes as text, and `to_svg` the label.
    pictures = {
        "worst": tuple(Markup(worst_group_plot(content.rows, width=width)) for width in (WIDTH, NARROW))
    }
    before, after = verdict.before, verdict.after
    if before and after and set(before.groups) & set(after.groups):
        pictures["groups"] = tuple(
            Markup(group_plot(before, after, width=width)) for width in (WIDTH, NARROW)
        )
    if any(row.leakage["linear"] or row.leakage["mlp"] for row in content.rows):
        pictures["leakage"] = tuple(
            Markup(leakage_plot(by_worst_group(content.rows), chance=content.chance, width=width))
            for width in (WIDTH, NARROW)
        )
    training = content.training or {}
    if training_curves(training):
        pictures["training"] = tuple(
            Markup(training_plot(training, width=width)) for width in (WIDTH, NARROW)
        )
    return pictures


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """Nested settings as a reader sees them on a page.

    Examples
    --------
    >>> print(as_yaml({"sites": ("embed", "resid.1")}), end="")
    sites:
    - embed
    - resid.1
    """
    # By way of JSON: tuples, paths and numpy numbers become plain values that YAML can say.
    return yaml.safe_dump(
        json.loads(json.dumps(dict(recipe), default=str)), sort_keys=False, allow_unicode=True
    )
