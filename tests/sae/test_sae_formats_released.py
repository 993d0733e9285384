"""Gemma Scope, sparsify and Llama Scope files in their layouts, against their published formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ssae_debias.files import DamagedFileError
from ssae_debias.sae import load_sae, save_sae

D, F, K = 6, 20, 4
X = 2 * torch.randn(50, D, generator=torch.Generator().manual_seed(7))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(100 * seed + sum(shape)))


def agree(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found.detach().double(), expected.double(), atol=atol, rtol=1e-5)


def largest(f: Tensor, k: int) -> Tensor:
    kept = torch.zeros_like(f)
    for row, values in enumerate(f):
        best = values.argsort(descending=True)[:k]
        kept[row, best] = values[best]
    return kept


# ---- Gemma Scope

GEMMA = {
    "W_enc": draw(D, F), "W_dec": draw(F, D, seed=1), "b_enc": draw(F) / 2, "b_dec": draw(D), "threshold": draw(F).abs(),
}  # fmt: skip


def gemma(x: Tensor) -> Tensor:
    w = {name: part.double() for name, part in GEMMA.items()}
    p = x.double() @ w["W_enc"] + w["b_enc"]
    return (p.relu() * (p > w["threshold"])) @ w["W_dec"] + w["b_dec"]


def write_gemma(root: Path, compressed: bool = False, **change: Any) -> Path:
    folder = root / "layer_20" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: part.numpy() for name, part in GEMMA.items()} | change
    (np.savez_compressed if compressed else np.savez)(folder / "params.npz", **arrays)
    return folder


@pytest.mark.parametrize("compressed", [True, False])
def test_gemma_scope_reconstructs_as_published(tmp_path: Path, compressed: bool) -> None:
    folder = write_gemma(tmp_path, compressed)
    sae = load_sae(folder)
    agree(sae(X), gemma(X))
    assert 0.05 < float((sae.encode(X) > 0).double().mean()) < 0.9
    assert sae.metadata == {"format": "Gemma Scope", "release": "layer_20/width_16k/average_l0_71"}
    assert torch.equal(load_sae(folder / "params.npz")(X), sae(X))
    save_sae(sae, tmp_path / "ours")
    agree(load_sae(tmp_path / "ours")(X), gemma(X))


def test_gemma_scope_on_embeddings_acts_on_scaled_ones(tmp_path: Path) -> None:
    """A dictionary of the embedding matrix's rows e, used where the model has e·√d."""
    sae = load_sae(write_gemma(tmp_path), scaled_embedding=True)
    agree(sae(X * D**0.5), gemma(X) * D**0.5)
    agree(sae.W_dec, GEMMA["W_dec"] * D**0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"W_enc": draw(F, D).numpy()}, "expected"),
        ({"threshold": np.full(F, np.nan, np.float32)}, "NaN or infinity in threshold"),
        ({"b_dec": draw(D).numpy().astype(np.float16)}, "one floating type"),
        ({"b_enc": np.arange(F)}, "int64, expected floating"),
        ({"b_enc": np.array([["text"]])}, "expected floating"),
        ({"extra": np.ones(1, np.float32)}, "expected"),
    ],
)
def test_wrong_gemma_scope_arrays_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(DamagedFileError, match=said):
        load_sae(write_gemma(tmp_path, **change))


# ---- sparsify

SPARSIFY = {
    "encoder.weight": draw(F, D),
    "encoder.bias": draw(F) / 2,
    "W_dec": draw(F, D, seed=1),
    "b_dec": draw(D),
}


def write_sparsify(folder: Path, weights: dict[str, Tensor] | None = None, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    cfg = {
        "activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": F, "k": K,
        "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D,
    } | fields  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file({**SPARSIFY, **(weights or {})}, folder / "sae.safetensors")
    return folder


def test_sparsify_reconstructs_as_published(tmp_path: Path) -> None:
    sae = load_sae(write_sparsify(tmp_path / "layers.3"))
    w = {name: part.double() for name, part in SPARSIFY.items()}
    f = largest(((X.double() - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]).relu(), K)
    agree(sae.encode(X), f)
    agree(sae(X), f @ w["W_dec"] + w["b_dec"])
    assert sae.metadata == {"hook_name": "layers.3", "format": "sparsify topk"}


def test_sparsify_counts_latents_by_expansion_where_no_number_is_given(tmp_path: Path) -> None:
    wide = {"encoder.weight": draw(4 * D, D), "encoder.bias": draw(4 * D), "W_dec": draw(4 * D, D)}
    folder = write_sparsify(tmp_path / "layers.3", wide, num_latents=0, expansion_factor=4)
    assert load_sae(folder).d_sae == 4 * D


@pytest.mark.parametrize(
    ("fields", "weights", "said"),
    [
        ({"transcode": True}, {}, "transcode is True; a transcoder writes another site"),
        ({"skip_connection": True}, {"W_skip": draw(D, D)}, "skip_connection is True"),
        ({}, {"W_skip": draw(D, D)}, "W_skip"),
        ({"activation": "groupmax"}, {}, "activation is 'groupmax'.*group"),
        ({"signed": True}, {}, "signed"),
        ({"k": 0}, {}, "k is 0"),
        ({"k": F + 1}, {}, "at most the 20"),
        ({"d_in": "6"}, {}, "d_in is '6'"),
        ({"num_latents": F + 1}, {}, "expected"),
    ],
)
def test_what_sparsify_has_and_an_sae_cannot_hold_is_named(
    tmp_path: Path, fields: dict[str, Any], weights: dict[str, Tensor], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        load_sae(write_sparsify(tmp_path / "layers.3", weights, **fields))


# ---- Llama Scope

LLAMA = {
    "encoder.weight": draw(F, D), "encoder.bias": draw(F) / 2,
    "decoder.weight": draw(D, F, seed=1), "decoder.bias": draw(D),
}  # fmt: skip
NORMS = {"in": 7.25, "out": 7.25}


def write_llama(folder: Path, weights: dict[str, Tensor] | None = None, **fields: Any) -> Path:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    settings = {
        "d_model": D, "d_sae": F, "act_fn": "jumprelu", "jump_relu_threshold": 1.5, "top_k": K,
        "norm_activation": "dataset-wise", "dataset_average_activation_norm": NORMS, "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False, "sparsity_include_decoder_norm": True,
        "hook_point_in": "blocks.15.hook_resid_post", "hook_point_out": "blocks.15.hook_resid_post",
    } | fields  # fmt: skip
    (folder / "hyperparams.json").write_text(json.dumps(settings))
    save_file({**LLAMA, **(weights or {})}, folder / "checkpoints" / "final.safetensors")
    return folder


def llama(x: Tensor, w: dict[str, Tensor], **given: Any) -> Tensor:
    """The training-time computation on scaled activations; only the threshold is in raw units."""
    settings = {"norms": NORMS, "include": True, "act": "jumprelu", "pre": False, "per_token": False} | given
    w = {name: part.double() for name, part in w.items()}
    x = x.double()
    s_in, s_out = (D**0.5 / settings["norms"][end] for end in ("in", "out"))
    if settings["per_token"]:
        s_in = s_out = D**0.5 / x.norm(dim=1, keepdim=True)
    p = (x * s_in - w["decoder.bias"] * settings["pre"]) @ w["encoder.weight"].T + w["encoder.bias"]
    # one unit is one length of what the latent writes, in the model's own unit
    length = w["decoder.weight"].norm(dim=0) if settings["include"] else 1.0
    length = length / (1.0 if settings["per_token"] else s_out if settings["include"] else s_in)
    if settings["act"] == "topk":
        f = largest((p * length).relu(), K) / length
    else:
        f = p.relu() * (p * length > 1.5)
    return (f @ w["decoder.weight"].T + w["decoder.bias"]) / s_out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({}, {}),
        ({"act_fn": "topk"}, {}),  # a threshold is there: latents are judged one by one
        ({"act_fn": "topk", "jump_relu_threshold": 0.0}, {"act": "topk"}),
        ({"sparsity_include_decoder_norm": False}, {"include": False}),
        ({"apply_decoder_bias_to_pre_encoder": True}, {"pre": True}),
        ({"norm_activation": "inference"}, {"norms": {"in": D**0.5, "out": D**0.5}}),
        ({"norm_activation": "token-wise"}, {"per_token": True}),
        ({"dataset_average_activation_norm": {"in": 7.25, "out": 3.5}}, {"norms": {"in": 7.25, "out": 3.5}}),
    ],
)
def test_llama_scope_reconstructs_as_published(
    tmp_path: Path, dtype: torch.dtype, fields: dict[str, Any], given: dict[str, Any]
) -> None:
    weights = {name: part.to(dtype) for name, part in LLAMA.items()}
    sae = load_sae(write_llama(tmp_path / "L15R-8x", weights, **fields))
    agree(sae(X), llama(X, weights, **given))
    assert 0.02 < float((sae.encode(X) > 0).double().mean()) < 0.9
    assert sae.metadata["format"].startswith("Llama Scope")
    assert sae.metadata["hook_name"] == "blocks.15.hook_resid_post"
    if given.get("include", True):
        agree(sae.W_dec.norm(dim=1), torch.ones(F))
    save_sae(sae, tmp_path / "ours")
    agree(load_sae(tmp_path / "ours")(X), llama(X, weights, **given))


def test_llama_scope_is_found_by_either_of_its_files(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "L15R-8x")
    for path in (folder / "hyperparams.json", folder / "checkpoints" / "final.safetensors"):
        assert torch.equal(load_sae(path)(X), load_sae(folder)(X))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
        ({"norm_activation": "batch-wise"}, "norm_activation is 'batch-wise'"),
        ({"hook_point_out": "blocks.15.hook_mlp_out"}, "hook_point_out.*transcoder"),
        ({"use_glu_encoder": True}, "use_glu_encoder"),
        ({"jump_relu_threshold": None}, "jump_relu_threshold is None"),
        ({"jump_relu_threshold": -1}, "jump_relu_threshold is -1"),
        ({"dataset_average_activation_norm": {"in": 0, "out": 1}}, "dataset_average_activation_norm"),
        ({"dataset_average_activation_norm": None}, "dataset_average_activation_norm"),
        ({"act_fn": "topk", "jump_relu_threshold": 0, "top_k": F + 1}, "top_k is 21"),
        ({"d_sae": F + 1}, "expected"),
        ({"use_decoder_bias": False}, "expected"),
        (
            {
                "apply_decoder_bias_to_pre_encoder": True,
                "dataset_average_activation_norm": {"in": 1.0, "out": 2.0},
            },
            "differs between in and out",
        ),
    ],
)
def test_what_llama_scope_has_and_an_sae_cannot_hold_is_named(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        load_sae(write_llama(tmp_path / "L15R-8x", **fields))
