"""The state of a training run between two batches, and what one batch does to it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.evaluation import fraction_of_variance_unexplained, reconstruction_metrics, tail_error
from ssae_debias.sae.optimizer import learning_rate
from ssae_debias.sae.sparsity import batch_topk
from ssae_debias.sae.steps import StepResult
from ssae_debias.sae.steps.training_step import Kernels, make_training_step
from ssae_debias.sae.tilted_risk import RunningMean, effective_sample_size, tilted_risk, tilted_weights

MAX_DEAD_AFTER = 10_000_000


class Trainer:
    """Weights, optimiser and running statistics; everything that a checkpoint holds.

    Parameters
    ----------
    sae : SparseAutoencoder
        Trained in place, on activations in the trainer's unit.
    n_tokens : int
        Length of the whole run; the schedules follow it.
    unit : float
        Factor between the activations given and the trainer's unit (norm about √d_in): errors are reported, and
        the raw tilt is taken, in the former.
    ranks : Ranks, default: alone
        Who shares each batch. Gradients are summed over the ranks, and whatever follows from a batch as a whole is
        made known to all, so that weights, optimiser and statistics stay the same on each.
    kernels : {"auto", "torch", "triton"}, default "auto"
        See `ssae_debias.sae.steps.training_step.make_training_step`.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        n_tokens: int,
        unit: float,
        ranks: Ranks = ALONE,
        kernels: Kernels = "auto",
    ) -> None:
        self.sae = sae
        self.config = sae.config
        self.n_tokens = n_tokens
        self.unit = unit
        self.ranks = ranks
        self.steps_done = 0
        self.tokens_seen = 0
        self.lr = 0.0
        self.loss_mean = RunningMean()
        self.cut_mean = RunningMean(decay=0.9)
        self.silent_for = torch.zeros(sae.d_sae, dtype=torch.int64, device=sae.device)
        self.history: list[dict[str, float]] = []
        self._training = make_training_step(sae, ranks, kernels)
        config = sae.config
        self.dead_after = config.dead_after_tokens or min(
            MAX_DEAD_AFTER, max(n_tokens // 20, 4 * config.batch_size)
        )

    def train_on(self, x: Tensor) -> StepResult:
        """One step on a batch, or this rank's rows of it, in the trainer's unit; the result is of these rows."""
        n = self.ranks.total(x.shape[0])
        dead = (self.silent_for >= self.dead_after).nonzero().squeeze(1)
        self.lr = learning_rate(self.config, (self.tokens_seen + n / 2) / self.n_tokens)
        result = self._training.step(self.sae, x, self._weigh, dead, self.lr)
        self.silent_for += n
        self.silent_for[result.fired] = 0
        if result.n_active:
            self.cut_mean.update(result.smallest_kept)
        self.tokens_seen += n
        self.steps_done += 1
        return result

    def record(self, x: Tensor, result: StepResult, validation: Tensor | None = None) -> None:
        """Add to the history what the last step saw (and, in the unit given, how validation data fares)."""
        x, residual, losses, weights = map(
            self.ranks.joined, (x, result.residual, result.losses, result.weights)
        )
        errors = residual.square().sum(1) / self.unit**2
        record = {
            "step": self.steps_done,
            "tokens": self.tokens_seen,
            "loss": float(tilted_risk(losses, self.config.tilt, self._tilt_unit)),
            "fvu": fraction_of_variance_unexplained(x, residual),
            "l0": result.n_active / x.shape[0],
            "dead_fraction": float((self.silent_for >= self.dead_after).double().mean()),
            "max_error": float(errors.max()),
            "tail_error": tail_error(errors),
            "effective_sample_size": effective_sample_size(weights),
            "lr": self.lr,
        }
        if validation is not None:
            self.set_inference_form()
            metrics = reconstruction_metrics(self.sae, validation)
            for name in ("fvu", "l0", "dead_fraction"):
                record[f"validation_{name}"] = metrics[name]
            for name in ("max_error", "tail_error"):
                record[f"validation_{name}"] = metrics[name] / self.unit**2
        self.history.append(record)

    @torch.no_grad()
    def set_inference_form(self, sample: Tensor | None = None) -> None:
        """Give the SAE its per-latent thresholds.

        BatchTopK's is the running mean of the smallest value kept (Bussmann et al. 2024, section 3). TopK keeps
        too few values per token to know it: it is measured on a sample, as the cut at which k latents are active
        on average; without a sample the SAE goes on selecting each token's k largest.
        """
        sae, config = self.sae, self.config
        sae.top_k = None
        if config.architecture == "relu":
            sae.threshold.zero_()
        elif config.architecture == "batchtopk":
            sae.threshold.fill_(self.cut_mean.value)
        elif config.architecture == "topk":
            if sample is None:
                sae.top_k = config.k
                return
            cuts = []
            for batch in sample.split(config.batch_size):
                z = batch_topk(sae.pre_activations(batch), config.k)
                cuts.append(torch.where(z > 0, z, torch.inf).min())
            sae.threshold.fill_(float(torch.stack(cuts).mean()))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON facts from which `restore` makes the run go on bit for bit."""
        tensors: dict[str, Tensor] = {f"sae.{name}": part for name, part in self.sae.named_parameters()}
        tensors.update({f"adam.{name}": value for name, value in self._training.state().items()})
        tensors["silent_for"] = self.silent_for
        facts: dict[str, Any] = {
            "steps_done": self.steps_done,
            "tokens_seen": self.tokens_seen,
            "loss_mean": dataclasses.asdict(self.loss_mean),
            "cut_mean": dataclasses.asdict(self.cut_mean),
            "history": self.history,
        }
        return tensors, facts

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        tensors = {name: tensor.to(self.sae.device) for name, tensor in tensors.items()}
        for name, part in self.sae.named_parameters():
            part.copy_(tensors[f"sae.{name}"])
        adam = {name.removeprefix("adam."): t for name, t in tensors.items() if name.startswith("adam.")}
        if adam:
            self._training.restore(adam)
        self.silent_for.copy_(tensors["silent_for"])
        self.steps_done, self.tokens_seen = facts["steps_done"], facts["tokens_seen"]
        self.loss_mean = RunningMean(**facts["loss_mean"])
        self.cut_mean = RunningMean(**facts["cut_mean"])
        self.history = list(facts["history"])

    def _weigh(self, losses: Tensor) -> Tensor:
        losses = self.ranks.joined(losses)
        mean = float(losses.double().mean())
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in step {self.steps_done + 1}: training diverged; lower lr."
            )
        self.loss_mean.update(mean)
        return self.ranks.split(tilted_weights(losses, self.config.tilt, self._tilt_unit))

    @property
    def _tilt_unit(self) -> float:
        if self.config.tilt_scale == "raw":
            return self.unit**2
        return self.loss_mean.value or 1.0
