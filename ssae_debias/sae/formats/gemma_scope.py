"""Gemma Scope: ``layer_{L}/width_{W}/average_l0_{N}/params.npz``.

    p = x W_enc + b_enc,   f = relu(p) · [p > threshold],   x̂ = f W_dec + b_dec

b_dec is not subtracted. Sites: `res` is our `resid.L`, `mlp` the MLP's output after the norm that follows it,
`att` the heads side by side before their output projection.

The SAEs on Gemma's embeddings (folder ``embedding``) were trained on the rows of the embedding matrix. The model
multiplies those by √d_in before its first block, so where activations are read after that (our site `embed` with
transformers 5 or newer), the SAE acts on x/√d_in: W_enc/√d_in, W_dec·√d_in, b_dec·√d_in.

References
----------
Lieberum et al.: "Gemma Scope: Open Sparse Autoencoders Everywhere All At Once on Gemma 2", 2024.
SAELens, version 6, ``pretrained_sae_loaders.py`` (the embedding's factors; it leaves b_dec as it is).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.formats.form import Format
from ssae_debias.sae.formats.parts import Parts
from ssae_debias.sae.formats.tensors import length, read_npz, require_shapes

WEIGHTS = "params.npz"


def weights_of(path: Path) -> Path | None:
    """The weights that a path of this format means."""
    file = path if path.suffix == ".npz" else path / WEIGHTS
    return file if file.is_file() else None


def read(weights: Path, *, scaled_embedding: bool = False) -> SparseAutoencoder:
    """The SAE in a ``params.npz``.

    Parameters
    ----------
    weights : Path
    scaled_embedding : bool, default False
        For an SAE on embeddings: whether the activations are the embeddings times √d_in.
    """
    arrays: dict[str, Any] = read_npz(weights)
    d_sae, d_in = length(arrays, "b_enc", weights), length(arrays, "b_dec", weights)
    expected = {
        "W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,), "threshold": (d_sae,),
    }  # fmt: skip
    require_shapes(arrays, expected, weights, "its biases")
    parts = Parts(**arrays, apply_b_dec_to_input=False)
    if scaled_embedding:
        unit = d_in**0.5
        parts.W_enc, parts.W_dec, parts.b_dec = parts.W_enc / unit, parts.W_dec * unit, parts.b_dec * unit
    names = [
        part
        for part in weights.parent.parts
        if part.startswith(("layer_", "embedding", "width_", "average_l0_"))
    ]
    metadata = {"format": "Gemma Scope", **({"release": "/".join(names)} if names else {})}
    return parts.assemble(weights, "jumprelu", metadata)


FORMAT = Format("Gemma Scope", WEIGHTS, weights_of, read, ("scaled_embedding",))
