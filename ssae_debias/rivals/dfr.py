"""Deep feature reweighting: keep the model, retrain its last layer on balanced rows.

A model that leans on the attribute often holds what the task needs as well; only its last layer weighs them
badly. So a linear layer is fitted on as many rows of each (label, attribute) cell as the smallest has,
several times over with different rows, and the weights are averaged. It needs group labels and wastes nothing
but time.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ssae_debias.data.validation import check_labels
from ssae_debias.rivals.eraser import FLOATS, check_activations
from ssae_debias.rivals.group_weights import cell_codes


class DFR(ClassifierMixin, BaseEstimator):
    r"""Linear classifier trained on balanced draws, its weights averaged.

    .. math:: \bar w = \frac{1}{m} \sum_{j=1}^{m} \arg\min_w \sum_{i \in S_j} \ell(w^\top x_i, y_i)
              + \frac{1}{2C} \lVert w \rVert^2,

    with each :math:`S_j` holding, from every (label, attribute) cell, as many rows as the smallest cell has.

    Parameters
    ----------
    C : float, default 0.1
        Inverse penalty on standardised columns. The penalty is L2, as in every other probe here; the paper
        uses L1 and tunes it on held-out groups.
    n_draws : int, default 10
        m, as in the paper.
    random_state : int, RandomState or None, default None
        Which rows are drawn.

    Attributes
    ----------
    classes_ : ndarray
        Labels.
    scaler_ : StandardScaler
        Fitted on all rows given, as in the paper.
    classifier_ : LogisticRegression
        Carries the averaged weights, on standardised columns.
    rows_per_cell_ : int
        Size of the smallest cell.

    References
    ----------
    P. Kirichenko, P. Izmailov and A. G. Wilson, "Last layer re-training is sufficient
    for robustness to spurious correlations", ICLR 2023, section 4 and appendix B. Give rows that the model
    was not trained on for the paper's DFR-Val.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=2000)
    >>> a = np.where(rng.random(2000) < 0.95, y, 1 - y)
    >>> X = rng.normal(size=(2000, 2)) + np.column_stack([3 * y, 6 * a])
    >>> classifier = DFR(random_state=0).fit(X, y, sensitive_features=a)
    >>> bool(classifier.score(X[a != y], y[a != y]) > 0.85)
    True
    """

    n_features_in_: int

    def __init__(
        self,
        *,
        C: float = 0.1,
        n_draws: int = 10,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.C = C
        self.n_draws = n_draws
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any, sensitive_features: Any = None) -> Self:
        """Fit on balanced draws and average.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations, finite.
        y : array-like of shape (n,)
            Labels, two classes or more.
        sensitive_features : array-like of shape (n,) or (n, k)
            Attribute values; k columns are read as their intersection.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No attribute, a cell without rows, `n_draws` below 1, NaN or infinity in X, or lengths that
            differ.
        """
        if self.n_draws < 1:
            raise ValueError(f"n_draws is at least 1, got {self.n_draws}.")
        if sensitive_features is None:
            raise ValueError("DFR balances over the attribute: pass fit(X, y, sensitive_features=...).")
        X = check_activations(self, X)
        y = check_labels(y, len(X))
        codes = cell_codes(y, sensitive_features)
        cells = [np.flatnonzero(codes == cell) for cell in np.unique(codes)]
        self.rows_per_cell_ = min(len(cell) for cell in cells)
        self.scaler_ = StandardScaler().fit(X)
        scaled = self.scaler_.transform(X)

        seed = check_random_state(self.random_state)
        coefs, intercepts = [], []
        for _ in range(self.n_draws):
            rows = np.concatenate([seed.permutation(cell)[: self.rows_per_cell_] for cell in cells])
            self.classifier_ = LogisticRegression(C=self.C, max_iter=2000).fit(scaled[rows], y[rows])
            coefs.append(self.classifier_.coef_)
            intercepts.append(self.classifier_.intercept_)
        self.classifier_.coef_ = np.mean(coefs, axis=0)
        self.classifier_.intercept_ = np.mean(intercepts, axis=0)
        self.classes_ = self.classifier_.classes_
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Signed margins: shape (n,) for two classes, (n, n_classes) for more."""
        return self.classifier_.decision_function(self._scaled(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Decisions, shape (n,); the attribute is not needed."""
        return self.classifier_.predict(self._scaled(X))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities, shape (n, n_classes), under the averaged weights."""
        return self.classifier_.predict_proba(self._scaled(X))

    def _scaled(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self, "classifier_")
        return self.scaler_.transform(validate_data(self, X, reset=False, dtype=FLOATS))
