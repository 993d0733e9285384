"""LEACE given y: erase what tells the attribute apart *within* each class.

On skewed data (most nurses are women) plain LEACE takes "nurse" for a part of "woman" and erases the task.
Centring X and the attribute within each class of y removes that route: what still covaries is the attribute
among nurses and the attribute among surgeons. With group labels at hand this is the rival to beat.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ssae_debias.rivals.eraser import (
    AffineEraser,
    centred_within,
    check_activations,
    check_attribute,
    check_class_codes,
    one_hot,
)
from ssae_debias.rivals.leace import leace_projection


class LEACEGivenY(AffineEraser):
    r"""LEACE fitted on deviations from the class means; y is not needed at `transform`.

    .. math::

        \tilde x_i = x_i - \bar x_{y_i}, \quad \tilde z_i = z_i - \bar z_{y_i}, \quad
        r(x) = x - W^{+} P W (x - \mu),

    where W and P are LEACE's for :math:`(\tilde X, \tilde Z)` and :math:`\mu` is the mean of X over all rows.
    Afterwards the within-class covariance of X and the attribute, pooled over the classes, is 0. The classes
    themselves stay apart, so a probe may still read the attribute off the label as far as the two go
    together.

    Parameters
    ----------
    shrinkage : bool, default True
        As in `LEACE`.

    Attributes
    ----------
    mean_, proj_left_, proj_right_
        See `AffineEraser`.

    References
    ----------
    N. Belrose et al., "LEACE: Perfect linear concept erasure in closed form", NeurIPS
    2023, theorem 4.3, applied to deviations from the class means; the centring is ours.

    Examples
    --------
    Attribute and label go together in nine rows of ten; the first column carries the label, the second the
    attribute:

    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=2000)
    >>> a = np.where(rng.random(2000) < 0.9, y, 1 - y)
    >>> X = rng.normal(size=(2000, 2)) + 4 * np.column_stack([y, a])
    >>> eraser = LEACEGivenY().fit(X, y, sensitive_features=a)
    >>> erased = eraser.transform(X)
    >>> gap = lambda Z, c: np.abs(Z[c == 1].mean(axis=0) - Z[c == 0].mean(axis=0)).max()
    >>> bool(gap(erased[y == 1], a[y == 1]) < 0.2), bool(gap(erased, y) > 3)
    (True, True)
    """

    def __init__(self, *, shrinkage: bool = True) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: ArrayLike, y: Any = None, sensitive_features: Any = None) -> Self:
        """Learn the directions.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations, finite.
        y : array-like of shape (n,)
            Labels, two classes or more.
        sensitive_features : array-like of shape (n,) or (n, k)
            Attribute values of any type; k columns are read as their intersection.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No labels, no attribute, one that y determines, NaN or infinity in X, or lengths that differ.
        """
        X = check_activations(self, X)
        classes = check_class_codes(self, y, len(X))
        Z = centred_within(one_hot(check_attribute(self, sensitive_features, len(X))), classes)
        if np.allclose(Z, 0):
            raise ValueError(
                "Within each class of y the attribute is constant, so nothing tells them apart. Use rows in "
                "which it varies, or a method that needs no labels: counterfactual pairs still work."
            )
        left, right = leace_projection(centred_within(X, classes), Z, shrinkage=self.shrinkage)
        return self._set(mean=X.mean(axis=0), left=left, right=right)
