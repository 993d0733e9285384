"""Tilted empirical risk (TERM): one number that turns the mean of the losses into their maximum.

The mean loss lets a rare concept be reconstructed badly, because few tokens pay for it. Tilted risk

    R(t) = (1/t) · log( mean_i exp(t · f_i) )

is the mean at t = 0, rises to the maximum as t → +∞ and falls to the minimum as t → −∞. Its gradient is a
weighting of the per-token gradients, ``Σ_i w_i ∇f_i`` with ``w = softmax(t · f)``: training under a tilt costs
one log-sum-exp more than training without.

A tilt acts on the losses' unit, so t = 500 is mild on one model and already the maximum on another. Every
function here takes a ``scale``: losses are divided by it inside the exponent (and the risk multiplied by it
again), so that with ``scale`` = the running mean loss a tilt means the same on every model. ``scale=1`` is the
published form.

References
----------
Li, Beirami, Sanjabi, Smith: "Tilted Empirical Risk Minimization", ICLR 2021 (equations 1, 2 and 4; Lemma 1).
Muhamed, Diab, Smith: "Decoding Dark Matter: Specialized Sparse Autoencoders for Interpreting Rare Concepts in
Foundation Models", NAACL Findings 2025 (TERM as an SAE's objective).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def tilted_risk(losses: Tensor, tilt: float, scale: float = 1.0) -> Tensor:
    """The tilted risk of some losses, ``scale/t · log mean exp(t f / scale)``.

    Parameters
    ----------
    losses : Tensor of shape (n,)
        Per-token losses, any floating dtype; the sum is taken in float64.
    tilt : float
        t. 0 is exactly the mean (ERM); large is the maximum; negative leans towards the minimum.
    scale : float, default 1
        What a loss is divided by inside the exponent. 1 is the paper's form.

    Returns
    -------
    Tensor
        A float64 scalar in the losses' unit.

    Raises
    ------
    ValueError
        No losses, a tilt that is not finite, or a scale that is not positive.

    References
    ----------
    Li et al. 2021, equation 2.

    Examples
    --------
    >>> import torch
    >>> losses = torch.tensor([1.0, 2.0, 6.0])
    >>> [round(float(tilted_risk(losses, t)), 3) for t in (-1e9, 0.0, 1.0, 1e9)]
    [1.0, 3.0, 4.926, 6.0]
    """
    rate = _rate(losses, tilt, scale)
    losses = losses.double()
    if rate == 0:
        return losses.mean()
    anchor = losses.max() if rate > 0 else losses.min()
    # log1p and expm1 keep the digits that log(mean(exp)) loses when |t| is tiny
    return anchor + torch.log1p(torch.expm1((losses - anchor) * rate).mean()) / rate


def tilted_weights(losses: Tensor, tilt: float, scale: float = 1.0) -> Tensor:
    """The weights ``softmax(t f / scale)`` under which the tilted risk's gradient is a weighted mean.

    Parameters
    ----------
    losses : Tensor of shape (n,)
        Per-token losses; no gradient flows through the weights.
    tilt, scale : float
        As in `tilted_risk`.

    Returns
    -------
    Tensor of shape (n,)
        Weights in the losses' dtype that sum to 1; exactly ``1/n`` at tilt 0. Computed in float64.

    Raises
    ------
    ValueError
        As `tilted_risk`.

    References
    ----------
    Li et al. 2021, Lemma 1.

    Examples
    --------
    >>> import torch
    >>> tilted_weights(torch.tensor([1.0, 1.0, 2.0]), tilt=1e9).tolist()
    [0.0, 0.0, 1.0]
    """
    rate = _rate(losses, tilt, scale)
    losses = losses.detach()
    if rate == 0:
        return torch.full_like(losses, 1.0 / losses.numel())
    values = losses.double()
    anchor = values.max() if rate > 0 else values.min()
    return torch.softmax((values - anchor) * rate, dim=0).to(losses.dtype)


def hierarchical_tilted_risk(
    losses: Tensor, groups: Tensor, tilt: float, group_tilt: float, scale: float = 1.0
) -> Tensor:
    """Tilt twice: inside each group by `group_tilt`, then over the groups, weighted by their size, by `tilt`.

    ``J(t, τ) = (1/t) log( Σ_g (n_g / n) exp(t R_g(τ)) )``, where ``R_g(τ)`` is group g's own tilted risk. With
    ``τ = 0`` and a large t it is the worst group's mean loss; with ``τ = t`` it is `tilted_risk`.

    Parameters
    ----------
    losses : Tensor of shape (n,)
        Per-token losses.
    groups : integer Tensor of shape (n,)
        Each token's group; any integers.
    tilt, group_tilt, scale : float
        t over the groups, τ inside them, and the unit of both.

    Returns
    -------
    Tensor
        A float64 scalar in the losses' unit.

    References
    ----------
    Li et al. 2021, equation 4.

    Examples
    --------
    >>> import torch
    >>> losses, groups = torch.tensor([1.0, 3.0, 4.0, 6.0]), torch.tensor([0, 0, 1, 1])
    >>> round(float(hierarchical_tilted_risk(losses, groups, tilt=1e9, group_tilt=0.0)), 6)
    5.0
    """
    rate = _rate(losses, tilt, scale)
    risks, share, _ = _group_risks(losses, groups, group_tilt, scale)
    if rate == 0:
        return share @ risks
    anchor = risks.max() if rate > 0 else risks.min()
    return anchor + torch.log1p(share @ torch.expm1((risks - anchor) * rate)) / rate


def hierarchical_tilted_weights(
    losses: Tensor, groups: Tensor, tilt: float, group_tilt: float, scale: float = 1.0
) -> Tensor:
    """The per-token weights of `hierarchical_tilted_risk`'s gradient: the group's weight times that inside it.

    Parameters and errors are those of `hierarchical_tilted_risk`.

    Returns
    -------
    Tensor of shape (n,)
        Weights in the losses' dtype that sum to 1.

    References
    ----------
    Li et al. 2021, Lemma 7.

    Examples
    --------
    >>> import torch
    >>> losses, groups = torch.tensor([1.0, 3.0, 4.0, 6.0]), torch.tensor([0, 0, 1, 1])
    >>> hierarchical_tilted_weights(losses, groups, tilt=1e9, group_tilt=0.0).tolist()
    [0.0, 0.0, 0.5, 0.5]
    """
    rate = _rate(losses, tilt, scale)
    losses = losses.detach()
    risks, share, member = _group_risks(losses, groups, group_tilt, scale)
    anchor = risks.max() if rate > 0 else risks.min()
    group_weights = torch.softmax((risks - anchor) * rate + share.log(), dim=0)
    weights = torch.empty_like(losses)
    for group, weight in enumerate(group_weights):
        rows = member == group
        weights[rows] = (weight * tilted_weights(losses[rows].double(), group_tilt, scale)).to(losses.dtype)
    return weights


def effective_sample_size(weights: Tensor) -> float:
    """How many equally weighted tokens would carry as much: ``(Σ w)² / Σ w²``, from 1 to n.

    Parameters
    ----------
    weights : Tensor of shape (n,)
        Non-negative weights; they need not sum to 1.

    Returns
    -------
    float

    References
    ----------
    Kish: "Survey Sampling", 1965, section 11.7.

    Examples
    --------
    >>> import torch
    >>> effective_sample_size(torch.tensor([0.5, 0.5, 0.0, 0.0]))
    2.0
    """
    weights = weights.double()
    return float(weights.sum().square() / weights.square().sum())


@dataclass
class RunningMean:
    """An exponential running mean without the pull towards zero of its first values.

    ``m ← β m + (1 − β) v``, read as ``m / (1 − β^n)`` (the bias correction of Adam), so that the first value
    counts in full at once.

    Parameters
    ----------
    decay : float, default 0.99
        β: the mean looks back over about ``1 / (1 − β)`` values.

    Examples
    --------
    >>> mean = RunningMean()
    >>> mean.update(4.0)
    4.0
    >>> round(mean.update(2.0), 3)
    2.995
    """

    decay: float = 0.99
    accumulated: float = 0.0
    count: int = 0

    def update(self, value: float) -> float:
        """Take in one value and return the mean."""
        self.accumulated = self.decay * self.accumulated + (1 - self.decay) * value
        self.count += 1
        return self.value

    @property
    def value(self) -> float:
        """The mean so far; 0 before the first value."""
        return self.accumulated / (1 - self.decay**self.count) if self.count else 0.0


def _rate(losses: Tensor, tilt: float, scale: float) -> float:
    """``t / scale``, the factor in the exponent, after the checks."""
    if losses.ndim != 1 or losses.numel() == 0:
        raise ValueError(f"losses must be a non-empty vector, got shape {tuple(losses.shape)}.")
    if not math.isfinite(tilt):
        raise ValueError(f"tilt must be finite, got {tilt}; 1e9 is the maximum for all purposes.")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be positive and finite, got {scale}.")
    rate = tilt / scale
    # so small a tilt is the mean on any loss that a float32 can hold, and its inverse would overflow
    return rate if abs(rate) > 1e-200 else 0.0


def _group_risks(
    losses: Tensor, groups: Tensor, group_tilt: float, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    if groups.shape != losses.shape or groups.is_floating_point():
        raise ValueError(
            f"groups must be integers of shape {tuple(losses.shape)}, got {groups.dtype} {tuple(groups.shape)}."
        )
    names, member, sizes = groups.unique(return_inverse=True, return_counts=True)
    risks = torch.stack([tilted_risk(losses[member == g], group_tilt, scale) for g in range(len(names))])
    return risks, sizes.double() / sizes.sum(), member
