"""Files: whole or not at all, and never trusted when read."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from ssae_debias.files import (
    DamagedFileError,
    file_aside,
    folder_aside,
    read_json,
    read_manifest,
    require_replaceable,
    write_json,
    write_manifest,
    write_tensors,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_error_while_writing_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half"), file_aside(target) as aside:
        aside.write_text("ne")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_while_building_leaves_the_old_folder_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "saved"
    with folder_aside(target) as aside:
        (aside / "x").write_text("old")
    with pytest.raises(RuntimeError, match="half"), folder_aside(target) as aside:
        (aside / "x").write_text("new")
        raise RuntimeError("half way")
    assert (target / "x").read_text() == "old"
    with folder_aside(target) as aside:
        (aside / "y").write_text("newer")
    assert names(target) == ["y"]
    assert names(tmp_path) == ["saved"]


def write_folder(target: Path, text: str) -> None:
    with folder_aside(target) as aside:
        (aside / "a.txt").write_text(text)


@pytest.mark.skipif(sys.platform != "linux", reason="folders change places in one step on Linux alone")
def test_a_folder_is_there_at_every_moment_of_its_replacement(tmp_path: Path) -> None:
    target, seen, done = tmp_path / "saved", Counter[str](), threading.Event()
    write_folder(target, "0")

    def look() -> None:
        while not done.is_set():
            try:
                # the folder that was found is read even if another takes its place meanwhile
                folder = os.open(target, os.O_RDONLY)
                os.close(folder)
                seen["there"] += 1
            except FileNotFoundError:
                seen["gone"] += 1

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(200):
        write_folder(target, str(number))
    done.set()
    reader.join()
    assert seen["there"] > 10
    assert seen["gone"] == 0
    assert (target / "a.txt").read_text() == "199"
    assert names(tmp_path) == ["saved"]


@pytest.mark.parametrize("code", [None, errno.EINVAL, errno.ENOSYS])
def test_where_folders_cannot_change_places_they_are_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    class System:
        """What of the system's library is asked for, on a disk that cannot or a system that does not know how."""

        if code is not None:

            @staticmethod
            def renameat2(*_: object) -> int:
                return -1

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: System)
    monkeypatch.setattr("ctypes.get_errno", lambda: code)
    for text in ("old", "new"):
        write_folder(tmp_path / "saved", text)
    assert (tmp_path / "saved" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["saved"]


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", "old")
    (tmp_path / "saved").symlink_to(tmp_path / "elsewhere")
    write_folder(tmp_path / "saved", "new")
    assert (tmp_path / "elsewhere" / "a.txt").read_text() == "old"
    assert (tmp_path / "saved" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["elsewhere", "saved"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS])
def test_disk_errors_name_the_path(tmp_path: Path, code: int) -> None:
    target = tmp_path / "deep" / "a.txt"
    with pytest.raises(OSError, match="a.txt") as caught, file_aside(target):
        raise OSError(code, os.strerror(code))
    assert caught.value.errno == code
    assert names(target.parent) == []


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), file_aside(tmp_path / "file" / "a.txt"):
        pass


def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "thing"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"abc")
    (folder / "sub" / "b").write_bytes(b"def")
    write_manifest(folder, "thing", note="kept")
    return folder


def test_a_manifest_lists_every_file_and_its_facts(tmp_path: Path) -> None:
    manifest = read_manifest(saved(tmp_path), "thing")
    assert set(manifest["files"]) == {"a", "sub/b"}
    assert manifest["note"] == "kept"


def test_whatever_is_wrong_with_a_saved_folder_is_found(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    with pytest.raises(DamagedFileError, match="expected 'other'"):
        read_manifest(folder, "other")
    (folder / "a").write_bytes(b"abd")
    with pytest.raises(DamagedFileError, match="sha256"):
        read_manifest(folder, "thing")
    (folder / "a").unlink()
    with pytest.raises(DamagedFileError, match="missing"):
        read_manifest(folder, "thing")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DamagedFileError, match="not valid JSON"):
        read_manifest(folder, "thing")
    with pytest.raises(FileNotFoundError, match="not a saved thing"):
        read_manifest(tmp_path, "thing")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/../../secret"])
def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("s")
    folder = saved(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFileError, match="outside the folder"):
        read_manifest(folder, "thing")


def test_json_refuses_what_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names(tmp_path) == []
    write_json(tmp_path / "a.json", {"x": "é"})
    assert read_json(tmp_path / "a.json") == {"x": "é"}


def test_nobodys_folder_is_replaced_by_mistake(tmp_path: Path) -> None:
    require_replaceable(tmp_path / "new", "thing")
    require_replaceable(saved(tmp_path), "thing")
    (tmp_path / "empty").mkdir()
    require_replaceable(tmp_path / "empty", "thing")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    for path, kind in (
        (tmp_path / "photos", "thing"),
        (tmp_path / "thing", "other"),
        (tmp_path / "thing" / "a", "thing"),
    ):
        with pytest.raises(FileExistsError, match="choose another path"):
            require_replaceable(path, kind)


def test_an_error_hidden_by_safetensors_comes_out_as_the_systems(tmp_path: Path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    import safetensors.torch

    def full(*_: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="a.safetensors") as caught:
        write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)})
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []
