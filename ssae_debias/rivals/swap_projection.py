"""Swap projection: what changes in the activations when only the attribute's words do.

Swap the gendered words in each text and read both. The differences hold the attribute and little else, label
included, so no labels are needed. Their strongest directions are projected out. It reaches what the word list
names, and of the rest what lies along the same directions.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array

from ssae_debias.rivals.eraser import AffineEraser, check_activations


class SwapProjection(AffineEraser):
    r"""Orthogonal projection along the principal directions of counterfactual differences.

    .. math:: r(x) = x - V V^\top (x - \mu),

    with V the top right singular vectors of the rows :math:`x_i - x_i'`, where :math:`x_i'` is the activation
    of text i with its attribute words swapped, and :math:`\mu` the mean over all :math:`x_i` and
    :math:`x_i'`. The differences are not centred: their sign is which side the text started from, and a text
    that the swap does not change adds nothing.

    Parameters
    ----------
    n_directions : int, default 1
        Directions taken out.

    Attributes
    ----------
    mean_, proj_left_, proj_right_
        See `AffineEraser`.
    explained_ : ndarray of shape (n_directions,)
        Share of the differences' sum of squares along each direction.

    References
    ----------
    T. Bolukbasi et al., "Man is to computer programmer as woman is to homemaker?",
    NeurIPS 2016 (directions from word pairs); P. P. Liang et al., "Towards debiasing sentence
    representations", ACL 2020 (from sentences).

    Examples
    --------
    >>> X = np.array([[1.0, 5.0], [-1.0, 7.0]])
    >>> swapped = np.array([[-1.0, 5.0], [1.0, 7.0]])
    >>> SwapProjection().fit(X, counterfactual=swapped).transform(X)
    array([[0., 5.],
           [0., 7.]])
    """

    def __init__(self, *, n_directions: int = 1) -> None:
        self.n_directions = n_directions

    def fit(self, X: ArrayLike, y: Any = None, *, counterfactual: ArrayLike) -> Self:
        """Learn the directions.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations of the texts, finite.
        y : ignored
            Present for scikit-learn's sake.
        counterfactual : array-like of shape (n, d)
            Activations of the same texts with the attribute's words swapped, row by row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Shapes that differ, no row that the swap changed, `n_directions` out of range, NaN or infinity.
        """
        X = check_activations(self, X)
        swapped = check_array(counterfactual, dtype=np.float64, input_name="counterfactual")
        if swapped.shape != X.shape:
            raise ValueError(
                f"counterfactual has shape {swapped.shape}, X has {X.shape}; give one row per text."
            )
        _, strengths, directions = np.linalg.svd(X - swapped, full_matrices=False)
        if strengths[0] == 0:
            raise ValueError("X and counterfactual are equal: the swap changed no text.")
        rank = int(np.sum(strengths > 1e-12 * strengths[0]))
        if not 1 <= self.n_directions <= rank:
            raise ValueError(f"n_directions is 1 to {rank}, the differences' rank; got {self.n_directions}.")
        self.explained_ = (strengths**2 / np.sum(strengths**2))[: self.n_directions]
        return self._set(mean=(X + swapped).mean(axis=0) / 2, left=directions[: self.n_directions].T)
