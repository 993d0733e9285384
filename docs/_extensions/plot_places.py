"""``<!-- plot: name Caption -->`` in a page becomes the figure `plots/name.svg`, once that file is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

PLACE = re.compile(r"^<!-- plot: (?P<name>\w+)(?:: (?P<caption>.*?))? -->$", re.MULTILINE)


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in the figures that exist."""

    def figure(place: re.Match[str]) -> str:
        name, caption = place["name"], place["caption"] or ""
        if not (Path(app.srcdir) / "plots" / f"{name}.svg").is_file():
            return place[0]
        return f"```{{figure}} plots/{name}.svg\n:alt: {caption or name}\n:class: plot\n\n{caption}\n```"

    source[0] = PLACE.sub(figure, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
