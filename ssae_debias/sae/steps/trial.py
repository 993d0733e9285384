"""A trial of Triton's kernels on the machine at hand, before a run is entrusted to them.

They are compiled on the spot, by a driver and a compiler that this package has never met: there may be no C compiler, the
GPU may be too old, or the result may be wrong. A small SAE of the width asked for is trained for two batches both ways;
what Adam has gathered and where the weights have gone must agree.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.optimizer import UnitNormAdam
from ssae_debias.sae.steps import make_step
from ssae_debias.sae.steps.triton_step import TritonTrainingStep

LATENTS = 512
TOKENS = 128
"""Size of the trial; compiling takes longer than running it."""
TOLERANCE = 0.05
"""Allowed difference, relative to the reference's norm. Rounding is a ten-thousandth; a latent that wins the last place
by rounding alone moves a moment by a hundredth; a wrong kernel is off by the whole."""


def why_untrusted(config: SAEConfig, d_in: int, device: torch.device) -> str | None:
    """Why the kernels are not to be used on a device, or None where they gave what PyTorch's operators give.

    Parameters
    ----------
    config : SAEConfig
        Of the run: architecture, k and clipping are tried as they are, with at most 512 latents.
    d_in : int
        Width of the activations.
    device : torch.device

    Examples
    --------
    >>> why_untrusted(SAEConfig(d_sae=64, k=4), 8, torch.device("meta")).split(":")[0]
    'a trial of them failed'
    """
    try:
        differences = _differences(config, d_in, device)
    except Exception as error:  # whatever a foreign compiler throws, the run can do without it
        return f"a trial of them failed: {type(error).__name__}: {error}."
    wrong = {name: part for name, part in differences.items() if not part <= TOLERANCE}
    if wrong:
        worst = max(wrong, key=lambda name: float("inf") if wrong[name] != wrong[name] else wrong[name])
        return (
            f"in a trial their results differed from PyTorch's by {wrong[worst]:.0%} in {worst} (at most "
            f"{TOLERANCE:.0%} is rounding); please report it."
        )
    return None


def _differences(config: SAEConfig, d_in: int, device: torch.device) -> dict[str, float]:
    d_sae = min(config.d_sae, LATENTS)
    small = dataclasses.replace(config, d_sae=d_sae, k=min(config.k, d_sae))
    theirs = SparseAutoencoder(d_in, small, random_state=0).to(device)
    ours = copy.deepcopy(theirs)
    start = {name: part.detach().clone() for name, part in theirs.named_parameters()}
    training, gradients = TritonTrainingStep(small), make_step(small)
    optimizer = UnitNormAdam(theirs, small.clip_grad_norm)
    generator = torch.Generator().manual_seed(0)
    dead = torch.arange(0, d_sae, 7, device=device)
    for _ in range(2):
        x = torch.randn(TOKENS, d_in, generator=generator).to(device)
        training.step(ours, x, _uniform, dead, 1e-3)
        gradients(theirs, x, _uniform, dead)
        optimizer.step(1e-3)
    expected, found = optimizer.state(), training.state()
    pairs = {name: (found[name], value) for name, value in expected.items() if not name.endswith(".step")}
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        pairs[name] = (one.detach() - start[name], other.detach() - start[name])
    return {name: _apart(one, other) for name, (one, other) in pairs.items()}


def _apart(found: Tensor, expected: Tensor) -> float:
    norm = float(expected.norm())
    return float((found - expected).norm()) / norm if norm > 0 else float(found.norm())


def _uniform(losses: Tensor) -> Tensor:
    return torch.full_like(losses, 1 / len(losses))
