"""The section of a page on latents: which rows of a table it lists, what it leaves out, and what names it.

A run has thousands of latents and a person looks at some dozens. All that were flagged, decided by a person or noted
on are listed; of the others the strongest, so that one which the rule missed can still be found. Texts are the bulk
of a page's bytes and are given to rows from the top until their budget is spent. What is left out is counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from ssae_debias.decisions import BY_A_PERSON
from ssae_debias.report.flagged import EVIDENCE, FlaggedLatent, edited, read_latent
from ssae_debias.report.highlight import Piece
from ssae_debias.report.wording import counted

# A row weighs about 2 kB without texts; together with plots and styles the page stays under 5 MB.
MAX_FLAGGED, MAX_OTHERS = 1_000, 200
TEXT_BYTES = 1_500_000
COLUMNS_SHOWN = 5


@dataclass(frozen=True)
class Column:
    """A column of evidence: its key, what it is called, and what it means."""

    key: str
    label: str
    meaning: str


@dataclass(frozen=True)
class LatentsSection:
    """What the template of the latents section shows.

    Attributes
    ----------
    rows : tuple of FlaggedLatent
        In the table's order; the strongest come first there.
    columns : tuple of Column
        Evidence that stands in the table, at most five: more would leave no room for names and tokens.
    legend : tuple of Column
        All evidence that some row holds; an opened row shows all of its own.
    sites : tuple of str
        Of the rows, as first met.
    saes : mapping of str to str
        Fingerprint of each site's SAE.
    named, decided : bool
        Whether some row has a name; a decision.
    said : str
        What was edited, in a sentence or two.
    left_out : tuple of str
        Sentences on what the section does not show.
    key : str
        Sixteen digits that name these rows and decisions: a browser keeps a person's changes under it.
    """

    rows: tuple[FlaggedLatent, ...]
    columns: tuple[Column, ...]
    legend: tuple[Column, ...]
    sites: tuple[str, ...]
    saes: Mapping[str, str]
    named: bool
    decided: bool
    said: str
    left_out: tuple[str, ...]
    key: str
    anchors: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def anchor(self, site: str, latent: int) -> str | None:
        """The id of a latent's place on the page, or None where it is not listed."""
        return self.anchors.get((site, latent))


def latents_section(flagged: pd.DataFrame, saes: Mapping[str, str] | None = None) -> LatentsSection:
    """Choose and read the rows of a page's latents section.

    Parameters
    ----------
    flagged : DataFrame
        See `ReportContent.flagged`; any number of rows, the strongest first.
    saes : mapping of str to str, optional
        Fingerprint of each site's SAE, from `ssae_debias.latents.decisions.fingerprints`. Without, decisions made on
        the page are not tied to the SAEs.

    Examples
    --------
    >>> table = pd.DataFrame({"site": "embed", "latent": range(900), "response_effect": 0.1,
    ...                       "decision": ["ablate"] * 3 + ["keep"] * 897})
    >>> section = latents_section(table)
    >>> len(section.rows), section.columns[0].label, section.left_out
    (203, 'Swap effect', ('697 latents that were not flagged are not listed; they are kept.',))
    """
    shown, left_out = _chosen(flagged)
    rows, without = _within_budget(shown)
    if without:
        left_out.append(f"The last {counted(without, 'latent')} of the table stand here without their texts.")
    held = {fact.column for row in rows for fact in row.evidence}
    legend = tuple(Column(*column) for column in EVIDENCE if column[0] in held)
    saes = dict(saes or {})
    return LatentsSection(
        rows=tuple(rows),
        columns=legend[:COLUMNS_SHOWN],
        legend=legend,
        sites=tuple(dict.fromkeys(row.site for row in rows)),
        saes=saes,
        named=any(row.name for row in rows),
        decided=any(row.decision for row in rows),
        said=edited(flagged.loc[shown.index]),
        left_out=tuple(left_out),
        key=_key(rows, saes),
        anchors={(row.site, row.latent): f"latent-{number}" for number, row in enumerate(rows)},
    )


def _chosen(flagged: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows listed, and sentences on the others."""
    flagged = flagged.reset_index(drop=True).drop_duplicates(["site", "latent"])
    if "decision" not in flagged:
        important = pd.Series(True, index=flagged.index)
    else:
        important = flagged["decision"].astype(object) == "ablate"
        if "reason" in flagged:
            important |= flagged["reason"].astype(str).str.startswith(BY_A_PERSON)
        if "note" in flagged:
            important |= flagged["note"].fillna("").astype(str) != ""
    kept = [important.index[important][:MAX_FLAGGED], important.index[~important][:MAX_OTHERS]]
    left_out = []
    if more := int(important.sum()) - len(kept[0]):
        left_out.append(
            f"{counted(more, 'flagged latent')} after the first {MAX_FLAGGED:,} {_are(more)} not listed; the run's "
            "own table has all."
        )
    if more := int((~important).sum()) - len(kept[1]):
        left_out.append(
            f"{counted(more, 'latent')} that {'was' if more == 1 else 'were'} not flagged {_are(more)} not listed; "
            f"{'it is' if more == 1 else 'they are'} kept."
        )
    return flagged.loc[kept[0].union(kept[1])], left_out


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _within_budget(shown: pd.DataFrame) -> tuple[list[FlaggedLatent], int]:
    """Rows with their texts while the budget lasts, and how many lost theirs."""
    spent, without, rows = 0, 0, []
    for record in shown.to_dict("records"):
        if spent > TEXT_BYTES:
            row = read_latent({**record, "top_texts": None})
            texts = record.get("top_texts")  # a missing one is None or NaN
            without += hasattr(texts, "__len__") and len(texts) > 0
        else:
            row = read_latent(record)
            spent += sum(map(_weight, row.texts))
        rows.append(row)
    return rows, without


def _weight(pieces: tuple[Piece, ...]) -> int:
    # a mark around a token costs some 60 bytes
    return sum(len(piece.text.encode(errors="replace")) + (60 if piece.strength else 0) for piece in pieces)


def _key(rows: list[FlaggedLatent], saes: Mapping[str, str]) -> str:
    content = [sorted(saes.items()), [(row.site, row.latent, row.decision, row.note) for row in rows]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
