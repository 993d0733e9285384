"""Whose rows are whose: the attribute as given, or as the words of a text tell it.

An audit may know the attribute of every row, of some, of none, or several attributes at once. Several are crossed:
a classifier can serve every value of each and still fail their intersection. Where none is given and the
attribute has words, the side whose words a text holds more of stands in for it; such groups are called what they
are, groups *by words*, and rows without such words are in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ssae_debias.data import WordPairs, check_sensitive
from ssae_debias.estimators.fitting import sides_of


@dataclass(frozen=True)
class Groups:
    """The attribute of each row, as far as it is known.

    Attributes
    ----------
    values : ndarray of str, shape (n,)
        Attribute value of each row; "" where not known.
    known : ndarray of bool, shape (n,)
    source : {"labels", "words", "none"}
    side : ndarray of int64, shape (n,)
        Whose words a row holds more of: -1, 1, or 0 for neither; all 0 where there are no pairs.

    Examples
    --------
    >>> groups = find_groups(["a", "b", "c"], ["F", None, "M"], None)
    >>> groups.names, groups.at(np.array([1, 2])).values.tolist()
    (('F', 'M'), ['', 'M'])
    """

    values: NDArray[np.str_]
    known: NDArray[np.bool_]
    source: Literal["labels", "words", "none"]
    side: NDArray[np.int64]

    def at(self, rows: NDArray[np.int64]) -> Groups:
        """Those of some rows."""
        return Groups(self.values[rows], self.known[rows], self.source, self.side[rows])

    @property
    def names(self) -> tuple[str, ...]:
        """Values that occur, sorted."""
        return tuple(sorted(set(self.values[self.known].tolist())))

    @property
    def told_by(self) -> Literal["labels", "words", "none"]:
        """What tells these rows apart: labels of two values or more, else the attribute's words, else nothing.

        Examples
        --------
        >>> groups = find_groups(["He left.", "She left.", "He.", "She."], [None, None, "M", "F"], WordPairs.gender())
        >>> groups.told_by, groups.at(np.array([0, 1])).told_by
        ('labels', 'words')
        """
        if self.source == "labels" and len(self.names) > 1:
            return "labels"
        return "words" if self.side.any() else "none"

    def told(self) -> tuple[NDArray[Any] | None, NDArray[np.bool_]]:
        """The attribute to learn by, and the rows where it is known; None where nothing tells these rows apart.

        Where no label is given it is the side of the words, as in `SSAEDebiaser`.

        Returns
        -------
        values : ndarray of shape (n,) or None
        known : ndarray of bool, shape (n,)

        Examples
        --------
        >>> groups = find_groups(["He left.", "Gone.", "She left."], ["", "M", "F"], WordPairs.gender())
        >>> [values.tolist() for values in groups.at(np.array([0, 1])).told()]
        [[-1, 0], [True, False]]
        """
        if self.told_by == "none":
            return None, np.zeros(len(self.side), dtype=bool)
        if self.told_by == "words" and self.source == "labels":
            return self.side, self.side != 0
        return self.values, self.known

    def cells(self, labels: NDArray[Any]) -> NDArray[np.str_]:
        """Each row's group, ``"label/value"``; the label alone where the value is not known."""
        return np.array(
            [
                f"{label}/{value}" if known else str(label)
                for label, value, known in zip(labels.tolist(), self.values, self.known, strict=True)
            ]
        )


def find_groups(
    inputs: Sequence[object],
    sensitive_features: ArrayLike | pd.DataFrame | None,
    pairs: WordPairs | None,
) -> Groups:
    """The groups of an audit's rows.

    Parameters
    ----------
    inputs : sequence of length n
        Texts, where there are pairs; otherwise only their number counts.
    sensitive_features : array-like of shape (n,) or (n, k), or None
        None, NaN, NA and blank strings say that a value is not known; of several columns a row is known where all
        are.
    pairs : WordPairs or None

    Raises
    ------
    ValueError
        Fewer than two values are known, or another number of rows.

    Examples
    --------
    >>> find_groups(["He left.", "She left.", "Gone."], None, WordPairs.gender()).values.tolist()
    ['with he-words', 'with she-words', '']
    >>> find_groups(["", "", ""], ["F", None, "M"], None).known.tolist()
    [True, False, True]
    """
    n = len(inputs)
    side = np.zeros(n, dtype=np.int64)
    if pairs is not None:
        side = sides_of([str(item) for item in inputs], pairs)
    if sensitive_features is not None:
        values, known = _given(sensitive_features, n)
        return Groups(values, known, "labels", side)
    if pairs is None:
        return Groups(np.full(n, ""), np.zeros(n, dtype=bool), "none", side)
    words = {-1: f"with {pairs.pairs[0][0]}-words", 1: f"with {pairs.pairs[0][1]}-words", 0: ""}
    return Groups(np.array([words[int(s)] for s in side]), side != 0, "words", side)


def _given(sensitive_features: Any, n: int) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    table = pd.DataFrame(sensitive_features)
    # what a spreadsheet leaves empty, a .jsonl holds as ""
    table = table.mask(table.map(lambda value: isinstance(value, str) and not value.strip()))
    given = table.iloc[:, 0] if np.ndim(sensitive_features) == 1 and table.shape[1] else table
    found, known = check_sensitive(given, n, missing="drop")
    if found.dtype.kind == "f" and np.all(found % 1 == 0):
        found = found.astype(np.int64)  # a hole makes floats of whole numbers, and 1 is not called 1.0
    names = [str(value) for value in found.tolist()]
    if len(set(names)) < 2:
        raise ValueError(
            f"sensitive_features holds one value, {names[0]!r}, in {int(known.sum())} known rows; an audit compares "
            "two or more."
        )
    values = np.full(n, "", dtype=object)
    values[known] = names
    return values.astype(str), known
