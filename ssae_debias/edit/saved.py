"""Edits on disk: one safetensors file and a description, nothing that could run code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ssae_debias.edit.affine import Affine
from ssae_debias.edit.composed import Composed
from ssae_debias.edit.latent_edit import LatentEdit
from ssae_debias.edit.projection import Projection
from ssae_debias.edit.protocol import Edit
from ssae_debias.files import (
    DamagedFileError,
    folder_aside,
    read_json,
    read_manifest,
    require_replaceable,
    write_json,
    write_manifest,
    write_tensors,
)

_KINDS: dict[str, type[LatentEdit] | type[Projection] | type[Affine]] = {
    kind.kind: kind for kind in (LatentEdit, Projection, Affine)
}


def save_edits(path: str | os.PathLike[str], edits: Mapping[str, Edit]) -> None:
    """Write edits into a folder: `edits.safetensors`, `edits.json` and a manifest with their sha256.

    Examples
    --------
    >>> import tempfile, torch
    >>> from ssae_debias.edit import Projection, load_edits, save_edits
    >>> folder = tempfile.mkdtemp() + "/edits"
    >>> save_edits(folder, {"embed": Projection.onto_complement_of(torch.eye(3)[:1], center=torch.zeros(3))})
    >>> load_edits(folder)["embed"](torch.ones(3))
    tensor([0., 1., 1.])
    """
    require_replaceable(path, "edits")
    with folder_aside(path) as folder:
        tensors = {
            f"{site}/{name}": tensor.cpu().clone(memory_format=torch.contiguous_format)
            for site, edit in edits.items()
            for name, tensor in edit.tensors().items()
        }
        write_tensors(folder / "edits.safetensors", tensors)
        write_json(
            folder / "edits.json",
            {site: {"kind": edit.kind, "settings": edit.settings()} for site, edit in edits.items()},
        )
        write_manifest(folder, "edits")


def load_edits(path: str | os.PathLike[str]) -> dict[str, Edit]:
    """Read edits that `save_edits` wrote.

    Raises
    ------
    FileNotFoundError
        The folder holds no manifest.
    DamagedFileError
        A file is missing, altered, or of an unknown kind.
    """
    folder = Path(path)
    read_manifest(folder, "edits")
    tensors = load_file(folder / "edits.safetensors")
    return {
        site: _read(description, _below(site, tensors), folder)
        for site, description in read_json(folder / "edits.json").items()
    }


def _read(description: Any, tensors: dict[str, Tensor], folder: Path) -> Edit:
    try:
        if description["kind"] == Composed.kind:
            parts = description["settings"]["parts"]
            return Composed(
                tuple(_read(part, _below(str(place), tensors), folder) for place, part in enumerate(parts))
            )
        kind = _KINDS.get(description["kind"])
        if kind is None:
            raise DamagedFileError(f"{folder} holds an edit of the unknown kind {description['kind']!r}.")
        arguments: dict[str, Any] = {**description["settings"], **tensors}
        return kind(**arguments)
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{folder / 'edits.json'} does not describe edits: {error!r}.") from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
