"""The same figures on a terminal: one aligned table that also survives a log file.

Only characters of Latin-1 are used, so that a Windows console prints it, and marks are plain ASCII.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssae_debias.report.content import Estimate, MethodRow
from ssae_debias.report.methods import best

BEST_LABEL_FREE, BEST_OVERALL = "*", "+"
HEAD = ("method", "labels", "worst group", "task", "attribute", "leak linear", "leak mlp", "seconds")


def format_table(rows: Sequence[MethodRow]) -> str:
    """The rows as text, mean ± half of the interval's width, in the order given.

    Parameters
    ----------
    rows : sequence of MethodRow
        ``labels`` says ``group`` where a method needs group labels. ``*`` marks the best worst group among
        methods that need none, ``+`` the best of all; the oracle is a yardstick and takes no mark.

    Returns
    -------
    str
        Lines without a trailing newline.

    Raises
    ------
    ValueError
        There are no rows.

    Examples
    --------
    >>> half = Estimate(0.5, 0.4, 0.6)
    >>> row = MethodRow("original", False, half, half, half, {}, {"linear": None, "mlp": half}, 3.0)
    >>> print(format_table([row]))
    method    labels  worst group      task          attribute     leak linear  leak mlp      seconds
    -------------------------------------------------------------------------------------------------
    original  -        .500 ± .100 *+   .500 ± .100   .500 ± .100  -             .500 ± .100      3.0
    <BLANKLINE>
    * best worst group without group labels, + best of all (oracle aside)
    mean ± half of the interval; attribute: how often the prediction equals it (ideal: chance)
    """
    if not rows:
        raise ValueError("a table needs at least one row, got none.")
    free, overall = best(rows, label_free=True), best(rows)
    lines = [HEAD]
    for row in rows:
        marks = (BEST_LABEL_FREE if row is free else "") + (BEST_OVERALL if row is overall else "")
        lines.append(
            (
                row.method,
                "group" if row.needs_group_labels else "-",
                f"{_number(row.worst_group_accuracy)} {marks}".rstrip(),
                _number(row.task_accuracy),
                _number(row.attribute_accuracy),
                _number(row.leakage["linear"]),
                _number(row.leakage["mlp"]),
                f"{row.seconds:,.1f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    drawn.insert(1, "-" * max(map(len, drawn)))
    drawn += [
        "",
        f"{BEST_LABEL_FREE} best worst group without group labels, {BEST_OVERALL} best of all (oracle aside)",
        "mean ± half of the interval; attribute: how often the prediction equals it (ideal: chance)",
    ]
    return "\n".join(drawn)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
    return [*cells[:-1], line[-1].rjust(widths[-1])]


def _number(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    mean = f"{estimate.mean:.3f}".removeprefix("0").rjust(5)
    return f"{mean} ± {estimate.half_width:.3f}".replace(" 0.", " .") if estimate.has_interval else mean
