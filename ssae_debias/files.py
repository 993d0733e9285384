"""Writing files so that nothing is lost, and reading them so that nothing is trusted.

A file or folder is built aside and renamed into place once whole: a killed process leaves the old state or the
new one. (A folder that replaces another changes places with it in one step where the system can, as Linux does on
its own disks. Elsewhere there is a moment between two renames when the old one stands beside its place, under a
name that ends in `.old`.) A *manifest* lists the sha256 of every file beside it; a reader checks them first, so that
a truncated, edited or foreign file is named instead of half loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"

_NO_ROOM = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "disk quota exceeded",
    errno.EFBIG: "file size limit reached",
}
# renameat2(2): paths are relative to the working directory; both exist and change places
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class DamagedFileError(ValueError):
    """A saved file is missing, truncated, altered or not one of ours."""


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hex sha256 of a file, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def file_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on error it is removed.

    Parameters
    ----------
    path : path-like
        Where the file shall stand in the end. Parent folders are made.

    Raises
    ------
    OSError
        No permission or no space left; the message names `path`, and what stood there before still does.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with file_aside(target) as aside:
    ...     _ = aside.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        aside = Path(name)
        try:
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.chmod(0o666 & ~_umask())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def folder_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, on error it is removed.

    A folder that already stands at `path` is kept until the new one is whole.

    Raises
    ------
    OSError
        No permission or no space left; the message names `path`, and what stood there before still does.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "saved"
    >>> for text in ("old", "new"):
    ...     with folder_aside(target) as aside:
    ...         _ = (aside / "a.txt").write_text(text)
    >>> (target / "a.txt").read_text()
    'new'
    """
    path = Path(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            yield aside
            aside.chmod(0o777 & ~_umask())
            if path.is_dir() and not path.is_symlink() and _exchange(aside, path):
                return  # the old folder stands aside now
            if path.exists():
                # rename cannot replace a non-empty folder: step the old one out of the way first
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
                path.replace(old / path.name)
                try:
                    aside.replace(path)
                except BaseException:
                    (old / path.name).replace(path)
                    old.rmdir()
                    raise
                shutil.rmtree(old, ignore_errors=True)
            else:
                aside.replace(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def request_key(request: dict[str, Any]) -> str:
    """Name of a request's folder: 16 hex digits of its sha256.

    Examples
    --------
    >>> request_key({"dtype": "float32"}) == request_key({"dtype": "float16"})
    False
    """
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with file_aside(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def write_tensors(path: str | os.PathLike[str], tensors: dict[str, Any]) -> None:
    """Write torch tensors as safetensors, whole or not at all.

    Raises
    ------
    OSError
        No space or no permission: safetensors hides the system's error in its text, here it comes out as one.
    """
    # imported here, so that reading a manifest needs no torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with file_aside(path) as aside:
        try:
            save_file(tensors, aside)
        except SafetensorError as error:
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, f"{error} while writing {path}") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file, or say that it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedFileError(f"{path} is not valid JSON ({error}); it is damaged or not ours.") from error


def write_manifest(folder: str | os.PathLike[str], kind: str, **facts: Any) -> None:
    """Write `folder/manifest.json`: the kind of thing saved, its facts, and the sha256 of every file in it."""
    folder = Path(folder)
    files = {
        file.relative_to(folder).as_posix(): {"sha256": sha256_of(file), "bytes": file.stat().st_size}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST
    }
    write_json(folder / MANIFEST, {"kind": kind, **facts, "files": files})


def require_replaceable(path: str | os.PathLike[str], kind: str) -> None:
    """Raise FileExistsError unless `path` is free, empty, or a saved thing of the same kind.

    Saving replaces what stands at its path: a mistyped one must not cost somebody's folder.
    """
    path = Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    with contextlib.suppress(DamagedFileError, OSError):
        if read_json(path / MANIFEST).get("kind") == kind:
            return
    raise FileExistsError(f"{path} exists and is no saved {kind}: choose another path, or remove it.")


def read_manifest(folder: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Check a folder against its manifest and return the manifest.

    Raises
    ------
    FileNotFoundError
        There is no manifest.
    DamagedFileError
        The manifest is of another kind, names a path outside the folder, or a file's sha256 differs.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {MANIFEST}: it is not a saved {kind} of ssae-debias.")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else type(manifest).__name__
        raise DamagedFileError(f"{folder} holds a saved {found!r}, expected {kind!r}.")
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise DamagedFileError(f"{path} lists no files.")
    root = folder.resolve()
    for name, facts in files.items():
        # by name alone: in the Hugging Face cache a file is a link to its content, which lies elsewhere
        file = Path(os.path.normpath(root / name))
        if not file.is_relative_to(root) or Path(name).is_absolute():
            raise DamagedFileError(f"{path} names {name!r}, which lies outside the folder; refused.")
        if not file.is_file():
            raise DamagedFileError(f"{file} is missing; {path} lists it.")
        if sha256_of(file) != facts.get("sha256"):
            raise DamagedFileError(f"{file} does not have the sha256 that {path} lists: damaged or altered.")
    return manifest


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            said = f"{_NO_ROOM[error.errno]} while writing {path}; nothing was changed there"
            raise OSError(error.errno, said) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and str(path) not in str(
            error.filename or ""
        ):
            raise PermissionError(error.errno, f"no permission to write {path}") from error
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system or the disk cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
