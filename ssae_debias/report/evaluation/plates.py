"""Every plot of an evaluation with what stands beside it: title, caption, definition, source, and its numbers.

A *plate* is a plot as the page shows it. It is drawn when it is asked for, once for each width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from ssae_debias.report.evaluation.content import EvaluationContent
from ssae_debias.report.evaluation.numbers import Numbers
from ssae_debias.report.wording import counted, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_IN_PAPER = "not in the paper"


@dataclass(frozen=True)
class Plate:
    """A plot as the page shows it.

    Attributes
    ----------
    name : str
        Of its files, such as "pareto".
    section : str
        Where it stands on the page.
    title : str
        What is set against what.
    caption : str
        What is seen.
    definition : str
        The figure's definition in a line.
    mirrors : str
        The figure of the paper that it corresponds to.
    spread : str
        How many seeds, and what bands and bars are.
    draw : callable
        From a width in inches to a matplotlib figure.
    numbers : sequence of Numbers
        What was drawn, as tables.
    """

    name: str
    section: str
    title: str
    caption: str
    definition: str
    mirrors: str
    spread: str
    draw: Callable[[float], Figure]
    numbers: Sequence[Numbers] = field(default_factory=tuple)


def spread(
    table: pd.DataFrame,
    drawn: str = "Bands",
    *,
    one_seed: str = "",
    over: str = "95\u202f% intervals of the mean",
) -> str:
    """How many seeds a table has, and what its bands are.

    Parameters
    ----------
    table : DataFrame
        With `variant` and `seed`.
    drawn : str, default="Bands"
        What shows the spread.
    one_seed : str, default=""
        What is drawn for a variant of one seed; nothing where nothing is.
    over : str
        What the spread is.

    Examples
    --------
    >>> table = pd.DataFrame({"variant": ["a", "a", "b"], "seed": [0, 1, 0]})
    >>> spread(table).replace("\u202f", " ")
    'Bands: 95 % intervals of the mean over seeds (2 seeds; b: 1).'
    """
    seeds = table.groupby("variant", sort=False)["seed"].nunique(dropna=False)
    most = int(seeds.max())
    if most == 1:
        return f"One seed each: how figures vary from seed to seed is not known{', ' + one_seed if one_seed else ''}."
    fewer = [f"{name}: {n}" for name, n in seeds.items() if n < most]
    # "over seeds" follows an interval of a mean; a range of seeds says it already.
    over = over if over.endswith("seed") else f"{over} over seeds"
    told = f"{counted(most, 'seed')}{'; ' + ', '.join(fewer) if fewer else ''}"
    alone = f" With one seed: {one_seed}." if one_seed and (seeds == 1).any() else ""
    return f"{drawn}: {over} ({told}).{alone}"


def other_levels(table: pd.DataFrame, drawn: Iterable[float | None]) -> str:
    """Which sparsity levels are drawn, where a table has others too.

    Examples
    --------
    >>> other_levels(pd.DataFrame({"k": [8.0, 16.0, 32.0]}), [16.0])
    ' Drawn is k = 16, of 8, 16 and 32.'
    """
    levels = sorted(pd.to_numeric(table["k"], errors="coerce").dropna().unique())
    shown = sorted({k for k in drawn if k is not None})
    if len(levels) <= len(shown):
        return ""
    return f" Drawn is k = {listed([f'{k:g}' for k in shown])}, of {listed([f'{k:g}' for k in levels])}."


def at_level(k: float | None) -> str:
    """The sparsity level in the name of a table.

    Examples
    --------
    >>> at_level(32.0), at_level(None)
    (', k = 32', '')
    """
    return "" if k is None else f", k = {k:g}"


def plates(content: EvaluationContent) -> list[Plate]:
    """All plots that the content has figures for, in the order of the page.

    Examples
    --------
    >>> from ssae_debias.report.evaluation import example_evaluation
    >>> [plate.name for plate in plates(example_evaluation())][:4]
    ['recall', 'recall_found', 'pareto', 'fidelity']
    """
    # Imported here: each of them needs `Plate`.
    from ssae_debias.report.evaluation.activity_plates import activity_plates
    from ssae_debias.report.evaluation.latent_plates import latent_plates
    from ssae_debias.report.evaluation.outcome_plates import outcome_plates

    return [*outcome_plates(content), *activity_plates(content), *latent_plates(content)]
