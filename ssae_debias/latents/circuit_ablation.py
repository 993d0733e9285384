r"""What a decision is worth when all but a circuit is ablated.

A circuit is a set of nodes: latents, and each site's error term. Nodes outside it are set to their *means*, at all
sites at once and in forward order, so that every site sees the stream that earlier ablations left:

.. math:: x' = x + \sum_{j \notin C} (\bar f_j - f_j)\, d_j + [e \notin C]\,(\bar e - e)

A mean says what a node is usually like, not what it is in this text: unlike zero it keeps the stream where the
model's later layers expect it. Means are over the ordinary tokens of a corpus, and over each special token apart:
``<s>`` or ``[CLS]`` carries activations like no word's, and a mean over both would be like neither.

References
----------
Marks et al.: "Sparse Feature Circuits", 2025, section 3.2 (faithfulness and completeness, by mean ablation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ssae_debias.activations import TextModel, resolve_site
from ssae_debias.latents.attribution import Decision
from ssae_debias.latents.circuit_batches import PADDING, DecisionBatch, decision_batches
from ssae_debias.latents.dictionary import Dictionary

Means = dict[str, dict[int, tuple[Tensor, Tensor]]]
"""By site and sort of token: the mean code, shape (d_sae,), and the mean of the rest, shape (d_model,)."""

Kept = Mapping[str, NDArray[np.bool_]]
"""By site: which nodes are kept, shape (d_sae + 1,); the last is the error term."""


def ablated_margins(
    model: TextModel,
    saes: Mapping[str, Dictionary],
    texts: Sequence[str],
    y: ArrayLike,
    decision: Decision,
    kept: Mapping[str, Kept],
    *,
    mean_texts: Sequence[str] | None = None,
    max_length: int = 128,
    batch_size: int = 16,
    verbose: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Margins of a decision with only some nodes left, for one or more sets of nodes.

    Parameters
    ----------
    model, saes, texts, y, decision, max_length, batch_size, verbose
        As in `attribute_decision`.
    kept : mapping of str to mapping of str to ndarray of bool, shape (d_sae + 1,)
        By any name, and by site: the nodes that stay as they are, the error term last. A site that is not named
        keeps all its nodes.
    mean_texts : sequence of str, optional
        Texts that the means are taken over. Default: `texts`.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_texts,)
        By name: ``(2y − 1)·logit`` of each text; positive where the decision is right.

    Raises
    ------
    ValueError
        A site without an SAE, a mask of another length, or labels that are not 0 and 1.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.latents.attribution import ProbeDecision
    >>> from ssae_debias.latents.dictionary import Neurons
    >>> model, decision = load_model("demo"), ProbeDecision("resid.0", np.ones(384), 0.0)
    >>> everything = {"embed": np.ones(385, dtype=bool)}
    >>> texts, kept = ["A nurse.", "A judge."], {"all": everything, "none": {"embed": ~everything["embed"]}}
    >>> margins = ablated_margins(model, {"embed": Neurons(384)}, texts, [1, 1], decision, kept)
    >>> bool(margins["all"][0] == margins["all"][1]), bool(np.isclose(*margins["none"]))
    (False, True)
    """
    for name, sites in kept.items():
        for site, mask in sites.items():
            if site not in saes or mask.shape != (saes[site].d_sae + 1,) or mask.dtype != bool:
                raise ValueError(
                    f"kept[{name!r}][{site!r}] must be a bool for each latent of an SAE and one for the error term; "
                    f"it is {mask.dtype}, {mask.shape}, and there are SAEs for {', '.join(saes)}."
                )
    sizes = {"max_length": max_length, "batch_size": batch_size}
    batches = list(decision_batches(model, texts, y, decision, **sizes))
    others = batches
    if mean_texts is not None:
        others = list(decision_batches(model, mean_texts, np.zeros(len(mean_texts)), decision, **sizes))
    means = mean_nodes(model, saes, others, decision)
    found = {name: np.zeros(len(texts)) for name in kept}
    for batch in tqdm(batches, desc="ablating", disable=not verbose):
        for name, sites in kept.items():
            with ExitStack() as hooks, torch.no_grad():
                for site, mask in sites.items():
                    if not mask.all():
                        hook = _Ablation(site, saes[site], ~mask, means, batch.sort)
                        hooks.enter_context(resolve_site(model.module, site).attach(hook))
                found[name][batch.rows] = batch.margins(model, decision).double().cpu().numpy()
    return found


def mean_nodes(
    model: TextModel, saes: Mapping[str, Dictionary], batches: Iterable[DecisionBatch], decision: Decision
) -> Means:
    """Mean of every node over the tokens of some batches, special tokens each apart.

    A site that the decision does not run to has no means.
    """
    sums: dict[str, dict[int, tuple[Tensor, Tensor, Tensor]]] = {site: {} for site in saes}
    for batch in batches:
        with ExitStack() as hooks, torch.no_grad():
            for site, sae in saes.items():
                hook = _Summing(sae, sums[site], batch.sort)
                hooks.enter_context(resolve_site(model.module, site).attach(hook))
            batch.margins(model, decision)
    return {
        site: {sort: (z / n, rest / n) for sort, (z, rest, n) in by_sort.items()}
        for site, by_sort in sums.items()
    }


def split(sae: Dictionary, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (…, d_sae) of activations and what the codes do not write, ``x − f W_dec`` (…, d_model).

    The rest is the error term and the baseline. For means this is the same as the error term; and where a dictionary
    normalises each token, so that the baseline tells of the token, ablating the rest ablates that too.
    """
    x = x.to(sae.W_dec)
    z = sae.encode(x)
    return z, x - z @ sae.W_dec


class _Summing:
    """A hook that adds a batch's nodes up, by sort of token."""

    def __init__(self, sae: Dictionary, sums: dict[int, tuple[Tensor, Tensor, Tensor]], sort: Tensor) -> None:
        self.sae, self.sums, self.sort = sae, sums, sort

    def __call__(self, x: Tensor) -> None:
        z, rest = split(self.sae, x)
        for sort in self.sort.unique().tolist():
            if sort == PADDING:
                continue
            at = (self.sort == sort).to(z.device)
            found = z[at].double().sum(0), rest[at].double().sum(0), at.sum().double()
            before = self.sums.get(sort, (0, 0, 0))
            self.sums[sort] = tuple(a + b for a, b in zip(found, before, strict=True))


class _Ablation:
    """A hook that sets nodes to their means."""

    def __init__(
        self, site: str, sae: Dictionary, ablated: NDArray[np.bool_], means: Means, sort: Tensor
    ) -> None:
        self.site, self.sae, self.means, self.sort = site, sae, means[site], sort
        self.latents = torch.from_numpy(ablated[:-1].astype(np.float32))
        self.error = bool(ablated[-1])

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z, rest = split(self.sae, x)
            mean_z, mean_rest = z.clone(), rest.clone()
            for sort in self.sort.unique().tolist():
                if sort == PADDING:
                    continue
                if sort not in self.means:
                    raise ValueError(
                        f"There is no mean of token {sort} at {self.site}: mean_texts hold none. Give more texts."
                    )
                at = (self.sort == sort).to(z.device)
                mean_z[at], mean_rest[at] = (mean.to(z) for mean in self.means[sort])
            change = ((mean_z - z) * self.latents.to(z)) @ self.sae.W_dec
            if self.error:
                change = change + (mean_rest - rest)
            return x + change.to(x)
