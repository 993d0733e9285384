r"""Edits of single latents, with everything else kept.

An SAE splits an activation into what its latents explain and an error term, :math:`x = f W_{dec} + b + e`.
Setting latent *j* from :math:`f_j` to :math:`f'_j` and keeping all the rest, the error too, gives

.. math:: x' = x + \sum_{j \in flagged} (f'_j - f_j)\, d_j

so only the flagged encoder columns and decoder rows are ever needed: the latents have a threshold each and do
not compete. The cost is 4·d·m per token for m flagged latents, whatever the dictionary's size. It holds for a
dictionary that normalises each token too: its codes are in the activations' unit, and what it writes beside them
depends on no code.

References
----------
Marks et al., "Sparse Feature Circuits" (2025), section 4: zero ablation with the error term kept (SHIFT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ssae_debias.edit.projection import Projection
from ssae_debias.edit.protocol import Edit
from ssae_debias.sae import SparseAutoencoder
from ssae_debias.sae.normalization import Normalization, normalize_tokens

LatentMode = Literal["zero", "mean", "clamp"]
Mode = Literal["zero", "mean", "clamp", "project"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True)
class LatentEdit:
    """Set flagged latents to new values and keep the rest of the activation.

    Parameters
    ----------
    encoder : Tensor of shape (d_model, m)
        Encoder columns of the flagged latents.
    bias : Tensor of shape (m,)
        Their pre-activation bias, the SAE's input bias folded in.
    threshold : Tensor of shape (m,)
        A latent is active where its pre-activation is above this and above 0.
    decoder : Tensor of shape (m, d_model)
        Their dictionary rows.
    mode : {"zero", "mean", "clamp"}
        `zero`: every flagged latent becomes 0. `mean`: it becomes `value` on every token, active or not.
        `clamp`: it becomes `value` where it is active and stays 0 elsewhere, so that *that* a concept occurs
        survives and *how* it occurs does not.
    value : Tensor of shape (m,) or None
        The new activation for `mean` and `clamp`.
    normalization : {"none", "constant_norm", "layer_norm"}, default="none"
        What the dictionary does to each token before encoding (`ssae_debias.sae.normalization`).

    Examples
    --------
    >>> import torch
    >>> edit = LatentEdit(torch.eye(3)[:, :1], torch.zeros(1), torch.zeros(1), torch.eye(3)[:1], "zero")
    >>> edit(torch.tensor([[2.0, 5.0, -1.0], [-2.0, 5.0, -1.0]]))
    tensor([[ 0.,  5., -1.],
            [-2.,  5., -1.]])
    """

    encoder: Tensor
    bias: Tensor
    threshold: Tensor
    decoder: Tensor
    mode: LatentMode
    value: Tensor | None = None
    normalization: Normalization = "none"

    kind: ClassVar[str] = "latents"

    def __post_init__(self) -> None:
        if self.mode not in get_args(LatentMode):
            raise ValueError(f"mode must be one of {', '.join(get_args(LatentMode))}; got {self.mode!r}.")
        if self.normalization not in get_args(Normalization):
            raise ValueError(
                f"normalization must be one of {', '.join(get_args(Normalization))}; got {self.normalization!r}."
            )
        if (self.mode == "zero") != (self.value is None):
            raise ValueError(f"mode={self.mode!r} {'takes no' if self.mode == 'zero' else 'needs a'} value.")

    def activations(self, x: Tensor) -> Tensor:
        """Activations of the flagged latents, shape (..., m), in float32."""
        x = x.to(self.encoder.dtype)
        if self.normalization == "none":
            return self._active(x)
        normalized, scale, _ = normalize_tokens(x, self.normalization)
        return self._active(normalized) * scale

    def _active(self, x: Tensor) -> Tensor:
        before = x @ self.encoder + self.bias
        return torch.where(before > self.threshold, before.relu(), 0.0)

    def __call__(self, x: Tensor) -> Tensor:
        """Edit activations of shape (..., d_model); the dtype of x is kept.

        What is added is computed in float32; where no flagged latent is active x comes back bit for bit.
        """
        f = self.activations(x)
        if self.value is None:
            change = -f
        elif self.mode == "mean":
            change = self.value - f
        else:
            change = torch.where(f > 0, self.value - f, 0.0)
        wide = torch.promote_types(x.dtype, self.decoder.dtype)
        return (x.to(wide) + (change @ self.decoder).to(wide)).to(x.dtype)

    def to(self, device: torch.device | str) -> LatentEdit:
        """The same edit with its tensors on `device`."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return replace(self, **moved)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that define the edit, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def settings(self) -> dict[str, Any]:
        """The edit's mode, and what it does to tokens first."""
        return {"mode": self.mode, "normalization": self.normalization}


def edit_latents(
    sae: SparseAutoencoder,
    latents: Sequence[int] | np.ndarray,
    mode: Mode = "zero",
    *,
    value: np.ndarray | Tensor | None = None,
    center: np.ndarray | Tensor | None = None,
    strength: float = 1.0,
) -> Edit:
    """An edit of some latents of an SAE.

    Parameters
    ----------
    sae : SparseAutoencoder
        The dictionary that the latents belong to.
    latents : sequence of int
        Indices of the flagged latents; empty gives an edit that changes nothing.
    mode : {"zero", "mean", "clamp", "project"}, default="zero"
        `zero`, `mean` and `clamp` act where and as far as the latents are active (`LatentEdit`); `project`
        removes the span of their dictionary rows from every token (`Projection`): stronger, linear, and
        foldable into weights. Zero is the published default (Marks et al. 2025).
    value : array of shape (len(latents),), optional
        New activations; needed for `mean` and `clamp`.
    center : array of shape (d_model,), optional
        The point that `project` leaves unmoved, normally the mean activation; needed for `project`.
    strength : float, default=1.0
        For `project`: 1 removes the span, 0 changes nothing.

    Raises
    ------
    ValueError
        An unknown mode, a latent that the SAE lacks, or an argument that the mode needs and did not get.

    Examples
    --------
    >>> import torch
    >>> from ssae_debias.edit import edit_latents
    >>> from ssae_debias.sae import SAEConfig, SparseAutoencoder
    >>> sae = SparseAutoencoder(4, SAEConfig(d_sae=8, k=2))
    >>> edit_latents(sae, [1, 5])(torch.ones(2, 4)).shape
    torch.Size([2, 4])
    """
    index = torch.from_numpy(np.array(latents, dtype=np.int64))
    if index.ndim != 1 or (len(index) and not (int(index.min()) >= 0 and int(index.max()) < sae.d_sae)):
        raise ValueError(
            f"latents must be a flat list of indices from 0 to {sae.d_sae - 1}; got {latents!r}."
        )
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}.")
    rows = sae.W_dec.detach()[index].float()
    if mode == "project":
        if center is None:
            raise ValueError('mode="project" needs center, the mean activation at the site.')
        return Projection.onto_complement_of(rows, center=center, strength=strength)
    if mode != "zero" and value is None:
        raise ValueError(f"mode={mode!r} needs value, one new activation for each flagged latent.")
    if sae.top_k is not None:
        raise ValueError(
            "The SAE ranks its latents against each other (TopK without thresholds), so none can be edited alone. "
            'Edit with mode="project", load it with use_threshold=True where its file has a threshold '
            "(dictionary_learning), or fine-tune it first: a trained SAE has thresholds."
        )
    encoder = sae.W_enc.detach()[:, index].float()
    bias = sae.b_enc.detach()[index].float()
    if sae.apply_b_dec_to_input:
        bias = bias - sae.b_dec.detach().float() @ encoder
    return LatentEdit(
        encoder=encoder.clone(),
        bias=bias,
        threshold=sae.threshold.detach()[index].float().clone(),
        decoder=rows.clone(),
        mode=mode,
        normalization=sae.normalization,
        value=None if mode == "zero" else torch.from_numpy(np.array(value, dtype=np.float32)),
    )
