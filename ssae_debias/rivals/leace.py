"""LEACE: the smallest linear edit after which no linear probe reads the attribute.

A linear probe can read an attribute Z exactly if X covaries with it. Among all affine maps that make
``Cov(r(X), Z) = 0``, LEACE is the one that moves X least in expectation. It takes away whatever covaries with
the attribute, so where the label does too it takes the label as well: see `LEACEGivenY`.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssae_debias.rivals.eraser import AffineEraser, check_activations, check_attribute, one_hot


class LEACE(AffineEraser):
    r"""Least-squares concept erasure, through the `concept-erasure` package.

    .. math:: r(x) = x - W^{+} P W (x - \mu), \quad W = \Sigma_{XX}^{-1/2},

    with P the orthogonal projection on the columns of :math:`W \Sigma_{XZ}` and Z the attribute, one-hot.

    Parameters
    ----------
    shrinkage : bool, default True
        Estimate :math:`\Sigma_{XX}` with optimal linear shrinkage, the package's default. Needed where rows
        are not many times the columns. Covariance with Z becomes 0 on the training rows with or without it,
        but the edit is only the smallest one under the covariance that is used.

    Attributes
    ----------
    mean_, proj_left_, proj_right_
        See `AffineEraser`; at most (number of attribute values − 1) directions.

    References
    ----------
    N. Belrose et al., "LEACE: Perfect linear concept erasure in closed form", NeurIPS 2023, theorem 4.3.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a = rng.integers(2, size=500)
    >>> X = rng.normal(size=(500, 3)) + np.outer(a, [2.0, 1.0, 0.0])
    >>> erased = LEACE().fit_transform(X, sensitive_features=a)
    >>> bool(np.allclose(erased[a == 0].mean(axis=0), erased[a == 1].mean(axis=0)))
    True
    """

    def __init__(self, *, shrinkage: bool = True) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: ArrayLike, y: Any = None, sensitive_features: Any = None) -> Self:
        """Learn the directions.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations, finite.
        y : ignored
            Present for scikit-learn's sake.
        sensitive_features : array-like of shape (n,) or (n, k)
            Attribute values of any type; k columns are read as their intersection.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No attribute, a constant one, missing values, NaN or infinity in X, or lengths that differ.
        """
        X = check_activations(self, X)
        codes = check_attribute(self, sensitive_features, len(X))
        left, right = leace_projection(X, one_hot(codes), shrinkage=self.shrinkage)
        return self._set(mean=X.mean(axis=0), left=left, right=right)


def leace_projection(
    X: NDArray[np.float64], Z: NDArray[np.float64], *, shrinkage: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """LEACE's L (d, k) and R (k, d) for activations X and attribute columns Z."""
    import torch
    from concept_erasure import LeaceFitter

    eraser = LeaceFitter.fit(
        torch.tensor(X),
        torch.tensor(Z),
        shrinkage=shrinkage,
        svd_tol=1e-8,  # the package's .01 would leave the covariance with a rare attribute value in place
        constrain_cov_trace=False,  # PΣPᵀ ≤ Σ for this P: only rounding could trip the constraint
    ).eraser
    left, right = eraser.proj_left.numpy(), eraser.proj_right.numpy()
    kept = np.abs(left).max(axis=0) > 0
    return left[:, kept], right[kept]
