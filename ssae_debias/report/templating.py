"""What every page of a report is made with: the templates' environment, styles, scripts and the policy over them.

A page loads nothing and runs one script, its own, whose sha256 the content security policy in the page names. So a
text from the data that slipped through the autoescape would still not run.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ssae_debias.report import wording
from ssae_debias.report.methods import describe

STYLES = ("page.css", "latents.css")
SCRIPTS = ("page.js", "latents.js")


@dataclass(frozen=True)
class Assets:
    """A page's styles and script as they stand in it, and the policy that lets them act and nothing else.

    `style` and `script` go between ``<style>`` and ``<script>`` tags unchanged: a byte more and the policy's hash is
    another.
    """

    style: Markup
    script: Markup
    policy: Markup


def page_assets(*styles: str) -> Assets:
    """Styles and script of a page.

    Parameters
    ----------
    *styles : str
        Files of `templates/` to stand after those that all pages share.

    Examples
    --------
    >>> page_assets().policy.split("; ")[0]
    Markup("default-src 'none'")
    """
    style = "\n".join(_resource(name) for name in (*STYLES, *styles))
    script = "\n".join(_resource(name) for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "; ".join(
        (
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            f"script-src 'sha256-{digest}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    # Markup is right here: files of this package, and a policy without double quotes; no word from the data.
    return Assets(Markup(style), Markup(script), Markup(policy))


def page_environment() -> Environment:
    """The environment of all pages' templates: autoescape everywhere, and an error for a name that is missing."""
    environment = Environment(
        loader=PackageLoader("ssae_debias.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        percent=wording.percent, interval=wording.interval, number=wording.number, describe=describe
    )
    return environment


def _resource(name: str) -> str:
    return (resources.files("ssae_debias.report") / "templates" / name).read_text(encoding="utf-8")
