"""A folder of FAISS files that is filled over hours, and goes on where it was killed.

`manifest.json` says what was asked for, and lists each file with its sha256 and what is known of it; it is
rewritten after every file, and every file is written aside and renamed. So a killed build leaves whole files
and at most one that is not listed; a damaged file is found when the folder is opened again, and made again.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ssae_debias.files import MANIFEST, DamagedFileError, file_aside, read_json, sha256_of, write_json


class ShardFolder:
    """The files of one request, each whole or absent.

    One process at a time fills a folder.

    Parameters
    ----------
    folder : path-like
        Made where it is missing.
    kind : str
        What the files are, for the manifest.
    request : dict
        All that the files' bytes depend on, as JSON holds it.

    Warns
    -----
    UserWarning
        Listed files are missing or damaged, or the manifest is: they are to be made again.

    Raises
    ------
    ValueError
        The folder holds the files of another request.
    OSError
        No permission, or no space.

    Examples
    --------
    >>> import faiss, tempfile
    >>> place = tempfile.mkdtemp()
    >>> ShardFolder(place, "example", {"d": 2}).write("a.faiss", faiss.IndexFlatIP(2), n=0)
    >>> again = ShardFolder(place, "example", {"d": 2})
    >>> "a.faiss" in again, again["a.faiss"]["n"]
    (True, 0)
    """

    def __init__(self, folder: Path | str, kind: str, request: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self._kind = kind
        self._request = request
        self._files = self._whole_files()
        for partial in self.folder.glob(".*.partial"):
            partial.unlink()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> dict[str, Any]:
        """What the manifest says of a file: its ``sha256``, ``bytes`` and the facts that it was given."""
        return self._files[name]

    def __len__(self) -> int:
        return len(self._files)

    def names(self) -> list[str]:
        """The whole files, in the order of their names."""
        return sorted(self._files)

    def write(self, name: str, index: Any, **facts: Any) -> None:
        """Write a FAISS index as a file of the folder, and note it.

        Raises
        ------
        OSError
            No space or no permission; what was whole before still is.
        """
        import faiss

        with file_aside(self.folder / name) as aside:
            # through Python, whose errors name their cause: FAISS' own writer raises a RuntimeError
            with aside.open("wb") as file:
                faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
            noted = {"sha256": sha256_of(aside), "bytes": aside.stat().st_size, **facts}
        self._files[name] = noted
        write_json(
            self.folder / MANIFEST,
            {"kind": self._kind, "request": self._request, "files": dict(sorted(self._files.items()))},
        )

    def _whole_files(self) -> dict[str, dict[str, Any]]:
        path = self.folder / MANIFEST
        if not path.is_file():
            return {}
        try:
            manifest = read_json(path)
            kind, request = manifest["kind"], manifest["request"]
            listed = {name: {**facts, "sha256": facts["sha256"]} for name, facts in manifest["files"].items()}
        except (DamagedFileError, AttributeError, KeyError, TypeError) as error:
            warnings.warn(
                f"{path} is damaged ({error!r}): what it listed is made again.", UserWarning, stacklevel=3
            )
            return {}
        if (kind, request) != (self._kind, self._request):
            raise ValueError(
                f"{self.folder} holds the {kind} of another request ({request}), not the {self._kind} of "
                f"{self._request}: give another folder, or remove this one."
            )
        damaged = [
            name
            for name, facts in listed.items()
            if not (self.folder / name).is_file() or sha256_of(self.folder / name) != facts["sha256"]
        ]
        if damaged:
            warnings.warn(
                f"{len(damaged)} file(s) in {self.folder} are missing or damaged and are made again: "
                f"{', '.join(sorted(damaged))}.",
                UserWarning,
                stacklevel=3,
            )
        return {name: facts for name, facts in listed.items() if name not in damaged}
