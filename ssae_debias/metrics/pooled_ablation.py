r"""Zeroing latents of one SAE, seen through the mean over tokens.

With the error term kept, zeroing latent j takes :math:`f_j d_j` off every token and leaves the rest alone. The
mean over a text's tokens is linear, so at the site of the edit

.. math:: \bar x' = \bar x - \sum_{j \in chosen} \bar f_j\, d_j

where :math:`\bar f_j` is the latent's mean over the same tokens. One forward pass therefore serves every set of
latents that one may want to zero. Behind another block the equality ends: there the edited model has to run.

References
----------
Karvonen et al.: "SAEBench", 2025 (SCR and TPP, which rank and zero latents like this).
Marks et al.: "Sparse Feature Circuits", 2025, section 4 (zero ablation with the error term kept).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline

from ssae_debias.data.randomness import RandomState, as_generator

N_LATENTS = (2, 5, 10, 20, 50, 100, 500)
"""How many latents SAEBench zeroes."""


def ablate_pooled(
    activations: ArrayLike, latents: ArrayLike, decoder: ArrayLike, chosen: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Pooled activations with some latents set to zero and the error term kept.

    Parameters
    ----------
    activations : array-like of shape (n_texts, d_model)
        Mean over each text's tokens, at the SAE's site.
    latents : array-like of shape (n_texts, d_sae)
        Mean activation of each latent over the same tokens.
    decoder : array-like of shape (d_sae, d_model)
        The dictionary's rows.
    chosen : sequence of int
        Latents to zero; empty changes nothing.

    Returns
    -------
    ndarray of float64, shape (n_texts, d_model)

    Raises
    ------
    ValueError
        Shapes that do not fit together, or NaN or infinity.
    IndexError
        A latent that the SAE lacks.

    Examples
    --------
    >>> ablate_pooled([[3.0, 4.0]], [[2.0, 0.5]], [[1.0, 0.0], [0.0, 1.0]], [0])
    array([[1., 4.]])
    """
    x, f, d = pooled_arrays(activations, latents, decoder)
    index = np.asarray(chosen, dtype=np.int64)
    if index.size and not (index.min() >= 0 and index.max() < len(d)):
        raise IndexError(f"latents go from 0 to {len(d) - 1}; got {sorted(set(index.tolist()))[-5:]}.")
    return x - f[:, index] @ d[index]


def probe_direction(probe: Pipeline) -> NDArray[np.float64]:
    """Weight of a fitted binary `linear_probe` on unscaled activations, shape (d_model,).

    The probe standardises its columns; a step v of the activation moves its margin by ``direction · v``.

    Examples
    --------
    >>> from ssae_debias.metrics import linear_probe
    >>> X = np.array([[-20.0, 1.0], [-10.0, 2.0], [10.0, 1.0], [20.0, 2.0]])
    >>> probe = linear_probe().fit(X, [0, 0, 1, 1])
    >>> margins = probe.decision_function(X + [5.0, 0.0]) - probe.decision_function(X)
    >>> bool(np.allclose(margins, 5 * probe_direction(probe)[0]))
    True
    """
    weight: NDArray[np.float64] = probe["logisticregression"].coef_[0] / probe["standardscaler"].scale_
    return weight


def positive_by_probe(probe: Pipeline, x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a fitted binary `linear_probe` puts each text in its second class; what `predict` says, quicker.

    A run asks thousands of times, and the pipeline's checks would take most of it.

    Examples
    --------
    >>> from ssae_debias.metrics import linear_probe
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> positive_by_probe(linear_probe().fit(X, [0, 0, 1, 1]), np.array([[-3.0], [3.0]]))
    array([False,  True])
    """
    margin = (x - probe["standardscaler"].mean_) @ probe_direction(probe)
    positive: NDArray[np.bool_] = margin + probe["logisticregression"].intercept_[0] > 0
    return positive


def latent_effects(
    latents: ArrayLike, positive: ArrayLike, direction: ArrayLike, decoder: ArrayLike
) -> NDArray[np.float64]:
    """How much each latent moves a probe from the negative class to the positive one.

    ``(mean activation of the positive − of the negative class) × (probe weight · decoder row)``.

    Parameters
    ----------
    latents : array-like of shape (n_texts, d_sae)
        Pooled latents of training texts.
    positive : array-like of bool, shape (n_texts,)
        Which texts are of the positive class.
    direction : array-like of shape (d_model,)
        The probe's weight on raw activations; see `probe_direction`.
    decoder : array-like of shape (d_sae, d_model)

    Returns
    -------
    ndarray of float64, shape (d_sae,)

    Raises
    ------
    ValueError
        One of the classes is empty, or shapes do not fit together.

    Examples
    --------
    >>> latent_effects([[1.0, 5.0], [3.0, 5.0]], [False, True], [0.5, 1.0], np.eye(2))
    array([1., 0.])
    """
    f, d = np.asarray(latents, dtype=np.float64), np.asarray(decoder, dtype=np.float64)
    mask, weight = np.asarray(positive, dtype=bool), np.asarray(direction, dtype=np.float64)
    if f.ndim != 2 or mask.shape != f.shape[:1] or d.shape != (f.shape[1], *weight.shape):
        raise ValueError(
            f"latents {f.shape}, positive {mask.shape}, direction {weight.shape} and decoder {d.shape} must be "
            "(n, d_sae), (n,), (d_model,) and (d_sae, d_model)."
        )
    if mask.all() or not mask.any():
        raise ValueError("an effect needs texts of both classes; all texts are of one.")
    return (f[mask].mean(0) - f[~mask].mean(0)) * (d @ weight)


def ranked(effects: NDArray[np.float64]) -> NDArray[np.int64]:
    """Latents with an effect other than 0, the largest effect first; ties in the dictionary's order.

    Examples
    --------
    >>> ranked(np.array([0.0, 2.0, -1.0, 3.0]))
    array([3, 1, 2])
    """
    order = np.argsort(-effects, kind="stable")
    return order[effects[order] != 0]


def random_ranking(latents: ArrayLike, size: int, random_state: RandomState = None) -> NDArray[np.int64]:
    """Live latents in random order: the control that a ranking has to beat.

    Parameters
    ----------
    latents : array-like of shape (n_texts, d_sae)
        Pooled latents; one that is 0 on every text is not drawn, zeroing it would change nothing.
    size : int
        At most so many: as many as the ranking it is compared with.
    random_state : int, Generator, RandomState or None, default None

    Examples
    --------
    >>> sorted(random_ranking([[0.0, 1.0, 0.0, 2.0]], 9, random_state=0).tolist())
    [1, 3]
    """
    live = np.flatnonzero((np.asarray(latents) != 0).any(0))
    return as_generator(random_state).permutation(live)[:size]


def ablations(
    activations: ArrayLike,
    latents: ArrayLike,
    decoder: ArrayLike,
    ranking: NDArray[np.int64],
    n_latents: Sequence[int],
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The activations with the first n latents of a ranking zeroed, for each n that the SAE has latents for.

    Examples
    --------
    >>> found = ablations([[3.0, 4.0]], [[2.0, 0.5]], np.eye(2), np.array([1, 0]), (1, 2, 5))
    >>> [(n, x.tolist()) for n, x in found]
    [(1, [[3.0, 3.5]]), (2, [[1.0, 3.5]])]
    """
    x, f, d = pooled_arrays(activations, latents, decoder)
    for n in sizes(n_latents, len(d)):
        chosen = ranking[:n]
        yield n, x - f[:, chosen] @ d[chosen]


def sizes(n_latents: Sequence[int], d_sae: int) -> tuple[int, ...]:
    """Those of `n_latents` that a dictionary of `d_sae` latents allows, ascending.

    Raises
    ------
    ValueError
        There is none, or one is below 1.

    Examples
    --------
    >>> sizes(N_LATENTS, 64)
    (2, 5, 10, 20, 50)
    """
    if any(n < 1 for n in n_latents):
        raise ValueError(f"n_latents must hold whole numbers of at least 1; got {list(n_latents)}.")
    allowed = tuple(sorted({int(n) for n in n_latents if n <= d_sae}))
    if not allowed:
        raise ValueError(f"n_latents={list(n_latents)} holds none of at most d_sae = {d_sae}.")
    return allowed


def pooled_arrays(activations: ArrayLike, latents: ArrayLike, decoder: ArrayLike) -> tuple[Any, Any, Any]:
    """The three arrays in float64, checked against each other.

    Examples
    --------
    >>> pooled_arrays([[1.0, 2.0]], [[1.0]], [[1.0, 2.0, 3.0]])
    Traceback (most recent call last):
    ValueError: activations (1, 2), latents (1, 1) and decoder (1, 3) must be (n, d_model), (n, d_sae) and (d_sae, d_model).
    """
    x, f, d = (np.asarray(array, dtype=np.float64) for array in (activations, latents, decoder))
    if not (x.ndim == f.ndim == d.ndim == 2 and len(x) == len(f) and d.shape == (f.shape[1], x.shape[1])):
        raise ValueError(
            f"activations {x.shape}, latents {f.shape} and decoder {d.shape} must be (n, d_model), (n, d_sae) and "
            "(d_sae, d_model)."
        )
    for name, array in (("activations", x), ("latents", f), ("decoder", d)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} hold NaN or infinity.")
    return x, f, d
