"""The file of decisions beside a report, kept while a person reviews.

Each change is one latent's decision, and the last one given of a latent holds, from whichever tab it came. The file
is read again before every change: what was edited by hand meanwhile stays, and a file that cannot be read is never
written over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from ssae_debias.decisions import Decision, Decisions, decision_from_json, read_decisions, write_decisions
from ssae_debias.review.listing import Listing

MAX_CHANGES = 10_000


class DecisionFile:
    """A file of decisions about the latents of one page.

    Parameters
    ----------
    path : Path
        Need not exist yet: it is made with the first change.
    listing : Listing
        Which latents may be decided on, and of which SAEs they are.

    Raises
    ------
    DamagedFileError, ValueError
        A file stands there that is none of decisions, or whose decisions are about other SAEs.
    """

    def __init__(self, path: Path, listing: Listing) -> None:
        self.path = path
        self.listing = listing
        self._lock = Lock()
        self._closed = False
        self.read()

    def read(self) -> Decisions:
        """The decisions as they stand; without a file those that the page was made with."""
        if not self.path.exists():
            return self.listing.persons
        decisions = read_decisions(self.path)
        try:
            decisions.check(self.listing.saes)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error} Or move the file away to begin a new one.") from error
        return decisions

    def change(self, changes: Any) -> Decisions:
        """Write changes into the file, all or none.

        Parameters
        ----------
        changes : list of dict
            Objects as in the file's list; ``"decision": None`` takes what was decided of a latent back.

        Raises
        ------
        ValueError
            A change is malformed, or about a latent that the page does not list.
        OSError
            No permission or no space left; what stood there still does.
        """
        read = _read_changes(changes, self.listing)
        with self._lock:
            if self._closed:
                raise ValueError("the review was stopped.")
            before = self.read()
            items = dict(before.items)
            for key, decision in read:
                if decision is None:
                    items.pop(key, None)
                else:
                    items[key] = decision
            saes = {**before.saes, **self.listing.saes}
            after = Decisions(items, saes)
            write_decisions(self.path, after)
        return after

    def close(self) -> None:
        """Wait for a change that is being written, and take no more."""
        with self._lock:
            self._closed = True


def _read_changes(changes: Any, listing: Listing) -> Sequence[tuple[tuple[str, int], Decision | None]]:
    if not isinstance(changes, list) or len(changes) > MAX_CHANGES:
        raise ValueError(f"changes is a list of at most {MAX_CHANGES:,} decisions.")
    read: list[tuple[tuple[str, int], Decision | None]] = []
    for change in changes:
        taken_back = isinstance(change, Mapping) and "decision" in change and change["decision"] is None
        # a decision taken back has none; any word lets the rest be checked alike
        key, decision = decision_from_json({**change, "decision": "keep"} if taken_back else change)
        if key not in listing.latents:
            raise ValueError(f"the page lists no latent {key[1]} at {key[0]!r}.")
        read.append((key, None if taken_back else decision))
    return read
