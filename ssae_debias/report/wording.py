"""How numbers are said to a reader: percents, points for differences, counts, true minus signs."""

from __future__ import annotations

import math
from typing import Any

from ssae_debias.report.content import Estimate

NARROW_SPACE = "\u202f"


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage.

    Examples
    --------
    >>> percent(0.7474).replace("\u202f", " ")
    '74.7 %'
    """
    return f"{100 * fraction:.{digits}f}{NARROW_SPACE}%".replace("-", "−")


def interval(estimate: Estimate) -> str:
    """The bounds of an estimate in percent, or that there are none.

    Examples
    --------
    >>> interval(Estimate(0.747, 0.7, 0.79))
    '70.0–79.0'
    >>> interval(Estimate(0.747, 0.747, 0.747))
    'no interval'
    """
    if not estimate.has_interval:
        return "no interval"
    return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}".replace("-", "−")


def points(difference: float) -> str:
    """The size of a difference of two fractions, in percentage points.

    Examples
    --------
    >>> points(-0.047)
    '4.7 points'
    >>> points(0.01)
    '1.0 point'
    """
    size = f"{100 * abs(difference):.1f}"
    return f"{size} point" if size == "1.0" else f"{size} points"


def counted(n: int, noun: str) -> str:
    """A count with its noun.

    Examples
    --------
    >>> counted(1, "latent"), counted(1200, "text")
    ('1 latent', '1,200 texts')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def listed(parts: list[str]) -> str:
    """Parts of a sentence, joined.

    Examples
    --------
    >>> listed(["embed", "resid.1", "resid.3"])
    'embed, resid.1 and resid.3'
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def number(value: Any) -> str:
    """Any number short enough to be read; what is no number is said as it is.

    Examples
    --------
    >>> number(0.00004), number(-1.2345), number(12000), number("bm25")
    ('4e−05', '−1.23', '12,000', 'bm25')
    """
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return str(value)
    value = float(value)
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def sentence_start(text: str) -> str:
    """The same text with a capital first letter.

    Examples
    --------
    >>> sentence_start("words deleted")
    'Words deleted'
    """
    return text[:1].upper() + text[1:]
