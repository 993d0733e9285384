"""`ssae-debias extract`: what it stores, that it goes on, and what it says of wrong input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssae_debias.activations import ActivationStore, load_model, read_tokens
from ssae_debias.cli import main

TEXTS = ["A nurse works here.", "The surgeon, he is late and long.", "", "She sings."]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bios.csv"
    path.write_text("bio,id\n" + "".join(f'"{text}",{i}\n' for i, text in enumerate(TEXTS)))
    return path


def arguments(file: Path, out: Path, **changed: str) -> list[str]:
    options = {
        "model": "demo",
        "texts": str(file),
        "column": "bio",
        "sites": "resid.0",
        "out": str(out),
    } | changed
    return ["extract", "-q", *(part for name, value in options.items() for part in (f"--{name}", value))]


def test_the_store_holds_what_the_model_gives(
    minilm_path: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = arguments(file, tmp_path / "home", dtype="float16")
    asked += ["--sites", "resid.1", "embed", "--max-length", "6", "--shard-tokens", "5", "--include-special"]
    assert main(asked) == 0
    store = ActivationStore.open(tmp_path / "home")
    assert str(store.directory) in capsys.readouterr().out
    assert (store.sites, store.n_texts, len(store.manifest["shards"])) == (("embed", "resid.1"), 4, 4)
    batch = next(
        read_tokens(
            load_model("demo"), TEXTS, ["resid.1"], max_length=6, include_special=True, batch_tokens=10**6
        )
    )
    order = np.lexsort((batch.position, batch.text_index))
    expected = batch.activations["resid.1"][torch.from_numpy(order)]
    torch.testing.assert_close(store.read("resid.1"), expected, rtol=2e-3, atol=2e-3)
    # the same request finds itself done
    before = {path: path.stat().st_mtime_ns for path in store.directory.iterdir()}
    assert main(asked) == 0
    assert {path: path.stat().st_mtime_ns for path in store.directory.iterdir()} == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"texts": "nowhere.txt"}, "there is no file nowhere.txt"),
        ({"column": "text"}, "no column 'text'; it has bio, id"),
        ({"sites": "resid.99"}, "resid.99"),
        ({"max-length": "100000"}, "max_length"),
        ({"shard-tokens": "0"}, "shard_tokens must be an integer of at least 1"),
    ],
)
def test_wrong_input_is_named(
    minilm_path: Path,
    file: Path,
    tmp_path: Path,
    changed: dict[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments(file, tmp_path / "home", **changed)) == 2
    err = capsys.readouterr().err
    assert err.startswith("ssae-debias: ")
    assert said in err
    assert not (tmp_path / "home").exists()


def test_help_shows_the_defaults_of_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["extract", "--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for default in ("(default: 128)", "(default: 65536)", "(default: float32)", "(default: cpu)"):
        assert default in shown
    with pytest.raises(SystemExit) as end:
        main(["extract", "--model", "demo"])
    assert end.value.code == 2
    assert "--texts, --sites, --out" in capsys.readouterr().err
