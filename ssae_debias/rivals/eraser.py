"""What all linear erasers do once they are fitted: take a few directions out of every row.

An eraser is an affine map ``r(x) = x − L R (x − μ)``. The rows of R read the attribute, the columns of L say
what to take away for it, and μ is where nothing is taken away. With ``L = Rᵀ`` orthonormal the projection is
orthogonal; LEACE's is oblique. μ matters to a classifier that was trained before the edit: it sees every row
moved to the attribute's middle, not to the origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ssae_debias.data.validation import check_labels
from ssae_debias.metrics import group_codes

if TYPE_CHECKING:
    from ssae_debias.edit import Projection

FLOATS = (np.float64, np.float32)


class AffineEraser(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Base of the linear erasers: ``transform`` is here, ``fit`` learns the three arrays.

    Attributes
    ----------
    mean_ : ndarray of float64, shape (d,)
        μ, the point that stays where it is.
    proj_left_ : ndarray of float64, shape (d, k)
        L, one column for each direction taken away.
    proj_right_ : ndarray of float64, shape (k, d)
        R, one row for each direction read.
    n_features_in_ : int
        d.

    Examples
    --------
    >>> from ssae_debias.rivals import MeanProjection
    >>> eraser = MeanProjection(within_y=False).fit([[0, 1], [0, 5]], sensitive_features=["F", "M"])
    >>> isinstance(eraser, AffineEraser), eraser.mean_.tolist(), eraser.proj_left_.shape
    (True, [0.0, 3.0], (2, 1))
    >>> eraser.transform([[7.0, 4.0]])
    array([[7., 3.]])
    """

    mean_: NDArray[np.float64]
    proj_left_: NDArray[np.float64]
    proj_right_: NDArray[np.float64]
    n_features_in_: int

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Erase the attribute from each row.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations, finite. Neither label nor attribute is needed.

        Returns
        -------
        ndarray of shape (n, d)
            float32 for float32, otherwise float64.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            `fit` was not called.
        ValueError
            NaN, infinity, or another number of columns than in `fit`.
        """
        check_is_fitted(self, "proj_left_")
        rows: NDArray[Any] = validate_data(self, X, reset=False, dtype=FLOATS)
        erased = rows - ((rows - self.mean_) @ self.proj_right_.T) @ self.proj_left_.T
        return erased.astype(rows.dtype, copy=False)

    def as_edit(self) -> Projection:
        """The same as an edit of every token at a site of a model, in float32."""
        import torch  # an eraser of arrays needs none

        from ssae_debias.edit import Projection

        return Projection(
            read=torch.as_tensor(self.proj_right_.T.copy(), dtype=torch.float32),
            write=torch.as_tensor(self.proj_left_.T.copy(), dtype=torch.float32),
            center=torch.as_tensor(self.mean_, dtype=torch.float32),
        )

    def _set(
        self,
        *,
        mean: NDArray[np.float64],
        left: NDArray[np.float64],
        right: NDArray[np.float64] | None = None,
    ) -> Self:
        self.mean_ = mean
        self.proj_left_ = left
        self.proj_right_ = left.T if right is None else right
        return self


def check_activations(estimator: BaseEstimator, X: ArrayLike) -> NDArray[np.float64]:
    """X as float64, finite, its width remembered: sums over many rows lose digits in float32."""
    return validate_data(estimator, X, dtype=np.float64, ensure_min_samples=2)


def check_attribute(estimator: BaseEstimator, sensitive_features: Any, n: int) -> NDArray[np.int64]:
    """Attribute values as codes 0..k−1, k at least 2."""
    if sensitive_features is None:
        raise ValueError(
            f"{type(estimator).__name__} learns from the attribute: pass fit(X, y, sensitive_features=...)."
        )
    codes, names = group_codes(sensitive_features, n=n)
    if len(names) < 2:
        raise ValueError(f"sensitive_features is constant ({names[0]!r}): there is nothing to erase.")
    return codes


def check_class_codes(estimator: BaseEstimator, y: Any, n: int) -> NDArray[np.int64]:
    """Labels as codes 0..k−1."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} works within the classes of y: pass fit(X, y, ...).")
    return np.unique(check_labels(y, n), return_inverse=True)[1]


def one_hot(codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """One column for each code."""
    return np.eye(codes.max() + 1)[codes]


def centred_within(values: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row less the mean of the rows that share its code."""
    member = one_hot(codes)
    means = member.T @ values / member.sum(axis=0)[:, None]
    return values - means[codes]
