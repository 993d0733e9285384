"""Saved SAEs: our own round trip, other tools' directories, and files that must be refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ssae_debias.files import DamagedFileError
from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae, save_sae, train_sae

D_IN, D_SAE = 6, 20


def trained(architecture: str) -> tuple[SparseAutoencoder, torch.Tensor]:
    x = torch.randn(800, D_IN, generator=torch.Generator().manual_seed(0)) * 3 + 1
    return train_sae(x, SAEConfig(d_sae=D_SAE, architecture=architecture, k=3, batch_size=100)), x


@pytest.mark.parametrize("architecture", ["relu", "topk", "batchtopk", "jumprelu"])
def test_what_is_saved_comes_back(tmp_path: Path, architecture: str) -> None:
    sae, x = trained(architecture)
    sae.metadata |= {"model_name": "tiny", "hook_name": "resid.1"}
    sae.save_pretrained(tmp_path / "sae")
    loaded = SparseAutoencoder.from_pretrained(tmp_path / "sae")
    assert torch.equal(loaded.encode(x), sae.encode(x))
    assert torch.equal(loaded(x), sae(x))
    assert (loaded.config, loaded.metadata, loaded.history_) == (sae.config, sae.metadata, sae.history_)


@pytest.mark.parametrize("architecture", ["relu", "topk", "batchtopk", "jumprelu"])
def test_a_reader_that_knows_only_the_published_format_reconstructs_the_same(
    tmp_path: Path, architecture: str
) -> None:
    sae, x = trained(architecture)
    sae.save_pretrained(tmp_path / "sae")
    cfg = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    weights = {
        name: tensor.double().numpy()
        for name, tensor in load_file(tmp_path / "sae/sae_weights.safetensors").items()
    }
    assert cfg["architecture"] == ("standard" if architecture == "relu" else "jumprelu")
    assert (cfg["d_in"], cfg["d_sae"], cfg["dtype"]) == (D_IN, D_SAE, "float32")
    # SAELens takes a directory without a version for its old flat layout
    assert cfg["metadata"]["sae_lens_version"].startswith("6")
    np.testing.assert_allclose(
        published(cfg, weights, x.double().numpy()), sae(x).detach().numpy(), atol=2e-4
    )


def published(cfg: dict[str, Any], w: dict[str, np.ndarray], x: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """SAELens' reconstruction in numpy, after its documentation."""
    if cfg["normalize_activations"] == "constant_norm_rescale":
        factor = np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1, keepdims=True)
        return published(cfg | {"normalize_activations": "none"}, w, x * factor) / factor
    if cfg["normalize_activations"] == "layer_norm":
        mean, std = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
        inside = published(cfg | {"normalize_activations": "none"}, w, (x - mean) / (std + 1e-5))
        return inside * std + mean
    x = x * scale
    seen = x - w["b_dec"] if cfg["apply_b_dec_to_input"] else x
    if cfg["architecture"] == "gated":
        active = seen @ w["W_enc"] + w["b_gate"] > 0
        magnitude = np.maximum(seen @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"], 0)
        return (active * magnitude @ w["W_dec"] + w["b_dec"]) / scale
    p = seen @ w["W_enc"] + w["b_enc"]
    norms = np.linalg.norm(w["W_dec"], axis=1) if cfg.get("rescale_acts_by_decoder_norm") else 1.0
    if cfg["architecture"] == "standard":
        z = np.maximum(p, 0)
    elif cfg["architecture"] == "jumprelu":
        z = np.maximum(p, 0) * (p > w["threshold"])
    else:
        p = p * norms
        z = np.zeros_like(p)
        for row, values in enumerate(p):
            best = np.argsort(-values)[: cfg["k"]]
            z[row, best] = np.maximum(values[best], 0)
        z = z / norms
    return (z @ w["W_dec"] + w["b_dec"]) / scale


def foreign(folder: Path, **fields: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
    if fields["architecture"] == "jumprelu":
        shapes["threshold"] = (D_SAE,)
    if fields["architecture"] == "gated":
        del shapes["b_enc"]
        shapes |= dict.fromkeys(("b_gate", "b_mag", "r_mag"), (D_SAE,))
    weights = {name: torch.rand(shape, generator=generator) - 0.3 for name, shape in shapes.items()}
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"].abs()
    cfg = {
        "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
        "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"model_name": "pythia", "hook_name": "blocks.4.hook_resid_post"},
    } | fields  # fmt: skip
    folder.mkdir()
    save_file(weights, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return cfg, {name: tensor.double().numpy() for name, tensor in weights.items()}


X = torch.randn(30, D_IN, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": "standard"},
        {"architecture": "standard", "apply_b_dec_to_input": False},
        {"architecture": "jumprelu"},
        {"architecture": "jumprelu", "apply_b_dec_to_input": False},
        {"architecture": "topk", "k": 4, "rescale_acts_by_decoder_norm": False},
        {"architecture": "topk", "k": 4, "rescale_acts_by_decoder_norm": True},
        {"architecture": "gated"},
        {"architecture": "gated", "apply_b_dec_to_input": False},
        {"architecture": "jumprelu", "normalize_activations": "constant_norm_rescale"},
        {"architecture": "standard", "normalize_activations": "layer_norm"},
        {"architecture": "gated", "normalize_activations": "layer_norm"},
        {"architecture": "topk", "k": 4, "normalize_activations": "constant_norm_rescale"},
    ],
)
def test_foreign_dictionaries_reconstruct_as_published(tmp_path: Path, fields: dict[str, Any]) -> None:
    cfg, weights = foreign(tmp_path / "sae", **fields)
    sae = load_sae(tmp_path / "sae")
    np.testing.assert_allclose(
        sae(X).detach().numpy(), published(cfg, weights, X.double().numpy()), atol=1e-5
    )
    assert sae.metadata["model_name"] == "pythia"
    assert sae.metadata["format"] == f"SAELens {fields['architecture']}"
    assert 0 < float((sae.encode(X) > 0).float().mean()) < 1
    torch.testing.assert_close(sae.encode_selected(X, [3, 0]), sae.encode(X)[:, [3, 0]])
    # and what was read can be saved and read again
    save_sae(sae, tmp_path / "again")
    assert torch.equal(load_sae(tmp_path / "again")(X), sae(X))


@pytest.mark.parametrize("beside", [True, False])
def test_expected_average_scaling_is_folded(tmp_path: Path, beside: bool) -> None:
    fields = {"architecture": "jumprelu", "normalize_activations": "expected_average_only_in"}
    cfg, weights = foreign(tmp_path / "sae", **fields)
    mean_norm = 7.0
    scale = D_IN**0.5 / mean_norm
    expected = published(cfg, weights, X.double().numpy(), scale)
    if beside:
        (tmp_path / "sae" / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale}))
        sae = load_sae(tmp_path / "sae")
    else:
        with pytest.raises(ValueError, match=r"normalize_activations.*mean_norm"):
            load_sae(tmp_path / "sae")
        sae = load_sae(tmp_path / "sae", mean_norm=mean_norm)
    np.testing.assert_allclose(sae(X).detach().numpy(), expected, atol=1e-5)


def test_the_flat_layout_before_version_six_is_read(tmp_path: Path) -> None:
    cfg, weights = foreign(tmp_path / "sae", architecture="topk", k=5)
    flat = {name: cfg[name] for name in ("d_in", "d_sae", "dtype", "apply_b_dec_to_input")} | {
        "architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5},
        "model_name": "gpt2", "hook_name": "blocks.0.hook_mlp_out", "normalize_activations": None,
    }  # fmt: skip
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(flat))
    sae = load_sae(tmp_path / "sae")
    np.testing.assert_allclose(
        sae(X).detach().numpy(), published(cfg, weights, X.double().numpy()), atol=1e-5
    )
    assert sae.metadata == {
        "model_name": "gpt2", "hook_name": "blocks.0.hook_mlp_out", "format": "SAELens topk",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hook_point": "blocks.0.attn.hook_z"}, "reshape_activations is 'hook_z'"),
        ({"activation_fn": "tanh-relu"}, "activation_fn is 'tanh-relu'"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": None}, "k is None"),
    ],
)
def test_what_the_flat_layout_implies_is_refused_too(
    tmp_path: Path, fields: dict[str, Any], named: str
) -> None:
    foreign(tmp_path / "sae", architecture="standard")
    flat = {"d_in": D_IN, "d_sae": D_SAE, "architecture": "standard"} | fields
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(flat))
    with pytest.raises(ValueError, match=named):
        load_sae(tmp_path / "sae")


def test_a_mean_norm_without_use_is_refused(tmp_path: Path) -> None:
    foreign(tmp_path / "sae", architecture="standard")
    with pytest.raises(ValueError, match="no mean_norm to scale by"):
        load_sae(tmp_path / "sae", mean_norm=3.0)


def test_factors_of_one_that_some_versions_wrote_are_dropped_and_others_refused(tmp_path: Path) -> None:
    cfg, weights = foreign(tmp_path / "sae", architecture="standard")
    file = tmp_path / "sae" / "sae_weights.safetensors"
    save_file(load_file(file) | {"scaling_factor": torch.ones(D_SAE)}, file)
    np.testing.assert_allclose(
        load_sae(tmp_path / "sae")(X).detach().numpy(), published(cfg, weights, X.double().numpy()), atol=1e-5
    )
    save_file(load_file(file) | {"scaling_factor": torch.full((D_SAE,), 1.1)}, file)
    with pytest.raises(ValueError, match="scaling_factor"):
        load_sae(tmp_path / "sae")


def test_half_precision_is_widened_before_anything_is_folded(tmp_path: Path) -> None:
    fields = {"architecture": "jumprelu", "normalize_activations": "expected_average_only_in"}
    cfg, _ = foreign(tmp_path / "sae", **fields)
    file = tmp_path / "sae" / "sae_weights.safetensors"
    half = {name: part.bfloat16() for name, part in load_file(file).items()}
    save_file(half, file)
    sae = load_sae(tmp_path / "sae", mean_norm=7.0)
    weights = {name: part.double().numpy() for name, part in half.items()}
    assert sae.dtype == torch.float32
    expected = published(cfg, weights, X.double().numpy(), D_IN**0.5 / 7.0)
    np.testing.assert_allclose(sae(X).detach().numpy(), expected, atol=1e-5)


def test_ours_comes_back_in_the_precision_that_it_had(tmp_path: Path) -> None:
    sae = trained("batchtopk")[0].bfloat16()
    sae.save_pretrained(tmp_path / "sae")
    loaded = load_sae(tmp_path / "sae")
    assert loaded.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), sae.parameters(), strict=True))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"architecture": "transcoder"}, "architecture is 'transcoder'"),
        ({"architecture": "standard", "normalize_activations": "l2"}, "normalize_activations is 'l2'"),
        (
            {"architecture": "standard", "finetuning_scaling_factor": True},
            "finetuning_scaling_factor is True",
        ),
        ({"architecture": "standard", "reshape_activations": "hook_z"}, "reshape_activations is 'hook_z'"),
        ({"architecture": "topk", "k": 0}, "k is 0"),
        ({"architecture": "standard", "d_sae": "many"}, "d_sae is 'many'"),
    ],
)
def test_what_cannot_be_expressed_is_named(tmp_path: Path, fields: dict[str, Any], named: str) -> None:
    foreign(tmp_path / "sae", **fields)
    with pytest.raises(ValueError, match=named):
        load_sae(tmp_path / "sae")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    trained("batchtopk")[0].save_pretrained(tmp_path / "sae")
    return tmp_path / "sae"


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_flipped_byte_is_found(ours: Path, name: str) -> None:
    content = bytearray((ours / name).read_bytes())
    content[-3] ^= 1
    (ours / name).write_bytes(content)
    with pytest.raises(DamagedFileError, match="sha256"):
        load_sae(ours)


def test_truncated_misshapen_or_infinite_foreign_weights_are_refused(ours: Path) -> None:
    (ours / "manifest.json").unlink()
    file = ours / "sae_weights.safetensors"
    whole, weights = file.read_bytes(), load_file(file)
    file.write_bytes(whole[:-50])
    with pytest.raises(DamagedFileError, match="damaged"):
        load_sae(ours)
    save_file(weights | {"b_dec": torch.zeros(D_IN + 1)}, file)
    with pytest.raises(DamagedFileError, match="expected"):
        load_sae(ours)
    save_file(weights | {"b_dec": torch.full((D_IN,), float("inf"))}, file)
    with pytest.raises(DamagedFileError, match="infinity in b_dec"):
        load_sae(ours)
    save_file(weights | {"b_dec": torch.zeros(D_IN).half()}, file)
    with pytest.raises(DamagedFileError, match="one floating type"):
        load_sae(ours)


def test_a_pickle_in_the_weights_place_runs_no_code(ours: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (ours / "manifest.json").unlink()
    (ours / "sae_weights.safetensors").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DamagedFileError, match="safetensors"):
        load_sae(ours)
    assert not (tmp_path / "ran").exists()


def test_missing_folders_and_files_are_named(tmp_path: Path, ours: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cfg\.json"):
        load_sae(tmp_path / "nowhere")
    (ours / "sae_weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"sae_weights\.safetensors"):
        load_sae(ours)


def test_nothing_else_is_overwritten_and_nothing_half_is_left(tmp_path: Path) -> None:
    sae, _ = trained("batchtopk")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="thesis"):
        sae.save_pretrained(tmp_path / "thesis")
    with torch.no_grad():
        sae.b_enc[0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        sae.save_pretrained(tmp_path / "broken")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]
