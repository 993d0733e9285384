"""Flagged latents as the page shows them: a decision, its reason, the evidence, the texts.

The DataFrame may lack any column but `site` and `latent`; what is absent or missing is left out of the page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ssae_debias.report.highlight import Piece, highlight, readable
from ssae_debias.report.wording import counted, listed, number, percent

# Column, what it is called on the page, and what it means.
EVIDENCE = (
    ("response", "Response", "change of the activation when only the attribute's words are swapped"),
    ("effect", "Effect", "difference between the attribute's values within each label"),
    ("q", "FDR q", "expected part of false discoveries at this latent's level"),
    ("frequency", "Frequency", "part of the tokens on which the latent fires"),
)
TOKENS_SHOWN = 6


@dataclass(frozen=True)
class Evidence:
    """One figure about a latent: its name, the figure as said, the plain value, what it means."""

    label: str
    said: str
    value: float
    meaning: str


@dataclass(frozen=True)
class FlaggedLatent:
    """A flagged latent with everything that the page says of it."""

    site: str
    latent: int
    decision: str | None
    reason: str | None
    evidence: tuple[Evidence, ...]
    tokens: tuple[str, ...]
    texts: tuple[tuple[Piece, ...], ...]


def flagged_latents(flagged: pd.DataFrame) -> list[FlaggedLatent]:
    """Read the rows of a table of flagged latents.

    Parameters
    ----------
    flagged : DataFrame
        See `ReportContent.flagged`.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["embed"], "latent": [7], "q": [None], "top_tokens": [["##she"]]})
    >>> latent = flagged_latents(table)[0]
    >>> latent.site, latent.latent, latent.decision, latent.evidence, latent.tokens
    ('embed', 7, None, (), ('-she',))
    """
    return [_read(record) for record in flagged.to_dict("records")]


def edited(flagged: pd.DataFrame | None) -> str:
    """One or two sentences on what was edited.

    Examples
    --------
    >>> edited(pd.DataFrame({"site": ["embed", "embed", "resid.1"], "latent": [1, 2, 3],
    ...                      "decision": ["ablate", "keep", "ablate"]}))
    '2 latents ablated: 1 at embed and 1 at resid.1. 1 flagged latent was kept.'
    """
    if flagged is None:
        return "This run lists no latents."
    if flagged.empty:
        return "No latent was flagged; the model is unchanged."
    if "decision" not in flagged:
        return f"{counted(len(flagged), 'latent')} flagged: {_by_site(flagged['site'])}; none is decided yet."
    chosen = flagged.loc[flagged["decision"] == "ablate", "site"]
    kept = len(flagged) - len(chosen)
    said = (
        f"{counted(len(chosen), 'latent')} ablated: {_by_site(chosen)}."
        if len(chosen)
        else "Nothing was ablated."
    )
    verb = "was" if kept == 1 else "were"
    return f"{said} {counted(kept, 'flagged latent')} {verb} kept." if kept else said


def _by_site(sites: Iterable[Any]) -> str:
    return listed([f"{count} at {site}" for site, count in Counter(map(str, sites)).items()])


def _read(record: Mapping[Any, Any]) -> FlaggedLatent:
    texts = [] if _missing(record.get("top_texts")) else list(record["top_texts"])
    tokens = [] if _missing(record.get("top_tokens")) else list(record["top_tokens"])
    # One scale a latent: its strongest token anywhere is the full colour.
    strongest = max((value for _, pairs in texts for _, value in pairs if math.isfinite(value)), default=0.0)
    return FlaggedLatent(
        site=str(record["site"]),
        latent=int(record["latent"]),
        decision=None if _missing(record.get("decision")) else str(record["decision"]),
        reason=None if _missing(record.get("reason")) else str(record["reason"]),
        evidence=tuple(
            Evidence(
                label,
                percent(record[column], 2) if column == "frequency" else number(record[column]),
                float(record[column]),
                meaning,
            )
            for column, label, meaning in EVIDENCE
            if not _missing(record.get(column))
        ),
        tokens=tuple(readable(str(token)) for token in tokens[:TOKENS_SHOWN]),
        texts=tuple(tuple(highlight(str(text), pairs, maximum=strongest)) for text, pairs in texts),
    )


def _missing(value: Any) -> bool:
    # pandas' own test answers per element on a list; only a single None, NaN or NA counts here.
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
