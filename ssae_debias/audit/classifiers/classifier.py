"""A classifier as an audit sees it: logits, activations at named sites, and both again while sites are edited.

Three kinds of classifier answer to it: a Hugging Face model with a classification head (`TextClassifier`), a
scikit-learn pipeline whose first step embeds (`PipelineClassifier`), and any PyTorch module (`ModuleClassifier`).
Whatever is asked of one is asked of all, so every question of an audit is written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ssae_debias.activations import TokenBatch
from ssae_debias.data import check_labels
from ssae_debias.edit import Edit


class Classifier(Protocol):
    """What an audit needs of a classifier.

    Examples
    --------
    >>> from torch import nn
    >>> from ssae_debias.audit import ModuleClassifier
    >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> classifier: Classifier = ModuleClassifier(model, "1", classes=["no", "yes"])
    >>> classifier.sites, classifier.classes
    (('module:1',), ('no', 'yes'))
    """

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels, in the order of the logits' columns."""
        ...

    @property
    def sites(self) -> tuple[str, ...]:
        """Where it can be read and edited, in forward order."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells its results from another classifier's: a hash of its weights as they are now."""
        ...

    def checked(self, inputs: Any) -> Any:
        """The inputs in the form that it works with; raises where they are not what it takes."""
        ...

    def logits(
        self, inputs: Any, edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> NDArray[np.float32]:
        """Scores, shape (n, n_classes): the largest of a row is the decision."""
        ...

    def decisions(
        self, inputs: Any, edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and the inputs of the last, linear layer, (n, n_classes) and (n, d); d is 0 where there is no such."""
        ...

    def tokens(
        self, inputs: Any, sites: Sequence[str], edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> Iterator[TokenBatch]:
        """Activations at sites, batch by batch; a batch holds all vectors of an input at the sites in it.

        Sites with as many vectors an input as each other stand in one batch, others in batches of their own.
        """
        ...

    def written(self, inputs: Any, numbers: Sequence[int] | None = None) -> list[str]:
        """Each input as a person reads it; `numbers` are their rows' numbers where words say nothing more."""
        ...


def rows_of(inputs: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of inputs of any kind.

    Examples
    --------
    >>> rows_of(["a", "b", "c"], np.array([2, 0]))
    ['c', 'a']
    """
    if isinstance(inputs, pd.DataFrame):
        return inputs.iloc[rows]
    if isinstance(inputs, list):
        return [inputs[row] for row in rows]
    return inputs[rows]


def pooled(
    classifier: Classifier,
    inputs: Any,
    sites: Sequence[str],
    edits: Mapping[str, Edit] | None = None,
    *,
    verbose: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Mean activation of each input at sites, read in one pass.

    Parameters
    ----------
    classifier : Classifier
    inputs : inputs of length n
    sites : sequence of str
    edits : mapping of str to Edit, optional
        In force while reading; a site that is edited is read after its edit.
    verbose : int, default=0

    Returns
    -------
    dict of str to ndarray of float32, shape (n, d)
        By site, in the order of `sites`.

    Examples
    --------
    >>> from torch import nn
    >>> from ssae_debias.audit import ModuleClassifier
    >>> model = ModuleClassifier(nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten()), "0", classes=list("ab"))
    >>> pooled(model, np.ones((5, 1, 8, 8), dtype="float32"), ["module:0"])["module:0"].shape
    (5, 6)
    """
    n = len(inputs)
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, NDArray[np.int64]] = {}
    for batch in classifier.tokens(inputs, sites, edits, verbose=verbose):
        each = np.bincount(batch.text_index, minlength=n)
        for site, x in batch.activations.items():
            rows = x.double().cpu().numpy()
            np.add.at(sums.setdefault(site, np.zeros((n, rows.shape[1]))), batch.text_index, rows)
            counts[site] = counts.get(site, np.zeros(n, dtype=np.int64)) + each
    return {
        site: (sums[site] / np.maximum(counts[site], 1)[:, None]).astype(np.float32)
        for site in dict.fromkeys(sites)
    }


def label_codes(classifier: Classifier, y: ArrayLike, n: int) -> NDArray[np.int64]:
    """Labels as indices into the classifier's classes.

    Parameters
    ----------
    classifier : Classifier
    y : array-like of shape (n,)
        Names of classes, or their indices from 0. Where classes are called by numbers themselves, numbers are names.
    n : int
        How many there must be.

    Raises
    ------
    ValueError
        A label that is neither, missing values, or another number of them.

    Examples
    --------
    >>> class Two:
    ...     name, classes = "two", ("surgeon", "nurse")
    >>> label_codes(Two(), ["nurse", "surgeon"], 2).tolist(), label_codes(Two(), [0, 1], 2).tolist()
    ([1, 0], [0, 1])
    """
    values = check_labels(y, n)
    if values.dtype.kind == "f":
        values = values.astype(np.int64)  # check_labels lets whole numbers alone through
    names = [str(value) for value in values.tolist()]
    by_name = {name: code for code, name in enumerate(classifier.classes)}
    if set(names) <= set(by_name):
        return np.array([by_name[name] for name in names], dtype=np.int64)
    numbered = any(name.lstrip("-").isdigit() for name in by_name)
    if values.dtype.kind in "iub" and not numbered and values.min() >= 0 and values.max() < len(by_name):
        return values.astype(np.int64)
    unknown = sorted(set(names) - set(by_name))[:5]
    raise ValueError(
        f"y holds {', '.join(map(repr, unknown))}; the classifier {classifier.name} decides between "
        f"{', '.join(map(repr, classifier.classes))}. Give y in these names"
        + ("." if numbered else ", or as their indices from 0.")
    )
