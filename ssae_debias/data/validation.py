"""Labels and attributes: present, aligned, and not the same thing.

An attribute that determines the label (every nurse a woman, every surgeon a man) cannot be told from it by
any association in the data: whatever carries one carries the other. `cramers_v` measures how near to that
the data is, and `warn_if_determined` says so before anybody trusts a flag built on association.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

MISSING = "missing"
DETERMINED = 0.99

MissingPolicy = Literal["error", "drop", "keep"]


def check_labels(y: Any, n: int | None = None, name: str = "y") -> NDArray[Any]:
    """Labels as a 1-D array without holes.

    Parameters
    ----------
    y : array-like of shape (n,)
        Classes: ints, strings, booleans, or floats that stand for whole numbers.
    n : int, optional
        How many there must be.
    name : str, default="y"
        What the caller's parameter is called, for the messages.

    Returns
    -------
    ndarray of shape (n,)
        The labels in their own dtype.

    Raises
    ------
    TypeError
        A bare string.
    ValueError
        Not 1-D, another length than `n`, missing values, or continuous values.

    Examples
    --------
    >>> check_labels([0, 1, 1], n=3)
    array([0, 1, 1])
    """
    if isinstance(y, str | bytes):
        raise TypeError(f"{name} must be an array of labels, got one bare string.")
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got an array of shape {values.shape}.")
    if n is not None and len(values) != n:
        raise ValueError(f"{name} has {len(values)} rows, expected {n}.")
    holes = pd.isna(values)
    if holes.any():
        raise ValueError(
            f"{name} has {holes.sum()} missing of {len(values)} values, the first at position "
            f"{int(np.argmax(holes))}; drop those rows or fill them in."
        )
    if values.dtype.kind == "f" and not np.all(values == np.round(values)):
        raise ValueError(f"{name} holds continuous values; expected classes.")
    return values


def check_sensitive(
    sensitive_features: Any,
    n: int | None = None,
    missing: MissingPolicy = "error",
    name: str = "sensitive_features",
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Attribute as a 1-D array, with a policy for its missing values.

    Parameters
    ----------
    sensitive_features : array-like of shape (n,) or (n, k)
        The attribute of each row. Several columns are joined into their intersections, as ``"F & old"``.
    n : int, optional
        How many rows there must be.
    missing : {"error", "drop", "keep"}, default="error"
        What to do about None, NaN and pd.NA: raise, leave those rows out, or make them a category of their
        own, ``"missing"`` (the other values become strings then). An error is the default, for a hole in
        a protected attribute is seldom random.
    name : str, default="sensitive_features"
        What the caller's parameter is called, for the messages.

    Returns
    -------
    values : ndarray of shape (n_kept,)
        The attribute of the rows that are kept.
    kept : ndarray of bool, shape (n,)
        Which rows are kept; all, unless ``missing="drop"``.

    Raises
    ------
    TypeError
        A bare string.
    ValueError
        An unknown policy, a wrong shape or length, missing values under ``"error"``, none left under
        ``"drop"``.

    Examples
    --------
    >>> values, kept = check_sensitive(["F", None, "M"], missing="drop")
    >>> values.tolist(), kept.tolist()
    (['F', 'M'], [True, False, True])
    """
    if missing not in ("error", "drop", "keep"):
        raise ValueError(f"missing must be 'error', 'drop' or 'keep', got {missing!r}.")
    if isinstance(sensitive_features, str | bytes):
        raise TypeError(f"{name} must be an array, got one bare string.")
    table = pd.DataFrame(sensitive_features)
    if np.ndim(sensitive_features) not in (1, 2) or table.shape[1] == 0:
        raise ValueError(f"{name} must be 1-D or 2-D, got an array of shape {np.shape(sensitive_features)}.")
    if n is not None and len(table) != n:
        raise ValueError(f"{name} has {len(table)} rows, expected {n}.")
    holes = table.isna().to_numpy()
    rows: NDArray[np.bool_] = np.asarray(holes.any(axis=1))
    kept = np.ones(len(table), dtype=bool)
    if rows.any():
        if missing == "error":
            raise ValueError(
                f"{name} is missing in {rows.sum()} of {len(rows)} rows, the first at position "
                f"{int(np.argmax(rows))}; choose missing='drop' or missing='keep'."
            )
        if missing == "drop":
            kept = ~rows
            table = table.loc[kept]
            if not kept.any():
                raise ValueError(f"{name} is missing in every row; nothing is left to keep.")
        else:
            table = table.apply(_as_text).mask(holes, MISSING)
    if table.shape[1] > 1:
        return table.apply(_as_text).agg(" & ".join, axis=1).to_numpy(dtype=str), kept
    values = table.iloc[:, 0].infer_objects().to_numpy()
    return (values.astype(str) if values.dtype == object else values), kept


def check_aligned(**arrays: Any) -> int:
    """Length that all the named arrays share; None stands for an array that was not given.

    Parameters
    ----------
    **arrays : array-like or None
        Under the names that the messages shall use.

    Returns
    -------
    int
        The common length; 0 where none was given.

    Raises
    ------
    ValueError
        The lengths differ, or two pandas objects have indices that disagree: same length, other rows or
        order.

    Examples
    --------
    >>> check_aligned(texts=["a", "b"], y=[0, 1], sensitive_features=None)
    2
    >>> check_aligned(texts=["a", "b"], y=[0])
    Traceback (most recent call last):
        ...
    ValueError: lengths differ: texts 2, y 1; give one row per text in each.
    """
    given = {name: array for name, array in arrays.items() if array is not None}
    # array-likes need no len(): scikit-learn's estimators take whatever numpy can read
    lengths = {
        name: len(array if hasattr(array, "__len__") else np.asarray(array)) for name, array in given.items()
    }
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"lengths differ: {listed}; give one row per text in each.")
    indexed = [
        (name, array.index) for name, array in given.items() if isinstance(array, pd.Series | pd.DataFrame)
    ]
    for name, index in indexed[1:]:
        first_name, first_index = indexed[0]
        if not index.equals(first_index):
            raise ValueError(
                f"the pandas indices of {first_name} and {name} disagree; their rows may belong to different "
                "texts. Align them, or pass .to_numpy() if the order is right."
            )
    return next(iter(lengths.values()), 0)


def cramers_v(a: ArrayLike, b: ArrayLike) -> float:
    r"""Cramér's V, the strength of association between two categorical variables.

    .. math:: V = \sqrt{\chi^2 / (n \, (\min(r, c) - 1))}

    without bias correction, so that 1 means that the one with fewer categories is a function of the other.

    Parameters
    ----------
    a, b : array-like of shape (n,)
        Categories of any kind.

    Returns
    -------
    float
        From 0 (independent) to 1. 0 where either is constant.

    Raises
    ------
    ValueError
        The lengths differ or are 0, or values are missing.

    References
    ----------
    H. Cramér, Mathematical Methods of Statistics, Princeton 1946, section 21.9.

    Examples
    --------
    >>> cramers_v(["surgeon", "surgeon", "nurse", "nurse"], ["M", "M", "F", "F"])
    1.0
    >>> cramers_v([0, 0, 1, 1], [0, 1, 0, 1])
    0.0
    """
    first, second = check_labels(a, name="a"), check_labels(b, name="b")
    n = check_aligned(a=first, b=second)
    if n == 0:
        raise ValueError("a and b are empty.")
    rows, i = np.unique(first, return_inverse=True)
    columns, j = np.unique(second, return_inverse=True)
    fewer = min(len(rows), len(columns)) - 1
    if fewer == 0:
        return 0.0
    observed = np.zeros((len(rows), len(columns)))
    np.add.at(observed, (i, j), 1)
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / n
    chi2 = ((observed - expected) ** 2 / expected).sum()
    return float(min(1.0, np.sqrt(chi2 / (n * fewer))))


def warn_if_determined(y: ArrayLike | None, sensitive_features: ArrayLike) -> float:
    """Cramér's V between label and attribute, with a warning where the two cannot be told apart.

    Parameters
    ----------
    y : array-like of shape (n,) or None
        Label; None where there is none, and then only the attribute is checked.
    sensitive_features : array-like of shape (n,)
        Attribute, without missing values.

    Returns
    -------
    float
        Cramér's V; 0 without a label.

    Raises
    ------
    ValueError
        The attribute is constant: there is nothing to remove and no group to compare.

    Warns
    -----
    UserWarning
        V is at least .99.

    Examples
    --------
    >>> round(warn_if_determined([0, 0, 1, 1, 1], ["M", "F", "M", "F", "F"]), 2)
    0.17
    """
    attribute = check_labels(sensitive_features, name="sensitive_features")
    values = np.unique(attribute)
    if len(values) < 2:
        raise ValueError(
            f"the attribute is constant ({values[0]!s})." if len(values) else "the attribute has no rows."
        )
    if y is None:
        return 0.0
    v = cramers_v(y, attribute)
    if v >= DETERMINED:
        warnings.warn(
            f"the attribute and y determine each other (Cramér's V = {v:.3f}): no association in this data "
            "can tell them apart. Flagging by counterfactual pairs (flag='counterfactual') still works, for it "
            "needs neither; or add rows of the missing groups.",
            UserWarning,
            stacklevel=2,
        )
    return v


def _as_text(column: pd.Series) -> pd.Series:
    """Values as strings, whole floats without their ".0" (a hole turns a column of ints into floats)."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(str)
