"""The numbers of a plot as a table under it: every mean that is drawn, with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ssae_debias.report.wording import NARROW_SPACE, number, percent

MOST_ROWS = 120
Say = Callable[[float], str]
Column = tuple[str, Callable[[Any], str]]
"""A column's head, and how its cells are said."""


@dataclass(frozen=True)
class Numbers:
    """A table as text: its name, the columns' heads, rows of cells of which the first names the row, and a remark."""

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    remark: str = ""


def plain(value: Any) -> str:
    """A number short enough to be read; nothing where there is none.

    Examples
    --------
    >>> plain(0.12345), plain(float("nan")), plain(None)
    ('0.123', '–', '–')
    """
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return number(value)


def share(value: float) -> str:
    """A share in percent; nothing where there is none.

    Examples
    --------
    >>> share(0.5).replace("\u202f", " "), share(float("nan"))
    ('50.0 %', '–')
    """
    return "–" if pd.isna(value) else percent(value)


def with_interval(mean: float, low: float, high: float, say: Say = plain) -> str:
    """A mean and its interval, where one is known.

    Examples
    --------
    >>> with_interval(0.5, 0.4, 0.6), with_interval(0.5, 0.5, 0.5), with_interval(0.5, float("nan"), 1.0)
    ('0.5 (0.4 – 0.6)', '0.5', '0.5')
    """
    if pd.isna(mean):
        return "–"
    if pd.isna(low) or pd.isna(high) or high <= low:
        return say(mean)
    return f"{say(mean)} ({say(low)} – {say(high)})".replace(f"{NARROW_SPACE}% –", " –")


def by_variant(
    name: str,
    found: pd.DataFrame,
    place: Mapping[str, tuple[str, Say]],
    variants: Sequence[str],
    *,
    say: Say = plain,
) -> Numbers:
    """A row for each place on the horizontal axis, a column for each variant.

    Parameters
    ----------
    name : str
        Of the table.
    found : DataFrame
        `variant`, the columns of `place`, and `mean`, `low`, `high`.
    place : mapping of str to (str, callable)
        Columns that name a row: their heads, and how their values are said.
    variants : sequence of str
        Columns in this order; those that are not in `found` are left out.
    say : callable, default=plain
        How a figure is said.

    Examples
    --------
    >>> found = pd.DataFrame({"variant": ["a", "b"], "k": [8.0, 8.0], "mean": [0.5, 0.6], "low": 0.4, "high": 0.7})
    >>> table = by_variant("F1", found, {"k": ("k", plain)}, ["a", "b"])
    >>> table.head, table.rows
    (['k', 'a', 'b'], [['8', '0.5 (0.4 – 0.7)', '0.6 (0.4 – 0.7)']])
    """
    there = [variant for variant in variants if (found["variant"] == variant).any()]
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in found.sort_values(list(place), kind="stable").to_dict("records"):
        # A missing k is a place of its own, and NaN is not equal to itself.
        spot = tuple(say_place(row[column]) for column, (_, say_place) in place.items())
        rows.setdefault(spot, {})[row["variant"]] = with_interval(row["mean"], row["low"], row["high"], say)
    kept, remark = thinned(list(rows.items()))
    head = [*(head for head, _ in place.values()), *there]
    return Numbers(name, head, [[*spot, *(cells.get(v, "–") for v in there)] for spot, cells in kept], remark)


def as_rows(name: str, records: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]) -> Numbers:
    """A row for each record, with the columns' own heads and ways to say them."""
    kept, remark = thinned(list(records))
    return Numbers(
        name,
        [head for head, _ in columns.values()],
        [[say(row.get(column)) for column, (_, say) in columns.items()] for row in kept],
        remark,
    )


def thinned(rows: list[Any]) -> tuple[list[Any], str]:
    """At most so many rows, evenly spread, and a remark where some are left out."""
    if len(rows) <= MOST_ROWS:
        return rows, ""
    stride = -(-len(rows) // MOST_ROWS)
    return rows[::stride], f"Every {_nth(stride)} of {len(rows):,} rows."


def _nth(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")
