"""Latents as a page shows them: a name, a decision and its reason, the evidence, the texts, the nearest others.

The DataFrame may lack any column but `site` and `latent`; what is absent or missing is left out of the page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ssae_debias.decisions import BY_A_PERSON
from ssae_debias.report.highlight import Piece, highlight, readable
from ssae_debias.report.wording import counted, listed, number, percent

# Column, what it is called on the page, and what it means. The first that a table holds become its columns.
EVIDENCE = (
    ("response_effect", "Swap effect", "response over its standard deviation across texts (Cohen's d)"),
    (
        "attribute_effect",
        "Attribute effect",
        "difference between the attribute's values within each label, in standard deviations",
    ),
    (
        "label_effect",
        "Label effect",
        "difference between labels within each attribute value, in standard deviations",
    ),
    ("attribution", "Attribution", "how far the decision would worsen without this latent"),
    ("frequency", "Frequency", "part of the tokens on which the latent fires"),
    ("response", "Response", "change of the activation when only the attribute's words are swapped"),
    ("effect", "Effect", "difference between the attribute's values within each label"),
    ("q", "FDR q", "expected part of false discoveries at this latent's level"),
    ("response_q", "Swap q", "expected part of false discoveries at this latent's swap effect"),
    ("attribute_q", "Attribute q", "expected part of false discoveries at this latent's attribute effect"),
    ("label_q", "Label q", "expected part of false discoveries at this latent's label effect"),
)
TOKENS_SHOWN = 6


@dataclass(frozen=True)
class Evidence:
    """One figure about a latent: its column, its name, the figure as said, the plain value, what it means."""

    label: str
    said: str
    value: float
    meaning: str
    column: str = ""


@dataclass(frozen=True)
class NearLatent:
    """Another latent whose direction is close: where it is, the cosine, and its name if it has one."""

    site: str
    latent: int
    cosine: float | None = None
    name: str = ""


@dataclass(frozen=True)
class FlaggedLatent:
    """A latent with everything that the page says of it."""

    site: str
    latent: int
    decision: str | None
    reason: str | None
    evidence: tuple[Evidence, ...]
    tokens: tuple[str, ...]
    texts: tuple[tuple[Piece, ...], ...]
    name: str = ""
    note: str = ""
    nearest: tuple[NearLatent, ...] = ()

    @property
    def by_a_person(self) -> bool:
        """Whether a person has decided on it or left a note before the page was made."""
        return bool(self.note) or (self.reason or "").startswith(BY_A_PERSON)

    def figure(self, column: str) -> Evidence | None:
        """The evidence of one column, or None where this latent has none."""
        return next((fact for fact in self.evidence if fact.column == column), None)


def flagged_latents(flagged: pd.DataFrame) -> list[FlaggedLatent]:
    """Read the rows of a table of latents.

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
    return [read_latent(record) for record in flagged.to_dict("records")]


def edited(flagged: pd.DataFrame | None) -> str:
    """One or two sentences on what was edited.

    Examples
    --------
    >>> edited(pd.DataFrame({"site": ["embed", "embed", "resid.1"], "latent": [1, 2, 3],
    ...                      "decision": ["ablate", "keep", "ablate"]}))
    '2 latents ablated: 1 at embed and 1 at resid.1. 1 more of those listed is kept.'
    """
    if flagged is None:
        return "This run lists no latents."
    if flagged.empty:
        return "No latent was flagged; the model is unchanged."
    if "decision" not in flagged:
        return f"{counted(len(flagged), 'latent')} flagged: {_by_site(flagged['site'])}; none is decided yet."
    ablated = flagged["decision"] == "ablate"
    kept = int((~ablated).sum())
    said = (
        f"{counted(int(ablated.sum()), 'latent')} ablated: {_by_site(flagged.loc[ablated, 'site'])}."
        if ablated.any()
        else "Nothing was ablated."
    )
    if not kept:
        return said
    persons = 0
    if "reason" in flagged:
        reasons = flagged.loc[~ablated, "reason"].astype(str)
        persons = int(reasons.str.startswith(BY_A_PERSON).sum())
    verb = "is" if kept == 1 else "are"
    return f"{said} {kept:,} more of those listed {verb} kept{_of_whom(persons, kept)}."


def _of_whom(persons: int, kept: int) -> str:
    if not persons:
        return ""
    return ", by a person's decision" if persons == kept else f", {persons:,} by a person's decision"


def _by_site(sites: Iterable[Any]) -> str:
    return listed([f"{count} at {site}" for site, count in Counter(map(str, sites)).items()])


def read_latent(record: Mapping[Any, Any]) -> FlaggedLatent:
    """Read one row of such a table, as a mapping of its columns."""
    texts = [] if _missing(record.get("top_texts")) else list(record["top_texts"])
    tokens = [] if _missing(record.get("top_tokens")) else list(record["top_tokens"])
    nearest = [] if _missing(record.get("nearest")) else list(record["nearest"])
    note = _text(record.get("note"))
    reason = None if _missing(record.get("reason")) else str(record["reason"])
    if note and reason == f"{BY_A_PERSON}: {note}":  # the note stands beside it
        reason = BY_A_PERSON
    # One scale a latent: its strongest token anywhere is the full colour.
    strongest = max((value for _, pairs in texts for _, value in pairs if math.isfinite(value)), default=0.0)
    return FlaggedLatent(
        site=str(record["site"]),
        latent=int(record["latent"]),
        decision=None if _missing(record.get("decision")) else str(record["decision"]),
        reason=reason,
        evidence=tuple(
            Evidence(label, _said(column, record[column]), float(record[column]), meaning, column)
            for column, label, meaning in EVIDENCE
            if not _missing(record.get(column))
        ),
        tokens=tuple(readable(str(token)) for token in tokens[:TOKENS_SHOWN]),
        texts=tuple(tuple(highlight(str(text), pairs, maximum=strongest)) for text, pairs in texts),
        name=_text(record.get("name")),
        note=note,
        nearest=tuple(map(_near, nearest)),
    )


def _said(column: str, value: Any) -> str:
    if column == "frequency":
        return percent(value, 2)
    if column.endswith("effect") and math.isfinite(
        value
    ):  # in standard deviations: two digits compare down a column
        return f"{value:.2f}".replace("-", "−")
    return number(value)


def _near(entry: Any) -> NearLatent:
    """One of the nearest: (site, latent), (site, latent, cosine), with a name after it, or a mapping of these."""
    if isinstance(entry, Mapping):
        entry = [entry.get(name) for name in ("site", "latent", "cosine", "name")]
    site, latent, cosine, name = [*entry, None, None][:4]
    return NearLatent(str(site), int(latent), None if _missing(cosine) else float(cosine), _text(name))


def _text(value: Any) -> str:
    return "" if _missing(value) else str(value)


def _missing(value: Any) -> bool:
    # pandas' own test answers per element on a list; only a single None, NaN or NA counts here.
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
