"""The page of an audit as one HTML file, under the same rules as the report's page.

It loads nothing, every text from the data goes through autoescape, and the policy in its head lets no script
run but the page's own, by its sha256.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup

from ssae_debias.files import file_aside
from ssae_debias.report.audit.caveats import audit_caveats
from ssae_debias.report.audit.content import AuditContent
from ssae_debias.report.audit.plots import (
    MOST_GROUPS,
    audit_group_plot,
    groups_drawn,
    site_leakage_plot,
    tradeoff_plot,
)
from ssae_debias.report.audit.rows import (
    CONCEPT_TEXTS,
    MOST_CONCEPTS,
    concepts,
    count_rows,
    flip_rows,
    group_rows,
    method_columns,
    told,
)
from ssae_debias.report.audit.verdict import AuditVerdict, judge_audit, n_ablated
from ssae_debias.report.latents_section import latents_section
from ssae_debias.report.page import as_yaml
from ssae_debias.report.plots import NARROW, WIDTH, training_curves, training_plot
from ssae_debias.report.templating import page_assets, page_environment


def write_audit(path: str | os.PathLike[str], content: AuditContent) -> Path:
    """Write the page of an audit as one self-contained HTML file, whole or not at all.

    Parameters
    ----------
    path : path-like
        File to write. Parent folders are made; what stands there is replaced once the page is whole.
    content : AuditContent
        What to show.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    TypeError
        `content` is no `AuditContent`.
    OSError
        No permission or no space left; what stood at `path` still does.

    Examples
    --------
    >>> import tempfile
    >>> from ssae_debias.report.audit import example_audit_content
    >>> path = write_audit(Path(tempfile.mkdtemp()) / "audit.html", example_audit_content())
    >>> path.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    page = render_audit(content)
    path = Path(path)
    with file_aside(path) as aside:
        # A text cut inside a character may hold half of a surrogate pair, which UTF-8 cannot say.
        aside.write_text(page, encoding="utf-8", errors="replace")
    return path


def render_audit(content: AuditContent) -> str:
    """The page as a string. The same content gives the same bytes: no date, no random id.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> page = render_audit(example_audit_content())
    >>> page.count("<script>"), page == render_audit(example_audit_content())
    (1, True)
    """
    if not isinstance(content, AuditContent):
        raise TypeError(f"the page of an audit takes an AuditContent, got {type(content).__name__}.")
    verdict = judge_audit(content)
    environment = page_environment()
    environment.globals.update(signed=_signed)
    return environment.get_template("audit_page.html.j2").render(
        content=content,
        verdict=verdict,
        caveats=audit_caveats(content),
        ablated=n_ablated(content.latents),
        groups=group_rows(content),
        most_groups=MOST_GROUPS,
        groups_left=max(0, len(verdict.before.groups or {}) - MOST_GROUPS),
        flips=flip_rows(content),
        columns=method_columns(content.variants),
        counts=count_rows(content.data.counts),
        told=told(content),
        concepts=concepts(content.data.concepts),
        concepts_left=max(
            0, 0 if content.data.concepts is None else len(content.data.concepts) - MOST_CONCEPTS
        ),
        concept_texts=CONCEPT_TEXTS,
        latents=latents_section(content.latents, content.saes),
        latents_title="Latents",
        pictures=_pictures(content, verdict),
        settings=as_yaml(content.settings),
        assets=page_assets("audit.css"),
    )


def _pictures(content: AuditContent, verdict: AuditVerdict) -> dict[str, tuple[Markup, ...]]:
    """Each picture for a wide and for a narrow screen; one that has nothing to show is left out."""
    training, ablated = content.training or {}, n_ablated(content.latents)
    after = verdict.after if verdict.after and groups_drawn(verdict.before, verdict.after) else None
    drawings: dict[str, Callable[[float], str]] = {}
    if groups_drawn(verdict.before, after):
        drawings["groups"] = lambda width: audit_group_plot(verdict.before, after, width=width)
    if content.leakage:
        drawings["leakage"] = lambda width: site_leakage_plot(
            content.leakage, chance=content.chance, width=width
        )
    if len(content.tradeoff) > 1:
        drawings["tradeoff"] = lambda width: tradeoff_plot(content.tradeoff, proposed=ablated, width=width)
    if training_curves(training):
        drawings["training"] = lambda width: training_plot(training, width=width)
    # Markup is right here: matplotlib escapes what it writes as text, and `to_svg` the label.
    return {name: tuple(Markup(draw(width)) for width in (WIDTH, NARROW)) for name, draw in drawings.items()}


def _signed(difference: float, digits: int) -> str:
    said = f"{difference:+.{digits}f}"
    return f"{0:.{digits}f}" if float(said) == 0 else said.replace("-", "−")
