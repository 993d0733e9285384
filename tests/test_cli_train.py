"""`ssae-debias train`: the same SAE as `train_sae` from every kind of activations; settings; wrong input."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ssae_debias.activations import ActivationStore
from ssae_debias.activations.building import KIND, TOKEN_FACTS, add_shard
from ssae_debias.cli import main
from ssae_debias.cli.train import add_arguments
from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae, train_sae

SMALL = ["--d-sae", "32", "--k", "3", "--batch-size", "100", "-q"]
CONFIG = SAEConfig(d_sae=32, k=3, batch_size=100)


def activations() -> torch.Tensor:
    return torch.randn(950, 12, generator=torch.Generator().manual_seed(0)) + 0.5


def same(one: SparseAutoencoder, other: SparseAutoencoder) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def make_store(folder: Path, *sites: str) -> Path:
    """A finished store, written by hand."""
    x = activations()
    request = {"sites": list(sites), "n_texts": 1, "max_length": 64, "dtype": "float32"}
    manifest = {"kind": KIND, "request": request, "complete": True, "shards": [], "files": {}}
    manifest |= {"model": "tiny", "widths": dict.fromkeys(sites, 12)}
    tensors = {fact: torch.arange(len(x)) for fact in TOKEN_FACTS}
    folder.mkdir()
    add_shard(folder, manifest, range(1), tensors | {site: x + i for i, site in enumerate(sites)})
    return folder


def test_every_kind_of_activations_trains_the_sae_of_train_sae(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = activations()
    np.save(tmp_path / "x.npy", x.numpy())
    save_file({"resid.3": x, "other": x + 1}, tmp_path / "x.safetensors")
    expected = train_sae(x, CONFIG, random_state=5)
    for given in (["x.npy"], ["x.safetensors", "--site", "resid.3"]):
        out = tmp_path / "sae"
        path, *site = given
        asked = ["train", "--activations", str(tmp_path / path), *site, *SMALL, "--random-state", "5"]
        assert main([*asked, "--out", str(out)]) == 0
        found = load_sae(out)
        assert same(found, expected)
        assert found.history_ == expected.history_
        assert (out / "cfg.json").is_file()
        assert (out / "sae_weights.safetensors").is_file()
    assert found.metadata["hook_name"] == "resid.3"
    last = expected.history_[-1]
    assert f"950 tokens in 10 steps: {last['fvu']:.3f} of the variance" in capsys.readouterr().out


def test_a_store_says_where_its_activations_came_from(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", "embed", "resid.1")
    asked = ["train", "--activations", str(store), *SMALL, "--out", str(tmp_path / "sae")]
    assert main([*asked, "--site", "resid.1"]) == 0
    found = load_sae(tmp_path / "sae")
    assert {
        "model_name": "tiny",
        "hook_name": "resid.1",
        "context_size": 64,
    }.items() <= found.metadata.items()
    assert same(found, train_sae(ActivationStore.open(store).at("resid.1"), CONFIG))


def test_an_sae_is_specialised_and_a_run_found_again(tmp_path: Path) -> None:
    x = activations()
    np.save(tmp_path / "x.npy", x.numpy())
    train_sae(x, CONFIG).save_pretrained(tmp_path / "general")
    asked = ["train", "--activations", str(tmp_path / "x.npy"), "--init", str(tmp_path / "general"), "-q"]
    asked += ["--k", "3", "--batch-size", "100", "--tilt", "0.5", "--tokens", "300", "--lr", "1e-4"]
    asked += ["--checkpoints", str(tmp_path / "checkpoints"), "--checkpoint-every", "2"]
    for out in ("first", "second"):
        assert main([*asked, "--out", str(tmp_path / out)]) == 0
    special = load_sae(tmp_path / "first")
    config = dataclasses.replace(CONFIG, tilt=0.5, n_tokens=300, lr=1e-4)
    assert same(special, train_sae(x, config, init=load_sae(tmp_path / "general")))
    assert same(special, load_sae(tmp_path / "second"))
    assert len(list((tmp_path / "checkpoints").glob("*/step-00000003"))) == 1


def test_settings_and_defaults_are_the_configs() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    needed = ["--activations", "x.npy", "--out", "sae"]
    found = vars(parser.parse_args(needed))
    for field in dataclasses.fields(SAEConfig):
        expected = None if field.default is dataclasses.MISSING else field.default
        assert found[field.name] == expected
        assert type(found[field.name]) is type(expected)
    given = "--d-sae 9 --architecture relu --l1-coefficient 3 --tokens 7 --aux-k 0 --lr 0.1 --no-normalize"
    found = vars(parser.parse_args([*needed, *given.split()]))
    config = SAEConfig(**{field.name: found[field.name] for field in dataclasses.fields(SAEConfig)})
    assert config == SAEConfig(
        d_sae=9, architecture="relu", l1_coefficient=3.0, n_tokens=7, aux_k=0, lr=0.1, normalize=False, k=32
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--activations", "nowhere", "--d-sae", "8"], "there is no file or folder nowhere"),
        (["--activations", "x.npy"], "--d-sae is needed"),
        (["--activations", "x.npy", "--d-sae", "8"], "k must not exceed d_sae"),
        (["--activations", "x.txt", "--d-sae", "8"], "neither a store's folder nor"),
        (["--activations", "x.safetensors", *SMALL], "holds 2 tensors; say which with --site: a, b"),
        (["--activations", "x.safetensors", "--site", "c", *SMALL], "no tensor 'c'; it holds a, b"),
        (["--activations", "store", "--site", "resid.9", *SMALL], "no site 'resid.9'; it holds embed"),
        (["--activations", "x.npy", "--init", "nothing", *SMALL], "nothing"),
        (["--activations", "x.npy", *SMALL, "--random-state", "-1"], "random_state must not be negative"),
        (["--activations", "x.npy", *SMALL, "--out", "full"], "full exists and is no saved SAE"),
        (["--activations", "x.npy", *SMALL, "--lr", "1e30"], "diverged"),
    ],
)
def test_wrong_input_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", activations().numpy())
    save_file({"a": activations(), "b": activations()}, "x.safetensors")
    Path("x.txt").write_text("1 2")
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("years")
    make_store(tmp_path / "store", "embed")
    assert main(["train", "--out", "sae", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not Path("sae").exists()


def test_the_list_of_commands_needs_no_torch() -> None:
    code = "import sys; from ssae_debias.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert all(f"\n    {command} " in shown for command in ("run", "extract", "train"))
    wrong = subprocess.run(
        [sys.executable, "-m", "ssae_debias", "retrain"], check=False, capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert "invalid choice: 'retrain'" in wrong.stderr
