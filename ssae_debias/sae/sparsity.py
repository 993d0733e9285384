"""The functions that make a code sparse, and their surrogate gradients.

Four ways from pre-activations p to codes z. *ReLU* keeps what is positive and leaves sparsity to an L1 penalty;
*TopK* keeps each token's k largest; *BatchTopK* keeps the n·k largest of a batch of n tokens, so that a token
that says much may use more latents than one that says little; *JumpReLU* keeps what exceeds a learned threshold
of each latent. Trained by any of the four, a dictionary is used in one form, ``z = relu(p) · [p > threshold]``:
a latent's value then depends on that latent alone, which is what makes editing a few latents cheap.

References
----------
Bricken et al.: "Towards Monosemanticity", 2023 (ReLU + L1).
Gao et al.: "Scaling and evaluating sparse autoencoders", 2024, section 2.3 (TopK).
Bussmann, Leask, Nanda: "BatchTopK Sparse Autoencoders", 2024, section 3.
Rajamanoharan et al.: "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU SAEs", 2024, sections 3–4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssae_debias.ranks import ALONE, Ranks


def threshold_relu(p: Tensor, threshold: Tensor) -> Tensor:
    """``relu(p) · [p > threshold]``, the form in which every dictionary is used.

    Parameters
    ----------
    p : Tensor of shape (n, d_sae)
        Pre-activations.
    threshold : Tensor of shape (d_sae,) or ()
        Non-negative; 0 is plain ReLU.

    Examples
    --------
    >>> import torch
    >>> threshold_relu(torch.tensor([[-1.0, 0.5, 2.0]]), torch.tensor([0.0, 1.0, 1.0])).tolist()
    [[0.0, 0.0, 2.0]]
    """
    active = p > threshold
    return torch.relu(p).mul_(active) if not torch.is_grad_enabled() else torch.relu(p) * active


def topk(p: Tensor, k: int) -> Tensor:
    """Each token's k largest pre-activations, the negative ones among them set to 0.

    Parameters
    ----------
    p : Tensor of shape (n, d_sae)
        Pre-activations.
    k : int
        Latents kept per token; all, where k exceeds d_sae.

    Examples
    --------
    >>> import torch
    >>> topk(torch.tensor([[3.0, 1.0, 2.0], [-1.0, -2.0, -3.0]]), k=2).tolist()
    [[3.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
    """
    values, latents = torch.relu(p).topk(min(k, p.shape[-1]), dim=-1, sorted=False)
    return torch.zeros_like(p).scatter(-1, latents, values)


def batch_topk(p: Tensor, k: int, ranks: Ranks = ALONE) -> Tensor:
    """The n·k largest positive pre-activations of a batch of n tokens.

    Equal values at the cut are all kept, so that the result does not depend on the order of the batch.

    Parameters
    ----------
    p : Tensor of shape (n, d_sae)
        Pre-activations.
    k : int
        Latents kept per token on average.
    ranks : Ranks, default: alone
        Who shares the batch of which `p` are the tokens here: the n·k largest are those of all.

    Examples
    --------
    >>> import torch
    >>> batch_topk(torch.tensor([[3.0, 2.0, 0.1], [0.2, 0.1, -3.0]]), k=1).tolist()
    [[3.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    """
    z = torch.relu(p)
    budget = ranks.total(min(k * p.shape[0], p.numel()))
    largest = z.detach().flatten().topk(min(budget, z.numel()), sorted=False).values
    if ranks.size > 1:
        largest = torch.cat(ranks.gathered(largest)).topk(budget, sorted=False).values
    return z * (z >= largest.min())


def likely_floor(p: Tensor, k: int) -> float:
    """What twice as many of some tokens' pre-activations reach as are wanted, at least 0; infinite without tokens.

    Where BatchTopK's cut is searched for among the entries above a floor, this is the floor to begin with.

    Parameters
    ----------
    p : Tensor of shape (n, d_sae)
        Pre-activations.
    k : int
        Latents wanted per token on average.

    Examples
    --------
    >>> import torch
    >>> likely_floor(torch.tensor([[4.0, 3.0, 2.0], [1.0, 0.5, -1.0]]), k=1)
    1.0
    """
    rank = min(2 * k * p.shape[0], p.numel())
    return max(0.0, float(p.flatten().topk(rank, sorted=False).values.min())) if rank else float("inf")


class _JumpReLU(torch.autograd.Function):
    """``p · [p > θ]``; θ's gradient through a rectangle of width ε around the jump (equation 11)."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(p, threshold)
        ctx.bandwidth = bandwidth
        return threshold_relu(p, threshold)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        p, threshold = ctx.saved_tensors
        (grad,) = grads
        near = ((p - threshold).abs() < ctx.bandwidth / 2).to(p.dtype)
        to_threshold = -(threshold / ctx.bandwidth) * (near * grad).sum(0)
        return grad * ((p > threshold) & (p > 0)), to_threshold, None


class _Count(torch.autograd.Function):
    """``[p > θ]`` summed over latents; θ's gradient through the same rectangle (equation 12), p's is zero."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(p, threshold)
        ctx.bandwidth = bandwidth
        return ((p > threshold) & (p > 0)).to(p.dtype).sum(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        p, threshold = ctx.saved_tensors
        (grad,) = grads
        near = ((p - threshold).abs() < ctx.bandwidth / 2).to(p.dtype)
        return None, -(near * grad[:, None]).sum(0) / ctx.bandwidth, None


def jumprelu(p: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """`threshold_relu` whose threshold learns, through a straight-through estimator.

    ``∂z/∂θ = −(θ/ε) · [|p − θ| < ε/2]``: only pre-activations near the jump say which way to move it.

    Parameters
    ----------
    p : Tensor of shape (n, d_sae)
        Pre-activations.
    threshold : Tensor of shape (d_sae,)
        θ, non-negative.
    bandwidth : float
        ε, in the unit of p.

    References
    ----------
    Rajamanoharan et al. 2024, equation 11 (rectangle kernel).

    Examples
    --------
    >>> import torch
    >>> theta = torch.tensor([1.0], requires_grad=True)
    >>> jumprelu(torch.tensor([[1.1]]), theta, bandwidth=0.5).sum().backward()
    >>> theta.grad.tolist()
    [-2.0]
    """
    return _JumpReLU.apply(p, threshold, bandwidth)


def active_count(p: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """How many latents each token switches on, of shape (n,), with a gradient for the threshold alone.

    ``∂L0/∂θ = −(1/ε) · [|p − θ| < ε/2]``.

    References
    ----------
    Rajamanoharan et al. 2024, equation 12 (rectangle kernel).

    Examples
    --------
    >>> import torch
    >>> theta = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> count = active_count(torch.tensor([[1.1, 5.0]]), theta, bandwidth=0.5)
    >>> count.sum().backward()
    >>> count.tolist(), theta.grad.tolist()
    ([2.0], [-2.0, -0.0])
    """
    return _Count.apply(p, threshold, bandwidth)
