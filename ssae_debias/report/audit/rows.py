"""The rows of the page's tables: groups, methods, and what the data themselves say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ssae_debias.report.audit.content import AuditContent, FlipResult, Variant
from ssae_debias.report.audit.measures import Change, compare, proposal_of, start_of
from ssae_debias.report.content import Estimate
from ssae_debias.report.flagged import FlaggedLatent, flagged_latents
from ssae_debias.report.wording import percent

MOST_CONCEPTS = 48  # each brings whole texts; more would be read by nobody and weigh on the page
CONCEPT_TEXTS = 3


@dataclass(frozen=True)
class GroupRow:
    """One group before and after: its size, its accuracy, its flips; None where not known."""

    name: str
    n: int | None
    before: Estimate | None
    after: Estimate | None
    flips_before: Estimate | None
    flips_after: Estimate | None

    @property
    def change(self) -> Change:
        """Whether the edit is shown to serve the group better or worse."""
        known = self.before is not None and self.after is not None
        return compare("worst", self.after, self.before) if known else "unmeasured"  # type: ignore[arg-type]


def group_rows(content: AuditContent) -> list[GroupRow]:
    """The groups, the lowest at the start first; flips stand in the same row where they are known by group.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> [(row.name, row.n, row.change) for row in group_rows(example_audit_content())][:2]
    [('nurse/M', 99, 'better'), ('surgeon/F', 196, 'better')]
    """
    start, edited = start_of(content), proposal_of(content)
    old, new = start.groups or {}, (edited.groups if edited else None) or {}
    flips_old, flips_new = (variant.flips_by_group if variant else None for variant in (start, edited))
    rows = []
    for name in [*old, *(name for name in new if name not in old)]:
        sized = old.get(name) or new[name]
        rows.append(
            GroupRow(
                name=name,
                n=sized["n"],
                before=old[name]["accuracy"] if name in old else None,
                after=new[name]["accuracy"] if name in new else None,
                flips_before=_rate(flips_old, name),
                flips_after=_rate(flips_new, name),
            )
        )
    return sorted(rows, key=lambda row: row.before.mean if row.before else 2.0)


def flip_rows(content: AuditContent) -> list[GroupRow]:
    """Flips by something else than the groups, such as the label decided: a table of their own.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> flip_rows(example_audit_content())
    []
    """
    start, edited = start_of(content), proposal_of(content)
    old = start.flips_by_group or {}
    new = (edited.flips_by_group if edited else None) or {}
    return [
        GroupRow(name, (new.get(name) or old[name])["n"], None, None, _rate(old, name), _rate(new, name))
        for name in dict.fromkeys([*old, *new])
        if name not in (start.groups or {})
    ]


def _rate(flips: Mapping[str, FlipResult] | None, name: str) -> Estimate | None:
    return flips[name]["rate"] if flips and name in flips else None


@dataclass(frozen=True)
class Column:
    """One column of the table of methods: its head, what it means, the figures, and the best of them."""

    name: str
    note: str
    cells: tuple[Estimate | float | None, ...]
    lower_is_better: bool

    @property
    def is_disparity(self) -> bool:
        """Whether the figures are differences between groups, and no parts of anything."""
        return any(isinstance(cell, float) for cell in self.cells)

    @property
    def best(self) -> float | None:
        """The best figure, where there are at least two different ones to choose from."""
        levels = [_level(cell) for cell in self.cells if cell is not None]
        if len(set(levels)) < 2:
            return None
        return min(levels) if self.lower_is_better else max(levels)

    def is_best(self, row: int) -> bool:
        """Whether the row of this number holds the best figure."""
        cell = self.cells[row]
        return cell is not None and self.best is not None and _level(cell) == self.best


def _level(cell: Estimate | float) -> float:
    return round(cell.mean if isinstance(cell, Estimate) else cell, 6)


def method_columns(variants: Sequence[Variant]) -> list[Column]:
    """The columns of the table of methods, without those that no variant has.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> [column.name for column in method_columns(example_audit_content().variants)]
    ['Flips', 'Worst group', 'Balanced', 'Accuracy', 'Parity', 'Odds']
    """

    def column(name: str, note: str, get: Any, *, lower: bool = False) -> Column:
        return Column(name, note, tuple(get(variant) for variant in variants), lower)

    columns = [
        column(
            "Flips",
            "Decisions that change when only the attribute's words do; lower is better",
            lambda variant: variant.flips["rate"] if variant.flips else None,
            lower=True,
        ),
        column(
            "Worst group",
            "Lowest accuracy of the groups; higher is better",
            lambda variant: variant.worst_group_accuracy,
        ),
        column(
            "Balanced",
            "Mean of the groups' accuracies; higher is better",
            lambda variant: variant.balanced_accuracy,
        ),
        column("Accuracy", "Over all texts; higher is better", lambda variant: variant.accuracy),
        column(
            "Parity",
            "Demographic parity difference; 0 is parity",
            lambda variant: variant.demographic_parity_difference,
            lower=True,
        ),
        column(
            "Odds",
            "Equalized odds difference; 0 is parity",
            lambda variant: variant.equalized_odds_difference,
            lower=True,
        ),
    ]
    return [found for found in columns if any(cell is not None for cell in found.cells)]


@dataclass(frozen=True)
class CountRow:
    """How one label's rows spread over the attribute's values, in counts and in shares of the label."""

    label: str
    cells: tuple[tuple[int, float], ...]
    total: int


def count_rows(counts: pd.DataFrame) -> list[CountRow]:
    """The table of counts with each row's shares.

    Examples
    --------
    >>> count_rows(pd.DataFrame({"F": [1, 3], "M": [3, 0]}, index=["surgeon", "nurse"]))[0]
    CountRow(label='surgeon', cells=((1, 0.25), (3, 0.75)), total=4)
    """
    rows = []
    for label, values in zip(counts.index, counts.to_numpy().tolist(), strict=True):
        total = int(sum(values))
        cells = tuple((int(value), int(value) / total if total else 0.0) for value in values)
        rows.append(CountRow(str(label), cells, total))
    return rows


def told(content: AuditContent) -> str:
    """A sentence on how far the label alone tells the attribute; empty where that was not measured.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> told(example_audit_content()).replace("\\u202f", " ").split(": ")[0]
    'The label alone tells gender at 88.3 % (chance 50 %)'
    """
    level = content.data.attribute_from_label
    if level is None:
        return ""
    said = (
        f"The label alone tells {content.attribute} at {percent(level.mean)} "
        f"(chance {percent(content.chance, 0)})"
    )
    if level.has_interval and level.low > content.chance:
        return f"{said}: in these data the two go together, and whatever learns the label can learn both."
    if not level.has_interval:
        return f"{said}."
    return f"{said}: in these data the two are not shown to go together."


@dataclass(frozen=True)
class Concept:
    """A latent that separates a group from the rest, with texts on which it fires."""

    name: str
    group: str
    effect: float | None
    n: int | None
    shown: FlaggedLatent


def concepts(table: pd.DataFrame | None) -> list[Concept]:
    """The latents of `DataFacts.concepts` as the page shows them, the first `MOST_CONCEPTS`.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["embed"], "latent": [7], "name": ["she / her"], "group": ["F"]})
    >>> [(concept.name, concept.group, concept.effect) for concept in concepts(table)]
    [('she / her', 'F', None)]
    """
    if table is None or table.empty:
        return []
    table = table.iloc[:MOST_CONCEPTS]
    found = []
    for record, shown in zip(table.to_dict("records"), flagged_latents(table), strict=True):
        effect, n, name = (_known(record.get(column)) for column in ("effect", "n", "name"))
        found.append(
            Concept(
                name="" if name is None else str(name),
                group="" if _known(record.get("group")) is None else str(record["group"]),
                effect=None if effect is None else float(effect),
                n=None if n is None else int(n),
                shown=shown,
            )
        )
    return found


def _known(value: Any) -> Any:
    return None if value is None or value is pd.NA or value != value else value
