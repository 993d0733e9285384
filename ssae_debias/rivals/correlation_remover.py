"""Correlation remover: subtract from each column what the attribute predicts of it.

The residual of a linear regression of X on the attribute is uncorrelated with it. The catch is that the
attribute has to be known for every row, also at decision time. Where it is not, its expectation under a probe
stands in: then the guarantee is gone, and what remains is how well the probe reads it.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ssae_debias.metrics import group_codes, linear_probe
from ssae_debias.rivals.eraser import FLOATS, check_activations, check_attribute, one_hot


class CorrelationRemover(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""fairlearn's `CorrelationRemover` on activations, with a stand-in for an unknown attribute.

    .. math::

       r(x, z) = x - \alpha B^\top (z - \bar z), \quad B = \arg\min_B \lVert X - (Z - \bar Z) B \rVert^2,

    with Z the attribute, one-hot. It cannot be done exactly without z at `transform`; there z is replaced by
    :math:`E[z \mid x]` of a logistic regression fitted on the training rows. (Rescale a *linear* prediction
    of z so that the covariance vanishes again, and what one gets is LEACE.)

    Parameters
    ----------
    alpha : float, default 1.0
        How much of the correlation to remove, 0 to 1.

    Attributes
    ----------
    remover_ : fairlearn.preprocessing.CorrelationRemover
        fairlearn's own, fitted.
    probe_ : Pipeline
        Reads the attribute where it is not given.
    attribute_names_ : tuple of str
        Attribute values seen in `fit`.

    References
    ----------
    fairlearn, `CorrelationRemover`, https://fairlearn.org/main/user_guide/mitigation/preprocessing.html.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a = rng.integers(2, size=400)
    >>> X = rng.normal(size=(400, 3)) + 4 * a[:, None]
    >>> remover = CorrelationRemover().fit(X, sensitive_features=a)
    >>> def gap(Z):
    ...     return float(np.abs(Z[a == 1].mean(axis=0) - Z[a == 0].mean(axis=0)).max())
    >>> gap(remover.transform(X, sensitive_features=a)) < 1e-9
    True
    >>> 1e-9 < gap(remover.transform(X)) < 0.5
    True
    """

    n_features_in_: int

    def __init__(self, *, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: ArrayLike, y: Any = None, sensitive_features: Any = None) -> Self:
        """Learn the regression of X on the attribute, and the probe.

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
            `alpha` outside 0..1, no attribute or a constant one, NaN or infinity in X, lengths that differ.
        """
        from fairlearn.preprocessing import CorrelationRemover as FairlearnRemover

        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is between 0 and 1, got {self.alpha}.")
        X = check_activations(self, X)
        codes = check_attribute(self, sensitive_features, len(X))
        self.attribute_names_ = group_codes(sensitive_features)[1]
        columns = one_hot(codes)
        self.remover_ = FairlearnRemover(
            sensitive_feature_ids=list(range(columns.shape[1])), alpha=self.alpha
        ).fit(np.column_stack([columns, X]))
        self.probe_ = linear_probe().fit(X, codes)
        return self

    def transform(self, X: ArrayLike, sensitive_features: Any = None) -> NDArray[Any]:
        """Subtract what the attribute predicts.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations, finite.
        sensitive_features : array-like of shape (n,) or (n, k), optional
            The attribute, for the exact form; values seen in `fit`. None: the probe's probabilities stand in.

        Returns
        -------
        ndarray of shape (n, d)
            float32 for float32, otherwise float64.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            `fit` was not called.
        ValueError
            An attribute value that `fit` did not see, NaN, infinity, or shapes that do not fit.
        """
        check_is_fitted(self, "remover_")
        rows: NDArray[Any] = validate_data(self, X, reset=False, dtype=FLOATS)
        if sensitive_features is None:
            columns = self.probe_.predict_proba(rows)
        else:
            codes, names = group_codes(sensitive_features, n=len(rows))
            unseen = sorted(set(names) - set(self.attribute_names_))
            if unseen:
                raise ValueError(f"Unseen attribute values {unseen}; fit saw {list(self.attribute_names_)}.")
            position = np.array([self.attribute_names_.index(name) for name in names])
            columns = np.eye(len(self.attribute_names_))[position[codes]]
        return self.remover_.transform(np.column_stack([columns, rows])).astype(rows.dtype, copy=False)
