"""SAEs on disk: SAELens-format directories, which the ecosystem's tools read too.

A directory holds ``cfg.json`` and ``sae_weights.safetensors``; ours also a manifest with the sha256 of both.
A dictionary trained here is saved as ``jumprelu`` with its thresholds (or ``standard``, where they are zero), so
that its inference form survives whatever architecture it was trained with. Directories of others are read where
the form above can express them exactly. Nothing is ever unpickled.

References
----------
SAELens, version 6, ``sae_lens/saes/sae.py`` (layout, ``fold_activation_norm_scaling_factor``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ssae_debias.files import (
    MANIFEST,
    DamagedFileError,
    folder_aside,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
    write_tensors,
)
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig

CFG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SCALER = "activation_scaler.json"
KIND = "sae"
LAYOUT = "6.0.0"


def save_sae(sae: SparseAutoencoder, path: str | os.PathLike[str]) -> None:
    """Write an SAE as a SAELens-format directory with our manifest, whole or not at all.

    Parameters
    ----------
    sae : SparseAutoencoder
        Its config, metadata and history go into the manifest.
    path : path-like
        The directory; an SAE that stands there is replaced.

    Raises
    ------
    ValueError
        NaN or infinity in the weights: such an SAE is not worth keeping.
    FileExistsError
        `path` holds something that is not an SAE.
    OSError
        No space or no permission.

    Examples
    --------
    >>> import tempfile, torch
    >>> folder = tempfile.mkdtemp() + "/sae"
    >>> sae, x = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4)), torch.randn(5, 8)
    >>> save_sae(sae, folder)
    >>> torch.equal(load_sae(folder)(x), sae(x))
    True
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and ((path / CFG).is_file() or not any(path.iterdir()))):
        raise FileExistsError(f"{path} exists and is no saved SAE; choose another path or remove it.")
    weights = {name: part.detach().cpu().contiguous() for name, part in sae.named_parameters()}
    _require_sound(weights, "the SAE to be saved")
    cfg: dict[str, Any] = {
        "architecture": _architecture(sae),
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": str(sae.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
        # without a version SAELens takes the layout for the flat one of old
        "metadata": {"sae_lens_version": LAYOUT, **sae.metadata},
    }
    if cfg["architecture"] == "topk":
        cfg |= {"k": sae.top_k, "rescale_acts_by_decoder_norm": False}
    if cfg["architecture"] != "jumprelu":
        del weights["threshold"]
    with folder_aside(path) as aside:
        write_json(aside / CFG, cfg)
        write_tensors(aside / WEIGHTS, weights)
        write_manifest(aside, KIND, config=sae.config.to_dict(), metadata=sae.metadata, history=sae.history_)


def load_sae(path: str | os.PathLike[str], *, mean_norm: float | None = None) -> SparseAutoencoder:
    """Read a SAELens-format directory, ours or another tool's.

    Parameters
    ----------
    path : path-like
        Holds ``cfg.json`` and ``sae_weights.safetensors``. Our manifest is checked if it is there.
    mean_norm : float, optional
        Mean norm of the activations, for a dictionary trained on activations scaled by ``√d_in / mean_norm``
        (``normalize_activations: expected_average_only_in``) that carries no ``activation_scaler.json``.

    Returns
    -------
    SparseAutoencoder
        Acting on raw activations, on the CPU, in the dtype saved.

    Raises
    ------
    FileNotFoundError
        No such directory, or a file of the two missing.
    DamagedFileError
        A file that is truncated or altered, weights missing, of wrong shape, or not finite.
    ValueError
        A ``cfg.json`` that asks for what the threshold form cannot express; the field is named.

    Notes
    -----
    ``standard``, ``topk`` and ``jumprelu`` are read, from version 6 and from the flat layout before it. A topk
    dictionary carries no thresholds: it goes on selecting each token's k largest (``top_k``).
    """
    path = Path(path)
    for name in (CFG, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} is no SAELens-format SAE: it holds no {name}.")
    manifest = read_manifest(path, KIND) if (path / MANIFEST).is_file() else None
    cfg = _current(read_json(path / CFG), path)
    weights = _read_weights(path / WEIGHTS)
    architecture, d_in, d_sae = cfg["architecture"], cfg["d_in"], cfg["d_sae"]
    _require_shapes(weights, architecture, d_in, d_sae, path / WEIGHTS)
    _require_sound(weights, str(path / WEIGHTS))

    if manifest is None:
        own = {"standard": "relu"}.get(architecture, architecture)
        config = SAEConfig(d_sae=d_sae, architecture=own, k=cfg.get("k", min(32, d_sae)))
        metadata, history = cfg["metadata"], []
    else:
        config = SAEConfig.from_dict(manifest["config"])
        metadata, history = manifest["metadata"], manifest["history"]
        if config.d_sae != d_sae:
            raise DamagedFileError(f"{path}: {MANIFEST} says d_sae={config.d_sae}, {CFG} {d_sae}.")
    sae = SparseAutoencoder(
        d_in,
        config,
        apply_b_dec_to_input=cfg["apply_b_dec_to_input"],
        top_k=cfg["k"] if architecture == "topk" else None,
        metadata=metadata,
    ).to(weights["W_dec"].dtype)
    weights.setdefault("threshold", torch.zeros(d_sae, dtype=sae.dtype))
    sae.load_state_dict(weights)
    if cfg["normalize_activations"] == "expected_average_only_in":
        _fold_scale_(sae, _scaling_factor(path, d_in, mean_norm))
    if cfg.get("rescale_acts_by_decoder_norm", False):
        sae.normalize_decoder_()
    sae.history_ = history
    return sae.eval()


def _architecture(sae: SparseAutoencoder) -> str:
    if sae.top_k is not None:
        return "topk"
    return "jumprelu" if bool((sae.threshold > 0).any()) else "standard"


def _current(cfg: Any, path: Path) -> dict[str, Any]:
    """The fields in version 6's layout, checked; every refusal names the field."""
    if not isinstance(cfg, dict):
        raise DamagedFileError(f"{path / CFG} holds a {type(cfg).__name__}, expected an object.")
    cfg = dict(cfg)
    if "metadata" not in cfg:
        # before version 6.0.0 the layout was flat
        cfg["metadata"] = {
            name: cfg[name] for name in ("model_name", "hook_name", "context_size") if name in cfg
        }
        activation = cfg.get("activation_fn", cfg.get("activation_fn_str", "relu"))
        if activation == "topk":
            cfg["architecture"] = "topk"
            cfg.setdefault("k", (cfg.get("activation_fn_kwargs") or {}).get("k"))
    cfg.setdefault("architecture", "standard")
    cfg.setdefault("apply_b_dec_to_input", True)
    normalisation = cfg.get("normalize_activations")
    if normalisation is None or isinstance(normalisation, bool):
        cfg["normalize_activations"] = "expected_average_only_in" if normalisation else "none"

    def refuse(field: str, allowed: str) -> ValueError:
        return ValueError(f"{path / CFG}: {field} is {cfg.get(field)!r}; this reader takes {allowed}.")

    for field in ("d_in", "d_sae"):
        if not isinstance(cfg.get(field), int) or isinstance(cfg[field], bool) or cfg[field] < 1:
            raise refuse(field, "a positive integer")
    if cfg["architecture"] not in ("standard", "topk", "jumprelu"):
        raise refuse("architecture", "standard, topk and jumprelu")
    if cfg["architecture"] == "topk" and not (isinstance(cfg.get("k"), int) and 0 < cfg["k"] <= cfg["d_sae"]):
        raise refuse("k", "an integer from 1 to d_sae")
    if cfg["normalize_activations"] not in ("none", "expected_average_only_in"):
        raise refuse("normalize_activations", "none and expected_average_only_in (the others act per token)")
    if cfg.get("reshape_activations", "none") != "none":
        raise refuse("reshape_activations", "none")
    if cfg.get("finetuning_scaling_factor", False):
        raise refuse("finetuning_scaling_factor", "false")
    if not isinstance(cfg["apply_b_dec_to_input"], bool):
        raise refuse("apply_b_dec_to_input", "true and false")
    if not isinstance(cfg["metadata"], dict):
        raise refuse("metadata", "an object")
    return cfg


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedFileError(f"{path} is damaged or no safetensors file ({error}).") from error


def _require_shapes(weights: dict[str, Tensor], architecture: str, d_in: int, d_sae: int, path: Path) -> None:
    expected = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}
    if architecture == "jumprelu":
        expected["threshold"] = (d_sae,)
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != expected:
        raise DamagedFileError(f"{path} holds {found}, expected {expected} by {CFG}.")
    kinds = {tensor.dtype for tensor in weights.values()}
    if len(kinds) != 1 or not next(iter(weights.values())).is_floating_point():
        raise DamagedFileError(f"{path} holds {sorted(map(str, kinds))}, expected one floating type.")


def _require_sound(weights: dict[str, Tensor], whose: str) -> None:
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DamagedFileError(f"{whose} has NaN or infinity in {name}.")


def _scaling_factor(path: Path, d_in: int, mean_norm: float | None) -> float:
    if mean_norm is not None:
        factor: Any = d_in**0.5 / mean_norm
    elif (path / SCALER).is_file():
        factor = read_json(path / SCALER).get("scaling_factor")
    else:
        raise ValueError(
            f"{path / CFG}: normalize_activations is 'expected_average_only_in', but there is no {SCALER} beside "
            "it that says by how much; pass mean_norm, the mean norm of the activations."
        )
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
        raise ValueError(f"the activations' scaling factor must be positive and finite, got {factor!r}.")
    return float(factor)


@torch.no_grad()
def _fold_scale_(sae: SparseAutoencoder, factor: float) -> None:
    """``W_enc · s, W_dec / s, b_dec / s``: codes stay as trained, inputs and outputs become raw."""
    sae.W_enc.mul_(factor)
    sae.W_dec.div_(factor)
    sae.b_dec.div_(factor)
