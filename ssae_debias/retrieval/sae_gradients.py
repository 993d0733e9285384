r"""The gradient of an SAE's loss, kept as factors.

For one token with input x, code z and reconstruction x̂ the loss is ‖x̂ − x‖². Its gradients are outer
products,

.. math:: \nabla_{W_{dec}} = z\,e^\top, \quad \nabla_{W_{enc}} = \tilde x\,\delta^\top, \qquad
          e = 2(\hat x - x), \quad \delta = (W_{dec}\,e) \odot [z > 0],

with x̃ the encoder's input (x − b_dec, where the SAE subtracts it). A text's gradient is a weighted sum of a
few such products, so its inner product with another gradient and its norm follow from the factors:
⟨Σ a bᵀ, G⟩ = Σ aᵀ G b, and ‖Σ a bᵀ‖² = Σᵢⱼ (aᵢ·aⱼ)(bᵢ·bⱼ). No matrix of the SAE's size is made for a text.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from ssae_debias.sae.tilted_risk import tilted_weights

if TYPE_CHECKING:
    from ssae_debias.sae import SparseAutoencoder


@dataclass(frozen=True)
class SAEGradient:
    """A gradient with respect to all parameters of an SAE but its thresholds, which have none.

    Parameters
    ----------
    W_enc : Tensor, shape (d_in, d_sae)
    b_enc : Tensor, shape (d_sae,)
    W_dec : Tensor, shape (d_sae, d_in)
    b_dec : Tensor, shape (d_in,)

    Examples
    --------
    >>> ones = SAEGradient(torch.ones(1, 2), torch.ones(2), torch.ones(2, 1), torch.ones(1))
    >>> round(float((ones + ones).scaled(0.5).norm()) ** 2, 3)
    7.0
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor

    def __add__(self, other: SAEGradient) -> SAEGradient:
        return SAEGradient(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def scaled(self, factor: float) -> SAEGradient:
        """The gradient times a number."""
        return SAEGradient(*(factor * getattr(self, f.name) for f in fields(self)))

    def norm(self) -> Tensor:
        """Euclidean length over all parameters together."""
        return torch.stack([getattr(self, f.name).square().sum() for f in fields(self)]).sum().sqrt()


@dataclass(frozen=True)
class TextGradients:
    """The gradients of the losses of some texts, as factors a token.

    Parameters
    ----------
    lengths : list of int, length n_texts
        Tokens of each text; texts follow one another.
    inputs : Tensor, shape (n_tokens, d_in)
        x̃, what the encoder's weights are multiplied with.
    deltas : Tensor, shape (n_tokens, d_sae)
        δ times the token's weight in its text's loss.
    latents : Tensor, shape (n_tokens, d_sae)
        z.
    errors : Tensor, shape (n_tokens, d_in)
        e times the token's weight.
    offsets : Tensor, shape (n_tokens, d_in)
        The token's share of the gradient for b_dec.
    """

    lengths: list[int]
    inputs: Tensor
    deltas: Tensor
    latents: Tensor
    errors: Tensor
    offsets: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, sae: SparseAutoencoder, x: Tensor, lengths: list[int], *, tilt: float = 0.0) -> Self:
        """Factors for the activations of some texts.

        Parameters
        ----------
        sae : SparseAutoencoder
            In its inference form, with thresholds.
        x : Tensor, shape (n_tokens, d_in)
            Activations, text after text.
        lengths : list of int
            Tokens of each text.
        tilt : float, default 0
            A text's loss is the tilted risk of its tokens' losses, in units of their mean; 0 is their mean.
        """
        latents = sae.encode(x)
        difference = sae.decode(latents) - x
        losses = difference.square().sum(dim=1)
        weights = torch.cat(
            [
                tilted_weights(text, tilt, scale=max(float(text.mean()), torch.finfo(text.dtype).tiny))
                for text in losses.split(lengths)
            ]
        )
        errors = 2 * weights[:, None] * difference
        deltas = (errors @ sae.W_dec.T) * (latents > 0)
        if sae.apply_b_dec_to_input:
            return cls(lengths, x - sae.b_dec, deltas, latents, errors, errors - deltas @ sae.W_enc.T)
        return cls(lengths, x, deltas, latents, errors, errors)

    def total(self) -> SAEGradient:
        """The sum of all texts' gradients, written out."""
        return SAEGradient(
            W_enc=self.inputs.T @ self.deltas,
            b_enc=self.deltas.sum(dim=0),
            W_dec=self.latents.T @ self.errors,
            b_dec=self.offsets.sum(dim=0),
        )

    def dot(self, gradient: SAEGradient) -> Tensor:
        """Inner product of each text's gradient with `gradient`, shape (n_texts,)."""
        per_token = (
            ((self.inputs @ gradient.W_enc + gradient.b_enc) * self.deltas).sum(dim=1)
            + ((self.latents @ gradient.W_dec) * self.errors).sum(dim=1)
            + self.offsets @ gradient.b_dec
        )
        return torch.stack([text.sum() for text in per_token.split(self.lengths)])

    def norms(self) -> Tensor:
        """Euclidean length of each text's gradient, shape (n_texts,)."""
        squares = []
        for inputs, deltas, latents, errors, offsets in zip(
            *(
                factor.split(self.lengths)
                for factor in (self.inputs, self.deltas, self.latents, self.errors, self.offsets)
            ),
            strict=True,
        ):
            squares.append(
                ((inputs @ inputs.T) * (deltas @ deltas.T)).sum()
                + ((latents @ latents.T) * (errors @ errors.T)).sum()
                + deltas.sum(dim=0).square().sum()
                + offsets.sum(dim=0).square().sum()
            )
        # rounding can leave a vanishing square just below 0
        return torch.stack(squares).clamp_min(0).sqrt()
