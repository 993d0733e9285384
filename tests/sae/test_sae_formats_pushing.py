"""SAEs pushed to a hub that is a folder here: what is asked of it, what comes back from it, what is refused."""

from __future__ import annotations

import builtins
import hashlib
import inspect
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch

from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae, push_sae, push_saes, train_sae
from ssae_debias.sae.formats.card import model_card

REAL = huggingface_hub.HfApi
DOWNLOAD = inspect.signature(huggingface_hub.snapshot_download)
X = torch.randn(600, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1


def trained(architecture: str = "batchtopk", seed: int = 0, **options: Any) -> SparseAutoencoder:
    config = SAEConfig(d_sae=20, architecture=architecture, k=3, batch_size=100)  # type: ignore[arg-type]
    sae = train_sae(X, config, random_state=seed, **options)
    sae.metadata |= {"model_name": "tiny/model", "hook_name": f"resid.{seed}"}
    return sae


class Hub:
    """A hub of one folder a commit, whose methods refuse what the real client's have no argument for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.branches: dict[str, dict[str, str]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.tokens: list[Any] = []

    def client(self, token: Any = None) -> Any:
        self.tokens.append(token)
        names = ("create_repo", "create_branch", "file_exists", "create_commit")
        return SimpleNamespace(**{name: self.method(name) for name in names})

    def method(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            bound = inspect.signature(getattr(REAL, name)).bind(None, *args, **keywords)
            given = {key: value for key, value in bound.arguments.items() if key != "self"}
            self.calls.append((name, given))
            return getattr(self, f"_{name}")(**given)

        return call

    def commit_of(self, repo_id: str, revision: str | None) -> Path:
        branches = self.branches[repo_id]
        return self.root / repo_id / branches.get(revision or "main", revision or "main")

    def _create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
        if repo_id in self.branches:
            assert exist_ok
            return
        (self.root / repo_id / "0").mkdir(parents=True)
        (self.root / repo_id / "0" / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        self.branches[repo_id] = {"main": "0"}

    def _create_branch(self, repo_id: str, branch: str, exist_ok: bool) -> None:
        assert exist_ok
        self.branches[repo_id].setdefault(branch, self.branches[repo_id]["main"])

    def _file_exists(self, repo_id: str, filename: str, revision: str | None = None) -> bool:
        return (self.commit_of(repo_id, revision) / filename).is_file()

    def _create_commit(
        self, repo_id: str, operations: list[Any], commit_message: str, revision: str | None = None
    ) -> Any:
        assert commit_message
        before = self.commit_of(repo_id, revision)
        digest = hashlib.sha1(before.name.encode())
        for operation in operations:
            with operation.as_file() as file:
                digest.update(operation.path_in_repo.encode() + file.read())
        after = before.parent / digest.hexdigest()
        shutil.copytree(before, after)
        for operation in operations:
            target = after / operation.path_in_repo
            target.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as file:
                target.write_bytes(file.read())
        self.branches[repo_id][revision or "main"] = after.name
        return SimpleNamespace(oid=after.name)

    def snapshot_download(self, *args: Any, **keywords: Any) -> str:
        """The wanted files as the client's cache has them: links to blobs that lie elsewhere."""
        given = DOWNLOAD.bind(*args, **keywords).arguments
        repo_id, patterns = given["repo_id"], given.get("allow_patterns")
        commit = self.commit_of(repo_id, given.get("revision"))
        cache = self.root / "cache" / f"models--{repo_id.replace('/', '--')}"
        snapshot = cache / "snapshots" / commit.name
        for file in filter(Path.is_file, commit.rglob("*")):
            name = file.relative_to(commit).as_posix()
            if patterns is None or any(fnmatch(name, pattern) for pattern in patterns):
                large = file.suffix == ".safetensors"
                blob = (
                    cache
                    / "blobs"
                    / getattr(hashlib, "sha256" if large else "sha1")(file.read_bytes()).hexdigest()
                )
                blob.parent.mkdir(parents=True, exist_ok=True)
                blob.write_bytes(file.read_bytes())
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                (snapshot / name).unlink(missing_ok=True)
                (snapshot / name).symlink_to(blob)
        return str(snapshot)

    def files(self, repo_id: str, revision: str | None = None) -> list[str]:
        commit = self.commit_of(repo_id, revision)
        return sorted(file.relative_to(commit).as_posix() for file in commit.rglob("*") if file.is_file())

    def card(self, repo_id: str, revision: str | None = None) -> str:
        return (self.commit_of(repo_id, revision) / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", made.client)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_of_the_login")
    return made


WRITTEN = ["cfg.json", "manifest.json", "sae_weights.safetensors"]


@pytest.mark.parametrize("architecture", ["relu", "topk", "batchtopk", "jumprelu"])
@pytest.mark.parametrize("folder", [None, "resid.0", "run@7/seed=1/resid.0"])
def test_what_is_pushed_comes_back_bit_for_bit(hub: Hub, architecture: str, folder: str | None) -> None:
    sae = trained(architecture)
    name = sae.push_to_hub("me/saes", folder=folder)
    commit = hub.branches["me/saes"]["main"]
    assert name == f"hub:me/saes@{commit}" + (f"/{folder}" if folder else "")
    assert hub.files("me/saes") == sorted(
        [".gitattributes", "README.md", *(f"{folder}/{file}" if folder else file for file in WRITTEN)]
    )
    loaded = load_sae(name)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), sae.parameters(), strict=True))
    assert torch.equal(loaded(X), sae(X))
    assert (loaded.config, loaded.metadata, loaded.history_) == (sae.config, sae.metadata, sae.history_)


def test_an_id_names_its_commit_whatever_is_pushed_later(hub: Hub) -> None:
    first, second = trained(seed=0), trained(seed=1)
    ids = [sae.push_to_hub("me/saes", folder="resid.0") for sae in (first, second)]
    assert ids[0] != ids[1]
    assert torch.equal(load_sae(ids[0])(X), first(X))
    assert torch.equal(load_sae(ids[1])(X), second(X))
    assert torch.equal(load_sae("hub:me/saes/resid.0")(X), second(X))


def test_the_saes_of_a_run_are_one_commit(hub: Hub) -> None:
    saes = {"embed": trained(seed=0), "resid.1": trained(seed=1), "module:encoder.layer.0": trained(seed=2)}
    ids = push_saes(saes, "me/saes", folder="run-3")
    commit = hub.branches["me/saes"]["main"]
    assert ids == {
        "embed": f"hub:me/saes@{commit}/run-3/embed",
        "resid.1": f"hub:me/saes@{commit}/run-3/resid.1",
        "module:encoder.layer.0": f"hub:me/saes@{commit}/run-3/module=encoder.layer.0",
    }
    assert [name for name, _ in hub.calls].count("create_commit") == 1
    assert all(torch.equal(load_sae(ids[site])(X), sae(X)) for site, sae in saes.items())


def test_what_the_hub_is_asked(hub: Hub) -> None:
    sae = trained()
    sae.push_to_hub("me/saes")
    assert hub.tokens == ["hf_of_the_login"]
    assert [name for name, _ in hub.calls] == ["create_repo", "file_exists", "create_commit"]
    assert hub.calls[0][1] == {"repo_id": "me/saes", "private": True, "exist_ok": True}
    assert hub.calls[2][1]["commit_message"] == "Push SAE"
    hub.calls.clear()
    options = {"private": False, "revision": "tilted", "commit_message": "Tilt 0.5", "token": "hf_mine"}
    push_saes({"resid.0": sae}, "me/others", **options)  # type: ignore[arg-type]
    assert hub.tokens[-1] == "hf_mine"
    assert [name for name, _ in hub.calls] == ["create_repo", "create_branch", "file_exists", "create_commit"]
    assert hub.calls[0][1]["private"] is False
    assert (hub.calls[3][1]["revision"], hub.calls[3][1]["commit_message"]) == ("tilted", "Tilt 0.5")
    assert hub.files("me/others") == [".gitattributes"]
    assert "resid.0/cfg.json" in hub.files("me/others", "tilted")


def test_the_card_says_what_is_there_and_how_it_is_loaded(hub: Hub) -> None:
    held_out, plain = trained(seed=0, validation=X[:100]), trained("topk", seed=1)
    untrained = SparseAutoencoder(6, SAEConfig(d_sae=20, k=3), top_k=3)
    push_saes({"a": held_out, "b": plain, "c": untrained}, "me/saes", revision="runs")
    card = hub.card("me/saes", "runs")
    assert card.startswith("---\nlibrary_name: saelens\n")
    rows = {
        cells[0]: cells[1:]
        for line in card.splitlines()
        if line.startswith("| ") and len(cells := line.strip("| ").split(" | ")) == 10
    }
    record = held_out.history_[-1]
    l0, fvu = f"{record['validation_l0']:.1f}", f"{record['validation_fvu']:.4f}"
    about = ["tiny/model", "resid.0", "6", "20", "batchtopk", "above threshold"]
    assert rows["a"] == [*about, l0, fvu, "held-out tokens"]
    record = plain.history_[-1]
    assert rows["b"][4:] == [
        "topk",
        "above threshold",
        f"{record['l0']:.1f}",
        f"{record['fvu']:.4f}",
        "last batch",
    ]
    assert rows["c"] == ["–", "–", "6", "20", "batchtopk", "the 3 largest", "–", "–", "–"]
    # the first block is run as it stands: it loads what was pushed
    code = card.split("```python\n")[1].split("```")[0]
    found: dict[str, Any] = {}
    exec(code, found)
    assert torch.equal(found["sae"](X), held_out(X))
    assert '+ "/a")' in card.split("```python\n")[2]


def test_a_card_that_is_there_is_left_alone(hub: Hub) -> None:
    sae = trained()
    sae.push_to_hub("me/saes", folder="one")
    card = hub.card("me/saes")
    sae.push_to_hub("me/saes", folder="two")
    assert hub.card("me/saes") == card
    assert "two/cfg.json" in hub.files("me/saes")


def test_names_out_of_a_strangers_file_stay_in_their_cell() -> None:
    sae = SparseAutoencoder(
        6, SAEConfig(d_sae=20, k=3), metadata={"model_name": "a|b\n\n# <b>[x](y)", "hook_name": 3}
    )
    line = next(line for line in model_card({"": sae}, "me/saes").splitlines() if line.startswith("| (root)"))
    assert line.startswith(r"| (root) | a\|b # \<b\>\[x\](y) | – | 6 |")


def test_the_card_tells_of_units_where_tokens_are_normalised() -> None:
    config = SAEConfig(d_sae=20, k=3)
    assert "normalises each token" in model_card(
        {"": SparseAutoencoder(6, config, normalization="layer_norm")}, "me/saes"
    )
    assert "normalises" not in model_card({"": SparseAutoencoder(6, config)}, "me/saes")


@pytest.mark.parametrize(
    ("repo_id", "options", "said"),
    [
        ("saes", {}, "repo_id must be owner/name"),
        ("me/saes/embed", {}, "repo_id must be owner/name"),
        ("../saes", {}, "repo_id must be owner/name"),
        ("me/saes", {"folder": "../other"}, "folder on the hub.*'../other'"),
        ("me/saes", {"folder": "/embed"}, "folder on the hub"),
        ("me/saes", {"folder": "my sae"}, "folder on the hub.*'my sae'"),
        ("me/saes", {"revision": "refs/pr/3"}, "revision must be a branch.*'refs/pr/3'"),
    ],
)
def test_names_that_could_not_be_loaded_from_are_refused_unasked(
    hub: Hub, repo_id: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        push_sae(SparseAutoencoder(6, SAEConfig(d_sae=20, k=3)), repo_id, **options)
    assert not hub.calls


def test_what_is_not_worth_keeping_is_not_pushed(hub: Hub) -> None:
    good, broken = trained(), trained()
    with torch.no_grad():
        broken.b_enc[0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity in b_enc"):
        push_saes({"a": good, "b": broken}, "me/saes")
    with pytest.raises(TypeError, match="got dict; for several use push_saes"):
        push_sae({"a": good}, "me/saes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no SAE to push"):
        push_saes({}, "me/saes")
    assert not hub.calls


def test_without_a_login_nothing_is_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(PermissionError, match=r"not logged in.*hf auth login.*HF_TOKEN.*token="):
        trained().push_to_hub("me/saes")
    assert not hub.calls


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "huggingface_hub":
            raise ImportError(name)
        return real(name, *rest)

    sae = trained()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'ssae-debias\[hub\]'"):
        sae.push_to_hub("me/saes")


# ---- the real client, against a server on this machine that refuses everything


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A server that answers every request with `status`, and the real client pointed at it."""
    answers = SimpleNamespace(status=401, requests=[])

    class Refusal(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            answers.requests.append(
                (self.command, self.path, self.headers["Authorization"], self.rfile.read(length))
            )
            self.send_response(answers.status)
            self.send_header("Content-Length", "0")
            self.send_header("X-Error-Message", "as the server says")
            self.end_headers()

        do_GET = do_HEAD = do_POST = answer

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusal)
    answers.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", answers.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for proxy in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(proxy, "127.0.0.1")
    huggingface_hub.close_session()  # sessions read the proxies when they are made
    yield answers
    server.shutdown()
    server.server_close()
    huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, PermissionError, r"did not accept the token for me/saes.*hf auth login.*as the server says"),
        (403, PermissionError, r"no right to write to me/saes.*'me'.*as the server says"),
        (400, OSError, r"refused the push to me/saes.*as the server says"),
    ],
)
def test_what_the_hub_refuses_is_explained(
    refusing: SimpleNamespace, status: int, error: type[Exception], said: str
) -> None:
    refusing.status = status
    with pytest.raises(error, match=f"(?s){said}"):
        trained().push_to_hub("me/saes", token="hf_secret")
    path, authorization, body = next(rest for command, *rest in refusing.requests if command == "POST")
    assert (path, authorization) == ("/api/repos/create", "Bearer hf_secret")
    assert json.loads(body)["name"] == "saes"


def test_without_a_network_the_way_out_is_named(
    refusing: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # port 9 on this machine: nobody listens
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"cannot be reached.*me/saes.*save_sae"):
        trained().push_to_hub("me/saes", token="hf_secret")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"HF_HUB_OFFLINE.*save_sae"):
        trained().push_to_hub("me/saes", token="hf_secret")
    assert not refusing.requests
