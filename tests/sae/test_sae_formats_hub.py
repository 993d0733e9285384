"""SAEs by hub id: what is asked of the hub, and that its local cache is enough."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from ssae_debias.sae import load_release, load_sae

STATE = {
    "bias": torch.ones(4), "encoder.weight": torch.ones(9, 4), "encoder.bias": torch.ones(9),
    "decoder.weight": torch.ones(4, 9) / 9,
}  # fmt: skip
X = torch.tensor([[3.0, 1.0, 0.0, 2.0]])


def write(root: Path) -> Path:
    for name in ("embed", "resid_out_layer0"):
        (root / name / "10_32768").mkdir(parents=True)
        torch.save(STATE, root / name / "10_32768" / "ae.pt")
    return root


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    root = write(tmp_path / "snapshot")

    def snapshot_download(**request: Any) -> str:
        calls.append(request)
        return str(root)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_only_weights_and_settings_of_the_folder_are_asked_for(asked: list[dict[str, Any]]) -> None:
    sae = load_sae("hub:someone/saes@v1.0/embed/10_32768")
    assert sae(X).shape == X.shape
    assert asked[0]["repo_id"] == "someone/saes"
    assert asked[0]["revision"] == "v1.0"
    assert asked[0]["allow_patterns"] == [
        f"embed/10_32768/{pattern}" for pattern in ("*.json", "*.safetensors", "*.npz", "*.pt")
    ]
    saes = load_release("hub:someone/saes", ["resid.0", "embed"])
    assert list(saes) == ["resid.0", "embed"]
    assert asked[1]["revision"] is None
    assert "*.pt" in asked[1]["allow_patterns"]


def test_a_folder_that_the_repository_lacks_is_named(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(FileNotFoundError, match=r"someone/saes.*layer_99"):
        load_sae("hub:someone/saes/layer_99")


@pytest.mark.parametrize(
    "name", ["hub:", "hub:saes", "hub:a/b/../../etc", "hub:a/b@", "hub:a b/c", "hub:/a/b"]
)
def test_what_is_no_repository_is_refused_unasked(asked: list[dict[str, Any]], name: str) -> None:
    with pytest.raises(ValueError, match="expected hub:owner/name"):
        load_sae(name)
    assert not asked


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "huggingface_hub":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'ssae-debias\[hub\]'"):
        load_sae("hub:someone/saes")


def test_what_is_in_the_cache_needs_no_network(tmp_path: Path) -> None:
    """The hub's own cache layout, read by the real huggingface_hub in its offline mode."""
    repository = tmp_path / "models--someone--saes"
    snapshot = repository / "snapshots" / ("c" * 40)
    write(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c" * 40)
    (repository / "blobs").mkdir()
    for file in snapshot.rglob("ae.pt"):
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        file.replace(blob)
        file.symlink_to(blob)
    code = (
        "from ssae_debias.sae import load_sae; import torch;"
        f"print(load_sae('hub:someone/saes/embed/10_32768')(torch.tensor({X.tolist()})).tolist())"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # relu((x − 1) summed + 1) in each of nine latents, each writing a ninth
    assert json.loads(done.stdout)[0] == pytest.approx([4.0, 4.0, 4.0, 4.0])
