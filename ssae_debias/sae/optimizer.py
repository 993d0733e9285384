"""Adam that keeps the decoder's rows at norm 1, and the learning-rate schedule.

Were rows free to grow, a penalty on codes could be dodged by shrinking codes and stretching rows. So the part of
a row's gradient that would change its length is removed before Adam sees it, and the row is brought back to
norm 1 after the step.

References
----------
Kingma, Ba: "Adam", 2015. Bricken et al.: "Towards Monosemanticity", 2023, "Training" (the constraint).
Gao et al.: "Scaling and evaluating sparse autoencoders", 2024, appendix A.3 (learning rate ∝ 1/√d_sae).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig

LR_BOOST = 8.0
"""Runs here last some hundred steps, those of Gao et al. hundreds of thousands; measured on MiniLM tokens."""

PART_ROWS = 512
"""Rows at a time that stay in the processor's cache between two looks at them."""


def peak_learning_rate(config: SAEConfig) -> float:
    """The configured rate, or ``LR_BOOST · 2e-4 · √(2¹⁴ / d_sae)``.

    Examples
    --------
    >>> peak_learning_rate(SAEConfig(d_sae=2**14))
    0.0016
    """
    return config.lr if config.lr is not None else LR_BOOST * 2e-4 * (2**14 / config.d_sae) ** 0.5


def learning_rate(config: SAEConfig, progress: float) -> float:
    """The rate after the part `progress` (0 to 1) of training: linear warm-up, plateau, linear decay to 0.

    Examples
    --------
    >>> config = SAEConfig(d_sae=64, lr=1.0, warmup_fraction=0.1, decay_fraction=0.2)
    >>> [round(learning_rate(config, at), 3) for at in (0.05, 0.5, 0.9)]
    [0.5, 1.0, 0.5]
    """
    rising = progress / config.warmup_fraction if config.warmup_fraction else 1.0
    falling = (1 - progress) / config.decay_fraction if config.decay_fraction else 1.0
    return peak_learning_rate(config) * max(0.0, min(1.0, rising, falling))


class UnitNormAdam:
    """Adam over an SAE's parameters under the constraint that decoder rows have norm 1.

    Parameters
    ----------
    sae : SparseAutoencoder
        Updated in place from its parameters' ``.grad``.
    clip_grad_norm : float, optional
        Global norm to clip the gradient to.
    """

    def __init__(self, sae: SparseAutoencoder, clip_grad_norm: float | None = None) -> None:
        self.sae = sae
        self.clip_grad_norm = clip_grad_norm
        self.trained = {name: part for name, part in sae.named_parameters() if part.requires_grad}
        self._adam = torch.optim.Adam(self.trained.values(), lr=0.0, betas=(0.9, 0.999), fused=True)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update with learning rate `lr`."""
        directions, grad = self.sae.W_dec, self.sae.W_dec.grad
        if grad is not None:
            parts = zip(grad.split(PART_ROWS), directions.split(PART_ROWS), strict=True)
            for part, rows in parts:
                part.addcmul_((part * rows).sum(1, keepdim=True), rows, value=-1)
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.trained.values(), self.clip_grad_norm)
        self._adam.param_groups[0]["lr"] = lr
        self._adam.step()
        directions.div_(torch.linalg.vector_norm(directions, dim=1, keepdim=True))
        self.sae.threshold.clamp_(min=0)

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts, by parameter; empty before the first step."""
        return {
            f"{name}.{key}": value
            for name, part in self.trained.items()
            for key, value in self._adam.state[part].items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, part in self.trained.items():
            mine = {
                key.removeprefix(f"{name}."): value
                for key, value in state.items()
                if key.startswith(f"{name}.")
            }
            for key in ("exp_avg", "exp_avg_sq"):
                # the encoder's moments must lie in memory as the encoder does
                mine[key] = torch.empty_like(part).copy_(mine[key])
            self._adam.state[part] = mine
