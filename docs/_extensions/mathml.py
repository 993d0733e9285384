"""Formulas as MathML, by the converter that comes with docutils: browsers draw it themselves, without a network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
SAME = {r"\lVert": r"\|", r"\rVert": r"\|", r"\textstyle": "", r"\iff": r"\Leftrightarrow", r"\dots": r"\ldots", r"\setminus": r"\backslash", r"\bigl": "", r"\bigr": "", r"\tfrac12": r"\frac{1}{2}"}  # fmt: skip
"""Commands that the converter does not know, or writes by a character that few fonts have, as others."""


def converted(formula: str, node: nodes.Element, *, display: bool) -> str:
    """A formula as markup; one that cannot be read is a warning, and so fails the build."""
    formula = re.sub(r"\\Big\s*([(\[])", r"\\left\1", formula)
    formula = re.sub(r"\\Big\s*([)\]])", r"\\right\1", formula)
    for unknown, known in SAME.items():
        formula = re.sub(re.escape(unknown) + r"(?![a-zA-Z])", lambda _, known=known: known, formula)
    try:
        return tex2mathml(formula, as_block=display)
    except MathError as error:
        logger.warning("formula %r: %s", formula, error, location=node)
        return ""


def inline(writer: Any, node: nodes.math) -> None:
    """Visit a formula in a line."""
    writer.body.append(converted(node.astext(), node, display=False))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    """Visit a formula that stands by itself."""
    writer.body.append(f'<div class="math-block">{converted(node.astext(), node, display=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
