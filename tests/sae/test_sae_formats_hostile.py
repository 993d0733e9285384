"""Files from strangers: no code runs, no memory fills, and what is wrong is said."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ssae_debias.files import MANIFEST, DamagedFileError
from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae

STATE = {
    "bias": torch.ones(4), "encoder.weight": torch.rand(9, 4), "encoder.bias": torch.ones(9),
    "decoder.weight": torch.rand(4, 9),
}  # fmt: skip
ARRAYS = {
    "W_enc": np.ones((4, 9), np.float32), "W_dec": np.ones((9, 4), np.float32), "b_enc": np.ones(9, np.float32),
    "b_dec": np.ones(4, np.float32), "threshold": np.ones(9, np.float32),
}  # fmt: skip


class Payload:
    """Unpickled, it touches a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "code_ran"


def test_the_payload_would_run_if_it_could(mark: Path) -> None:
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()


def plain_pickle(file: Path, payload: Payload) -> None:
    file.write_bytes(pickle.dumps(payload))


def torch_pickle(file: Path, payload: Payload) -> None:
    torch.save({**STATE, "bias": payload}, file)


def torch_backup(file: Path, payload: Payload) -> None:
    torch.save({"step": 1, "ae": STATE, "optimizer": payload, "config": {}, "norm_factor": 1.0}, file)


def torch_of_old(file: Path, payload: Payload) -> None:
    torch.save({**STATE, "bias": payload}, file, _use_new_zipfile_serialization=False)


def object_array(file: Path, payload: Payload) -> None:
    arrays: dict[str, Any] = ARRAYS | {"b_dec": np.array([payload], dtype=object)}
    np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("ae.pt", plain_pickle),
        ("ae.pt", torch_pickle),
        ("ae.pt", torch_backup),
        ("ae.pt", torch_of_old),
        ("params.npz", object_array),
        ("params.npz", plain_pickle),
        ("params.npz", torch_pickle),
    ],
)
def test_pickles_with_code_are_refused_and_do_not_run(
    tmp_path: Path, mark: Path, name: str, write: Callable[[Path, Payload], None]
) -> None:
    write(tmp_path / name, Payload(mark))
    with pytest.raises(DamagedFileError, match=name):
        load_sae(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize("layout", ["sparsify", "Llama Scope", "SAELens"])
def test_a_pickle_in_the_place_of_safetensors_does_not_run(tmp_path: Path, mark: Path, layout: str) -> None:
    if layout == "Llama Scope":
        (tmp_path / "checkpoints").mkdir()
        norms = {"in": 1.0, "out": 1.0}
        settings = {
            "d_model": 4,
            "d_sae": 9,
            "jump_relu_threshold": 1.0,
            "dataset_average_activation_norm": norms,
        }
        (tmp_path / "hyperparams.json").write_text(json.dumps(settings))
        file = tmp_path / "checkpoints" / "final.safetensors"
    else:
        cfg = {"d_in": 4, "d_sae": 9, "num_latents": 9, "k": 2}
        (tmp_path / "cfg.json").write_text(json.dumps(cfg))
        file = tmp_path / {"sparsify": "sae.safetensors", "SAELens": "sae_weights.safetensors"}[layout]
    plain_pickle(file, Payload(mark))
    with pytest.raises(DamagedFileError, match="no safetensors file"):
        load_sae(tmp_path)
    assert not mark.exists()


def saved_torch(state: Any = STATE) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def saved_npz(**change: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{**ARRAYS, **change})
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "content"), [("ae.pt", saved_torch()), ("params.npz", saved_npz())])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.99])
def test_truncated_archives_are_named(tmp_path: Path, name: str, content: bytes, part: float) -> None:
    (tmp_path / name).write_bytes(content)
    load_sae(tmp_path)
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    with pytest.raises(DamagedFileError, match=name):
        load_sae(tmp_path)


def test_flipped_bytes_are_found_in_a_numpy_archive_and_by_a_known_sha256(tmp_path: Path) -> None:
    npz = bytearray(saved_npz())
    npz[npz.index(ARRAYS["W_enc"].tobytes()) + 5] ^= 1
    (tmp_path / "params.npz").write_bytes(npz)
    with pytest.raises(DamagedFileError, match="damaged"):
        load_sae(tmp_path / "params.npz")
    content = bytearray(saved_torch())
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "ae.pt").write_bytes(content)
    load_sae(tmp_path / "ae.pt", sha256=sha256.upper())
    content[content.index(STATE["encoder.weight"].numpy().tobytes()) + 2] ^= 1
    (tmp_path / "ae.pt").write_bytes(content)
    with pytest.raises(DamagedFileError, match=sha256):
        load_sae(tmp_path / "ae.pt", sha256=sha256)


def test_what_lies_in_the_hub_cache_is_compared_with_the_name_of_its_blob(tmp_path: Path) -> None:
    """The cache files large content under its sha256, and links to it."""
    content = bytearray(saved_torch())
    blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    folder = tmp_path / "snapshots" / "0a1b" / "embed"
    blob.parent.mkdir()
    folder.mkdir(parents=True)
    blob.write_bytes(content)
    (folder / "ae.pt").symlink_to(blob)
    load_sae(folder)
    content[content.index(STATE["encoder.weight"].numpy().tobytes()) + 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(DamagedFileError, match="sha256"):
        load_sae(folder)


def zipped(entries: dict[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(shape: tuple[int, ...], content: bytes, descr: str = "<f4") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + content


def test_numpy_bombs_are_refused_before_they_unpack(tmp_path: Path) -> None:
    file = tmp_path / "params.npz"
    zeros = npy((5_000_000,), bytes(20_000_000))
    file.write_bytes(zipped({"b_enc.npy": zeros}, zipfile.ZIP_DEFLATED))
    assert file.stat().st_size < 30_000
    with pytest.raises(DamagedFileError, match="declares 20000"):
        load_sae(file)
    # a header that promises a petabyte, over four bytes
    file.write_bytes(zipped({"b_enc.npy": npy((2**48,), b"1234")}, zipfile.ZIP_STORED))
    with pytest.raises(DamagedFileError, match="declares shape"):
        load_sae(file)


def test_an_archive_whose_entries_overlap_is_refused(tmp_path: Path) -> None:
    """Many entries of the directory may point at one content, so that a small file unpacks to a large one."""
    content = saved_torch()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[0]
        names = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in names.items():
            archive.writestr(name, part)
        again = max(archive.infolist(), key=lambda entry: entry.file_size)
        archive.filelist.extend([again] * 200)
    (tmp_path / "ae.pt").write_bytes(buffer.getvalue())
    with pytest.raises(DamagedFileError, match="declares"):
        load_sae(tmp_path)
    assert first.filename.endswith("data.pkl")


def test_compressed_and_resized_torch_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(saved_torch())) as archive:
        names = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    (tmp_path / "ae.pt").write_bytes(zipped(names, zipfile.ZIP_DEFLATED))
    with pytest.raises(DamagedFileError, match="compressed entries"):
        load_sae(tmp_path)
    # a tensor that claims more numbers than the file has
    short = {name: part[:8] if "/data/" in name else part for name, part in names.items()}
    (tmp_path / "ae.pt").write_bytes(zipped(short, zipfile.ZIP_STORED))
    with pytest.raises(DamagedFileError, match=r"ae\.pt"):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**9), torch.zeros(1, 1).expand(10**6, 10**6), torch.eye(3).to_sparse()],
    ids=["long", "square", "sparse"],
)
def test_tensors_that_unfold_to_more_than_they_are_are_refused(tmp_path: Path, tensor: Tensor) -> None:
    torch.save({**STATE, "encoder.bias": tensor}, tmp_path / "ae.pt")
    assert (tmp_path / "ae.pt").stat().st_size < 10_000
    with pytest.raises(DamagedFileError, match=r"encoder\.bias is no ordinary tensor"):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"d_in": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b"[1]", "a list, expected an object"),
        (b" " * (17 * 2**20), "17825792 bytes"),
        (b'{"d_in": 1000000000000, "d_sae": 1000000000000}', "expected"),
    ],
    ids=["deep", "bytes", "digits", "list", "large", "widths"],
)
@pytest.mark.parametrize("weights", ["sae_weights.safetensors", "sae.safetensors"])
def test_hostile_settings_are_named(tmp_path: Path, weights: str, content: bytes, said: str) -> None:
    save_file({"W_enc": torch.ones(2, 3)}, tmp_path / weights)
    (tmp_path / "cfg.json").write_bytes(content)
    with pytest.raises(DamagedFileError, match=said):
        load_sae(tmp_path)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname"])
def test_a_manifest_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    SparseAutoencoder(4, SAEConfig(d_sae=8, k=2)).save_pretrained(tmp_path / "sae")
    file = tmp_path / "sae" / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    file.write_text(json.dumps(manifest))
    with pytest.raises(DamagedFileError, match="outside the folder"):
        load_sae(tmp_path / "sae")


@pytest.mark.parametrize("change", [{"config": 3}, {"config": {"d_sae": 8, "odd": 1}}, {"history": None}])
def test_a_manifest_of_nonsense_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    SparseAutoencoder(4, SAEConfig(d_sae=8, k=2)).save_pretrained(tmp_path / "sae")
    file = tmp_path / "sae" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DamagedFileError, match="does not describe an SAE"):
        load_sae(tmp_path / "sae")


def test_what_is_not_recognised_says_what_is_there_and_what_could_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such path.*ae\.pt.*params\.npz.*hyperparams\.json"):
        load_sae(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="it is empty"):
        load_sae(tmp_path)
    (tmp_path / "trainer_0").mkdir()
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"it has cfg\.json, trainer_0\..*sae_weights\.safetensors"):
        load_sae(tmp_path)
    with pytest.raises(FileNotFoundError, match="a file of another kind"):
        load_sae(tmp_path / "cfg.json")


def test_files_of_two_formats_in_one_folder_are_told_apart_by_the_user(tmp_path: Path) -> None:
    (tmp_path / "ae.pt").write_bytes(saved_torch())
    (tmp_path / "params.npz").write_bytes(saved_npz())
    with pytest.raises(ValueError, match=r"dictionary_learning \(ae\.pt\), Gemma Scope \(params\.npz\)"):
        load_sae(tmp_path)
    assert load_sae(tmp_path / "ae.pt").metadata["format"] == "dictionary_learning AutoEncoder"
    assert load_sae(tmp_path / "params.npz").metadata["format"] == "Gemma Scope"
