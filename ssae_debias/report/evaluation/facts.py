"""What the page says of the run besides plots: facts in groups, times, and which SAEs stand behind a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ssae_debias.report.evaluation.content import KEYS, Claim, EvaluationContent
from ssae_debias.report.wording import number


def grouped(facts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Facts by heading; those that are in no group come first, under none.

    Examples
    --------
    >>> grouped({"corpora": {"general": 12000}, "site": "resid.3", "k": [8, 16]})
    {'': {'site': 'resid.3', 'k': '8, 16'}, 'corpora': {'general': '12,000'}}
    """
    found: dict[str, dict[str, str]] = {"": {}}  # the ungrouped first, wherever they stand
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found[str(name)] = {str(key): _said(each) for key, each in value.items()}
        else:
            found[""][str(name)] = _said(value)
    return {heading: pairs for heading, pairs in found.items() if pairs}


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    return "–" if value is None else number(value)


MOST_CLAIMS = 12  # more than these are read in two parts: what is decided, and what is not


@dataclass(frozen=True)
class Claims:
    """Claims as the page lists them: how many of each verdict, those in sight, and those to open."""

    tally: str
    shown: list[Claim]
    more: list[Claim]


def listed_claims(claims: Sequence[Claim]) -> Claims:
    """All claims in their order; of more than a dozen, the unclear ones stand apart.

    Examples
    --------
    >>> claims = [Claim("a", "holds", "", ""), Claim("b", "unclear", "", ""), Claim("c", "holds", "", "")]
    >>> listed_claims(claims).tally
    '2 hold, 1 is unclear.'
    """
    said = {"holds": ("holds", "hold"), "does not hold": ("does not hold", "do not hold")}
    said["unclear"] = ("is unclear", "are unclear")
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in said}
    tally = ", ".join(f"{n} {said[verdict][n > 1]}" for verdict, n in counts.items() if n)
    few = len(claims) <= MOST_CLAIMS
    shown = [claim for claim in claims if few or claim.verdict != "unclear"]
    return Claims(
        f"{tally}.", shown, [] if few else [claim for claim in claims if claim.verdict == "unclear"]
    )


def duration(seconds: float) -> str:
    """A time as people say it.

    Examples
    --------
    >>> duration(0.1234), duration(61.7), duration(310), duration(9000)
    ('0.123 s', '61.7 s', '5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def variant_rows(content: EvaluationContent) -> list[dict[str, str]]:
    """Each variant with its strategy, tilt, sparsity levels and number of seeds, as its tables say.

    Examples
    --------
    >>> from ssae_debias.report.evaluation import example_evaluation
    >>> variant_rows(example_evaluation())[3]
    {'name': 'dense, tilt 3', 'strategy': 'dense', 'tilt': '3', 'k': '16, 32, 64, 128', 'seeds': '3'}
    """
    known = [table[list(KEYS)] for table in content.tables.values() if table is not None and not table.empty]
    keys = pd.concat([part.drop_duplicates() for part in known], ignore_index=True) if known else None
    rows = []
    for name in content.variants:
        own = None if keys is None else keys[keys["variant"] == name]
        if own is None or own.empty:
            rows.append({"name": name, "strategy": "–", "tilt": "–", "k": "–", "seeds": "0"})
            continue
        strategy, tilt = own["strategy"].iloc[0], pd.to_numeric(own["tilt"], errors="coerce").iloc[0]
        levels = sorted(pd.to_numeric(own["k"], errors="coerce").dropna().unique())
        rows.append(
            {
                "name": name,
                "strategy": "–" if pd.isna(strategy) else str(strategy),
                "tilt": "none" if pd.isna(tilt) or tilt == 0 else number(tilt),
                "k": ", ".join(map(number, levels)) or "as it came",
                "seeds": str(own["seed"].nunique(dropna=False)),
            }
        )
    return rows
