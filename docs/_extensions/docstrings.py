r"""Docstrings as the project writes them, made ready for reStructuredText.

Absolute values are written ``|effect|`` and plurals of names `TokenBatch`es, as they would be read in the source;
reStructuredText takes the one for a substitution and the other for a mistake. What scikit-learn and pydantic
generate is documented there, with references that lead nowhere here.
"""

from __future__ import annotations

import re
from typing import Any

from numpydoc.xref import DEFAULT_LINKS
from sphinx.application import Sphinx
from sphinx.config import Config

CODE = re.compile(r"(``.*?``|:\w+:`[^`]*`|`[^`]*`|^ *(?:>>>|\.\.\.|\.\. math::).*?$)", re.MULTILINE)
BARS = re.compile(r"\|(?=[^\s|])([^|\n]*(?:\n[^|\n]+)?[^\s|])\|")
GENERATED = re.compile(r"set_\w+_request|get_metadata_routing|model_config")
HEADING = re.compile(r"^(\S.*)\n-{4,}$", re.MULTILINE)


def prepare(app: Sphinx, what: str, name: str, object: Any, options: Any, lines: list[str]) -> None:
    """Escape bars outside code, and part a name in backticks from its ending."""
    text = "\n".join(lines)
    if what == "module":
        # as sections they would hold the names that follow on the page
        text = HEADING.sub(r".. rubric:: \1\n", text)
    parts = CODE.split(text)
    parts[::2] = [BARS.sub(r"\\|\1\\|", part) for part in parts[::2]]
    for k in range(2, len(parts), 2):
        if parts[k][:1].isalpha():
            parts[k] = "\\ " + parts[k]
    lines[:] = "".join(parts).split("\n")


def skip(app: Sphinx, what: str, name: str, object: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn generates."""
    return True if GENERATED.fullmatch(name) else None


def no_links_outside(app: Sphinx, config: Config) -> None:
    """Take back the links of "array-like" and the like, which lead to glossaries that are not on this site."""
    for word in DEFAULT_LINKS:
        if word not in config.numpydoc_xref_aliases:
            config.numpydoc_xref_aliases_complete.pop(word, None)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect."""
    app.connect("autodoc-process-docstring", prepare, priority=900)
    app.connect("autodoc-skip-member", skip)
    app.connect("builder-inited", lambda app: no_links_outside(app, app.config), priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
