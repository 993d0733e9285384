"""AuxK: dead latents learn to explain what the living ones leave over.

A latent that never wins a place among the active ones gets no gradient and stays dead. AuxK lets the dead ones
alone reconstruct the error term: the `aux_k` largest of them per token form a code whose reconstruction should
match ``x − x̂``. The loss is a fraction (1/32) of the main one, so that revival never costs fidelity.

References
----------
Gao et al.: "Scaling and evaluating sparse autoencoders", 2024, appendix A.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.sparsity import topk

REVIVAL_SHARE = 4
"""AuxK looks at every fourth token of a batch: its gradient is a nudge, and its product over all dead latents
would otherwise cost more than the rest of a sparse step. The choice is ours."""


def revival_rows(n: int) -> int:
    """How many of a batch's first tokens (it is shuffled) AuxK looks at."""
    return -(-n // REVIVAL_SHARE)


def revival_part(n: int, ranks: Ranks) -> tuple[int, float]:
    """Of a batch that ranks share, the rows that AuxK looks at here, where `n` rows are, and their share of all.

    Examples
    --------
    >>> revival_part(8, ALONE)
    (2, 1.0)
    """
    everywhere = revival_rows(ranks.total(n))
    here = ranks.share(everywhere)
    return here, here / everywhere


def revival_loss(p_dead: Tensor, W_dec_dead: Tensor, residual: Tensor, config: SAEConfig) -> Tensor:
    """``α · s · mean_i ‖e_i − ê_i‖²``, with ê the dead latents' reconstruction of the error term e.

    Parameters
    ----------
    p_dead : Tensor of shape (n, n_dead)
        Pre-activations of the dead latents.
    W_dec_dead : Tensor of shape (n_dead, d_in)
        Their decoder rows.
    residual : Tensor of shape (n, d_in)
        ``e = x − x̂``; no gradient flows into it.
    config : SAEConfig
        α is `aux_coefficient`; ``s = min(1, n_dead / aux_k)`` keeps a handful of dead latents from being
        pulled by a loss meant for many.

    Examples
    --------
    >>> import torch
    >>> residual = torch.tensor([[2.0, 0.0]])
    >>> config = SAEConfig(d_sae=8, k=1, aux_k=1, aux_coefficient=1.0)
    >>> float(revival_loss(torch.tensor([[1.5, -1.0]]), torch.eye(2), residual, config))
    0.25
    """
    n_dead, d_in = W_dec_dead.shape
    aux_k = d_in // 2 if config.aux_k is None else config.aux_k
    explained = topk(p_dead, aux_k) @ W_dec_dead
    share = min(1.0, n_dead / aux_k)
    return config.aux_coefficient * share * (residual.detach() - explained).square().sum(1).mean()


def wants_revival(config: SAEConfig, dead: Tensor | None) -> bool:
    """Whether AuxK has anything to do."""
    return dead is not None and dead.numel() > 0 and config.aux_k != 0 and config.aux_coefficient > 0


def add_revival_gradients(
    W_enc_rows: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    grads: tuple[Tensor, Tensor, Tensor],
    x: Tensor,
    residual: Tensor,
    dead: Tensor,
    config: SAEConfig,
    ranks: Ranks = ALONE,
) -> None:
    """Add AuxK's gradient to hand-computed ones, for the dead latents' rows alone.

    Parameters
    ----------
    W_enc_rows, b_enc, W_dec : Tensor of shape (d_sae, d_in), (d_sae,), (d_sae, d_in)
        Weights, the encoder latent by latent.
    grads : tuple of Tensor
        Their gradients, changed in place.
    x, residual : Tensor of shape (n, d_in)
        Encoder input (bias subtracted) and error term.
    dead : Tensor of latent numbers
        Latents to revive, each once.
    config : SAEConfig
        As in `revival_loss`.
    ranks : Ranks, default: alone
        Who shares the batch that `x` is a part of: the gradients are this rank's summands.
    """
    n, share = revival_part(x.shape[0], ranks)
    if n == 0:
        return
    with torch.enable_grad():
        parts = [part[dead].detach().requires_grad_() for part in (W_enc_rows, b_enc, W_dec)]
        loss = share * revival_loss(x[:n] @ parts[0].t() + parts[1], parts[2], residual[:n], config)
        for grad, addition in zip(grads, torch.autograd.grad(loss, parts), strict=True):
            grad[dead] += addition
