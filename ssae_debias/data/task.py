"""A task: texts, each with a label, an attribute and a split.

The label y is what a classifier should decide; the attribute (`sensitive_features`) is what it must not
lean on. A *group* is one (label, attribute) cell. Both are small ints here and their names are kept beside
them, so that every later part computes on ints and prints names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ssae_debias.data.texts import check_texts
from ssae_debias.data.validation import check_aligned, check_labels

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, eq=False)
class Task:
    """Texts with a label, an attribute and a split each.

    Parameters
    ----------
    texts : sequence of str, length n
        The texts in dataset order; kept as a tuple.
    y : array-like of int, shape (n,)
        Labels, positions in `label_names`; kept as int64.
    sensitive_features : array-like of int, shape (n,)
        Attributes, positions in `attribute_names`; kept as int64.
    split : array-like of str, shape (n,)
        ``"train"``, ``"dev"`` or ``"test"``.
    label_names, attribute_names : sequence of str
        What the ints mean.
    name : str, default="task"
        For reports.

    Raises
    ------
    TypeError
        The texts are not a sequence of strings.
    ValueError
        Lengths differ, an int has no name, a name stands twice, or a split is unknown.

    Examples
    --------
    >>> texts, split = ["He operates.", "She heals."], ["train", "test"]
    >>> task = Task(texts, [0, 1], [0, 1], split, ("surgeon", "nurse"), ("M", "F"))
    >>> task.rows("test")
    array([1])
    >>> task.group_names()
    ('surgeon/M', 'surgeon/F', 'nurse/M', 'nurse/F')
    """

    texts: Sequence[str]
    y: NDArray[np.int64]
    sensitive_features: NDArray[np.int64]
    split: NDArray[np.str_]
    label_names: Sequence[str]
    attribute_names: Sequence[str]
    name: str = "task"

    def __post_init__(self) -> None:
        keep = object.__setattr__
        keep(self, "texts", tuple(check_texts(self.texts)))
        keep(self, "label_names", _names(self.label_names, "label_names"))
        keep(self, "attribute_names", _names(self.attribute_names, "attribute_names"))
        n = len(self.texts)
        keep(self, "y", _codes(self.y, n, "y", self.label_names))
        keep(
            self,
            "sensitive_features",
            _codes(self.sensitive_features, n, "sensitive_features", self.attribute_names),
        )
        split = np.array(check_labels(self.split, n, "split"), dtype=str)
        unknown = sorted(set(split.tolist()) - set(SPLITS))
        if unknown:
            raise ValueError(f"split holds {unknown}; expected {list(SPLITS)}.")
        keep(self, "split", split)
        check_aligned(
            texts=self.texts, y=self.y, sensitive_features=self.sensitive_features, split=self.split
        )

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(self.rows(name))}" for name in SPLITS)
        return (
            f"Task({self.name!r}, {len(self)} texts ({sizes}), y {'/'.join(self.label_names)}, "
            f"attribute {'/'.join(self.attribute_names)})"
        )

    def select(self, index: ArrayLike) -> Task:
        """Task of some rows, in the order given.

        Parameters
        ----------
        index : array-like of int, or of bool with shape (n,)
            Positions or a mask.

        Returns
        -------
        Task
            With copies of those rows; the names stay whole, so that the ints mean the same.

        Raises
        ------
        IndexError
            A position lies outside the task, or the mask has another length.
        ValueError
            No row is selected.

        Examples
        --------
        >>> from ssae_debias.data import synthetic_biographies
        >>> task = synthetic_biographies(200)
        >>> len(task.select(task.rows("train")))
        120
        """
        rows = np.asarray(index)
        if rows.size == 0:
            raise ValueError("no row is selected; a Task holds at least one text.")
        chosen = np.arange(len(self))[rows]
        return replace(
            self,
            texts=[self.texts[i] for i in chosen],
            y=self.y[chosen],
            sensitive_features=self.sensitive_features[chosen],
            split=self.split[chosen],
        )

    def rows(self, *splits: str) -> NDArray[np.int64]:
        """Positions of the rows in these splits, in dataset order; of all rows without arguments.

        Raises
        ------
        ValueError
            A split is unknown.

        Examples
        --------
        >>> from ssae_debias.data import synthetic_biographies
        >>> len(synthetic_biographies(200).rows("dev", "test"))
        80
        """
        unknown = [name for name in splits if name not in SPLITS]
        if unknown:
            raise ValueError(f"unknown split {unknown[0]!r}; expected some of {list(SPLITS)}.")
        if not splits:
            return np.arange(len(self))
        return np.flatnonzero(np.isin(self.split, splits))

    def group_names(self) -> tuple[str, ...]:
        """Names of all groups, label by label: position ``y * len(attribute_names) + attribute``."""
        return tuple(
            f"{label}/{attribute}" for label in self.label_names for attribute in self.attribute_names
        )

    def groups(self) -> NDArray[np.int64]:
        """Group of each row, as a position in `group_names()`; shape (n,)."""
        return self.y * len(self.attribute_names) + self.sensitive_features

    def cell_counts(self) -> pd.DataFrame:
        """Number of texts in each group and split.

        Returns
        -------
        DataFrame
            Indexed by (label, attribute) names, one int column per split; empty groups are listed too.

        Examples
        --------
        >>> from ssae_debias.data import synthetic_biographies
        >>> synthetic_biographies(200).cell_counts().reset_index()
             label attribute  train  dev  test
        0  surgeon         M     54   10    10
        1  surgeon         F      6   10    10
        2    nurse         M      6   10    10
        3    nurse         F     54   10    10
        """
        n_groups = len(self.group_names())
        groups = self.groups()
        counts = {name: np.bincount(groups[self.rows(name)], minlength=n_groups) for name in SPLITS}
        index = pd.MultiIndex.from_product(
            [self.label_names, self.attribute_names], names=["label", "attribute"]
        )
        return pd.DataFrame(counts, index=index)


def _names(names: Any, what: str) -> tuple[str, ...]:
    listed = tuple(str(name) for name in names)
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"{what} must be distinct names, at least one, got {listed}.")
    return listed


def _codes(values: Any, n: int, what: str, names: Sequence[str]) -> NDArray[np.int64]:
    codes = check_labels(values, n, what)
    if codes.dtype.kind not in "iub":
        raise ValueError(f"{what} must hold ints (positions in the names), got dtype {codes.dtype}.")
    codes = codes.astype(np.int64)
    if n and (codes.min() < 0 or codes.max() >= len(names)):
        raise ValueError(
            f"{what} must lie in 0..{len(names) - 1} ({', '.join(names)}), got {np.unique(codes)}."
        )
    return codes
