"""EleutherAI's sparsify: ``{hookpoint}/cfg.json`` and ``sae.safetensors``.

    f = the k largest of relu((x − b_dec) E + e),   x̂ = f W_dec + b_dec

Transcoders (``transcode``, ``W_skip``) predict another site's activations and GroupMax keeps one latent of each
group; neither is the form of an SAE here, and both are refused by name.

References
----------
EleutherAI/sparsify: ``sparsify/sparse_coder.py``, ``sparsify/config.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.formats.form import Format, integer
from ssae_debias.sae.formats.parts import Parts
from ssae_debias.sae.formats.tensors import read_safetensors, read_settings, require_shapes

CFG = "cfg.json"
WEIGHTS = "sae.safetensors"

# sparsify's own defaults, where a cfg.json leaves a field out
DEFAULTS: dict[str, Any] = {
    "activation": "topk", "expansion_factor": 32, "num_latents": 0, "k": 32,
    "skip_connection": False, "transcode": False, "signed": False,
}  # fmt: skip


def weights_of(path: Path) -> Path | None:
    """The weights that a path of this format means."""
    folder = path.parent if path.name in (CFG, WEIGHTS) else path
    return folder / WEIGHTS if (folder / CFG).is_file() and (folder / WEIGHTS).is_file() else None


def read(weights: Path) -> SparseAutoencoder:
    """The SAE in a hookpoint's folder."""
    path = weights.parent / CFG
    cfg = {**DEFAULTS, **read_settings(path)}

    def refuse(field: str, reason: str) -> ValueError:
        return ValueError(f"{path}: {field} is {cfg.get(field)!r}; {reason}.")

    for field in ("transcode", "skip_connection"):
        if cfg[field]:
            raise refuse(
                field, "a transcoder writes another site than it reads, and an edit of one site cannot use it"
            )
    if cfg["activation"] != "topk":
        raise refuse(
            "activation", "this reader takes topk (GroupMax lets only one latent of a group be active)"
        )
    if cfg["signed"]:
        raise refuse("signed", "latents here are never negative")
    for field, least in (("d_in", 1), ("num_latents", 0), ("expansion_factor", 1), ("k", 1)):
        if not integer(cfg.get(field), least):
            raise refuse(field, f"expected an integer of at least {least}")
    d_in = cfg["d_in"]
    d_sae = cfg["num_latents"] or d_in * cfg["expansion_factor"]
    if cfg["k"] > d_sae:
        raise refuse("k", f"expected at most the {d_sae} latents that there are")
    tensors = read_safetensors(weights)
    if "W_skip" in tensors:
        raise ValueError(
            f"{weights} holds W_skip: it is a transcoder, and an edit of one site cannot use it."
        )
    expected = {
        "encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,),
    }  # fmt: skip
    require_shapes(tensors, expected, weights, CFG)
    parts = Parts(
        tensors["encoder.weight"].T,
        tensors["W_dec"],
        tensors["encoder.bias"],
        tensors["b_dec"],
        top_k=cfg["k"],
    )
    return parts.assemble(weights, "topk", {"hook_name": weights.parent.name, "format": "sparsify topk"})


FORMAT = Format("sparsify", f"{CFG} with {WEIGHTS}", weights_of, read)
