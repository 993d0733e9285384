"""Leakage: how well the attribute can still be read from activations.

A probe is trained for the attribute on one part of the data and tested on another. Balanced accuracy counts
every attribute value the same, so chance is ``1 / n_values`` whatever the values' frequencies. Where label
and attribute go together, a probe reads the attribute off the label's direction: train and test on sets
balanced over (label, attribute) cells, or what is measured is the task.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import balanced_accuracy_score

from ssae_debias.metrics.codes import group_codes
from ssae_debias.metrics.probes import linear_probe, mlp_probe


def leakage(
    X_train: ArrayLike,
    a_train: ArrayLike,
    X_test: ArrayLike,
    a_test: ArrayLike,
    *,
    probe: Literal["linear", "mlp"] = "linear",
    random_state: int | np.random.RandomState | None = None,
) -> float:
    """Balanced accuracy with which a fresh probe reads the attribute.

    Parameters
    ----------
    X_train, X_test : array-like of shape (n, d)
        Pooled activations, finite.
    a_train, a_test : array-like of shape (n,) or (n, k)
        Attribute values, of any type; k columns are read as their intersection.
    probe : {"linear", "mlp"}, default "linear"
        `linear_probe` or `mlp_probe`. Report both: an erasure that fools every linear probe may leave the
        attribute to a network.
    random_state : int, RandomState or None, default None
        Seed of the network; the linear probe draws nothing.

    Returns
    -------
    float
        Between 0 and 1; chance is 1 / (number of attribute values). Below chance happens on small test sets.

    Raises
    ------
    ValueError
        An unknown `probe`, a constant attribute, an attribute value tested but never trained on,
        lengths that differ, or NaN and infinity in X.

    References
    ----------
    Y. Elazar and Y. Goldberg, "Adversarial removal of demographic attributes from text data", EMNLP 2018:
    what one adversary cannot read, a fresh one still may.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a = rng.integers(2, size=400)
    >>> X = rng.normal(size=(400, 5)) + 3 * a[:, None]
    >>> leakage(X[:200], a[:200], X[200:], a[200:]) > 0.95
    True
    >>> leakage(X[:200], a[:200], rng.normal(size=(200, 5)), a[200:]) < 0.6
    True
    """
    if probe not in ("linear", "mlp"):
        raise ValueError(f'probe is "linear" or "mlp", got {probe!r}.')
    train, train_names = group_codes(a_train, "a_train")
    test, test_names = group_codes(a_test, "a_test")
    if len(train_names) < 2:
        raise ValueError(f"a_train is constant ({train_names[0]!r}): there is nothing to read from X.")
    unseen = sorted(set(test_names) - set(train_names))
    if unseen:
        raise ValueError(f"a_test holds {unseen}, which a_train does not ({list(train_names)}).")
    make_probe = linear_probe if probe == "linear" else mlp_probe
    # whole numbers, because the network of older scikit-learn releases cannot stop early on names
    expected = np.array([list(train_names).index(name) for name in test_names])[test]
    classifier = make_probe(random_state=random_state)
    if probe == "mlp":
        # some rows are held out to stop early; scikit-learn clips larger batches, and warns each time
        network = classifier.named_steps["mlpclassifier"]
        rows = len(train) - int(np.ceil(network.validation_fraction * len(train)))
        classifier.set_params(mlpclassifier__batch_size=max(1, min(network.batch_size, rows)))
    classifier = classifier.fit(X_train, train)
    return float(balanced_accuracy_score(expected, classifier.predict(X_test)))
