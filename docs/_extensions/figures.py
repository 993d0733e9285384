"""A figure and its interval stay on one line, however narrow their column is."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

NO_BREAK = "\N{NO-BREAK SPACE}"


class KeepTogether(SphinxTransform):
    """No line break around ±."""

    default_priority = 410

    def apply(self, **options: Any) -> None:
        """In tables, where columns are narrow."""
        for table in self.document.findall(nodes.table):
            for text in list(table.findall(nodes.Text)):
                if " ± " in text:
                    text.parent.replace(text, nodes.Text(text.replace(" ± ", f"{NO_BREAK}±{NO_BREAK}")))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transform."""
    app.add_transform(KeepTogether)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
