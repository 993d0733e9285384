"""Tensors and settings out of files that nobody vouches for.

A released SAE comes from a stranger. What is read here is data alone: safetensors, JSON, NumPy archives without
objects, and PyTorch archives through the restricted unpickler (``weights_only=True``), which runs no code. Sizes
that an archive declares are compared with its size on disk before anything is unpacked, so that a small file
cannot fill the memory.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ssae_debias.files import DamagedFileError, sha256_of

# weights hardly compress: a NumPy archive that claims to grow further than this is a bomb
MAX_INFLATION = 8

# settings of an SAE are a few kB
MAX_JSON_BYTES = 16 * 2**20

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises
    ------
    DamagedFileError
        The file is truncated or something else.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedFileError(f"{path} is damaged or no safetensors file ({error}).") from error


def read_torch(path: Path) -> Any:
    """What ``torch.save`` wrote, if it is nothing but tensors and plain values.

    Raises
    ------
    DamagedFileError
        The file is truncated, is no PyTorch archive, holds compressed or overlapping entries, or objects whose
        loading would run code.
    """
    with _opened(path, "PyTorch archive") as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise DamagedFileError(
                f"{path} has compressed entries, which torch.save does not write; refused."
            )
        _require_size(path, entries, 1)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a hostile pickle can make the unpickler raise anything
        raise DamagedFileError(
            f"{path} holds more than tensors and plain values, or is damaged; nothing in it was run "
            f"({_first_line(error)})."
        ) from error


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of a NumPy archive.

    Raises
    ------
    DamagedFileError
        The file is truncated or no archive, declares more than its size allows, or holds objects or anything
        but floating numbers.
    """
    with _opened(path, "NumPy archive") as archive:
        entries = archive.infolist()
        _require_size(path, entries, MAX_INFLATION)
        for entry in entries:
            try:
                with archive.open(entry) as member:
                    _require_floats(f"{path}, {entry.filename}", member, entry.file_size)
            except (
                ValueError,
                EOFError,
                NotImplementedError,
                RuntimeError,
                zipfile.BadZipFile,
                zlib.error,
            ) as error:
                if isinstance(error, DamagedFileError):
                    raise
                raise DamagedFileError(
                    f"{path}: {entry.filename} is damaged or no NumPy array ({_first_line(error)})."
                ) from error
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedFileError(f"{path} is damaged ({_first_line(error)}).") from error


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises
    ------
    DamagedFileError
        The file is too large for settings, not JSON, or no object.
    """
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise DamagedFileError(f"{path} has {size} bytes; settings of an SAE have at most {MAX_JSON_BYTES}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not valid JSON ({_first_line(error)}); it is damaged.") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} holds a {type(content).__name__}, expected an object.")
    return content


def require_sha256(path: Path, sha256: str | None = None) -> None:
    """Compare a file with the sha256 that is known for it.

    Parameters
    ----------
    path : Path
        In the Hugging Face cache a large file's content lies under the name of its sha256, which is then known.
    sha256 : str, optional
        What the caller expects, in hexadecimal.

    Raises
    ------
    DamagedFileError
        The file has another.
    """
    content = path.resolve()
    known = [] if sha256 is None else [sha256.lower()]
    if content.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", content.name):
        known.append(content.name)
    if known and any(sha256_of(path) != expected for expected in known):
        raise DamagedFileError(
            f"{path} does not have the sha256 {known[0]}: damaged, altered or another file."
        )


def require_tensors(tensors: Any, path: Path) -> dict[str, Tensor]:
    """`tensors` as names and tensors, or a `DamagedFileError` that says what it is.

    A tensor may be a view that claims more numbers than it has; such a one is refused before it is unfolded.
    """
    if not isinstance(tensors, Mapping) or not tensors:
        raise DamagedFileError(f"{path} holds {_kind(tensors)}, expected the tensors of an SAE by name.")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise DamagedFileError(f"{path} holds {_kind(tensor)} under {name!r}, expected a tensor.")
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DamagedFileError(
                f"{path}: {name} is no ordinary tensor: shape {tuple(tensor.shape)}, {tensor.layout}."
            )
    return dict(tensors)


def require_shapes(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], path: Path, said_by: str
) -> None:
    """Raise DamagedFileError unless there are exactly these tensors, in these shapes and one floating type."""
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != dict(expected):
        raise DamagedFileError(f"{path} holds {found}, expected {dict(expected)} by {said_by}.")
    kinds = {tensor.dtype for tensor in tensors.values()}
    if len(kinds) != 1 or not kinds <= set(FLOATS):
        raise DamagedFileError(f"{path} holds {sorted(map(str, kinds))}, expected one floating type.")
    require_sound(tensors, str(path))


def require_sound(tensors: Mapping[str, Tensor], whose: str) -> None:
    """Raise DamagedFileError where a tensor has NaN or infinity."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DamagedFileError(f"{whose} has NaN or infinity in {name}.")


def length(tensors: Mapping[str, Tensor], name: str, path: Path) -> int:
    """How many numbers the bias `name` has: it says a width of the SAE."""
    if name not in tensors or tensors[name].ndim != 1 or not len(tensors[name]):
        found = {other: tuple(tensor.shape) for other, tensor in tensors.items()}
        raise DamagedFileError(f"{path} holds {found}, expected a bias {name} of one dimension.")
    return len(tensors[name])


def _opened(path: Path, kind: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise DamagedFileError(f"{path} is damaged or no {kind} ({_first_line(error)}).") from error


def _require_size(path: Path, entries: Iterable[zipfile.ZipInfo], times: int) -> None:
    declared, there = sum(entry.file_size for entry in entries), path.stat().st_size
    if declared > times * there:
        raise DamagedFileError(
            f"{path} has {there} bytes and declares {declared} once unpacked; weights do not shrink so far. Refused."
        )


def _require_floats(name: str, member: IO[bytes], size: int) -> None:
    """Read an array's header alone and compare it with the size of its entry."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    else:
        raise DamagedFileError(f"{name} is an array of version {version}, expected 1.0 or 2.0.")
    if dtype.hasobject:
        raise DamagedFileError(f"{name} holds Python objects, whose loading would run code; refused.")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise DamagedFileError(f"{name} holds {dtype}, expected floating numbers.")
    if math.prod(shape) * dtype.itemsize + member.tell() != size:
        raise DamagedFileError(f"{name} declares shape {shape} of {dtype}, but has {size} bytes.")


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" if value or not isinstance(value, Mapping) else "nothing"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
