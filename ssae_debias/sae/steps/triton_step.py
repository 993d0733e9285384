"""The sparse step on a GPU, by Triton kernels: gradients, or gradients and update in one.

`TritonStep` gives the gradients of `ssae_debias.sae.steps.SparseStep`; an optimiser does the rest.
`TritonTrainingStep` also does what `ssae_debias.sae.optimizer.UnitNormAdam` does, without ever writing the weight
gradients: a latent's rows are moved by the program that summed their gradients (see
`ssae_debias.sae.kernels.updates`). The two ways give the same weights within float32's rounding, and their moments
can be exchanged: a run begun with one goes on with the other.

Clipping the gradient's global norm needs all gradients before the first row may move. With
``config.clip_grad_norm`` set, `TritonTrainingStep` therefore computes gradients and leaves the update to
`UnitNormAdam`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.kernels.decoding import decode
from ssae_debias.sae.kernels.language import why_unavailable
from ssae_debias.sae.kernels.rows import gradients
from ssae_debias.sae.kernels.selection import KernelSelection, Precision
from ssae_debias.sae.kernels.transposition import CodesByLatent, by_latent
from ssae_debias.sae.kernels.updates import AdamRate, Revived, update_bias, update_rows
from ssae_debias.sae.optimizer import UnitNormAdam
from ssae_debias.sae.steps.result import StepResult, WeighLosses
from ssae_debias.sae.steps.revival import add_revival_gradients, wants_revival

TRAINED = ("W_enc", "b_enc", "W_dec", "b_dec")


class TritonStep:
    """Gradients by Triton kernels that touch active latents only.

    Parameters
    ----------
    config : SAEConfig
        Of architecture "topk" or "batchtopk".
    precision : {"fp32", "bf16"}, default "fp32"
        How the encoder's product is computed. "bf16" only chooses candidates, with a margin for its errors, and
        the codes are computed anew in float32 (see `ssae_debias.sae.kernels.selection`): faster, and the same
        result but for which of two nearly equal latents wins the last place.

    Raises
    ------
    ValueError
        Another architecture or precision; when called, weights that are not float32 or not stored latent by
        latent, activations of another type, device or width.
    RuntimeError
        When called: Triton is not installed, or the weights are not on a CUDA device.

    Examples
    --------
    Triton's interpreter serves where there is no GPU; without Triton the step says so.

    >>> import torch
    >>> config = SAEConfig(d_sae=32, k=4)
    >>> sae, x = SparseAutoencoder(8, config), torch.randn(16, 8)
    >>> if why_unavailable(x.device) is None:
    ...     result = TritonStep(config)(sae, x, lambda losses: torch.full_like(losses, 1 / 16))
    ...     assert result.n_active == 64
    """

    def __init__(self, config: SAEConfig, precision: Precision = "fp32") -> None:
        if config.architecture not in ("topk", "batchtopk"):
            raise ValueError(
                f"Triton's kernels serve topk and batchtopk, got {config.architecture!r}; use DenseStep."
            )
        self.config = config
        self._select = KernelSelection(config.k, per_token=config.architecture == "topk", precision=precision)

    @torch.no_grad()
    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None = None
    ) -> StepResult:
        """See `ssae_debias.sae.steps.Step`."""
        _require_servable(sae, x)
        with _on(sae.device):
            return self._fill_gradients(sae, x, weigh, dead)

    def _fill_gradients(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None
    ) -> StepResult:
        seen = _look(sae, x, weigh, self._select)
        codes, result = seen.codes, seen.result
        W_dec_grad, W_enc_grad = gradients(codes, result.residual, seen.centred)
        b_enc_grad = codes.b_enc_grad
        if dead is not None and wants_revival(self.config, dead):
            grads = (W_enc_grad, b_enc_grad, W_dec_grad)
            add_revival_gradients(
                sae.W_enc.t(), sae.b_enc, sae.W_dec, grads, seen.centred, result.residual, dead, self.config
            )
        sae.W_enc.grad, sae.b_enc.grad = W_enc_grad.t(), b_enc_grad
        sae.W_dec.grad, sae.b_dec.grad = W_dec_grad, _b_dec_grad(sae, result, b_enc_grad)
        return result


class TritonTrainingStep:
    """One whole training step, gradients and constrained Adam, fused by latent.

    It stands for a `TritonStep` followed by a `UnitNormAdam`, and holds Adam's moments under the same names.

    Parameters
    ----------
    config : SAEConfig
        Of architecture "topk" or "batchtopk". With `clip_grad_norm` set nothing is fused: gradients come from
        `TritonStep`, the update from `UnitNormAdam`.
    precision : {"fp32", "bf16"}, default "fp32"
        As in `TritonStep`.

    Raises
    ------
    ValueError, RuntimeError
        As `TritonStep` does.

    Examples
    --------
    >>> import torch
    >>> config = SAEConfig(d_sae=32, k=4)
    >>> sae, x = SparseAutoencoder(8, config), torch.randn(16, 8)
    >>> training = TritonTrainingStep(config)
    >>> if why_unavailable(x.device) is None:
    ...     result = training.step(sae, x, lambda losses: torch.full_like(losses, 1 / 16), None, lr=1e-3)
    ...     assert float(training.state()["W_dec.step"]) == 1
    """

    def __init__(self, config: SAEConfig, precision: Precision = "fp32") -> None:
        self.config = config
        self._gradients = TritonStep(config, precision)
        self._select = self._gradients._select
        self._moments: dict[str, Tensor] = {}
        self._steps_done = 0
        self._clipping: UnitNormAdam | None = None

    @torch.no_grad()
    def step(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None, lr: float
    ) -> StepResult:
        """Move the weights of `sae` by one batch.

        Parameters
        ----------
        sae : SparseAutoencoder
            Changed in place; the same one at every step, for the moments are its own.
        x : Tensor of shape (n, d_in)
            A batch of activations.
        weigh : callable
            From per-token losses to weights.
        dead : Tensor of latent numbers, or None
            Latents to revive.
        lr : float
            Learning rate.

        Returns
        -------
        StepResult
            What the step saw before it moved the weights.
        """
        if self.config.clip_grad_norm is not None:
            return self._clipped_step(sae, x, weigh, dead, lr)
        _require_servable(sae, x)
        with _on(sae.device):
            return self._fused_step(sae, x, weigh, dead, float(lr))

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by parameter, as `UnitNormAdam.state` gives them; empty before a step."""
        if self._clipping is not None:
            return self._clipping.state()
        if not self._moments:
            return {}
        device = self._moments["b_dec.exp_avg"].device
        steps = {f"{name}.step": torch.tensor(float(self._steps_done), device=device) for name in TRAINED}
        return steps | self._moments

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state`, or `UnitNormAdam.state`, gave for an SAE of this shape.

        Raises
        ------
        ValueError
            Moments are missing, or parameters have taken different numbers of steps.
        """
        names = [f"{name}.{key}" for name in TRAINED for key in ("step", "exp_avg", "exp_avg_sq")]
        missing = [name for name in names if name not in state]
        if missing:
            raise ValueError(f"Adam's state lacks {', '.join(missing)}; give what state() returned.")
        counts = {int(state[f"{name}.step"]) for name in TRAINED}
        if len(counts) != 1:
            raise ValueError(f"all parameters must have taken as many steps, got {sorted(counts)}.")
        self._steps_done = counts.pop()
        # the encoder's moments must lie in memory as the encoder does, latent by latent
        self._moments = {
            name: state[name].t().contiguous().clone().t()
            if name.startswith("W_enc")
            else state[name].clone()
            for name in names
            if not name.endswith(".step")
        }
        self._clipping = None

    def _fused_step(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None, lr: float
    ) -> StepResult:
        seen = _look(sae, x, weigh, self._select)
        codes, result = seen.codes, seen.result
        revived = self._revive(sae, seen, dead)
        b_dec_grad = _b_dec_grad(sae, result, codes.b_enc_grad)
        self._begin(sae)
        rate = AdamRate(lr, self._steps_done)
        encoder = tuple(part.t() for part in self._with_moments("W_enc", sae.W_enc))
        update_rows(
            codes,
            result.residual,
            seen.centred,
            revived,
            self._with_moments("W_dec", sae.W_dec),
            (encoder[0], encoder[1], encoder[2]),
            rate,
        )
        update_bias(self._with_moments("b_enc", sae.b_enc), codes.b_enc_grad, rate)
        update_bias(self._with_moments("b_dec", sae.b_dec), b_dec_grad, rate)
        return result

    def _begin(self, sae: SparseAutoencoder) -> None:
        if not self._moments:
            self._moments = {
                f"{name}.{key}": torch.zeros_like(sae.get_parameter(name))
                for name in TRAINED
                for key in ("exp_avg", "exp_avg_sq")
            }
        for name in TRAINED:
            part, moment = sae.get_parameter(name), self._moments[f"{name}.exp_avg"]
            if moment.shape != part.shape or moment.device != part.device:
                raise ValueError(
                    f"Adam's moments of {name} are {tuple(moment.shape)} on {moment.device}, the weights "
                    f"{tuple(part.shape)} on {part.device}; use one TritonTrainingStep for each SAE."
                )
        self._steps_done += 1

    def _with_moments(self, name: str, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return part.detach(), self._moments[f"{name}.exp_avg"], self._moments[f"{name}.exp_avg_sq"]

    def _revive(self, sae: SparseAutoencoder, seen: _Seen, dead: Tensor | None) -> Revived:
        """AuxK's gradients in tables of the dead latents alone; those of their biases are added at once."""
        places = torch.full((sae.d_sae,), -1, dtype=torch.int32, device=sae.device)
        if dead is None or not wants_revival(self.config, dead):
            nothing = sae.W_dec.new_zeros((1, sae.d_in))
            return Revived(places, nothing, nothing)
        own = torch.arange(len(dead), device=sae.device)
        places[dead] = own.int()
        rows, bias, directions = sae.W_enc.t()[dead], sae.b_enc[dead], sae.W_dec[dead]
        grads = (torch.zeros_like(rows), torch.zeros_like(bias), torch.zeros_like(directions))
        add_revival_gradients(
            rows, bias, directions, grads, seen.centred, seen.result.residual, own, self.config
        )
        seen.codes.b_enc_grad[dead] += grads[1]
        return Revived(places, grads[0], grads[2])

    def _clipped_step(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None, lr: float
    ) -> StepResult:
        result = self._gradients(sae, x, weigh, dead)
        if self._clipping is None:
            optimizer = UnitNormAdam(sae, self.config.clip_grad_norm)
            if self._moments:
                optimizer.restore(self.state())
            self._clipping = optimizer
        self._clipping.step(lr)
        return result


@dataclass
class _Seen:
    """A batch's codes by latent, its encoder inputs, and what the caller is told."""

    codes: CodesByLatent
    centred: Tensor
    result: StepResult


def _look(sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, select: KernelSelection) -> _Seen:
    """All that comes before the weight gradients."""
    x = x.contiguous()
    centred = x - sae.b_dec if sae.apply_b_dec_to_input else x
    codes = select(centred, sae.W_enc.detach().t(), sae.b_enc.detach())
    residual, losses, products = decode(codes, sae.W_dec.detach(), sae.b_dec.detach(), x)
    weights = weigh(losses)
    transposed = by_latent(codes, products, weights, sae.d_sae)
    n_active = codes.values.numel()
    result = StepResult(
        residual=residual,
        losses=losses,
        weights=weights,
        fired=transposed.offsets.diff() > 0,
        n_active=n_active,
        smallest_kept=float(codes.values.min()) if n_active else float("inf"),
    )
    return _Seen(transposed, centred, result)


def _b_dec_grad(sae: SparseAutoencoder, result: StepResult, b_enc_grad: Tensor) -> Tensor:
    grad = result.residual.t() @ (-2 * result.weights.to(result.residual.dtype))
    if sae.apply_b_dec_to_input:
        grad -= sae.W_enc.detach() @ b_enc_grad
    return grad


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches kernels on the current CUDA device, whichever their arguments are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _require_servable(sae: SparseAutoencoder, x: Tensor) -> None:
    reason = why_unavailable(sae.device, sae.dtype)
    if reason is not None:
        raise (ValueError if sae.dtype != torch.float32 else RuntimeError)(reason)
    if x.dtype != sae.dtype or x.device != sae.device or x.ndim != 2 or x.shape[1] != sae.d_in or not len(x):
        raise ValueError(
            f"activations must be float32 of shape (n ≥ 1, {sae.d_in}) on {sae.device}, got {x.dtype} of shape "
            f"{tuple(x.shape)} on {x.device}."
        )
    if not (sae.W_enc.t().is_contiguous() and sae.W_dec.is_contiguous()):
        raise ValueError(
            "weights must be stored latent by latent, as SparseAutoencoder stores them: W_enc column-major, W_dec "
            "row-major. Assign sae.W_enc.data = sae.W_enc.data.t().contiguous().t()."
        )
