"""What every format is brought to: the parts of a `SparseAutoencoder`, checked and put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import Architecture, SAEConfig
from ssae_debias.sae.formats.tensors import require_sound
from ssae_debias.sae.normalization import Normalization

# dictionaries of one of our own architectures record it; the others end in the threshold form
OWN_NAMES: dict[str, Architecture] = {
    "standard": "relu", "relu": "relu", "topk": "topk", "batchtopk": "batchtopk",
}  # fmt: skip


@dataclass
class Parts:
    """Weights of an SAE in this package's layout, and how it codes.

    Parameters
    ----------
    W_enc : Tensor of shape (d_in, d_sae)
    W_dec : Tensor of shape (d_sae, d_in)
    b_enc : Tensor of shape (d_sae,)
    b_dec : Tensor of shape (d_in,)
    threshold : Tensor of shape (d_sae,), optional
        Without it every positive pre-activation counts.
    apply_b_dec_to_input : bool, default True
        Whether ``b_dec`` is subtracted before encoding.
    top_k : int, optional
        Each token's `top_k` largest latents are kept instead of those above a threshold.
    normalization : {"none", "constant_norm", "layer_norm"}, default "none"
        See `ssae_debias.sae.normalization`.
    """

    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    apply_b_dec_to_input: bool = True
    top_k: int | None = None
    normalization: Normalization = "none"

    def assemble(self, path: Path, architecture: str, metadata: dict[str, Any]) -> SparseAutoencoder:
        """The SAE.

        Half precision is widened to float32, in which values are the same and what is folded into them is not
        rounded off. A threshold below 0 lets pass what 0 lets pass, and becomes 0.

        Raises
        ------
        DamagedFileError
            A fold went beyond what the numbers can hold.
        """
        d_sae, d_in = self.W_dec.shape
        threshold = torch.zeros(d_sae) if self.threshold is None else self.threshold.clamp_min(0)
        weights = {
            "W_enc": self.W_enc, "W_dec": self.W_dec, "b_enc": self.b_enc, "b_dec": self.b_dec, "threshold": threshold,
        }  # fmt: skip
        dtype = torch.promote_types(self.W_dec.dtype, torch.float32)
        weights = {name: part.to(dtype) for name, part in weights.items()}
        require_sound(weights, f"{path}, brought to raw activations,")
        config = SAEConfig(
            d_sae=d_sae,
            architecture=OWN_NAMES.get(architecture, "jumprelu"),
            k=self.top_k or min(32, d_sae),
        )
        sae = SparseAutoencoder(
            d_in,
            config,
            apply_b_dec_to_input=self.apply_b_dec_to_input,
            top_k=self.top_k,
            normalization=self.normalization,
            metadata=metadata,
        ).to(dtype)
        sae.load_state_dict(weights)
        return sae.eval()


def gated(W_gate: Tensor, r_mag: Tensor, b_gate: Tensor, b_mag: Tensor) -> dict[str, Any]:
    r"""The encoder of a gated SAE in the threshold form, exactly.

    A gated latent is active where its gate :math:`\pi = x W_{gate} + b_{gate}` is positive, with the value
    :math:`relu(p)`, :math:`p = e^{r} (x W_{gate}) + b_{mag}`. The two share their weights, so the gate is a
    threshold on the value:

    .. math:: \pi > 0 \iff p > b_{mag} - e^{r}\, b_{gate}.

    Parameters
    ----------
    W_gate : Tensor of shape (d_in, d_sae)
    r_mag, b_gate, b_mag : Tensor of shape (d_sae,)

    Returns
    -------
    dict
        `W_enc`, `b_enc`, `threshold` of `Parts`.

    References
    ----------
    Rajamanoharan et al.: "Improving Dictionary Learning with Gated Sparse Autoencoders", 2024 (shared weights, and
    that they make the gate a jump of the value).

    Examples
    --------
    >>> one = torch.ones(1)
    >>> gated(torch.ones(1, 1), 0 * one, -2 * one, one)["threshold"].tolist()  # x > 2 is p = x + 1 > 3
    [3.0]
    """
    scale = r_mag.double().exp()
    return {
        "W_enc": W_gate * scale.to(torch.promote_types(W_gate.dtype, torch.float32)),
        "b_enc": b_mag,
        "threshold": b_mag.double() - scale * b_gate.double(),
    }


def facts(settings: Any, *names: str) -> dict[str, Any]:
    """Those of the settings `names` that are there as plain values, for an SAE's metadata."""
    if not isinstance(settings, dict):
        return {}
    return {
        name: settings[name] for name in names if isinstance(settings.get(name), str | int | float | bool)
    }
