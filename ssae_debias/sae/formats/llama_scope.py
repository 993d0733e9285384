r"""Llama Scope (Language-Model-SAEs): ``hyperparams.json`` and ``checkpoints/final.safetensors``.

Training scales activations to a mean norm of √d: s = √d / ``dataset_average_activation_norm``, one s for what
is read (in) and one for what is written (out). Undone:

.. math:: p = x E + b_{enc}/s_{in}, \quad \hat x = f\,(D\, s_{in}/s_{out}) + b_{dec}/s_{out}

Then decoder rows get norm 1 (where ``sparsity_include_decoder_norm``, as the released ones have it), and
``jump_relu_threshold`` is compared with p in raw units: f = p·[p > threshold]. With ``norm_activation:
token-wise`` every token has its own s, and the threshold is compared in the scaled unit.

References
----------
He et al.: "Llama Scope: Extracting Millions of Features from Llama-3.1-8B with Sparse Autoencoders", 2024.
OpenMOSS/Language-Model-SAEs: ``standardize_parameters_of_dataset_norm``, ``transform_to_unit_decoder_norm``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.formats.form import Format, integer, positive
from ssae_debias.sae.formats.parts import Parts, facts
from ssae_debias.sae.formats.tensors import read_safetensors, read_settings, require_shapes

SETTINGS = "hyperparams.json"
WEIGHTS = Path("checkpoints") / "final.safetensors"

NORMALIZATIONS = ("dataset-wise", "token-wise", "inference")
ACTIVATIONS = ("jumprelu", "topk", "relu")

# what a hyperparams.json that leaves a field out means
DEFAULTS: dict[str, Any] = {
    "act_fn": "jumprelu", "norm_activation": "dataset-wise", "jump_relu_threshold": None, "top_k": None,
    "use_decoder_bias": True, "apply_decoder_bias_to_pre_encoder": False, "use_glu_encoder": False,
    "sparsity_include_decoder_norm": True, "hook_point_in": None, "hook_point_out": None,
}  # fmt: skip


def weights_of(path: Path) -> Path | None:
    """The weights that a path of this format means."""
    if path.name == SETTINGS:
        path = path.parent
    elif path.name == WEIGHTS.name:
        path = path.parent.parent
    return path / WEIGHTS if (path / SETTINGS).is_file() and (path / WEIGHTS).is_file() else None


def read(weights: Path) -> SparseAutoencoder:
    """The SAE beside a ``hyperparams.json``."""
    path = weights.parent.parent / SETTINGS
    settings = _checked(read_settings(path), path)
    d_in, d_sae = settings["d_model"], settings["d_sae"]
    tensors = read_safetensors(weights)
    expected = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "decoder.weight": (d_in, d_sae)}
    if settings["use_decoder_bias"]:
        expected["decoder.bias"] = (d_in,)
    require_shapes(tensors, expected, weights, SETTINGS)
    tensors = {
        name: part.to(torch.promote_types(part.dtype, torch.float32)) for name, part in tensors.items()
    }

    per_token = settings["norm_activation"] == "token-wise"
    s_in = s_out = 1.0
    if settings["norm_activation"] == "dataset-wise":
        s_in, s_out = (d_in**0.5 / settings["dataset_average_activation_norm"][end] for end in ("in", "out"))
    if settings["apply_decoder_bias_to_pre_encoder"] and s_in != s_out:
        raise ValueError(
            f"{path}: dataset_average_activation_norm differs between in and out, and the decoder's bias is also "
            "subtracted from what is read; one bias cannot be both."
        )
    b_dec = tensors.get("decoder.bias", torch.zeros(d_in, dtype=tensors["encoder.bias"].dtype))
    parts = Parts(
        W_enc=tensors["encoder.weight"].T,
        W_dec=tensors["decoder.weight"].T * (s_in / s_out),
        b_enc=tensors["encoder.bias"] / s_in,
        b_dec=b_dec / s_out,
        apply_b_dec_to_input=settings["apply_decoder_bias_to_pre_encoder"],
        normalization="constant_norm" if per_token else "none",
    )
    threshold = None
    if settings["act_fn"] == "topk" and settings["jump_relu_threshold"] <= 0:
        parts.top_k = settings["top_k"]
    elif settings["act_fn"] != "relu":
        threshold = torch.full((d_sae,), float(settings["jump_relu_threshold"]), dtype=b_dec.dtype)
    metadata = {
        **facts({"hook_name": settings["hook_point_in"], **settings}, "hook_name"),
        "format": f"Llama Scope {settings['act_fn']}",
    }
    if not settings["sparsity_include_decoder_norm"]:
        # what the threshold is compared with, or ranked, has not been multiplied by the rows' norms
        parts.threshold = threshold
        return parts.assemble(weights, settings["act_fn"], metadata)
    sae = parts.assemble(weights, settings["act_fn"], metadata).normalize_decoder_()
    if threshold is not None:
        with torch.no_grad():
            sae.threshold.copy_(threshold.clamp_min(0))
    return sae


def _checked(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings with defaults; every refusal names the field."""
    settings = DEFAULTS | settings

    def refuse(field: str, allowed: str) -> ValueError:
        return ValueError(f"{path}: {field} is {settings.get(field)!r}; this reader takes {allowed}.")

    for field in ("d_model", "d_sae"):
        if not integer(settings.get(field)):
            raise refuse(field, "a positive integer")
    for field in ("use_decoder_bias", "apply_decoder_bias_to_pre_encoder", "sparsity_include_decoder_norm"):
        if not isinstance(settings[field], bool):
            raise refuse(field, "true and false")
    if settings["act_fn"] not in ACTIVATIONS:
        raise refuse("act_fn", ", ".join(ACTIVATIONS))
    if settings["norm_activation"] not in NORMALIZATIONS:
        raise refuse("norm_activation", ", ".join(NORMALIZATIONS))
    if settings["use_glu_encoder"]:
        raise refuse("use_glu_encoder", "false (a product of two encoders has no threshold form)")
    written = settings["hook_point_out"]
    if written is not None and written != settings["hook_point_in"]:
        raise refuse(
            "hook_point_out",
            f"what hook_point_in says ({settings['hook_point_in']!r}): a transcoder edits no site",
        )
    if settings["jump_relu_threshold"] is None and settings["act_fn"] != "jumprelu":
        settings["jump_relu_threshold"] = 0.0
    threshold = settings["jump_relu_threshold"]
    if not (positive(threshold) or threshold == 0):
        raise refuse("jump_relu_threshold", "a number of at least 0")
    ranks = settings["act_fn"] == "topk" and threshold == 0
    if ranks and not (integer(settings["top_k"]) and settings["top_k"] <= settings["d_sae"]):
        raise refuse("top_k", "an integer from 1 to d_sae")
    norms = settings.get("dataset_average_activation_norm")
    if settings["norm_activation"] == "dataset-wise" and not (
        isinstance(norms, dict) and positive(norms.get("in")) and positive(norms.get("out"))
    ):
        raise refuse("dataset_average_activation_norm", 'positive numbers for "in" and "out"')
    return settings


FORMAT = Format("Llama Scope", f"{SETTINGS} with {WEIGHTS.as_posix()}", weights_of, read)
