"""One whole training step, gradients and update: by PyTorch's operators, or by Triton kernels on a GPU.

Both minimise the same objective by the same constrained Adam, give the same weights within float32's rounding, and
take over each other's moments: a run begun by one goes on by the other. `make_training_step` chooses.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.kernels.language import why_unavailable
from ssae_debias.sae.optimizer import UnitNormAdam
from ssae_debias.sae.steps import make_step
from ssae_debias.sae.steps.result import StepResult, WeighLosses
from ssae_debias.sae.steps.trial import why_untrusted
from ssae_debias.sae.steps.triton_step import TritonTrainingStep

Kernels = Literal["auto", "torch", "triton"]
"""Which operators a training step is made of."""


class TrainingStep(Protocol):
    """Moves an SAE's weights by one batch, and holds Adam's moments."""

    def step(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None, lr: float
    ) -> StepResult:
        """See `TritonTrainingStep.step`; what is returned is of the whole batch, its tokens of this rank's rows."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by parameter; empty before the first step."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave, of this or of another kind of step."""
        ...


class TorchTrainingStep:
    """Gradients by the fastest `Step` that serves, summed over the ranks, then `UnitNormAdam`.

    Parameters
    ----------
    sae : SparseAutoencoder
        The one that every step moves.
    ranks : Ranks, default: alone
        Who shares each batch.

    Examples
    --------
    >>> sae, x = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4)), torch.randn(16, 8)
    >>> training = TorchTrainingStep(sae)
    >>> training.step(sae, x, lambda losses: torch.full_like(losses, 1 / 16), None, lr=1e-3).n_active
    64
    >>> float(training.state()["W_dec.step"])
    1.0
    """

    def __init__(self, sae: SparseAutoencoder, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self._gradients = make_step(sae.config, ranks)
        self._optimizer = UnitNormAdam(sae, sae.config.clip_grad_norm)

    def step(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None, lr: float
    ) -> StepResult:
        """See `TrainingStep`."""
        result = self._of_whole_batch(self._gradients(sae, x, weigh, dead))
        self._optimizer.step(lr)
        return result

    def state(self) -> dict[str, Tensor]:
        """See `TrainingStep`."""
        return self._optimizer.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `TrainingStep`."""
        self._optimizer.restore(state)

    def _of_whole_batch(self, result: StepResult) -> StepResult:
        """Sum the gradients over the ranks, and what the result says of the latents."""
        if self.ranks.size == 1:
            return result
        for part in self._optimizer.trained.values():
            if part.grad is not None:
                self.ranks.add_up_(part.grad)
        return dataclasses.replace(
            result,
            fired=self.ranks.add_up_(result.fired.int()) > 0,
            n_active=self.ranks.total(result.n_active),
            smallest_kept=self.ranks.least(result.smallest_kept),
        )


def make_training_step(
    sae: SparseAutoencoder, ranks: Ranks = ALONE, kernels: Kernels = "auto"
) -> TrainingStep:
    """The training step that a choice of kernels means here.

    Parameters
    ----------
    sae : SparseAutoencoder
        To be trained, on its device.
    ranks : Ranks, default: alone
        Who shares each batch.
    kernels : {"auto", "torch", "triton"}, default "auto"
        "auto" takes Triton's on a CUDA device where `why_not_triton` has no objection and a trial on a small SAE
        agrees with PyTorch's step (`ssae_debias.sae.steps.trial`); if the trial fails, it warns and takes PyTorch's.
        "triton" insists, without a trial; "torch" never takes them.

    Raises
    ------
    ValueError
        Another word, or "triton" where it cannot be used: the message says why.

    Examples
    --------
    >>> sae = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4))
    >>> type(make_training_step(sae)).__name__  # on a CPU
    'TorchTrainingStep'
    """
    if kernels not in get_args(Kernels):
        raise ValueError(f"kernels must be one of {', '.join(get_args(Kernels))}, got {kernels!r}.")
    if kernels == "torch" or (kernels == "auto" and sae.device.type != "cuda"):
        return TorchTrainingStep(sae, ranks)
    reason = why_not_triton(sae.config, sae.device, sae.dtype, ranks)
    if kernels == "triton":
        if reason is not None:
            raise ValueError(f"kernels='triton' cannot be used: {reason} kernels='torch' does that.")
        return TritonTrainingStep(sae.config)
    if reason is None:
        reason = why_untrusted(sae.config, sae.d_in, sae.device)
        if reason is None:
            return TritonTrainingStep(sae.config)
        warnings.warn(
            f"Triton's kernels are left alone, PyTorch's operators train: {reason} kernels='torch' silences this.",
            stacklevel=2,
        )
    return TorchTrainingStep(sae, ranks)


def why_not_triton(
    config: SAEConfig, device: torch.device, dtype: torch.dtype = torch.float32, ranks: Ranks = ALONE
) -> str | None:
    """Why Triton's kernels cannot train an SAE, or None where they can.

    Parameters
    ----------
    config : SAEConfig
    device : torch.device
    dtype : torch.dtype, default float32
    ranks : Ranks, default: alone

    Examples
    --------
    >>> print(why_not_triton(SAEConfig(d_sae=32, architecture="relu"), torch.device("cuda")))
    Triton's kernels serve topk and batchtopk, not relu; use DenseStep.
    """
    if config.architecture not in ("topk", "batchtopk"):
        return f"Triton's kernels serve topk and batchtopk, not {config.architecture}; use DenseStep."
    if ranks.size > 1:
        return f"Triton's kernels update as they sum and so serve one rank, not {ranks.size}; use SparseStep."
    return why_unavailable(device, dtype)
