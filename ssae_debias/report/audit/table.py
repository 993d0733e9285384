"""An audit on a terminal: one aligned table of the variants, and the verdict in plain lines.

Only characters of Latin-1 are used, so that a Windows console prints it; marks are plain ASCII.
"""

from __future__ import annotations

import textwrap

from ssae_debias.report.audit.content import AuditContent, Variant
from ssae_debias.report.audit.verdict import judge_audit
from ssae_debias.report.content import Estimate

PROPOSED, LABELLED = "*", "+"
LONGEST = 36  # characters of a name; a longer one would push the figures off an 80-column screen
WIDTH = 96
LATIN = str.maketrans({"−": "-", "\u202f": " ", "→": "->", "–": "-"})


def format_audit_table(content: AuditContent) -> str:
    """The variants as text, mean ± half of the interval's width, in the order given, and the verdict below.

    Parameters
    ----------
    content : AuditContent
        ``*`` marks the edit that is proposed, ``+`` what was given group labels. Columns that no variant has
        are left out.

    Returns
    -------
    str
        Lines without a trailing newline. Where another method does better, a line says so.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> print("\\n".join(format_audit_table(example_audit_content()).split("\\n")[:5]))
    variant              flips        worst group              balanced     accuracy     parity  odds
    -------------------------------------------------------------------------------------------------
    as it is             .314 ± .019  .323 ± .040 (nurse/M)    .644 ± .018  .884 ± .012  .710    .610
    latents ablated *    .041 ± .008  .781 ± .040 (nurse/M)    .873 ± .018  .897 ± .012  .520    .150
    words deleted        .000 ± .002  .827 ± .029 (surgeon/F)  .891 ± .018  .901 ± .012  .490    .120
    """
    verdict = judge_audit(content)
    columns = {
        "variant": [_name(variant, variant is verdict.after) for variant in content.variants],
        "flips": [_number(variant.flips["rate"] if variant.flips else None) for variant in content.variants],
        "worst group": [_worst(variant) for variant in content.variants],
        "balanced": [_number(variant.balanced_accuracy) for variant in content.variants],
        "accuracy": [_number(variant.accuracy) for variant in content.variants],
        "parity": [_plain(variant.demographic_parity_difference) for variant in content.variants],
        "odds": [_plain(variant.equalized_odds_difference) for variant in content.variants],
    }
    columns = {head: cells for head, cells in columns.items() if set(cells) != {"-"}}
    drawn = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, _widths(columns), strict=True)).rstrip()
        for line in zip(*([head, *cells] for head, cells in columns.items()), strict=True)
    ]
    drawn.insert(1, "-" * max(map(len, drawn)))
    drawn += ["", f"{PROPOSED} proposed, {LABELLED} given group labels; mean ± half of the interval"]
    if {"parity", "odds"} & set(columns):
        drawn.append("parity, odds: differences between the attribute's values, 0 is parity")
    if content.groups_from == "words" and any(variant.groups for variant in content.variants):
        drawn.append(f"groups are told by the words for {content.attribute} that a text holds")
    drawn.append("")
    for sentence in (verdict.headline, *verdict.standing):
        drawn += textwrap.wrap(sentence.translate(LATIN), WIDTH)
    return "\n".join(drawn)


def _widths(columns: dict[str, list[str]]) -> list[int]:
    return [max(len(head), *map(len, cells)) for head, cells in columns.items()]


def _name(variant: Variant, proposed: bool) -> str:
    name = " ".join(variant.name.split())
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
    marks = (PROPOSED if proposed else "") + (LABELLED if variant.needs_group_labels else "")
    return f"{name} {marks}".rstrip()


def _worst(variant: Variant) -> str:
    said = _number(variant.worst_group_accuracy)
    return f"{said} ({' '.join(variant.worst_group.split())})" if variant.worst_group else said


def _number(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    mean = _plain(estimate.mean).strip()
    return f"{mean} ± {estimate.half_width:.3f}".replace(" 0.", " .") if estimate.has_interval else mean


def _plain(level: float | None) -> str:
    return "-" if level is None else f"{level:.3f}".removeprefix("0")
