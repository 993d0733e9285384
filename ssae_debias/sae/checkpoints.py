"""Checkpoints of a training run: whole or absent, checked before use, and never mixed up.

Each request (config, seed, data, starting weights) has its own folder, named by the request's hash; in it every
checkpoint is a folder of safetensors and JSON with a manifest, renamed into place when whole. The last two are
kept: should the newest turn out damaged, the run goes on from the one before, with a warning.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from ssae_debias.files import (
    DamagedFileError,
    folder_aside,
    read_json,
    read_manifest,
    request_key,
    write_json,
    write_manifest,
    write_tensors,
)

KEPT = 2


class Checkpoints:
    """The checkpoints of one request.

    Parameters
    ----------
    directory : path-like
        Holds the folders of any number of requests.
    request : dict
        Everything that decides the result; JSON values.

    Examples
    --------
    >>> import tempfile, torch
    >>> checkpoints = Checkpoints(tempfile.mkdtemp(), {"random_state": 0})
    >>> checkpoints.save(5, {"W": torch.ones(2)}, {"tokens": 640})
    >>> tensors, facts = checkpoints.newest()
    >>> tensors["W"].tolist(), facts
    ([1.0, 1.0], {'tokens': 640})
    """

    def __init__(self, directory: str | os.PathLike[str], request: dict[str, Any]) -> None:
        self.folder = Path(directory) / request_key(request)
        self._request = request

    def save(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write the state after `step` steps, then drop all but the last two."""
        with folder_aside(self.folder / f"step-{step:08d}") as aside:
            # safetensors stores row-major: the encoder is laid out column-major
            whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            write_tensors(aside / "state.safetensors", whole)
            write_json(aside / "facts.json", facts)
            write_manifest(aside, "sae-checkpoint", step=step, request=self._request)
        for old in self._whole()[:-KEPT]:
            shutil.rmtree(old)

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest undamaged state, or None; what a killed write left behind is removed."""
        if not self.folder.is_dir():
            return None
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for folder in reversed(self._whole()):
            try:
                read_manifest(folder, "sae-checkpoint")
                return load_file(folder / "state.safetensors"), read_json(folder / "facts.json")
            except (DamagedFileError, FileNotFoundError) as error:
                warnings.warn(f"passing over a damaged checkpoint: {error}", stacklevel=3)
        return None

    def _whole(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if re.fullmatch(r"step-\d{8}", path.name))
