"""A matplotlib figure as SVG that belongs to the page: its fonts, its colours, light or dark.

Matplotlib writes fixed colours. Each colour of the palette is a role, drawn with its light value and then
replaced by a CSS variable of the same name (``var(--ours, #0072b2)``): inside the page the variable follows
the theme, and the same SVG opened alone still has the light value. Text stays text, so it can be read aloud,
searched and copied.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours (safe for the colour-blind) carry meaning, greys the rest. No two may be equal.
PALETTE = {
    "paper": "#fcfcfd",
    "ink": "#15191e",
    "muted": "#5c6570",
    "rule": "#dfe3e8",
    "ours": "#0072b2",
    "rival": "#7d8792",
    "heat": "#e69f00",
    "series-1": "#004c78",
    "series-2": "#d55e00",
    "series-3": "#009e73",
    "series-4": "#cc79a7",
    "series-5": "#56b4e9",
    "series-6": "#b8860b",
}
FONT_SIZE = 10
ROOT_STYLE = "font-family: sans-serif; stroke-linejoin: round; stroke-linecap: butt"

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": FONT_SIZE,
    "text.color": PALETTE["ink"],
    "axes.labelcolor": PALETTE["muted"],
    "axes.edgecolor": PALETTE["rule"],
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": FONT_SIZE,
    "axes.titlelocation": "left",
    "xtick.color": PALETTE["rule"],
    "ytick.color": PALETTE["rule"],
    "xtick.labelcolor": PALETTE["muted"],
    "ytick.labelcolor": PALETTE["ink"],
    "grid.color": PALETTE["rule"],
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def page_style() -> Iterator[None]:
    """Draw in the page's style within the block, and leave matplotlib's settings as they were.

    Examples
    --------
    >>> import matplotlib
    >>> with page_style():
    ...     matplotlib.rcParams["svg.fonttype"]
    'none'
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def to_svg(figure: Figure, label: str) -> str:
    """Draw a figure as an SVG element for inlining into HTML.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn with the colours of `PALETTE`; call this inside `page_style`.
    label : str
        What a screen reader says for the picture; escaped here.

    Returns
    -------
    str
        ``<svg …>`` without XML header, fixed size, metadata or group ids. Same figure and label, same bytes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> with page_style():
    ...     svg = to_svg(Figure(figsize=(1, 1)), "an <empty> figure")
    >>> 'role="img" aria-label="an &lt;empty&gt; figure"' in svg
    True
    """
    import matplotlib

    # The salt makes the ids of clip paths and markers differ between the figures of a page, and repeatable.
    salt = hashlib.sha256(f"{label}{figure.get_size_inches()}".encode()).hexdigest()
    with matplotlib.rc_context({"svg.hashsalt": salt}), warnings.catch_warnings():
        buffer = io.StringIO()
        # Text is drawn by the page's fonts: that matplotlib's own lacks a letter is of no concern.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(
        r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*|<style.*?</style>\s*", "", drawn, flags=re.DOTALL
    )
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)
    drawn = re.sub(r"<defs>\s*</defs>\s*", "", drawn)
    # The page's own family takes over; weight and size were chosen by the plot. Matplotlib writes one
    # `font` or, from 3.10 on, its parts.
    drawn = re.sub(r"font-family: [^;\"]*; ", "", drawn)
    drawn = re.sub(
        r"font: (?:(bold|\d{3}) )?([\d.]+px) [^;\"]*",
        lambda match: f"font-size: {match[2]}" + (f"; font-weight: {match[1]}" if match[1] else ""),
        drawn,
    )
    for role, colour in PALETTE.items():
        drawn = drawn.replace(colour, f"var(--{role}, {colour})")
    view = re.search(r'viewBox="[^"]*"', drawn)
    drawn = drawn.replace("xlink:href", "href")
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(label)}"'
    opened += f' {view[0] if view else ""} style="{ROOT_STYLE}">'
    return opened + drawn[drawn.index(">") + 1 :].strip()
