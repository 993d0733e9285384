"""SCR, spurious correlation removal: whether an SAE's latents separate an attribute from a label.

Label y and attribute a have two values each, and so four *quadrants*. A **biased** probe is trained on the two
quadrants in which y and a agree: it cannot know which of the two it was meant to learn. **Clean** probes are
trained on all four. Zeroing the n latents with the largest effect on the clean probe of the attribute should
leave the biased probe nothing to go by but the label:

    score(n) = (accuracy after − accuracy of the biased probe) / (accuracy of the clean probe − biased probe)

all for the label, on test texts of all quadrants. 1 is as good as never having been biased, 0 no change; below 0
the label was hurt. The same is done the other way round (zero the label's latents, read the attribute).

A score can fall again, far below 0, as n grows: zeroing takes a latent's mean away too, which moves all texts past
the kept probe's threshold (surgeon/nurse on MiniLM: with 500 latents zeroed, 18 % are called nurse, half are). That is
how the metric is defined, and why it is read over n.

What differs from the published code, and why
---------------------------------------------
- It reports the direction in which the biased probe starts lower, and on an exact tie none at all. Here a tie
  goes to removing the *attribute*, the direction that this toolkit is for.
- Its probes are stopped early on the test set. Ours are `linear_probe`: convex, trained to convergence, no
  validation part needed, the test texts never seen.

References
----------
Karvonen et al.: "SAEBench: A Comprehensive Benchmark for Sparse Autoencoders", 2025, section on SCR.
Marks et al.: "Sparse Feature Circuits", 2025, section 4 (SHIFT, on which SCR builds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline

from ssae_debias.metrics.pooled_ablation import (
    N_LATENTS,
    ablations,
    latent_effects,
    positive_by_probe,
    probe_direction,
    ranked,
)
from ssae_debias.metrics.probes import linear_probe

Concept = Literal["attribute", "label"]
LEAST_GAP = 0.001
"""Below this gap between clean and biased accuracy there is nothing to win back: the score is 0."""


@dataclass(frozen=True)
class SCRProbes:
    """The three probes, which depend on the activations alone and so serve every SAE.

    Attributes
    ----------
    biased : Pipeline
        Trained where y and a agree.
    attribute, label : Pipeline
        The clean ones, trained on all quadrants.
    """

    biased: Pipeline
    attribute: Pipeline
    label: Pipeline


@dataclass(frozen=True)
class SCRDirection:
    """One direction: what was removed, and how well the other concept is read.

    Attributes
    ----------
    removed : {"attribute", "label"}
        Whose latents were zeroed; accuracies are for the other one.
    biased, clean : float
        Accuracy of the biased and of the clean probe on unedited test texts.
    ablated : dict of int to float
        Accuracy of the biased probe with n latents zeroed.
    """

    removed: Concept
    biased: float
    clean: float
    ablated: dict[int, float]

    @property
    def scores(self) -> dict[int, float]:
        """SCR score by n; small gaps between clean and biased make it jump, so look at them too."""
        return {n: scr_score(after, self.biased, self.clean) for n, after in self.ablated.items()}


@dataclass(frozen=True)
class SCRResult:
    """Both directions, by what was removed."""

    attribute: SCRDirection
    label: SCRDirection

    @property
    def reported(self) -> SCRDirection:
        """The direction in which the biased probe starts lower; the attribute's on a tie.

        Examples
        --------
        >>> tie = [SCRDirection(removed, 0.75, 0.9, {2: 0.8}) for removed in ("attribute", "label")]
        >>> SCRResult(*tie).reported.removed
        'attribute'
        """
        return self.attribute if self.attribute.biased <= self.label.biased else self.label

    @property
    def scores(self) -> dict[int, float]:
        """SCR score by n, of the reported direction."""
        return self.reported.scores


def scr_score(ablated: float, biased: float, clean: float) -> float:
    """``(ablated − biased) / (clean − biased)``, and 0 where that denominator is below 0.001.

    Examples
    --------
    >>> round(scr_score(0.8, 0.7, 0.9), 3), scr_score(0.8, 0.9, 0.9)
    (0.5, 0.0)
    """
    gap = clean - biased
    return 0.0 if gap < LEAST_GAP else (ablated - biased) / gap


def fit_scr_probes(X: ArrayLike, y: ArrayLike, a: ArrayLike, *, C: float = 0.1) -> SCRProbes:
    """Train the biased and the two clean probes.

    Parameters
    ----------
    X : array-like of shape (n_texts, d_model)
        Pooled activations of training texts, equally many of each quadrant.
    y, a : array-like of shape (n_texts,), 0 or 1
        Label and attribute; the biased probe sees the texts in which they are equal.
    C : float, default 0.1
        See `linear_probe`.

    Raises
    ------
    ValueError
        Values other than 0 and 1, lengths that differ, or a quadrant without a text.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, a = np.repeat([0, 0, 1, 1], 50), np.tile(np.repeat([0, 1], 50), 2)
    >>> X = rng.normal(size=(200, 4)) + 3 * np.stack([y, 2 * a, 0 * y, 0 * y], axis=1)
    >>> probes = fit_scr_probes(X, y, a)
    >>> bool(probes.biased.score(X, a) > probes.biased.score(X, y))
    True
    """
    x = np.asarray(X, dtype=np.float64)
    y, a = _quadrants(y, a, len(x))
    agree = y == a
    return SCRProbes(
        biased=linear_probe(C=C).fit(x[agree], y[agree]),
        attribute=linear_probe(C=C).fit(x, a),
        label=linear_probe(C=C).fit(x, y),
    )


def scr_rankings(
    probes: SCRProbes, latents: ArrayLike, y: ArrayLike, a: ArrayLike, decoder: ArrayLike
) -> dict[Concept, NDArray[np.int64]]:
    """Latents by the size of their effect on each clean probe, over training texts.

    Parameters
    ----------
    probes : SCRProbes
    latents : array-like of shape (n_texts, d_sae)
        Pooled latents of the training texts.
    y, a : array-like of shape (n_texts,), 0 or 1
    decoder : array-like of shape (d_sae, d_model)

    Returns
    -------
    dict of "attribute" and "label" to ndarray of int64
        Strongest first; latents without any effect are left out.
    """
    f = np.asarray(latents, dtype=np.float64)
    y, a = _quadrants(y, a, len(f))
    return {
        "attribute": ranked(np.abs(latent_effects(f, a == 1, probe_direction(probes.attribute), decoder))),
        "label": ranked(np.abs(latent_effects(f, y == 1, probe_direction(probes.label), decoder))),
    }


def scr(
    probes: SCRProbes,
    activations: ArrayLike,
    latents: ArrayLike,
    y: ArrayLike,
    a: ArrayLike,
    decoder: ArrayLike,
    rankings: Mapping[Concept, NDArray[np.int64]],
    *,
    n_latents: Sequence[int] = N_LATENTS,
) -> SCRResult:
    """Zero ever more latents and see what the biased probe then reads.

    Parameters
    ----------
    probes : SCRProbes
        From `fit_scr_probes` on training texts.
    activations : array-like of shape (n_texts, d_model)
        Pooled activations of test texts, equally many of each quadrant.
    latents : array-like of shape (n_texts, d_sae)
        Pooled latents of the same texts and tokens, before any edit.
    y, a : array-like of shape (n_texts,), 0 or 1
    decoder : array-like of shape (d_sae, d_model)
    rankings : mapping of "attribute" and "label" to sequence of int
        What to zero, first ones first: from `scr_rankings`, or any other ranking to compare with.
    n_latents : sequence of int, default (2, 5, 10, 20, 50, 100, 500)
        Those above d_sae are left out. Where a ranking is shorter, all of it is zeroed.

    Returns
    -------
    SCRResult

    Raises
    ------
    ValueError
        Values of y or a other than 0 and 1, a quadrant without a text, shapes that do not fit together, NaN or
        infinity, or no n that the SAE has latents for.

    Examples
    --------
    A dictionary that holds label and attribute as two latents, and activations made of these:

    >>> rng = np.random.default_rng(0)
    >>> y, a = np.repeat([0, 0, 1, 1], 100), np.tile(np.repeat([0, 1], 100), 2)
    >>> decoder, latents = np.eye(2), np.stack([y + 0.0, 2.0 * a], axis=1)
    >>> X = latents @ decoder + 0.2 * rng.normal(size=(400, 2))
    >>> probes = fit_scr_probes(X, y, a)
    >>> found = scr(probes, X, latents, y, a, decoder, scr_rankings(probes, latents, y, a, decoder), n_latents=(1,))
    >>> found.reported.removed
    'attribute'
    """
    x, f = np.asarray(activations, dtype=np.float64), np.asarray(latents, dtype=np.float64)
    y, a = _quadrants(y, a, len(x))

    def direction(removed: Concept) -> SCRDirection:
        kept, clean = (y, probes.label) if removed == "attribute" else (a, probes.attribute)
        return SCRDirection(
            removed=removed,
            biased=_accuracy(probes.biased, x, kept),
            clean=_accuracy(clean, x, kept),
            ablated={
                n: _accuracy(probes.biased, edited, kept)
                for n, edited in ablations(x, f, decoder, np.asarray(rankings[removed]), n_latents)
            },
        )

    return SCRResult(attribute=direction("attribute"), label=direction("label"))


def _accuracy(probe: Pipeline, x: NDArray[np.float64], expected: NDArray[np.int64]) -> float:
    return float(np.mean(positive_by_probe(probe, x) == expected))


def _quadrants(y: Any, a: Any, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    y, a = np.asarray(y), np.asarray(a)
    for name, values in (("y", y), ("a", a)):
        if values.shape != (n,):
            raise ValueError(
                f"{name} must have one value for each of {n} texts; its shape is {values.shape}."
            )
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} must hold 0 and 1 alone; it holds {np.unique(values)[:5].tolist()}.")
    counts = {(i, j): int(((y == i) & (a == j)).sum()) for i in (0, 1) for j in (0, 1)}
    if not all(counts.values()):
        raise ValueError(f"every quadrant (y, a) needs texts; their numbers are {counts}.")
    return y.astype(np.int64), a.astype(np.int64)
