"""Names in code font become links to the API's pages, in Markdown as in docstrings.

In Markdown a full path, such as `ssae_debias.metrics.leakage` in backticks, is a link; one that leads nowhere is a
warning, so that a page cannot speak of what is no longer there. In docstrings a name in backticks may be short where
only one thing has it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from api_pages import other_paths, places, public_names, read_package, short_names
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)
PATH = re.compile(r"ssae_debias(\.\w+)+(\(\))?")


class LinkPaths(SphinxTransform):
    """Full paths in the code font of Markdown pages."""

    default_priority = 400

    def apply(self, **options: Any) -> None:
        """Wrap each of them in a reference."""
        if Path(self.env.doc2path(self.env.docname)).suffix != ".md":
            return
        for literal in list(self.document.findall(nodes.literal)):
            if not PATH.fullmatch(literal.astext()) or isinstance(
                literal.parent, (nodes.reference, pending_xref)
            ):
                continue  # fmt: skip
            target = literal.astext().removesuffix("()")
            reference = pending_xref(
                "", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname, refwarn=True
            )  # fmt: skip
            reference.source, reference.line = literal.source or str(self.document["source"]), literal.line
            literal.replace_self(reference)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Where a name leads that has no entry under the path that was written."""
    if node.get("refdomain") != "py":
        return None
    target, objects = node["reftarget"], env.config.api_objects
    owner, _, member = target.rpartition(".")
    for known, rest in ((target, ""), (owner, f".{member}")):
        if known in objects:
            path = objects[known] + rest
            found = env.domains["py"].resolve_any_xref(env, node["refdoc"], app.builder, path, node, content)
            if found:
                return found[0][1]
    if target in env.config.api_places:
        reference = nodes.reference("", "", content, internal=True)
        page = f"api/{env.config.api_places[target]}"
        reference["refuri"] = app.builder.get_relative_uri(node["refdoc"], page)
        return reference
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transform and the resolver."""
    modules = read_package(Path(app.confdir).parent / "ssae_debias")
    objects = short_names(public_names(modules)) | other_paths(modules)
    app.add_config_value("api_objects", objects, "env", dict)
    app.add_config_value("api_places", places(modules), "env", dict)
    app.add_transform(LinkPaths)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
