"""SAEs written: SAELens-format directories, which the ecosystem's tools read too, with a manifest of ours.

A dictionary is saved as ``jumprelu`` with its thresholds (or ``standard``, where they are zero), so that its
inference form survives whatever architecture it was trained with or format it came from.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ssae_debias.files import folder_aside, write_json, write_manifest, write_tensors
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.formats.saelens import CFG, KIND, NORMALIZATIONS, WEIGHTS
from ssae_debias.sae.formats.tensors import require_sound

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
    >>> from ssae_debias.sae import SAEConfig, load_sae
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
    require_sound(weights, "the SAE to be saved")
    cfg: dict[str, Any] = {
        "architecture": _architecture(sae),
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": str(sae.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": {own: name for name, own in NORMALIZATIONS.items()}[sae.normalization],
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


def _architecture(sae: SparseAutoencoder) -> str:
    if sae.top_k is not None:
        return "topk"
    return "jumprelu" if bool((sae.threshold > 0).any()) else "standard"
