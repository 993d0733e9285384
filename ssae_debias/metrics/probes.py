"""The two probes that every table uses: a linear one and a small network.

A *probe* is a classifier trained on frozen activations. What a linear probe reads is what a linear head on
the model would use; an attribute that it cannot read may still be there, folded, for a network to find. So
leakage is told by both.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def linear_probe(*, C: float = 0.1, random_state: int | np.random.RandomState | None = None) -> Pipeline:
    """An unfitted StandardScaler and logistic regression.

    Parameters
    ----------
    C : float, default 0.1
        Inverse of the L2 penalty's strength, on standardised columns. The default is that of the reference
        figures on real biographies.
    random_state : int, RandomState or None, default None
        Passed on; the default solver draws nothing.

    Returns
    -------
    Pipeline
        Steps ``standardscaler`` and ``logisticregression``; row weights go to the second:
        ``fit(X, y, logisticregression__sample_weight=w)``.

    Examples
    --------
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> linear_probe().fit(X, ["a", "a", "b", "b"]).predict([[-3.0], [3.0]]).tolist()
    ['a', 'b']
    """
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000, random_state=random_state))


def mlp_probe(
    *, hidden: int = 128, alpha: float = 0.1, random_state: int | np.random.RandomState | None = None
) -> Pipeline:
    """An unfitted StandardScaler and network with one hidden layer.

    It stops early on a fifth of its own training rows, never on test rows.

    Parameters
    ----------
    hidden : int, default 128
        Units of the hidden layer (ReLU). Our choice, as is `alpha`; on a few hundred biographies other widths
        and penalties read about as much.
    alpha : float, default 0.1
        L2 penalty.
    random_state : int, RandomState or None, default None
        Seed of the weights, batches and validation part.

    Returns
    -------
    Pipeline
        Steps ``standardscaler`` and ``mlpclassifier``.

    Examples
    --------
    An exclusive or, which no linear probe reads:

    >>> X = np.random.default_rng(0).choice([-1.0, 1.0], size=(400, 2))
    >>> y = X[:, 0] * X[:, 1] > 0
    >>> float(linear_probe().fit(X, y).score(X, y)) < 0.7
    True
    >>> mlp_probe(random_state=0).fit(X, y).score(X, y)
    1.0
    """
    network = MLPClassifier(
        hidden_layer_sizes=(hidden,),
        alpha=alpha,
        batch_size=32,  # sklearn's 200 would be one step an epoch on small balanced sets
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=20,
        max_iter=500,
        random_state=random_state,
    )
    return make_pipeline(StandardScaler(), network)
