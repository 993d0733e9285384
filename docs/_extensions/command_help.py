"""``{command-help} audit``: what `ssae-debias audit --help` prints, asked of the parser when the site is built."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ssae_debias.cli import COMMANDS, main

WIDTH = "84"


def help_of(command: str | None) -> str:
    """The text of ``ssae-debias [command] --help``."""
    said = io.StringIO()
    plain = {"COLUMNS": WIDTH, "NO_COLOR": "1", "PYTHON_COLORS": "0"}
    arguments = ["--help"] if command is None else [command, "--help"]
    with (
        mock.patch.dict(os.environ, plain),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        main(arguments)
    return said.getvalue()


class CommandHelp(SphinxDirective):
    """Without an argument: the program's own help, then a section for each command."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Literal blocks; `all` gives every command a section."""
        if not self.arguments:
            return [self._block(None)]
        sections: list[nodes.Node] = []
        for command, summary in COMMANDS.items() if self.arguments == ["all"] else ():
            section = nodes.section(ids=[nodes.make_id(command)], names=[command])
            section += nodes.title("", "", nodes.literal("", f"ssae-debias {command}"))
            section += nodes.paragraph("", f"{summary[0].upper()}{summary[1:]}.")
            section += self._block(command)
            sections.append(section)
            self.state.document.note_implicit_target(section, section)
        return sections or [self._block(self.arguments[0])]

    def _block(self, command: str | None) -> nodes.literal_block:
        text = help_of(command)
        return nodes.literal_block(text, text, language="text")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
