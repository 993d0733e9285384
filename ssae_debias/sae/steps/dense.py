"""The reference step: the objective written down, differentiated by autograd, for every architecture."""

from __future__ import annotations

import torch
from torch import Tensor

from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.sparsity import active_count, batch_topk, jumprelu, topk
from ssae_debias.sae.steps.result import StepResult, WeighLosses
from ssae_debias.sae.steps.revival import revival_loss, revival_part, wants_revival


class DenseStep:
    """Gradients by autograd over dense codes: six products of n × d_in × d_sae a step.

    ReLU's penalty is ``λ ‖z‖₁`` (Bricken et al. 2023), JumpReLU's ``λ ‖z‖₀`` (Rajamanoharan et al. 2024,
    equation 9); TopK and BatchTopK have none.

    Parameters
    ----------
    config : SAEConfig
        Of any architecture.
    ranks : Ranks, default: alone
        Who shares a batch; each steps on its rows.

    Examples
    --------
    >>> import torch
    >>> config = SAEConfig(d_sae=32, architecture="relu")
    >>> sae, x = SparseAutoencoder(8, config), torch.randn(16, 8)
    >>> result = DenseStep(config)(sae, x, lambda losses: torch.full_like(losses, 1 / 16))
    >>> result.losses.shape, sae.W_dec.grad.shape
    (torch.Size([16]), torch.Size([32, 8]))
    """

    def __init__(self, config: SAEConfig, ranks: Ranks = ALONE) -> None:
        self.config = config
        self.ranks = ranks

    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None = None
    ) -> StepResult:
        """See `ssae_debias.sae.steps.Step`."""
        sae.zero_grad(set_to_none=True)
        with torch.enable_grad():
            p = sae.pre_activations(x)
            z, penalty = self._sparse(p, sae.threshold)
            residual = x - sae.decode(z)
            losses = residual.square().sum(1) + penalty
            weights = weigh(losses.detach())
            objective = weights @ losses
            if dead is not None and wants_revival(self.config, dead):
                n, share = revival_part(x.shape[0], self.ranks)
                if n:
                    revival = revival_loss(p[:n, dead], sae.W_dec[dead], residual[:n], self.config)
                    objective = objective + share * revival
            objective.backward()
        active = z.detach() > 0
        return StepResult(
            residual=residual.detach(),
            losses=losses.detach(),
            weights=weights,
            fired=active.any(0),
            n_active=int(active.sum()),
            smallest_kept=float(z.detach()[active].min()) if active.any() else float("inf"),
        )

    def _sparse(self, p: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        config, no_penalty = self.config, p.new_zeros(p.shape[0])
        if config.architecture == "topk":
            return topk(p, config.k), no_penalty
        if config.architecture == "batchtopk":
            return batch_topk(p, config.k, self.ranks), no_penalty
        if config.architecture == "relu":
            z = torch.relu(p)
            return z, config.l1_coefficient * z.sum(1)
        bandwidth = config.jumprelu_bandwidth
        z = jumprelu(p, threshold, bandwidth)
        return z, config.l0_coefficient * active_count(p, threshold, bandwidth)
