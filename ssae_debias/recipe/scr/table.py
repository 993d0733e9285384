"""The scores on a terminal: SAEs and their controls down, numbers of zeroed latents across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssae_debias.metrics import Interval
from ssae_debias.recipe.scr.results import ScoreRow

CONTROL = "random latents"


def format_scores(title: str, rows: Sequence[ScoreRow]) -> str:
    """Rows of one metric as text.

    Parameters
    ----------
    title : str
        The metric's name, over the first column.
    rows : sequence of ScoreRow

    Returns
    -------
    str
        Lines without a trailing newline; ``-`` where an SAE has fewer latents than n.

    Examples
    --------
    >>> score = Interval(0.5, 0.25, 0.75)
    >>> print(format_scores("SCR", [ScoreRow("mine", "effect", 2, score, (0.5, 0.5), {})]))
    SCR   n = 2
    ------------------
    mine   .500 ± .250
    """
    ns = sorted({row.n for row in rows})
    scores = {(row.sae, row.ranking, row.n): row.score for row in rows}
    lines = [[title, *(f"n = {n}" for n in ns)]]
    for sae, ranking in dict.fromkeys((row.sae, row.ranking) for row in rows):
        name = sae if ranking == "effect" else f"  {CONTROL}"
        lines.append([name, *(_number(scores.get((sae, ranking, n))) for n in ns)])
    return _aligned(lines)


def format_fidelity(fidelity: Mapping[str, Mapping[str, Interval]]) -> str:
    """How faithful each SAE is, as text.

    Examples
    --------
    >>> point = Interval(0.5, 0.5, 0.5)
    >>> print(format_fidelity({"mine": {"explained_variance": point, "l0": Interval(32.0, 32.0, 32.0)}}))
    SAE   explained variance  L0
    ------------------------------
    mine   .500                 32
    """
    lines = [["SAE", "explained variance", "L0"]]
    for name, figures in fidelity.items():
        lines.append([name, _number(figures["explained_variance"]), f"{figures['l0'].mean:4.0f}"])
    return _aligned(lines)


def _number(score: Interval | None) -> str:
    if score is None:
        return "-"
    rounded = round(score.mean, 3) + 0.0  # no minus before a zero
    mean = f"{rounded:.3f}".replace("0.", ".", 1).rjust(5)
    half = f"{(score.high - score.low) / 2:.3f}".replace("0.", ".", 1)
    return f"{mean} ± {half}" if score.high > score.low else mean


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([drawn[0], "-" * max(map(len, drawn)), *drawn[1:]])
