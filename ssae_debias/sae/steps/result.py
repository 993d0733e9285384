"""What every training step takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ssae_debias.sae.autoencoder import SparseAutoencoder

WeighLosses = Callable[[Tensor], Tensor]
"""From per-token losses (n,) to their weights (n,) in the gradient; uniform weights are the mean."""


@dataclass
class StepResult:
    """What a step saw; no gradient hangs on it.

    Parameters
    ----------
    residual : Tensor of shape (n, d_in)
        ``x − x̂`` under the training-time sparsity.
    losses, weights : Tensor of shape (n,)
        Per-token losses (squared error and penalty) and their weights.
    fired : bool Tensor of shape (d_sae,)
        Which latents were active on some token.
    n_active : int
        Active latents, summed over tokens.
    smallest_kept : float
        The smallest active value: what BatchTopK's threshold follows. Infinite if none was active.
    """

    residual: Tensor
    losses: Tensor
    weights: Tensor
    fired: Tensor
    n_active: int
    smallest_kept: float


class Step(Protocol):
    """Computes gradients; see `ssae_debias.sae.steps`."""

    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None = None
    ) -> StepResult:
        """Replace the ``.grad`` of every trained parameter of `sae` by the objective's gradient on batch `x`.

        Parameters
        ----------
        sae : SparseAutoencoder
            The weights; unchanged.
        x : Tensor of shape (n, d_in)
            A batch of activations.
        weigh : callable
            From per-token losses to weights.
        dead : Tensor of latent numbers, optional
            Latents to revive.
        """
        ...
