"""Attribute values of any kind as integer codes.

An attribute may be numbers, strings or booleans, have two values or twenty, or be several attributes at once.
Several are read as their intersection: black women are a group of their own, whose error a table over race
and one over gender can both hide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssae_debias.data.validation import check_sensitive


def group_codes(
    values: Any, name: str = "sensitive_features", *, n: int | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Code each row by its value, or by its combination of values.

    Parameters
    ----------
    values : array-like of shape (n,) or (n, k)
        Strings, numbers or booleans; none missing.
    name : str, default "sensitive_features"
        What the error messages call `values`.
    n : int, optional
        The number of rows that is expected.

    Returns
    -------
    codes : ndarray of int64, shape (n,)
        Index into `names`.
    names : tuple of str
        The values that occur, sorted (numbers by size); combinations are joined by " & ".

    Raises
    ------
    TypeError
        One bare string in place of an array.
    ValueError
        No rows, more than two dimensions, another number of rows than `n`, or a missing value.

    Examples
    --------
    >>> codes, names = group_codes(["F", "M", "F"])
    >>> codes.tolist(), names
    ([0, 1, 0], ('F', 'M'))
    >>> group_codes([["F", "old"], ["M", "old"], ["F", "young"]])[1]
    ('F & old', 'F & young', 'M & old')
    """
    rows, _ = check_sensitive(values, n, name=name)
    if len(rows) == 0:
        raise ValueError(f"{name} holds no rows.")
    names, codes = np.unique(rows, return_inverse=True)
    return codes.astype(np.int64), tuple(str(value) for value in names)
