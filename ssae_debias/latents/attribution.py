r"""Attribution: which latents move a classifier's decision.

The metric of a text is the negative margin of its right answer, *m = −(2y − 1)·logit*: it rises as the
decision worsens. With the activation at a site split as :math:`x = f W_{dec} + b + e`, the effect of zeroing
latent *j*, summed over tokens and averaged over texts, is estimated as

.. math:: \mathrm{effect}_j = \mathbb{E}\Big[\sum_{tokens} \bar g \cdot d_j\,(0 - f_j)\Big]

where :math:`\bar g` is the gradient of *m* with respect to *x*: at the clean activation (`gradient`, attribution
patching), or averaged over the path on which latents and error grow together from zero,
:math:`x_\alpha = b + \alpha (f W_{dec} + e)`, α = 0, 0.1, …, 0.9 (`integrated`); or the ablation is run
outright, latent by latent (`exact`). Positive: ablating the latent hurts the decision, so the decision uses it.
Of the dictionary only :math:`d_j`, :math:`f_j` and :math:`b` enter: a latent's effect is the same whichever other
latents stand beside it.

References
----------
Marks et al., "Sparse Feature Circuits" (2025), section 3.1 and appendix on integrated gradients.
Syed et al., "Attribution Patching Outperforms Automated Circuit Discovery" (2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ssae_debias.activations import TextModel, resolve_site
from ssae_debias.data import check_texts
from ssae_debias.latents.dictionary import Dictionary

METHODS = ("gradient", "integrated", "exact")


class Decision(Protocol):
    """A classifier whose decision is explained."""

    def logits(self, model: TextModel, inputs: dict[str, Tensor], counted: Tensor) -> Tensor:
        """Logit of label 1 for each text of a batch, shape (n,), differentiable; `counted` masks tokens."""
        ...


class _Read(Exception):
    """The site that a probe reads was seen: the blocks above it are not needed."""


@dataclass(frozen=True)
class ProbeDecision:
    """A linear probe on the mean-pooled activations of a site.

    Parameters
    ----------
    site : str
    coef : ndarray of shape (d_model,)
    intercept : float
    include_special : bool, default=False
        Whether special tokens count in the mean; as the probe was trained.

    Examples
    --------
    >>> import numpy as np
    >>> ProbeDecision("resid.3", np.zeros(384), 0.5).site
    'resid.3'
    """

    site: str
    coef: NDArray[np.float64]
    intercept: float
    include_special: bool = False

    @classmethod
    def from_pipeline(cls, probe: Any, site: str, *, include_special: bool = False) -> ProbeDecision:
        """From a fitted scikit-learn `LogisticRegression`, alone or after a `StandardScaler`."""
        steps = [step for _, step in getattr(probe, "steps", [("", probe)])]
        if len(steps) > 2 or not hasattr(steps[-1], "coef_") or steps[-1].coef_.shape[0] != 1:
            raise TypeError(
                f"The probe must be a binary linear classifier, alone or after a StandardScaler; got {probe!r}."
            )
        coef, intercept = steps[-1].coef_[0].astype(np.float64), float(steps[-1].intercept_[0])
        if len(steps) == 2:
            coef = coef / steps[0].scale_
            intercept -= float(coef @ steps[0].mean_)
        return cls(site, coef, intercept, include_special)

    def logits(self, model: TextModel, inputs: dict[str, Tensor], counted: Tensor) -> Tensor:
        """Logits of a batch."""
        seen: list[Tensor] = []

        def read(x: Tensor) -> None:
            seen.append(x)
            raise _Read

        with resolve_site(model.module, self.site).attach(read), suppress(_Read):
            model.module(**inputs)
        weights = counted.float() / counted.sum(1, keepdim=True).clamp(min=1)
        pooled = (seen[0].float() * weights[..., None]).sum(1)
        coef = torch.as_tensor(self.coef, dtype=torch.float32, device=pooled.device)
        return pooled @ coef + self.intercept


@dataclass(frozen=True)
class ModelDecision:
    """A Hugging Face model's own classification head: logit of `label` minus that of `against`.

    Examples
    --------
    >>> ModelDecision(label=1, against=0)
    ModelDecision(label=1, against=0)
    """

    label: int = 1
    against: int = 0

    def logits(self, model: TextModel, inputs: dict[str, Tensor], counted: Tensor) -> Tensor:
        """Logit differences of a batch."""
        logits = model.module(**inputs).logits
        return logits[:, self.label] - logits[:, self.against]


def attribute_decision(
    model: TextModel,
    saes: Mapping[str, Dictionary],
    texts: Sequence[str],
    y: ArrayLike,
    decision: Decision,
    *,
    method: Literal["gradient", "integrated", "exact"] = "gradient",
    steps: int = 10,
    latents: Mapping[str, Sequence[int]] | None = None,
    max_length: int = 128,
    batch_size: int = 16,
    verbose: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Effect of zeroing each latent on a decision, averaged over texts.

    Parameters
    ----------
    model : TextModel
    saes : mapping of str to SparseAutoencoder or Neurons
        By site; each site is attributed alone, the others left as they are.
    texts : sequence of str
        Marks et al. use 100 texts of the ambiguous training set.
    y : array of {0, 1}, shape (n_texts,)
        The right answers.
    decision : Decision
        `ProbeDecision`, `ModelDecision`, or anything with their `logits` method.
    method : {"gradient", "integrated", "exact"}, default="gradient"
        One backward pass; `steps` backward passes a site; or one forward pass for each latent that is active
        in the batch, which is exact and slow: give `latents`.
    steps : int, default=10
        Points on the path of `integrated`, as published.
    latents : mapping of str to sequence of int, optional
        For `exact`, the latents to try, by site; the others get NaN. Default: all.

    Returns
    -------
    dict of str to ndarray of shape (d_sae,)
        By site. Positive: ablating the latent hurts the decision.

    Examples
    --------
    >>> import numpy as np
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig, SparseAutoencoder
    >>> probe = ProbeDecision("resid.1", np.ones(384), 0.0)
    >>> saes = {"embed": SparseAutoencoder(384, SAEConfig(d_sae=16, k=4))}
    >>> attribute_decision(load_model("demo"), saes, ["A nurse."], [1], probe)["embed"].shape
    (16,)
    """
    texts = check_texts(texts)
    signs = -(2.0 * np.asarray(y, dtype=np.float64) - 1.0)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    if set(np.unique(np.abs(signs))) - {1.0} or len(signs) != len(texts):
        raise ValueError(
            f"y must hold {len(texts)} labels 0 or 1, one a text; got {np.unique(np.asarray(y))[:5]}."
        )
    effects = {site: np.zeros(sae.d_sae) for site, sae in saes.items()}
    if method == "exact" and latents is not None:
        for site, sae in saes.items():
            effects[site][np.setdiff1d(np.arange(sae.d_sae), latents.get(site, []))] = np.nan
    for inputs, counted, sign in _batches(model, texts, signs, decision, max_length, batch_size, verbose):

        def metric(
            inputs: dict[str, Tensor] = inputs, counted: Tensor = counted, sign: Tensor = sign
        ) -> Tensor:
            return sign * decision.logits(model, inputs, counted)

        if method == "exact":
            _add_exact(model, saes, metric, latents, effects)
        else:
            points = (None,) if method == "gradient" else tuple(i / steps for i in range(steps))
            _add_gradients(model, saes, metric, points, effects)
    return {site: effect / len(texts) for site, effect in effects.items()}


def _batches(
    model: TextModel,
    texts: list[str],
    signs: NDArray[np.float64],
    decision: Decision,
    max_length: int,
    batch_size: int,
    verbose: int,
) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
    order = np.argsort([-len(text) for text in texts], kind="stable")
    for start in tqdm(range(0, len(texts), batch_size), desc="attribution", disable=not verbose):
        rows = order[start : start + batch_size]
        encoded = model.encode([texts[i] for i in rows], max_length)
        special = torch.as_tensor(np.asarray(encoded["special_tokens_mask"])).bool()
        inputs = {name: encoded[name].to(model.device) for name in ("input_ids", "attention_mask")}
        counted = inputs["attention_mask"].bool()
        if not getattr(decision, "include_special", False):
            counted = counted & ~special.to(model.device)
        yield inputs, counted, torch.as_tensor(signs[rows], dtype=torch.float32, device=model.device)


def _add_gradients(
    model: TextModel,
    saes: Mapping[str, Dictionary],
    metric: Callable[[], Tensor],
    points: tuple[float | None, ...],
    effects: dict[str, NDArray[np.float64]],
) -> None:
    # clean gradients of all sites come from one backward pass; points on a path move one site at a time
    groups = [tuple(saes)] if points == (None,) else [(site,) for site in saes]
    for sites in groups:
        gradients: dict[str, Tensor] = {}
        clean: dict[str, Tensor] = {}
        for alpha in points:
            leaves: dict[str, Tensor] = {}
            with ExitStack() as hooks, torch.enable_grad():
                for site in sites:
                    hook = _leaf_hook(site, alpha, saes[site], clean, leaves)
                    hooks.enter_context(resolve_site(model.module, site).attach(hook))
                worse = metric().sum()
                if not leaves:
                    break
                # not backward(): the model's own parameters must not collect gradients
                found = torch.autograd.grad(worse, list(leaves.values()), allow_unused=True)
            for site, gradient in zip(leaves, found, strict=True):
                step = torch.zeros_like(leaves[site]) if gradient is None else gradient
                gradients[site] = gradients.get(site, 0) + step / len(points)
        for site in clean:  # a site after the one that the decision reads has no part in it
            sae = saes[site]
            with torch.no_grad():
                f = sae.encode(clean[site].to(sae.W_dec))
                along = gradients[site].to(sae.W_dec) @ sae.W_dec.T
                effects[site] += -(along * f).flatten(0, -2).sum(0).double().cpu().numpy()


def _leaf_hook(
    site: str,
    alpha: float | None,
    sae: Dictionary,
    clean: dict[str, Tensor],
    leaves: dict[str, Tensor],
) -> Callable[[Tensor], Tensor]:
    def hook(x: Tensor) -> Tensor:
        clean.setdefault(site, x.detach())
        # x itself must stay in the graph, so that sites before this one get their gradient through it
        leaves[site] = torch.zeros_like(x, requires_grad=True)
        if alpha is None:
            return x + leaves[site]
        bias = sae.baseline(x.detach().to(sae.W_dec)).detach().to(x)
        return bias + alpha * (x - bias) + leaves[site]

    return hook


def _add_exact(
    model: TextModel,
    saes: Mapping[str, Dictionary],
    metric: Callable[[], Tensor],
    latents: Mapping[str, Sequence[int]] | None,
    effects: dict[str, NDArray[np.float64]],
) -> None:
    with torch.no_grad():
        before = metric().sum()
        for site, sae in saes.items():
            place = resolve_site(model.module, site)
            seen: list[Tensor] = []
            with place.attach(seen.append):
                metric()
            if not seen:
                continue
            f = sae.encode(seen[0].to(sae.W_dec))
            active = (f != 0).flatten(0, -2).any(0).nonzero()[:, 0].tolist()
            wanted = active if latents is None else sorted(set(active) & set(latents.get(site, [])))
            for latent in wanted:
                removed = (f[..., latent, None] * sae.W_dec[latent]).to(seen[0])
                with place.attach(removed.neg().add):
                    effects[site][latent] += float(metric().sum() - before)
