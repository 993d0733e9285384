"""What a report page lists: its latents, what it says of each, and the fingerprints of their SAEs.

Read from the page itself, so that a review needs the one file that a person was sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

from ssae_debias.decisions import WORDS, Decision, Decisions

GENERATOR = "ssae-debias"


@dataclass(frozen=True)
class Listed:
    """One latent's decision and note on the page, and whether a person was behind them."""

    decision: str
    note: str = ""
    by_a_person: bool = False


@dataclass(frozen=True)
class Listing:
    """The latents of a page.

    Attributes
    ----------
    latents : mapping of (site, latent) to Listed
    saes : mapping of str to str
        Fingerprints by site; empty for a page made without.
    """

    latents: Mapping[tuple[str, int], Listed]
    saes: Mapping[str, str] = field(default_factory=dict)

    @property
    def persons(self) -> Decisions:
        """What a person had decided before the page was made: a new file of decisions begins with it."""
        items = {
            key: Decision(listed.decision, listed.note)  # type: ignore[arg-type]
            for key, listed in self.latents.items()
            if listed.by_a_person and listed.decision in WORDS
        }
        return Decisions(items, dict(self.saes))


def read_listing(page: str) -> Listing:
    """Read a page's latents.

    Parameters
    ----------
    page : str
        HTML of `ssae_debias.report.write_report`, or of an audit.

    Raises
    ------
    ValueError
        The page is none of ours, or lists no latents.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> from ssae_debias.report.page import render
    >>> listing = read_listing(render(example_content()))
    >>> len(listing.latents), listing.latents["resid.3", 640].decision, list(listing.persons.items)
    (6, 'keep', [('resid.3', 640)])
    """
    reader = _Reader()
    reader.feed(page)
    if reader.generator != GENERATOR:
        raise ValueError("it is no report of ssae-debias: its head does not name it as the generator.")
    if not reader.latents:
        raise ValueError("it lists no latents, so there is nothing to decide on.")
    try:
        saes = json.loads(reader.saes)
        listing = Listing(reader.latents, saes)
        listing.persons  # noqa: B018  looks at every site, fingerprint and note
    except ValueError as error:
        raise ValueError(
            f"its latents cannot be read ({error}): it was altered or is of another release."
        ) from error
    return listing


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.generator = ""
        self.saes = "{}"
        self.latents: dict[tuple[str, int], Listed] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "section", "tbody"):
            return
        found = {name: value or "" for name, value in attrs}
        if tag == "meta" and found.get("name") == "generator":
            self.generator = found.get("content", "")
        elif tag == "section" and found.get("id") == "latents":
            self.saes = found.get("data-saes", "{}")
        elif tag == "tbody" and {"data-site", "data-latent"} <= set(found):
            self.latents[found["data-site"], int(found["data-latent"])] = Listed(
                found.get("data-decision", ""), found.get("data-note", ""), "data-person" in found
            )
