"""A person's decisions as a file: which latents to ablate and which to keep, why, and of which SAEs.

A latent is a number, and the number means nothing without the SAE that it belongs to: train again with another seed
and latent 530 is another concept. So decisions carry the fingerprint of each site's SAE, and whoever applies them
compares it first. The file is small JSON that a person can read and a review page writes:

    {"format": "ssae-debias decisions", "version": 1,
     "saes": {"embed": "0123456789abcdef"},
     "decisions": [{"site": "embed", "latent": 530, "decision": "keep", "note": "task word"}]}

It may come from a colleague or a browser's download folder, so everything in it is checked and bounded. This module
needs nothing but the standard library: the review server starts at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ssae_debias.files import DamagedFileError, read_json, write_json

FORMAT, VERSION = "ssae-debias decisions", 1
Word = Literal["ablate", "keep"]
WORDS: tuple[str, ...] = get_args(Word)
# How the reason of what a person decided begins, in tables and on pages.
BY_A_PERSON = "decided by a person"

# Far above what a person decides by hand, far below what fills a memory.
MAX_BYTES, MAX_DECISIONS = 32 * 2**20, 100_000
MAX_NOTE, MAX_SITE, MAX_LATENT = 2_000, 500, 2**31 - 1
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Decision:
    """What is to be done with one latent, and why.

    Parameters
    ----------
    decision : {"ablate", "keep"}
    note : str, default=""
        The person's reason, at most 2,000 characters.

    Raises
    ------
    ValueError
        Another word, or a note that is no text or too long.
    """

    decision: Word
    note: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.decision, str) or self.decision not in WORDS:
            raise ValueError(f"a decision is 'ablate' or 'keep'; got {_short(self.decision)}.")
        if not isinstance(self.note, str):
            raise ValueError(f"a note is text; got {_short(self.note)}.")
        if len(self.note) > MAX_NOTE:
            raise ValueError(
                f"a note has at most {MAX_NOTE:,} characters; this one has {len(self.note):,}: shorten it."
            )


@dataclass(frozen=True)
class Decisions:
    """A person's decisions, and the SAEs that they were made about.

    Parameters
    ----------
    items : mapping of (site, latent) to Decision
    saes : mapping of str to str, default={}
        Fingerprint of each site's SAE, as `ssae_debias.latents.decisions.fingerprint` gives it. A site without
        one is taken on trust.

    Raises
    ------
    ValueError
        A site or latent that cannot be one, too many decisions, or something that is no fingerprint.

    Examples
    --------
    >>> made = Decisions({("embed", 530): Decision("keep", "task word")}, {"embed": "0123456789abcdef"})
    >>> made.words
    {('embed', 530): 'keep'}
    >>> made.check({"embed": "0123456789abcdef", "resid.1": "fedcba9876543210"})
    """

    items: Mapping[tuple[str, int], Decision]
    saes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.items) > MAX_DECISIONS:
            raise ValueError(f"at most {MAX_DECISIONS:,} decisions; got {len(self.items):,}.")
        for site, latent in self.items:
            _check_latent(site, latent)
        for site, sae in self.saes.items():
            _check_site(site)
            if not isinstance(sae, str) or not _FINGERPRINT.fullmatch(sae):
                raise ValueError(
                    f"the fingerprint of an SAE is 16 hexadecimal digits; got {_short(sae)} at {site!r}."
                )

    @property
    def words(self) -> dict[tuple[str, int], str]:
        """``"ablate"`` or ``"keep"`` for each latent, without notes."""
        return {key: item.decision for key, item in self.items.items()}

    @property
    def notes(self) -> dict[tuple[str, int], str]:
        """The notes that say something."""
        return {key: item.note for key, item in self.items.items() if item.note}

    def differing(self, saes: Mapping[str, str]) -> list[str]:
        """Sites decided on whose SAE is known to be another one than in `saes`."""
        decided = dict.fromkeys(site for site, _ in self.items)
        return [
            site for site in decided if site in self.saes and site in saes and self.saes[site] != saes[site]
        ]

    def check(self, saes: Mapping[str, str]) -> None:
        """Refuse decisions that were made about other SAEs.

        Parameters
        ----------
        saes : mapping of str to str
            Fingerprints of the SAEs at hand, by site. Where either side has none, the site is accepted.

        Raises
        ------
        ValueError
            A fingerprint differs: the same number names another latent there.
        """
        if differing := self.differing(saes):
            said = "; ".join(f"{site}: {self.saes[site]}, here {saes[site]}" for site in differing)
            raise ValueError(
                f"These decisions were made about other SAEs ({said}), where the same numbers are other latents. Use "
                "the SAEs of the run that was reviewed (same settings, seed and texts, or its saved debiaser), or "
                "review this run's own report."
            )


def read_decisions(path: str | os.PathLike[str]) -> Decisions:
    """Read a file of decisions.

    Parameters
    ----------
    path : path-like
        Written by `write_decisions`, by a page's "Download decisions", or by ``ssae-debias review``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFileError
        It is not JSON, or larger than 32 MiB.
    ValueError
        It is JSON of something else, or one of its decisions is wrong; the message says which and how.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "decisions.json"
    >>> _ = write_decisions(path, Decisions({("embed", 530): Decision("keep", "task word")}))
    >>> read_decisions(path).items
    {('embed', 530): Decision(decision='keep', note='task word')}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of decisions {path}.")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise DamagedFileError(f"{path} has {size:,} bytes; a file of decisions has at most {MAX_BYTES:,}.")
    try:
        content = read_json(path)
    except RecursionError as error:
        raise DamagedFileError(f"{path} is nested too deeply for a file of decisions.") from error
    try:
        return from_json(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_decisions(
    path: str | os.PathLike[str],
    decisions: Decisions | Mapping[tuple[str, int], Decision],
    saes: Mapping[str, str] | None = None,
) -> Path:
    """Write decisions, whole or not at all.

    Parameters
    ----------
    path : path-like
        File to write; what stands there is replaced.
    decisions : Decisions, or mapping of (site, latent) to Decision
    saes : mapping of str to str, optional
        Fingerprints, for a plain mapping.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OSError
        No permission or no space left; what stood at `path` still does.
    """
    if not isinstance(decisions, Decisions):
        decisions = Decisions(decisions, saes or {})
    write_json(path, to_json(decisions))
    return Path(path)


def to_json(decisions: Decisions) -> dict[str, Any]:
    """The file's content as plain values, ordered by site as met first, then by latent."""
    order = {site: place for place, site in enumerate(dict.fromkeys([*decisions.saes, *_sites(decisions)]))}
    keys = sorted(decisions.items, key=lambda key: (order[key[0]], key[1]))
    return {
        "format": FORMAT,
        "version": VERSION,
        "saes": dict(decisions.saes),
        "decisions": [
            {
                "site": site,
                "latent": int(latent),
                "decision": decisions.items[site, latent].decision,
                "note": decisions.items[site, latent].note,
            }
            for site, latent in keys
        ],
    }


def from_json(content: Any) -> Decisions:
    """Decisions from a file's content.

    Raises
    ------
    ValueError
        It is of another format or version, or holds anything that is not allowed.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f'this is no file of decisions: it does not say "format": "{FORMAT}". (A veto file of SHIFT is named in '
            "the recipe, as shift.decisions.)"
        )
    if content.get("version") != VERSION:
        raise ValueError(
            f"it has version {_short(content.get('version'))}, and this release reads version {VERSION}."
        )
    saes, rows = content.get("saes", {}), content.get("decisions")
    if not isinstance(saes, dict):
        raise ValueError(f"saes maps sites to fingerprints; got {_short(saes)}.")
    if not isinstance(rows, list):
        raise ValueError(f"decisions is a list; got {_short(rows)}.")
    if len(rows) > MAX_DECISIONS:
        raise ValueError(f"at most {MAX_DECISIONS:,} decisions; got {len(rows):,}.")
    items: dict[tuple[str, int], Decision] = {}
    for number, row in enumerate(rows, start=1):
        try:
            key, item = decision_from_json(row)
        except ValueError as error:
            raise ValueError(f"decision {number}: {error}") from error
        if key in items:
            raise ValueError(f"decision {number}: latent {key[1]} of {key[0]!r} comes twice; leave one.")
        items[key] = item
    return Decisions(items, saes)


def decision_from_json(row: Any) -> tuple[tuple[str, int], Decision]:
    """One latent and its decision from one object of the file's list.

    Raises
    ------
    ValueError
        A key is missing or unknown, or a value is not allowed.

    Examples
    --------
    >>> decision_from_json({"site": "embed", "latent": 3, "decision": "ablate"})
    (('embed', 3), Decision(decision='ablate', note=''))
    """
    if not isinstance(row, dict):
        raise ValueError(f"it takes an object with site, latent and decision; got {_short(row)}.")
    missing = [name for name in ("site", "latent", "decision") if name not in row]
    unknown = sorted(set(row) - {"site", "latent", "decision", "note"})
    if missing or unknown:
        said = f"lacks {', '.join(missing)}" if missing else f"has {_short(', '.join(unknown))} too"
        raise ValueError(f"it takes site, latent, decision and note; this one {said}.")
    _check_latent(row["site"], row["latent"])
    return (row["site"], row["latent"]), Decision(row["decision"], row.get("note", ""))


def _sites(decisions: Decisions) -> Iterable[str]:
    return (site for site, _ in decisions.items)


def _check_site(site: Any) -> None:
    if not isinstance(site, str) or not 0 < len(site) <= MAX_SITE:
        raise ValueError(f"a site is a name such as 'embed' or 'resid.4'; got {_short(site)}.")


def _check_latent(site: Any, latent: Any) -> None:
    _check_site(site)
    # numpy's integers count: tables hold those; bool is an int to Python and a mistake here
    whole = hasattr(latent, "__index__") and not isinstance(latent, bool)
    if not whole or not 0 <= int(latent) <= MAX_LATENT:
        raise ValueError(f"a latent is a whole number from 0; got {_short(latent)} at {site!r}.")


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}…"
