"""An exported model pushed to the Hugging Face hub, as one commit.

What is pushed is the folder as it stands, card and manifest with it, after its manifest was checked. Weights that
stand in the repository from before and are not of this export are deleted by the same commit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from ssae_debias.files import read_manifest
from ssae_debias.sae.formats.hub import REPO, REVISION

KIND = "edited model"

# what an export before may have left in a repository: beside the new one it could be loaded in its stead
STALE = ("model*.safetensors", "model*.safetensors.index*.json", "modeling_edited.py", "pytorch_model*.bin")


def push_export(
    path: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    commit_message: str = "Push edited model",
    token: str | None = None,
) -> str:
    """Push an exported model to a model repository on the Hugging Face hub, which is made if it is not there.

    Parameters
    ----------
    path : path-like
        A folder that `export_model` wrote.
    repo_id : str
        ``owner/name``.
    private : bool, default=True
        Whether a repository that is made now is private: what is public once cannot be called back.
    revision : str, optional
        Branch to commit to, made if it is not there; by default the main one.
    commit_message : str, default="Push edited model"
    token : str, optional
        With the right to write; by default that of ``hf auth login`` or of ``HF_TOKEN``.

    Returns
    -------
    str
        The commit: ``from_pretrained(repo_id, revision=…)`` loads this very model, whatever is pushed later.

    Raises
    ------
    ImportError
        huggingface_hub is not installed.
    FileNotFoundError, DamagedFileError
        The folder holds no export, or not the one that was written.
    ValueError
        A name that no repository or branch can have.
    PermissionError
        Not logged in, or no right to write there.
    ConnectionError
        The hub cannot be reached, or ``HF_HUB_OFFLINE`` is set.
    OSError
        The hub refused for another reason.

    Examples
    --------
    >>> push_export("edited", "me/edited")  # doctest: +SKIP
    '0a4bf2…'
    >>> push_export("edited", "edited")
    Traceback (most recent call last):
    ValueError: repo_id must be owner/name of letters, digits, '.', '_' and '-', got 'edited'.
    """
    signs = "letters, digits, '.', '_' and '-'"
    if re.fullmatch(REPO, repo_id) is None or ".." in repo_id.split("/"):
        raise ValueError(f"repo_id must be owner/name of {signs}, got {repo_id!r}.")
    if revision is not None and re.fullmatch(REVISION, revision) is None:
        raise ValueError(f"revision must be a branch of {signs}, got {revision!r}.")
    folder = Path(path)
    listed = read_manifest(folder, KIND)["files"]
    try:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
    except ImportError as error:
        raise ImportError(
            "pushing to the Hugging Face hub needs huggingface_hub: pip install 'ssae-debias[hub]'."
        ) from error
    token = token or get_token()
    if token is None:
        raise PermissionError(
            f"not logged in to the Hugging Face hub, so nothing can be pushed to {repo_id}: run `hf auth login`, set "
            "HF_TOKEN, or give token=."
        )
    api = HfApi(token=token)
    with _explained(repo_id, folder):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        stale = [
            name
            for name in api.list_repo_files(repo_id, revision=revision)
            if name not in listed and any(fnmatch(name, pattern) for pattern in STALE)
        ]
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationDelete(path_in_repo=name) for name in stale),
                *(
                    CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name)
                    for name in (*sorted(listed), "manifest.json")
                ),
            ],
            commit_message=commit_message,
            revision=revision,
        )
    return str(commit.oid)


@contextmanager
def _explained(repo_id: str, folder: Path) -> Iterator[None]:
    """What the hub's client raises, said in terms of what to do."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise PermissionError(
                f"the Hugging Face hub did not accept the token for {repo_id}: it is wrong or expired. Run `hf auth "
                f"login`, set HF_TOKEN, or give token=. ({error})"
            ) from error
        if status in (403, 404):
            raise PermissionError(
                f"the token has no right to write to {repo_id}: use one with write access, of an account that owns "
                f"{repo_id.split('/')[0]!r} or is a member of it. ({error})"
            ) from error
        raise OSError(f"the Hugging Face hub refused the push to {repo_id}: {error}") from error
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise ConnectionError(
            f"the Hugging Face hub cannot be reached, so {repo_id} was not pushed to: {error}. The export stays in "
            f"{folder}: push it when there is a network."
        ) from error
