"""SAEs named by their place on the Hugging Face hub: ``hub:owner/name[@revision][/folder]``."""

from __future__ import annotations

import os
import re
from pathlib import Path

PREFIX = "hub:"

# weights and settings; a repository's code and pictures are not fetched
WANTED = ("*.json", "*.safetensors", "*.npz", "*.pt")

REPO = r"[\w.-]+/[\w.-]+"
REVISION = r"[\w.-]+"
FOLDER = r"[\w.@=-]+(/[\w.@=-]+)*"

_ID = re.compile(rf"(?P<repo>{REPO})(@(?P<revision>{REVISION}))?(/(?P<folder>{FOLDER}))?")


def local_path(path: str | os.PathLike[str]) -> Path:
    """`path` itself, or for ``hub:…`` where its files lie in the local cache, fetched if they are not there.

    Parameters
    ----------
    path : path-like
        With ``hub:``, the repository, a revision if not the newest, and the folder that is wanted: without a
        folder all weights of the repository are fetched.

    Raises
    ------
    ImportError
        huggingface_hub is not installed.
    ValueError
        The text after ``hub:`` is no repository.
    FileNotFoundError
        The repository has no such folder.
    OSError
        The hub cannot be reached, or has no such repository.

    Examples
    --------
    >>> local_path("saes/resid.3").as_posix()
    'saes/resid.3'
    >>> local_path("hub:gpt2")
    Traceback (most recent call last):
    ValueError: expected hub:owner/name, hub:owner/name@revision or either with /folder; got 'hub:gpt2'.
    """
    if not isinstance(path, str) or not path.startswith(PREFIX):
        return Path(path)
    found = _ID.fullmatch(path.removeprefix(PREFIX))
    if found is None or ".." in path.removeprefix(PREFIX).split("/"):
        raise ValueError(
            f"expected hub:owner/name, hub:owner/name@revision or either with /folder; got {path!r}."
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(
            f"{path} is on the Hugging Face hub: pip install 'ssae-debias[hub]', or download it and give its folder."
        ) from error
    folder = found["folder"] or ""
    below = f"{folder}/" if folder else ""
    root = Path(
        snapshot_download(
            repo_id=found["repo"],
            revision=found["revision"],
            allow_patterns=[below + pattern for pattern in WANTED],
        )
    )
    if not (root / folder).exists():
        raise FileNotFoundError(f"{found['repo']} on the hub has no weights in a folder {folder!r}.")
    return root / folder
