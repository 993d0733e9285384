"""Pooled activations on disk, keyed by all that they depend on.

Methods, seeds and later runs that read the same texts under the same edits read one file. The texts' order
counts; the key holds the model's weights, the site, the pooling and every array of every edit.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssae_debias.activations import TextModel, read_pooled
from ssae_debias.activations.building import texts_sha256
from ssae_debias.edit import Edit, edits_digest, spliced
from ssae_debias.files import DamagedFileError, folder_aside, read_manifest, write_manifest


def pooled_under_edits(
    model: TextModel,
    texts: Sequence[str],
    edits: Mapping[str, Edit],
    *,
    site: str,
    pool: Literal["mean", "last", "cls"],
    include_special: bool,
    max_length: int,
    home: Path | None = None,
    verbose: int = 0,
) -> NDArray[np.float32]:
    """Pooled activations of texts while a model is edited.

    Parameters
    ----------
    model : TextModel
    texts : sequence of str
    edits : mapping of str to Edit
        By site; none reads the model as it is.
    site : str
        What is read, after its own edit.
    pool, include_special, max_length, verbose
        As in `read_pooled`.
    home : Path or None, default=None
        Folder that keeps the result, under `pooled`; None computes it anew. A damaged file is computed again,
        with a warning.

    Returns
    -------
    ndarray of float32, shape (n_texts, d_model)
    """
    folder = None
    if home is not None:
        settings = json.dumps([model.fingerprint, site, pool, include_special, max_length])
        folder = home / "pooled" / _key(settings, texts, edits)
        if folder.is_dir():
            try:
                read_manifest(folder, "pooled activations")
                return np.load(folder / "pooled.npy", allow_pickle=False)
            except (DamagedFileError, FileNotFoundError) as error:
                warnings.warn(f"Pooled activations are computed again: {error}", stacklevel=2)
    with spliced(model, edits):
        rows = read_pooled(
            model,
            texts,
            site,
            pool=pool,
            include_special=include_special,
            max_length=max_length,
            verbose=verbose,
        )[site]
    if folder is not None:
        with folder_aside(folder) as aside:
            np.save(aside / "pooled.npy", rows)
            write_manifest(aside, "pooled activations")
    return rows


def _key(settings: str, texts: Sequence[str], edits: Mapping[str, Edit]) -> str:
    return hashlib.sha256(f"{settings}{texts_sha256(texts)}{edits_digest(edits)}".encode()).hexdigest()[:24]
