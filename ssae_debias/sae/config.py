"""What an SAE is and how it is trained, in one frozen record.

Training happens on activations scaled to a mean norm of √d_in (undone in the finished weights), so that
learning rates, penalties and bandwidths below mean the same on every model and site.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

Architecture = Literal["relu", "topk", "batchtopk", "jumprelu"]
TiltScale = Literal["mean", "raw"]


@dataclass(frozen=True)
class SAEConfig:
    """Architecture, objective and training schedule of a sparse autoencoder.

    Parameters
    ----------
    d_sae : int
        Number of latents.
    architecture : {"relu", "topk", "batchtopk", "jumprelu"}, default "batchtopk"
        How a code is made sparse in training; see `ssae_debias.sae.sparsity`. BatchTopK is the default because
        it fixes L0 without a coefficient to tune and ends in the threshold form that edits need.
    k : int, default 32
        Latents per token (topk: each; batchtopk: on average). Not used by relu and jumprelu.
    l1_coefficient : float, default 2
        λ of ``λ ‖z‖₁`` (relu only). The default gives an L0 near 30 on MiniLM tokens.
    l0_coefficient : float, default 0.5
        λ of ``λ ‖z‖₀`` (jumprelu only): the squared error that one more active latent must save. The default
        gives an L0 near 30 on MiniLM tokens.
    jumprelu_bandwidth : float, default 1
        ε of the straight-through estimator, in units of a pre-activation. Wider than published: runs here are
        short, and a narrow window lets too few pre-activations move a threshold.
    tilt : float, default 0
        Tilt of the risk over per-token losses; 0 is the plain mean. See `ssae_debias.sae.tilted_risk`. With
        ``tilt_scale="mean"``, 0.1 to 0.5 serves rare concepts at no cost on MiniLM tokens; from about 3 on, a
        few tokens decide each step and a short run converges poorly.
    tilt_scale : {"mean", "raw"}, default "mean"
        "mean" divides losses by their running mean first, so that a tilt means the same on every model;
        "raw" tilts the squared errors of the unscaled activations, the published form.
    lr : float, optional
        Peak learning rate of Adam. Default ``2e-4 · √(2¹⁴ / d_sae)``, the scaling of Gao et al. 2024, times
        `LR_BOOST` because runs here last hundreds of steps, not hundreds of thousands.
    batch_size : int, default 1024
        Tokens per step.
    epochs : int, default 1
        Passes over the activations, where `n_tokens` is not given.
    n_tokens : int, optional
        Tokens to train on in all; the activations are repeated or cut short as needed.
    warmup_fraction, decay_fraction : float, default 0.05 and 0.3
        Parts of training in which the learning rate rises from 0 and falls back to 0, linearly.
    aux_k : int, optional
        Dead latents per token that AuxK revives. Default ``d_in / 2`` (Gao et al. 2024, appendix A.2); 0 is off.
    aux_coefficient : float, default 1/32
        Weight of the AuxK loss.
    dead_after_tokens : int, optional
        A latent is dead once it has not fired for this many tokens. Default: a twentieth of training, at least
        four batches, at most 10 million tokens.
    normalize : bool, default True
        Train on activations scaled to a mean norm of √d_in. The finished weights act on raw activations.
    clip_grad_norm : float, optional
        Global gradient norm to clip to. Off by default: Adam already bounds the step.

    Raises
    ------
    ValueError
        A value outside its range, named with what is allowed.

    Examples
    --------
    >>> config = SAEConfig(d_sae=512, k=16, tilt=1.0)
    >>> SAEConfig.from_dict(config.to_dict()) == config
    True
    >>> SAEConfig(d_sae=512, architecture="softmax")
    Traceback (most recent call last):
    ValueError: architecture must be one of relu, topk, batchtopk, jumprelu, got 'softmax'.
    """

    d_sae: int
    architecture: Architecture = "batchtopk"
    k: int = 32
    l1_coefficient: float = 2.0
    l0_coefficient: float = 0.5
    jumprelu_bandwidth: float = 1.0
    tilt: float = 0.0
    tilt_scale: TiltScale = "mean"
    lr: float | None = None
    batch_size: int = 1024
    epochs: int = 1
    n_tokens: int | None = None
    warmup_fraction: float = 0.05
    decay_fraction: float = 0.3
    aux_k: int | None = None
    aux_coefficient: float = 1 / 32
    dead_after_tokens: int | None = None
    normalize: bool = True
    clip_grad_norm: float | None = None

    def __post_init__(self) -> None:
        _require_one_of("architecture", self.architecture, get_args(Architecture))
        _require_one_of("tilt_scale", self.tilt_scale, get_args(TiltScale))
        for name in ("d_sae", "k", "batch_size", "epochs"):
            _require_integer(name, getattr(self, name), least=1)
        for name in ("n_tokens", "dead_after_tokens"):
            if getattr(self, name) is not None:
                _require_integer(name, getattr(self, name), least=1)
        if self.aux_k is not None:
            _require_integer("aux_k", self.aux_k, least=0)
        for name in ("l1_coefficient", "l0_coefficient", "aux_coefficient"):
            _require(name, getattr(self, name), "finite and not negative", lambda v: v >= 0)
        for name in ("jumprelu_bandwidth", "lr", "clip_grad_norm"):
            if getattr(self, name) is not None:
                _require(name, getattr(self, name), "finite and positive", lambda v: v > 0)
        _require("tilt", self.tilt, "finite (1e9 is the maximum for all purposes)", lambda _: True)
        for name in ("warmup_fraction", "decay_fraction"):
            _require(name, getattr(self, name), "between 0 and 1", lambda v: 0 <= v <= 1)
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                "warmup_fraction and decay_fraction must not exceed 1 together, "
                f"got {self.warmup_fraction} and {self.decay_fraction}."
            )
        if self.architecture in ("topk", "batchtopk") and self.k > self.d_sae:
            raise ValueError(f"k must not exceed d_sae, got k={self.k} and d_sae={self.d_sae}.")

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> SAEConfig:
        """The reverse of `to_dict`; an unknown name is an error."""
        unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"SAEConfig has no {', '.join(unknown)}.")
        return cls(**fields)


def _require(name: str, value: Any, allowed: str, holds: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not math.isfinite(value) or not holds(value):
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")


def _require_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")


def _require_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
