r"""Normalising each token before it is encoded, and undoing it afterwards.

Some released dictionaries were trained on tokens brought to one length. Each token is written as

.. math:: x \approx s\,u + m

with u what the encoder sees, s a number and m the same in all coordinates; the reconstruction of u is brought
back by the same s and m. s differs from token to token, so unlike a mean scale it cannot be folded into weights.

References
----------
SAELens, version 6: ``normalize_activations`` of ``constant_norm_rescale`` and ``layer_norm``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Normalization = Literal["none", "constant_norm", "layer_norm"]

LAYER_NORM_EPS = 1e-5


def normalize_tokens(x: Tensor, how: Normalization) -> tuple[Tensor, Tensor, Tensor]:
    """What the encoder sees of each token, and what brings a reconstruction of it back.

    Parameters
    ----------
    x : Tensor of shape (..., d_in)
        Activations.
    how : {"none", "constant_norm", "layer_norm"}
        `constant_norm`: every token gets norm √d_in; a token of zeros stays one. `layer_norm`: mean 0 and, but
        for an ε of 1e-5, standard deviation 1 (with n − 1 in its denominator) over the coordinates.

    Returns
    -------
    normalized : Tensor of shape (..., d_in)
    scale, shift : Tensor of shape (..., 1)
        ``normalized · scale + shift`` is x, but for ε.

    Examples
    --------
    >>> normalized, scale, shift = normalize_tokens(torch.tensor([[3.0, 4.0, 0.0, 0.0]]), "constant_norm")
    >>> normalized.norm().item(), scale.item()
    (2.0, 2.5)
    """
    if how == "none":
        ones = torch.ones_like(x[..., :1])
        return x, ones, torch.zeros_like(ones)
    if how == "constant_norm":
        scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        return x / torch.where(scale > 0, scale, 1.0), scale, torch.zeros_like(scale)
    shift = x.mean(dim=-1, keepdim=True)
    scale = x.std(dim=-1, keepdim=True)
    return (x - shift) / (scale + LAYER_NORM_EPS), scale, shift
