"""Mean projection: take out the line between the attribute's group means.

The simplest eraser that needs labels: no covariance, no training, an orthogonal projection. After it the
group means agree, so linear probes fail on the training rows as they do after LEACE, but X moves further than
it must.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ssae_debias.rivals.eraser import AffineEraser, check_activations, check_attribute, check_class_codes


class MeanProjection(AffineEraser):
    r"""Orthogonal projection that removes the differences between the attribute's means.

    .. math:: r(x) = x - V V^\top (x - \mu),

    with V an orthonormal basis of the differences of the attribute's means from their average, the strongest
    first (two values: the unit vector between the two means).

    Parameters
    ----------
    n_directions : int or None, default None
        Directions taken out. None: all, the number of attribute values − 1.
    within_y : bool, default True
        Take means within each class of y and average over the classes in which at least two attribute values
        occur. Otherwise the label's direction is mixed in wherever it goes with the attribute.

    Attributes
    ----------
    mean_, proj_left_, proj_right_
        See `AffineEraser`; μ is the mean of X.

    References
    ----------
    P. Haghighatkhah et al., "Better hit the nail on the head than beat around the bush: removing protected
    attributes with a single projection", EMNLP 2022. The average over classes is ours.

    Examples
    --------
    >>> X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 2.0]])
    >>> MeanProjection().fit_transform(X, [0, 1, 0, 1], sensitive_features=["M", "M", "F", "F"])
    array([[0., 1.],
           [1., 1.],
           [0., 1.],
           [1., 1.]])
    """

    def __init__(self, *, n_directions: int | None = None, within_y: bool = True) -> None:
        self.n_directions = n_directions
        self.within_y = within_y

    def fit(self, X: ArrayLike, y: Any = None, sensitive_features: Any = None) -> Self:
        """Learn the directions.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations, finite.
        y : array-like of shape (n,)
            Labels; ignored with ``within_y=False``.
        sensitive_features : array-like of shape (n,) or (n, k)
            Attribute values of any type; k columns are read as their intersection.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No attribute or a constant one, `n_directions` out of range, no class in which the attribute
            varies, NaN or infinity in X, or lengths that differ.
        """
        X = check_activations(self, X)
        attribute = check_attribute(self, sensitive_features, len(X))
        classes = check_class_codes(self, y, len(X)) if self.within_y else np.zeros_like(attribute)
        n_values = int(attribute.max()) + 1
        n_directions = n_values - 1 if self.n_directions is None else self.n_directions
        if not 1 <= n_directions < n_values:
            raise ValueError(
                f"n_directions is 1 to {n_values - 1} for {n_values} values, got {n_directions}."
            )

        total, times = np.zeros((n_values, X.shape[1])), np.zeros((n_values, 1))
        for each in np.unique(classes):
            inside = classes == each
            values = np.unique(attribute[inside])
            if len(values) < 2:
                continue
            means = np.stack([X[inside & (attribute == value)].mean(axis=0) for value in values])
            total[values] += means - means.mean(axis=0)
            times[values] += 1
        if not times.any():
            raise ValueError("The attribute is constant within each class of y; try within_y=False.")
        _, strengths, directions = np.linalg.svd(total / np.maximum(times, 1), full_matrices=False)
        real = strengths[:n_directions] > 1e-12 * strengths[0]
        return self._set(mean=X.mean(axis=0), left=directions[:n_directions][real].T)
