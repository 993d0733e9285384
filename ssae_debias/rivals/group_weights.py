"""Group reweighting: every (label, attribute) cell counts the same in training.

If the rare cells weigh as much as the common ones, the attribute no longer predicts the label in the weighted
data, and a classifier has no reason to use it. It needs group labels and at least some rows in every cell; a
cell of few rows is fitted closely.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.class_weight import compute_sample_weight

from ssae_debias.data.validation import check_labels
from ssae_debias.metrics import group_codes


def group_weights(y: ArrayLike, sensitive_features: Any) -> NDArray[np.float64]:
    r"""Weight of each row, so that all cells have the same total.

    .. math:: w_i = \frac{n}{|\mathcal{G}| \; n_{g(i)}},

    with :math:`g(i)` row i's (label, attribute) cell. The mean weight is 1.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels.
    sensitive_features : array-like of shape (n,) or (n, k)
        Attribute values; k columns are read as their intersection.

    Returns
    -------
    ndarray of float64, shape (n,)
        For ``sample_weight``, e.g. ``linear_probe().fit(X, y, logisticregression__sample_weight=w)``.

    Raises
    ------
    ValueError
        A label that does not occur with each attribute value (no weight makes up for a cell without rows),
        missing values, or lengths that differ.

    References
    ----------
    F. Kamiran and T. Calders, "Data preprocessing techniques for classification without
    discrimination", KAIS 2012 (reweighing); B. Idrissi et al., "Simple data balancing achieves competitive
    worst-group-accuracy", CLeaR 2022.

    Examples
    --------
    >>> group_weights([0, 0, 0, 0, 1, 1, 1, 1], ["M", "M", "M", "F", "F", "F", "F", "M"]).round(2)
    array([0.67, 0.67, 0.67, 2.  , 0.67, 0.67, 0.67, 2.  ])
    """
    return compute_sample_weight("balanced", cell_codes(y, sensitive_features))


def cell_codes(y: ArrayLike, sensitive_features: Any) -> NDArray[np.int64]:
    """The (label, attribute) cell of each row, 0..n_cells − 1; every combination has to occur."""
    labels = check_labels(y)
    classes, codes = np.unique(labels, return_inverse=True)
    attribute, names = group_codes(sensitive_features, n=len(labels))
    cells = codes * len(names) + attribute
    sizes = np.bincount(cells, minlength=len(classes) * len(names))
    if (sizes == 0).any():
        empty = [f"{classes[i // len(names)]}/{names[i % len(names)]}" for i in np.flatnonzero(sizes == 0)]
        raise ValueError(f"No rows in {', '.join(empty)}: balancing needs at least one in every cell.")
    return cells
