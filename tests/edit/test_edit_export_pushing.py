"""Exports pushed to a hub that is a folder here."""

from __future__ import annotations

import inspect
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from export_models import affine, batch, latents, live_output, main_output, small
from transformers import AutoModelForSequenceClassification

from ssae_debias.edit.export import Exported, export_model, push_export
from ssae_debias.files import DamagedFileError

REAL = huggingface_hub.HfApi


class Hub:
    """One repository in a folder, whose methods refuse what the real client's have no argument for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.tokens: list[Any] = []

    def client(self, token: Any = None) -> Any:
        self.tokens.append(token)
        names = ("create_repo", "create_branch", "list_repo_files", "create_commit")
        return SimpleNamespace(**{name: self.method(name) for name in names})

    def method(self, name: str) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            given = inspect.signature(getattr(REAL, name)).bind(None, *args, **keywords).arguments
            self.calls.append((name, {key: value for key, value in given.items() if key != "self"}))
            return getattr(self, name)(**self.calls[-1][1])

        return call

    def create_repo(self, **given: Any) -> None:
        self.folder.mkdir(exist_ok=given["exist_ok"])

    def create_branch(self, **given: Any) -> None:
        assert given["exist_ok"]

    def list_repo_files(self, **given: Any) -> list[str]:
        return [file.name for file in self.folder.iterdir()]

    def create_commit(self, **given: Any) -> Any:
        for operation in given["operations"]:
            target = self.folder / operation.path_in_repo
            if isinstance(operation, huggingface_hub.CommitOperationDelete):
                target.unlink()
            else:
                with operation.as_file() as file:
                    target.write_bytes(file.read())
        return SimpleNamespace(oid=f"{len(self.calls):040x}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", made.client)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_of_the_login")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    return made


@pytest.fixture
def done(tmp_path: Path) -> Exported:
    return export_model(small("bert"), {"embed": latents()}, tmp_path / "edited", examples=())


def test_what_is_pushed_is_the_folder_and_loads(hub: Hub, tmp_path: Path) -> None:
    model, edits = small("bert"), {"embed": latents(), "mlp.0": affine()}
    done = export_model(model, edits, tmp_path / "edited")
    commit = done.push_to_hub("me/edited")
    assert len(commit) == 40
    assert {file.name: file.read_bytes() for file in hub.folder.iterdir()} == {
        file.name: file.read_bytes() for file in done.path.iterdir()
    }
    loaded = AutoModelForSequenceClassification.from_pretrained(hub.folder, trust_remote_code=True)
    inputs = batch(model)
    torch.testing.assert_close(main_output(loaded, inputs), live_output(model, edits, inputs))


def test_what_the_hub_is_asked(hub: Hub, done: Exported) -> None:
    done.push_to_hub("me/edited")
    assert hub.tokens == ["hf_of_the_login"]
    assert [name for name, _ in hub.calls] == ["create_repo", "list_repo_files", "create_commit"]
    assert hub.calls[0][1] == {"repo_id": "me/edited", "private": True, "exist_ok": True}
    assert hub.calls[2][1]["commit_message"] == "Push edited model"
    hub.calls.clear()
    push_export(done.path, "me/edited", private=False, revision="v2", commit_message="Again", token="hf_mine")
    assert hub.tokens[-1] == "hf_mine"
    assert hub.calls[1] == ("create_branch", {"repo_id": "me/edited", "branch": "v2", "exist_ok": True})
    assert (hub.calls[3][1]["revision"], hub.calls[3][1]["commit_message"]) == ("v2", "Again")


def test_weights_of_another_export_do_not_stay_beside_the_new_ones(
    hub: Hub, done: Exported, tmp_path: Path
) -> None:
    folded = export_model(small("bert"), {"mlp.0": affine()}, tmp_path / "folded", examples=())
    folded.push_to_hub("me/edited")
    (hub.folder / "photo.png").write_bytes(b"kept")
    assert (hub.folder / "model.safetensors").exists()
    done.push_to_hub("me/edited")
    names = {file.name for file in hub.folder.iterdir()}
    assert {name for name in names if fnmatch(name, "*.safetensors")} == {"model.edited.safetensors"}
    assert {"photo.png", "modeling_edited.py"} <= names
    folded.push_to_hub("me/edited")
    assert "modeling_edited.py" not in {file.name for file in hub.folder.iterdir()}


def test_what_is_no_whole_export_is_not_pushed(hub: Hub, done: Exported, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a saved edited model"):
        push_export(tmp_path, "me/edited")
    (done.path / "config.json").write_text("{}")
    with pytest.raises(DamagedFileError, match="sha256"):
        done.push_to_hub("me/edited")
    for repo_id in ("edited", "../edited", "me/edited/x"):
        with pytest.raises(ValueError, match="repo_id must be owner/name"):
            push_export(done.path, repo_id)
    with pytest.raises(ValueError, match="revision must be a branch"):
        push_export(done.path, "me/edited", revision="refs/pr/1")
    assert not hub.calls


def test_without_a_login_or_a_network_the_way_out_is_named(
    hub: Hub, done: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(**_: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(hub, "create_repo", unreachable)
    with pytest.raises(ConnectionError, match=r"cannot be reached.*me/edited.*The export stays in"):
        done.push_to_hub("me/edited")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(PermissionError, match=r"not logged in.*hf auth login.*HF_TOKEN"):
        done.push_to_hub("me/edited")
