"""TPP, targeted probe perturbation: whether zeroing one concept's latents leaves other concepts alone.

For each of several classes a probe tells the class from the rest. The n latents with the largest effect on class
i's probe are zeroed, and all probes are tested again:

    TPP_i(n) = (own drop in accuracy) − (mean drop in accuracy of the other classes)

and TPP(n) is the mean over the classes. High is good: the latents are of this class and of no other. Unlike SCR it
needs no two concepts that go together.

As published, only latents that are *more* active in a class than outside it count, by their signed effect.

What differs from the published code, and why
---------------------------------------------
- Accuracies are balanced, and probes trained with both sides weighted alike, over all texts; it draws as many
  texts of the rest as of the class. The figure means the same and nothing is left to the draw.
- Its probes are stopped early on the test set; ours are trained to convergence and never see it.
- Where two classes are each other's complement (surgeon, nurse) they have one probe with two signs: what one loses
  the other loses too. Such a pair does not count among each other's "other classes".

References
----------
Karvonen et al.: "SAEBench: A Comprehensive Benchmark for Sparse Autoencoders", 2025, section on TPP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_sample_weight

from ssae_debias.metrics.pooled_ablation import (
    N_LATENTS,
    ablations,
    latent_effects,
    positive_by_probe,
    probe_direction,
    ranked,
)
from ssae_debias.metrics.probes import linear_probe

Members = Mapping[str, ArrayLike]


@dataclass(frozen=True)
class TPPResult:
    """Drops in balanced accuracy, by zeroed class.

    Attributes
    ----------
    accuracy : dict of str to float
        Of each class's probe on unedited test texts.
    own : dict of str to dict of int to float
        By class and n: how much the class's own probe loses when its latents are zeroed.
    others : dict of str to dict of int to float
        How much the probes of the other classes lose in the mean.
    """

    accuracy: dict[str, float]
    own: dict[str, dict[int, float]]
    others: dict[str, dict[int, float]]

    @property
    def by_class(self) -> dict[str, dict[int, float]]:
        """``own − others`` by class and n."""
        return {
            name: {n: drop - self.others[name][n] for n, drop in drops.items()}
            for name, drops in self.own.items()
        }

    @property
    def scores(self) -> dict[int, float]:
        """TPP by n: the mean over the classes.

        Examples
        --------
        >>> TPPResult({"a": 0.9, "b": 0.9}, {"a": {2: 0.25}, "b": {2: 0.5}}, {"a": {2: 0.25}, "b": {2: 0.0}}).scores
        {2: 0.25}
        """
        found = list(self.by_class.values())
        return {n: float(np.mean([scores[n] for scores in found])) for n in found[0]}


def fit_tpp_probes(X: ArrayLike, members: Members, *, C: float = 0.1) -> dict[str, Pipeline]:
    """Train a probe for each class against the rest, both sides weighted alike.

    Parameters
    ----------
    X : array-like of shape (n_texts, d_model)
        Pooled activations of training texts.
    members : mapping of str to array-like of bool, shape (n_texts,)
        By class: which texts belong to it. A text may belong to several classes.
    C : float, default 0.1
        See `linear_probe`.

    Raises
    ------
    ValueError
        Fewer than two classes that are not each other's complement, a class of no or of all texts, lengths that
        differ.

    Examples
    --------
    >>> X = np.repeat(np.eye(3), 20, axis=0)
    >>> members = {name: np.repeat(np.arange(3) == i, 20) for i, name in enumerate("abc")}
    >>> [probe.score(X, members[name]) for name, probe in fit_tpp_probes(X, members).items()]
    [1.0, 1.0, 1.0]
    """
    x = np.asarray(X, dtype=np.float64)
    masks = _masks(members, len(x))
    return {
        name: linear_probe(C=C).fit(
            x, mask, logisticregression__sample_weight=compute_sample_weight("balanced", mask)
        )
        for name, mask in masks.items()
    }


def tpp_rankings(
    probes: Mapping[str, Pipeline], latents: ArrayLike, members: Members, decoder: ArrayLike
) -> dict[str, NDArray[np.int64]]:
    """Latents of each class by their effect on its probe, over training texts.

    Only latents more active in the class than outside it; of these, those that push towards the class come
    first. Parameters are as in `fit_tpp_probes` and `scr_rankings`.
    """
    f, d = np.asarray(latents, dtype=np.float64), np.asarray(decoder, dtype=np.float64)
    rankings = {}
    for name, mask in _masks(members, len(f)).items():
        more_active = f[mask].mean(0) > f[~mask].mean(0)
        effects = latent_effects(f, mask, probe_direction(probes[name]), d)
        rankings[name] = ranked(np.where(more_active, effects, 0.0))
    return rankings


def tpp(
    probes: Mapping[str, Pipeline],
    activations: ArrayLike,
    latents: ArrayLike,
    members: Members,
    decoder: ArrayLike,
    rankings: Mapping[str, NDArray[np.int64]],
    *,
    n_latents: Sequence[int] = N_LATENTS,
) -> TPPResult:
    """Zero each class's latents and see which probes lose by it.

    Parameters
    ----------
    probes : mapping of str to Pipeline
        From `fit_tpp_probes` on training texts.
    activations, latents, decoder, n_latents
        As in `ssae_debias.metrics.scr`, for test texts.
    members : mapping of str to array-like of bool, shape (n_texts,)
        The test texts' classes.
    rankings : mapping of str to sequence of int
        From `tpp_rankings`, or any other ranking to compare with.

    Returns
    -------
    TPPResult

    Raises
    ------
    ValueError
        As `fit_tpp_probes`; shapes that do not fit together, NaN or infinity, or no n that the SAE has latents
        for.

    Examples
    --------
    A dictionary with one latent for each class: zeroing one makes its probe guess and leaves the others alone.

    >>> latents = np.repeat(np.eye(3), 20, axis=0)
    >>> members = {name: np.repeat(np.arange(3) == i, 20) for i, name in enumerate("abc")}
    >>> probes = fit_tpp_probes(latents, members)
    >>> rankings = tpp_rankings(probes, latents, members, np.eye(3))
    >>> tpp(probes, latents, latents, members, np.eye(3), rankings, n_latents=(1,)).own["a"]
    {1: 0.5}
    """
    x, f = np.asarray(activations, dtype=np.float64), np.asarray(latents, dtype=np.float64)
    masks = _masks(members, len(x))
    accuracy = {name: _accuracy(probes[name], x, mask) for name, mask in masks.items()}
    own: dict[str, dict[int, float]] = {}
    others: dict[str, dict[int, float]] = {}
    for name, mask in masks.items():
        rest = [other for other in masks if other != name and not _complements(mask, masks[other])]
        own[name], others[name] = {}, {}
        for n, edited in ablations(x, f, decoder, np.asarray(rankings[name]), n_latents):
            own[name][n] = accuracy[name] - _accuracy(probes[name], edited, mask)
            lost = [accuracy[other] - _accuracy(probes[other], edited, masks[other]) for other in rest]
            others[name][n] = float(np.mean(lost))
    return TPPResult(accuracy, own, others)


def _accuracy(probe: Pipeline, x: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    positive = positive_by_probe(probe, x)
    return float((positive[mask].mean() + (~positive[~mask]).mean()) / 2)


def _complements(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> bool:
    return bool((first != second).all())


def _masks(members: Members, n: int) -> dict[str, NDArray[np.bool_]]:
    masks = {name: np.asarray(mask) for name, mask in members.items()}
    for name, mask in masks.items():
        if mask.shape != (n,) or mask.dtype != bool:
            raise ValueError(
                f"members[{name!r}] must be a bool for each of {n} texts; it is {mask.dtype}, {mask.shape}."
            )
        if mask.all() or not mask.any():
            raise ValueError(f"class {name!r} holds {'all' if mask.all() else 'none'} of the texts.")
    for name, mask in masks.items():
        if all(other == name or _complements(mask, masks[other]) for other in masks):
            raise ValueError(
                f"TPP compares a class with others; {name!r} has none among {', '.join(masks)} but itself and its "
                "complement."
            )
    if not masks:
        raise ValueError("TPP needs at least two classes; got none.")
    return masks
