"""INLP: train a probe for the attribute, project out what it reads, and again until none is left.

Each round a fresh linear classifier finds one more direction along which the attribute can be read. It needs
many rounds where LEACE needs one, and each takes a direction of the activations with it; it is here because
much of the literature compares with it.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight

from ssae_debias.rivals.eraser import (
    AffineEraser,
    check_activations,
    check_attribute,
    check_class_codes,
)


class INLP(AffineEraser):
    r"""Iterative nullspace projection.

    Round i trains a linear classifier with weights :math:`w_i` on :math:`P_{i-1} x`; :math:`P_i` projects
    orthogonally on the nullspace of :math:`w_1, \ldots, w_i`, and

    .. math:: r(x) = \mu + P_n (x - \mu).

    Parameters
    ----------
    n_iterations : int, default 20
        Rounds at most. Our choice: the paper uses 35 on BERT's 768 columns.
    within_y : bool, default False
        Train on deviations from the middle of each class of y, every (label, attribute) cell weighing the
        same, so that the label's direction is not read as the attribute's. The paper's own form for fair
        classification trains within one class a round.
    C : float, default 0.1
        Inverse penalty of the logistic regression, on standardised columns.
    tolerance : float, default 0.02
        Stop when balanced accuracy on held-out rows is within this of chance. Our choice.
    random_state : int, RandomState or None, default None
        Which fifth of the rows is held out.

    Attributes
    ----------
    mean_, proj_left_, proj_right_
        See `AffineEraser`; μ is the mean of X.
    accuracies_ : ndarray of shape (n_rounds,)
        Held-out balanced accuracy of each round's classifier. One near chance ends the rounds and is not
        projected out.

    References
    ----------
    S. Ravfogel et al., "Null it out: guarding protected attributes by iterative
    nullspace projection", ACL 2020, algorithm 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a = rng.choice(["F", "M"], size=600)
    >>> X = rng.normal(size=(600, 4)) + np.outer(a == "F", [3.0, 0.0, 0.0, 0.0])
    >>> eraser = INLP(random_state=0).fit(X, sensitive_features=a)
    >>> bool(eraser.accuracies_[0] > 0.9), bool(eraser.accuracies_[-1] < 0.6)
    (True, True)
    """

    def __init__(
        self,
        *,
        n_iterations: int = 20,
        within_y: bool = False,
        C: float = 0.1,
        tolerance: float = 0.02,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_iterations = n_iterations
        self.within_y = within_y
        self.C = C
        self.tolerance = tolerance
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None, sensitive_features: Any = None) -> Self:
        """Learn the directions, round by round.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations, finite.
        y : array-like of shape (n,), optional
            Labels; needed with ``within_y=True``, ignored otherwise.
        sensitive_features : array-like of shape (n,) or (n, k)
            Attribute values of any type; k columns are read as their intersection.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No attribute or a constant one, a value with a single row, `n_iterations` below 1, NaN or infinity
            in X, or lengths that differ.
        """
        if self.n_iterations < 1:
            raise ValueError(f"n_iterations is at least 1, got {self.n_iterations}.")
        X = check_activations(self, X)
        attribute = check_attribute(self, sensitive_features, len(X))
        mean = X.mean(axis=0)
        classes = check_class_codes(self, y, len(X)) if self.within_y else np.zeros_like(attribute)
        cells = classes * (attribute.max() + 1) + attribute
        centred = X - _middles(X, classes, cells)
        weights = compute_sample_weight("balanced", cells)
        seed = check_random_state(self.random_state)
        train, held_out = train_test_split(
            np.arange(len(X)), test_size=0.2, stratify=attribute, random_state=seed
        )
        chance = 1 / (attribute.max() + 1)
        basis = np.zeros((X.shape[1], 0))
        accuracies: list[float] = []
        for _ in range(self.n_iterations):
            left_over = centred - (centred @ basis) @ basis.T
            probe, scale = self._probe(left_over[train], attribute[train], weights[train])
            predicted = probe.predict(left_over[held_out] / scale)
            accuracies.append(
                float(
                    balanced_accuracy_score(attribute[held_out], predicted, sample_weight=weights[held_out])
                )
            )
            if accuracies[-1] <= chance + self.tolerance:
                break
            basis = _extended(basis, (probe.coef_ / scale).T)
            if basis.shape[1] == X.shape[1]:
                break
        self.accuracies_ = np.array(accuracies)
        return self._set(mean=mean, left=basis)

    def _probe(
        self, X: NDArray[np.float64], attribute: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> tuple[LogisticRegression, NDArray[np.float64]]:
        """A probe fitted on ``X / scale``, and the scale."""
        scale = X.std(axis=0)
        scale[scale == 0] = 1.0
        probe = LogisticRegression(C=self.C, max_iter=2000)
        return probe.fit(X / scale, attribute, sample_weight=weights), scale


def _middles(
    X: NDArray[np.float64], classes: NDArray[np.int64], cells: NDArray[np.int64]
) -> NDArray[np.float64]:
    """For each row the middle of its class: the average of its cells' means, however skewed their sizes.

    About the plain class mean the common attribute value sits at 0 and only the rare one stands out, another
    one in each class; about the middle one threshold serves all classes.
    """
    middles = np.empty_like(X)
    for each in np.unique(classes):
        inside = classes == each
        means = [X[cells == cell].mean(axis=0) for cell in np.unique(cells[inside])]
        middles[inside] = np.mean(means, axis=0)
    return middles


def _extended(basis: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal basis with the weights' directions added that it does not span yet."""
    new = weights - basis @ (basis.T @ weights)
    left, strengths, _ = np.linalg.svd(new, full_matrices=False)
    return np.column_stack([basis, left[:, strengths > 1e-8 * np.abs(weights).max()]])
