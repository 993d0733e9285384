"""SAELens directories: ``cfg.json`` and ``sae_weights.safetensors``, of version 6 and before; also our own.

standard    f = relu(p),              p = (x − b_dec) W_enc + b_enc
topk        f = the k largest of relu(p), ranked by p·‖d‖ where ``rescale_acts_by_decoder_norm``
jumprelu    f = relu(p) · [p > threshold]   (BatchTopK and Matryoshka dictionaries are saved in this form)
gated       f = relu(e^{r_mag} (x − b_dec) W_enc + b_mag) · [(x − b_dec) W_enc + b_gate > 0]

with x̂ = f W_dec + b_dec. ``normalize_activations`` is folded into the weights where it is one factor for all
tokens (``expected_average_only_in``) and kept as a normalisation where each token has its own.

References
----------
SAELens, version 6, ``sae_lens/saes/sae.py`` (layout, normalisations), ``gated_sae.py``, and
``sae_lens/loading/pretrained_sae_loaders.py`` (what the flat layout before version 6.0.0 means).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssae_debias.files import MANIFEST, DamagedFileError, read_manifest
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.formats.form import Format, integer, positive
from ssae_debias.sae.formats.parts import Parts, gated
from ssae_debias.sae.formats.tensors import read_safetensors, read_settings, require_shapes
from ssae_debias.sae.normalization import Normalization

CFG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SCALER = "activation_scaler.json"
KIND = "sae"

ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")

# SAELens' name of each normalisation of tokens
NORMALIZATIONS: dict[str, Normalization] = {
    "none": "none", "constant_norm_rescale": "constant_norm", "layer_norm": "layer_norm",
}  # fmt: skip
AVERAGE = "expected_average_only_in"


def weights_of(path: Path) -> Path | None:
    """The weights that a path of this format means."""
    folder = path.parent if path.name in (CFG, WEIGHTS) else path
    return folder / WEIGHTS if (folder / CFG).is_file() and (folder / WEIGHTS).is_file() else None


def read(weights: Path, *, mean_norm: float | None = None) -> SparseAutoencoder:
    """The SAE in a SAELens directory; our manifest is checked if it is there.

    Parameters
    ----------
    weights : Path
        The directory's ``sae_weights.safetensors``.
    mean_norm : float, optional
        Mean norm of the activations, for ``normalize_activations: expected_average_only_in`` without an
        ``activation_scaler.json``.
    """
    path = weights.parent
    manifest = read_manifest(path, KIND) if (path / MANIFEST).is_file() else None
    cfg = _current(read_settings(path / CFG), path / CFG)
    architecture, d_in, d_sae = cfg["architecture"], cfg["d_in"], cfg["d_sae"]
    tensors = _without_unit_scale(read_safetensors(weights), weights)
    require_shapes(tensors, _shapes(architecture, d_in, d_sae), weights, CFG)
    average = cfg["normalize_activations"] == AVERAGE
    if mean_norm is not None and not average:
        raise ValueError(
            f"{path / CFG}: normalize_activations is {cfg['normalize_activations']!r}, so there is no mean_norm to "
            f"scale by; leave it out (got {mean_norm!r})."
        )
    factor = _scaling_factor(path, d_in, mean_norm) if average else None
    parts = Parts(
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        **_encoder(tensors, architecture),
        apply_b_dec_to_input=cfg["apply_b_dec_to_input"],
        top_k=cfg["k"] if architecture == "topk" else None,
        normalization=NORMALIZATIONS.get(cfg["normalize_activations"], "none"),
    )
    if factor is not None:
        # codes stay as trained; inputs and outputs become raw
        wide = torch.promote_types(parts.W_dec.dtype, torch.float32)
        parts.W_enc = parts.W_enc.to(wide) * factor
        parts.W_dec, parts.b_dec = parts.W_dec.to(wide) / factor, parts.b_dec.to(wide) / factor
    sae = parts.assemble(weights, architecture, {**cfg["metadata"], "format": f"SAELens {architecture}"})
    if cfg.get("rescale_acts_by_decoder_norm", False):
        sae.normalize_decoder_()
    return sae if manifest is None else _as_it_was(sae.to(tensors["W_dec"].dtype), manifest, path)


def _as_it_was(sae: SparseAutoencoder, manifest: dict[str, Any], path: Path) -> SparseAutoencoder:
    """One of ours, with what only our manifest says."""
    try:
        config, sae.metadata = SAEConfig.from_dict(manifest["config"]), dict(manifest["metadata"])
        sae.history_ = list(manifest["history"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path / MANIFEST} does not describe an SAE: {error!r}.") from error
    if config.d_sae != sae.d_sae:
        raise DamagedFileError(f"{path}: {MANIFEST} says d_sae={config.d_sae}, {CFG} {sae.d_sae}.")
    sae.config = config
    sae.threshold.requires_grad_(config.architecture == "jumprelu")
    return sae


def _current(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """The fields in version 6's layout, checked; every refusal names the field."""
    cfg = dict(cfg)
    if "metadata" not in cfg:
        cfg = _of_flat_layout(cfg, path)
    cfg.setdefault("architecture", "standard")
    cfg.setdefault("apply_b_dec_to_input", True)
    normalisation = cfg.get("normalize_activations")
    if normalisation is None or isinstance(normalisation, bool):
        cfg["normalize_activations"] = AVERAGE if normalisation else "none"

    def refuse(field: str, allowed: str) -> ValueError:
        return ValueError(f"{path}: {field} is {cfg.get(field)!r}; this reader takes {allowed}.")

    for field in ("d_in", "d_sae"):
        if not integer(cfg.get(field)):
            raise refuse(field, "a positive integer")
    if cfg["architecture"] not in ARCHITECTURES:
        raise refuse(
            "architecture",
            "standard, topk, jumprelu and gated (the others are no autoencoder of one site's tokens)",
        )
    if cfg["architecture"] == "topk" and not (integer(cfg.get("k")) and cfg["k"] <= cfg["d_sae"]):
        raise refuse("k", "an integer from 1 to d_sae")
    if cfg["normalize_activations"] not in (*NORMALIZATIONS, AVERAGE):
        raise refuse("normalize_activations", ", ".join((*NORMALIZATIONS, AVERAGE)))
    if cfg.get("reshape_activations", "none") != "none":
        raise refuse(
            "reshape_activations",
            "none (hook_z is attention before its output projection, head by head, where there is no site)",
        )
    if cfg.get("finetuning_scaling_factor", False):
        raise refuse("finetuning_scaling_factor", "false")
    if not isinstance(cfg["apply_b_dec_to_input"], bool):
        raise refuse("apply_b_dec_to_input", "true and false")
    if not isinstance(cfg.get("rescale_acts_by_decoder_norm", False), bool):
        raise refuse("rescale_acts_by_decoder_norm", "true and false")
    if not isinstance(cfg["metadata"], dict):
        raise refuse("metadata", "an object")
    return cfg


def _of_flat_layout(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """A ``cfg.json`` from before version 6.0.0 in today's layout."""
    if "hook_point" in cfg:
        cfg.setdefault("hook_name", cfg["hook_point"])
    cfg["metadata"] = {
        name: cfg[name] for name in ("model_name", "hook_name", "context_size", "prepend_bos") if name in cfg
    }
    if "hook_z" in str(cfg.get("hook_name")):
        cfg.setdefault("reshape_activations", "hook_z")
    activation = cfg.get("activation_fn", cfg.get("activation_fn_str", "relu"))
    if activation not in ("relu", "topk"):
        raise ValueError(f"{path}: activation_fn is {activation!r}; this reader takes relu and topk.")
    if activation == "topk":
        cfg["architecture"] = "topk"
        arguments = cfg.get("activation_fn_kwargs")
        cfg.setdefault("k", arguments.get("k") if isinstance(arguments, dict) else None)
    return cfg


def _without_unit_scale(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Without the factors on codes that some versions wrote for all; where they are not 1, the file is refused."""
    factors = tensors.pop("scaling_factor", None)
    if factors is not None and not bool((factors == 1).all()):
        raise ValueError(f"{path}: scaling_factor scales the codes; this reader takes dictionaries without.")
    return tensors


def _shapes(architecture: str, d_in: int, d_sae: int) -> dict[str, tuple[int, ...]]:
    biases = {"gated": ("b_gate", "b_mag", "r_mag"), "jumprelu": ("b_enc", "threshold")}
    return {
        "W_enc": (d_in, d_sae),
        "W_dec": (d_sae, d_in),
        "b_dec": (d_in,),
        **dict.fromkeys(biases.get(architecture, ("b_enc",)), (d_sae,)),
    }


def _encoder(tensors: dict[str, Tensor], architecture: str) -> dict[str, Any]:
    if architecture == "gated":
        return gated(tensors["W_enc"], tensors["r_mag"], tensors["b_gate"], tensors["b_mag"])
    return {"W_enc": tensors["W_enc"], "b_enc": tensors["b_enc"], "threshold": tensors.get("threshold")}


def _scaling_factor(path: Path, d_in: int, mean_norm: float | None) -> float:
    if mean_norm is not None:
        if not positive(mean_norm):
            raise ValueError(f"mean_norm must be positive and finite, got {mean_norm!r}.")
        return float(d_in**0.5 / mean_norm)
    if not (path / SCALER).is_file():
        raise ValueError(
            f"{path / CFG}: normalize_activations is {AVERAGE!r}, but there is no {SCALER} beside it that says by "
            "how much; pass mean_norm, the mean norm of the activations."
        )
    factor = read_settings(path / SCALER).get("scaling_factor")
    if not positive(factor):
        raise ValueError(f"{path / SCALER}: scaling_factor must be positive and finite, got {factor!r}.")
    return float(factor)  # type: ignore[arg-type]


FORMAT = Format("SAELens", f"{CFG} with {WEIGHTS}", weights_of, read, ("mean_norm",))
