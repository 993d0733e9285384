"""SAEs pushed to the Hugging Face hub, one or all of a run in one commit.

What is pushed is what `save_sae` writes, so sae-lens reads it too; what comes back is the id that `load_sae` takes.
The commit is made with ``create_commit``, which is one or none: ``upload_folder`` may split a slow upload, and
half a run would stand on the hub meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.formats.card import model_card
from ssae_debias.sae.formats.hub import FOLDER, PREFIX, REPO, REVISION
from ssae_debias.sae.formats.saving import save_sae

CARD = "README.md"


def push_sae(
    sae: SparseAutoencoder,
    repo_id: str,
    *,
    folder: str | None = None,
    private: bool = True,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """Push an SAE to a model repository on the Hugging Face hub, which is made if it is not there.

    Parameters
    ----------
    sae : SparseAutoencoder
    repo_id : str
        ``owner/name``.
    folder : str, optional
        Folder in the repository, such as ``"resid.3"``; by default its root. An SAE that stands there is replaced.
    private : bool, default True
        Whether a repository that is made now is private: what is public once cannot be called back. One that is
        there stays as it is.
    revision : str, optional
        Branch to commit to, made if it is not there; by default the main one.
    commit_message : str, optional
        By default it names the folder.
    token : str, optional
        With the right to write; by default that of ``hf auth login`` or of ``HF_TOKEN``.

    Returns
    -------
    str
        ``hub:owner/name@commit[/folder]``, from which `load_sae` reads this very SAE, whatever is pushed later.
        (`load_sae` reads a private repository with the token of the login, not with `token`.)

    Raises
    ------
    ImportError
        huggingface_hub is not installed.
    ValueError
        A name that no repository, folder or branch can have here, or NaN or infinity in the weights.
    PermissionError
        Not logged in, or no right to write there.
    ConnectionError
        The hub cannot be reached, or ``HF_HUB_OFFLINE`` is set.
    OSError
        The hub refused for another reason, or there is no space for a temporary copy.

    Notes
    -----
    A model card (``README.md``) with size, site and fidelity is written where the branch has none yet.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4))
    >>> push_sae(sae, "me/saes", folder="resid.3")  # doctest: +SKIP
    'hub:me/saes@0a4bf2…/resid.3'
    >>> push_sae(sae, "saes")
    Traceback (most recent call last):
    ValueError: repo_id must be owner/name of letters, digits, '.', '_' and '-', got 'saes'.
    """
    if not isinstance(sae, SparseAutoencoder):
        raise TypeError(f"expected a SparseAutoencoder, got {type(sae).__name__}; for several use push_saes.")
    place = folder or ""
    commit = _push(
        {place: sae}, repo_id, private, revision, commit_message or f"Push SAE{place and f' {place}'}", token
    )
    return _id(repo_id, commit, place)


def push_saes(
    saes: Mapping[str, SparseAutoencoder],
    repo_id: str,
    *,
    folder: str | None = None,
    private: bool = True,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> dict[str, str]:
    """Push the SAEs of several sites in one commit, each in a folder of its site's name.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder
        By site, as `SSAEDebiaser.saes_` has them. The folder of ``module:encoder.0`` is ``module=encoder.0``.
    repo_id, private, revision, commit_message, token
        See `push_sae`.
    folder : str, optional
        The sites' folders are made in this one; by default in the repository's root.

    Returns
    -------
    dict of str to str
        Each site's ``hub:owner/name@commit/folder``.

    Raises
    ------
    ValueError
        No SAE is given; otherwise as `push_sae`, and in each case nothing is pushed.

    Examples
    --------
    >>> push_saes({}, "me/saes")
    Traceback (most recent call last):
    ValueError: there is no SAE to push: expected {site: SAE, …}, got {}.
    """
    if not saes:
        raise ValueError(f"there is no SAE to push: expected {{site: SAE, …}}, got {saes!r}.")
    places = {site: f"{folder or ''}/{site.replace(':', '=')}".removeprefix("/") for site in saes}
    commit = _push(
        {places[site]: sae for site, sae in saes.items()},
        repo_id,
        private,
        revision,
        commit_message or f"Push SAEs of {', '.join(saes)}",
        token,
    )
    return {site: _id(repo_id, commit, place) for site, place in places.items()}


def _push(
    saes: Mapping[str, SparseAutoencoder],
    repo_id: str,
    private: bool,
    revision: str | None,
    message: str,
    token: str | None,
) -> str:
    """The commit that holds the SAEs, by folder."""
    _require_names(repo_id, revision, saes)
    try:
        from huggingface_hub import CommitOperationAdd, HfApi, get_token
    except ImportError as error:
        raise ImportError(
            "pushing to the Hugging Face hub needs huggingface_hub: pip install 'ssae-debias[hub]', or write a "
            "folder with save_sae."
        ) from error
    token = token or get_token()
    if token is None:
        raise PermissionError(
            f"not logged in to the Hugging Face hub, so nothing can be pushed to {repo_id}: run `hf auth login`, set "
            "HF_TOKEN, or give token=."
        )
    with TemporaryDirectory(prefix="ssae-debias-push-") as temporary:
        content: dict[str, Path | bytes] = {}
        for number, (place, sae) in enumerate(saes.items()):
            written = Path(temporary) / str(number)
            save_sae(sae, written)
            content |= {f"{place}/{file.name}".lstrip("/"): file for file in sorted(written.iterdir())}
        api = HfApi(token=token)
        with _explained(repo_id):
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            if not api.file_exists(repo_id, CARD, revision=revision):
                content[CARD] = model_card(saes, repo_id, revision).encode()
            commit = api.create_commit(
                repo_id,
                [
                    CommitOperationAdd(path_in_repo=name, path_or_fileobj=part)
                    for name, part in content.items()
                ],
                commit_message=message,
                revision=revision,
            )
    return commit.oid


def _require_names(repo_id: str, revision: str | None, saes: Mapping[str, SparseAutoencoder]) -> None:
    """Raise ValueError unless `load_sae` could name all this, before anything is sent."""
    signs = "letters, digits, '.', '_' and '-'"
    if re.fullmatch(REPO, repo_id) is None or ".." in repo_id.split("/"):
        raise ValueError(f"repo_id must be owner/name of {signs}, got {repo_id!r}.")
    if revision is not None and re.fullmatch(REVISION, revision) is None:
        raise ValueError(f"revision must be a branch of {signs}, got {revision!r}.")
    for place in filter(None, saes):
        if re.fullmatch(FOLDER, place) is None or {".", ".."} & set(place.split("/")):
            raise ValueError(
                f"a folder on the hub must be of {signs}, '=' and '@', parted by '/', got {place!r}."
            )


def _id(repo_id: str, commit: str, place: str) -> str:
    return f"{PREFIX}{repo_id}@{commit}{place and f'/{place}'}"


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """What the hub's client raises, said in terms of what to do."""
    # the client's HTTP library differs between its releases; it names that library's base error here
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
            f"the Hugging Face hub cannot be reached, so {repo_id} was not pushed to: {error}. Write a folder with "
            "save_sae, and push when there is a network."
        ) from error
