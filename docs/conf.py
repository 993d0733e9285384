"""The documentation's site; `make docs` builds it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from api_pages import public_names, read_package, short_names, write_pages  # noqa: E402

from ssae_debias import __version__  # noqa: E402

PACKAGE = HERE.parent / "ssae_debias"
write_pages(PACKAGE, HERE / "api")

project = "ssae-debias"
author = "the authors of ssae-debias"
copyright = author
release = version = __version__
extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "docstrings",
    "myst_parser",
    "mathml",
    "command_help",
    "name_links",
    "plot_places",
    "figures",
]
exclude_patterns = ["_build", "_extensions"]
nitpicky = True
# every name in single quotes would be one; a full path must lead somewhere
nitpick_ignore_regex = [("py:.*", r"(?!ssae_debias\.).*")]
default_role = "py:obj"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4

autodoc_typehints = "none"  # the docstrings say them, in words
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {
    short: path
    for short, path in short_names(public_names(read_package(PACKAGE))).items()
    if short[0].isupper() and not short.isupper()
}

html_theme = "furo"
html_title = f"ssae-debias {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"
templates_path: list[str] = []
