"""Columns of a table as the parts of a task: categories as small ints, splits by name or by a seed.

File formats do not agree on what a category is: an id is the int 1 in a parquet file, "1" in a JSON file,
and 1.0 in a column of a CSV file that has a hole. Categories are therefore compared as strings, as
`categories` writes them.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.data.randomness import RandomState, as_generator

_SPLIT_NAMES = {
    "train": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "test": "test",
}


def check_column(column: str, has: Sequence[Any]) -> None:
    """Raise a ValueError that lists the columns and names the nearest, where `column` is none of them.

    Examples
    --------
    >>> check_column("gendr", ["text", "gender"])
    Traceback (most recent call last):
        ...
    ValueError: no column 'gendr'; nearest is 'gender'. The table has text, gender.
    """
    if column not in has:
        names = [str(other) for other in has]
        raise ValueError(f"no column {column!r};{nearest(column, names)} The table has {', '.join(names)}.")


def nearest(name: str, names: Sequence[str]) -> str:
    """Part of a message: which of `names` is meant, or nothing where none is near.

    Examples
    --------
    >>> nearest("nurs", ["nurse", "poet"])
    " nearest is 'nurse'."
    """
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" nearest is {near[0]!r}." if near else ""


def rows_with(frame: pd.DataFrame, column: str, values: Sequence[Any]) -> pd.DataFrame:
    """The rows of a table whose column holds one of some values.

    Raises
    ------
    TypeError
        `values` is a bare string.
    ValueError
        An unknown column, or a value that it does not hold; the nearest is named.

    Examples
    --------
    >>> rows_with(pd.DataFrame({"year": [1988, 1990, 1991]}), "year", ["1990", 1991])["year"].tolist()
    [1990, 1991]
    """
    check_column(column, list(frame.columns))
    present = frame[column].notna()
    codes, _ = coded(categories(frame.loc[present, column], column), values, column)
    return frame[present][codes >= 0]


def categories(column: pd.Series, name: str) -> list[str]:
    """Values of a column as strings, whole floats without their ".0".

    Raises
    ------
    ValueError
        Values are missing.

    Examples
    --------
    >>> categories(pd.Series([1.0, 0.0]), "gender")
    ['1', '0']
    """
    holes = int(column.isna().sum())
    if holes:
        raise ValueError(
            f"column {name!r} is missing in {holes} of {len(column)} rows; drop them or fill them in."
        )
    return [_category(value) for value in column]


def coded(
    values: Sequence[str], wanted: Sequence[Any] | None, name: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Categories as ints, and what the ints mean.

    Parameters
    ----------
    values : sequence of str, length n
        As `categories` gives them.
    wanted : sequence, optional
        The values to keep, in the order of their ints. By default all of them, sorted; whole numbers as
        numbers.
    name : str
        The column's name, for the messages.

    Returns
    -------
    codes : ndarray of int64, shape (n,)
        -1 where the value is none of those wanted.
    names : tuple of str
        The value of each int.

    Raises
    ------
    TypeError
        `wanted` is a bare string.
    ValueError
        A wanted value does not occur.

    Examples
    --------
    >>> coded(["F", "M", "other"], ("M", "F"), "gender")
    (array([ 1,  0, -1]), ('M', 'F'))
    """
    if isinstance(wanted, str):
        raise TypeError(f"the values of column {name!r} must be a sequence, got one bare string {wanted!r}.")
    found = sorted(set(values), key=lambda value: (0, int(value), "") if value.isdecimal() else (1, 0, value))
    names = tuple(found) if wanted is None else tuple(_category(value) for value in wanted)
    for value in names:
        if value not in found:
            listed = ", ".join(found[:30])
            raise ValueError(
                f"column {name!r} has no value {value!r};{nearest(value, found)} It has {listed}."
            )
    code = {value: number for number, value in enumerate(names)}
    return np.array([code.get(value, -1) for value in values], dtype=np.int64), names


def split_names(column: pd.Series, name: str) -> NDArray[np.str_]:
    """The split of each row as train, dev or test.

    Raises
    ------
    ValueError
        A value that names no split.

    Examples
    --------
    >>> split_names(pd.Series(["train", "validation"]), "part").tolist()
    ['train', 'dev']
    """
    found = [_SPLIT_NAMES.get(str(value).lower()) for value in column]
    unknown = sorted({str(value) for value, split in zip(column, found, strict=True) if split is None})
    if unknown:
        raise ValueError(
            f"column {name!r} holds {unknown[:10]}; expected train, dev (or validation) and test."
        )
    return np.array(found, dtype=str)


def stratified_split(
    y: NDArray[np.int64], sensitive_features: NDArray[np.int64], random_state: RandomState
) -> NDArray[np.str_]:
    """A split at random, 60/20/20 within each (label, attribute) group.

    Examples
    --------
    >>> y = np.repeat([0, 1], 10)
    >>> split = stratified_split(y, y, random_state=0)
    >>> [int((split[:10] == part).sum()) for part in ("train", "dev", "test")]
    [6, 2, 2]
    """
    rng = as_generator(random_state)
    split = np.full(len(y), "train", dtype="<U5")
    for label, attribute in np.unique(np.stack([y, sensitive_features]), axis=1).T:
        rows = rng.permutation(np.flatnonzero((y == label) & (sensitive_features == attribute)))
        dev, test = round(0.6 * len(rows)), round(0.8 * len(rows))
        split[rows[dev:test]], split[rows[test:]] = "dev", "test"
    return split


def _category(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
