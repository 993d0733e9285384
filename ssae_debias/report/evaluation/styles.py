"""How a variant looks and is called, the same in every plot: one hue a strategy, dashes for tilts, grey for the base.

Hue, mark and dash each tell variants apart, so that no plot rests on colour alone.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ssae_debias.report.evaluation.content import EvaluationContent
from ssae_debias.report.svg import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE = "muted"
HUES = ("series-1", "series-2", "series-3", "series-6", "series-4", "series-5")
MARKS = ("s", "D", "^", "v", "P", "X")
DASHES: tuple[Any, ...] = ((0, (4, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.6, 1.2, 1.6)))
INCHES_A_CHARACTER = 0.078
LONGEST = 44


@dataclass(frozen=True)
class Style:
    """A variant's looks: `role` is a colour of the palette, `hollow` marks stand for tilted variants.

    `faint` is the opacity of bands: a dozen over one another must leave the lines to be seen.
    """

    name: str
    role: str
    dash: Any
    marker: str
    hollow: bool
    faint: float = 0.11

    @property
    def colour(self) -> str:
        """The role's colour in the light theme; `to_svg` puts the theme's own in its place."""
        return PALETTE[self.role]

    @property
    def face(self) -> str:
        """What a mark is filled with."""
        return PALETTE["paper"] if self.hollow else self.colour

    def mark(self, size: float = 5.0) -> dict[str, Any]:
        """Keywords of matplotlib's for a mark."""
        return {
            "marker": self.marker, "markersize": size, "markerfacecolor": self.face,
            "markeredgecolor": self.colour, "markeredgewidth": 1.3,
        }  # fmt: skip


def styles(content: EvaluationContent) -> dict[str, Style]:
    """The style of each variant, in the order of `content.variants`.

    Examples
    --------
    >>> from ssae_debias.report.evaluation import example_evaluation
    >>> {name: (style.role, style.hollow) for name, style in list(styles(example_evaluation()).items())[:3]}
    {'general': ('muted', False), 'bm25': ('series-1', False), 'dense': ('series-2', False)}
    """
    made = _made(content)
    strategy = {name: made.get(name, (name, 0.0))[0] for name in content.variants}
    looks: dict[str, tuple[str, str]] = {}
    if content.base is not None:
        looks[strategy[content.base]] = (BASE, "o")
    for name in content.variants:
        n = len(looks) - (content.base is not None)
        looks.setdefault(strategy[name], (HUES[n % len(HUES)], MARKS[n % len(MARKS)]))
    found: dict[str, Style] = {}
    faint = min(0.11, max(0.035, 0.5 / max(len(content.variants), 1)))
    dashed: dict[str, int] = {}
    plain: set[str] = set()
    for name in content.variants:
        own = strategy[name]
        role, marker = looks[own]
        # A second variant of a strategy and no tilt must not look like the first.
        if made.get(name, (name, 0.0))[1] == 0 and own not in plain:
            plain.add(own)
            found[name] = Style(name, role, "-", marker, hollow=False, faint=faint)
        else:
            n = dashed.setdefault(own, 0)
            dashed[own] += 1
            found[name] = Style(name, role, DASHES[n % len(DASHES)], marker, hollow=True, faint=faint)
    return found


def _made(content: EvaluationContent) -> dict[str, tuple[str, float]]:
    """Strategy and tilt by variant, as the tables say."""
    found: dict[str, tuple[str, float]] = {}
    for table in content.tables.values():
        if table is None or table.empty:
            continue
        for row in table[["variant", "strategy", "tilt"]].drop_duplicates("variant").itertuples(index=False):
            strategy = row.variant if pd.isna(row.strategy) else str(row.strategy)
            tilt = pd.to_numeric(row.tilt, errors="coerce")
            found.setdefault(row.variant, (strategy, 0.0 if pd.isna(tilt) else float(tilt)))
    return found


def drawable(text: Any) -> str:
    """A text from the data as a font can draw it and XML can hold it: one line, no control signs, no half of a pair.

    Examples
    --------
    >>> drawable("a\\x00 b\\n\\tc \\ud800")
    'a b c ?'
    """
    said = str(text).encode("utf-8", "replace").decode("utf-8")
    kept = "".join(" " if sign.isspace() else sign for sign in said if _stays(sign))
    return " ".join(kept.split())


def _stays(sign: str) -> bool:
    return sign.isspace() or (
        unicodedata.category(sign) not in ("Cc", "Cs", "Cn") and sign not in "\ufffe\uffff"
    )


def shortened(text: Any, limit: int = LONGEST) -> str:
    """A name that fits, without its middle if it must: names that begin alike end differently.

    Examples
    --------
    >>> shortened("dense retrieval with a very long name, tilt 3", 20)
    'dense retr…e, tilt 3'
    """
    said = drawable(text)
    if len(said) <= limit:
        return said
    head = limit // 2
    return f"{said[:head]}…{said[len(said) - (limit - head - 1) :]}"


def in_two_lines(text: Any, width: int) -> str:
    """A name on at most two lines of about `width` characters.

    Examples
    --------
    >>> in_two_lines("dense+tracin, tilt 3", 14).split("\\n")
    ['dense+tracin,', 'tilt 3']
    """
    return "\n".join(textwrap.wrap(shortened(text, 2 * width - 2), width)[:2])


def key(figure: Figure, handles: Iterable[Any]) -> None:
    """The legend above a figure, in as many columns as its width holds."""
    entries = list(handles)
    if not entries:
        return
    room = figure.get_size_inches()[0]
    columns = next((n for n in range(len(entries), 1, -1) if _key_width(entries, n) <= room), 1)
    figure.legend(
        handles=entries, loc="outside upper left", ncols=columns, handletextpad=0.5, columnspacing=1.4,
        borderpad=0, handlelength=2.2, labelcolor=PALETTE["muted"],
    )  # fmt: skip


def _key_width(entries: Sequence[Any], columns: int) -> float:
    """Inches that a legend takes; matplotlib fills it column by column, the first ones longer by one if need be."""
    letters = [len(entry.get_label()) for entry in entries]
    full, more = divmod(len(letters), columns)
    width, at = 0.0, 0
    for column in range(columns):
        n = full + (column < more)
        width += max(letters[at : at + n], default=0) * INCHES_A_CHARACTER + 0.62
        at += n
    return width


def handle(style: Style, *, line: bool = True, mark: bool = True) -> Any:
    """A legend's entry for a variant."""
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=style.colour, linestyle=style.dash if line else "none", linewidth=1.8,
        label=legend_name(style.name), **(style.mark(5.5) if mark else {}),
    )  # fmt: skip


def legend_name(name: Any) -> str:
    """A name as a legend's label; matplotlib leaves out those that begin with an underscore."""
    said = shortened(name)
    return f"\u200a{said}" if said.startswith("_") else said


def shown(looks: Mapping[str, Style], variants: Iterable[Any]) -> list[Style]:
    """The styles of those variants that a table has, in the order of the page."""
    there = set(variants)
    return [style for name, style in looks.items() if name in there]
