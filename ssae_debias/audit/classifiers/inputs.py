"""Inputs that are no texts, as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

SHOWN_COLUMNS = 24


def written_rows(inputs: Any, numbers: Sequence[int] | None = None) -> list[str]:
    """Inputs in words: texts as they are, a table's rows with its columns' names, else numbers and shapes.

    Parameters
    ----------
    inputs : list of str, DataFrame or array of length n
    numbers : sequence of int, optional
        What the rows are called that hold more than a line of numbers, an image say; default: 0 to n - 1.

    Examples
    --------
    >>> written_rows(pd.DataFrame({"age": [41], "hours": [38.5]}))
    ['age 41, hours 38.5']
    >>> written_rows(np.zeros((2, 3, 4, 4)), [7, 9])
    ['row 7, 3 × 4 × 4', 'row 9, 3 × 4 × 4']
    """
    names = range(len(inputs)) if numbers is None else numbers
    if isinstance(inputs, pd.DataFrame):
        columns = list(inputs.columns)
        return [_line(zip(columns, row, strict=True), len(columns)) for row in _records(inputs)]
    return [_written(item, name) for item, name in zip(inputs, names, strict=True)]


def _records(table: pd.DataFrame) -> Any:
    # itertuples keeps each column's type, where a row as a Series would make floats of integers
    return table.itertuples(index=False, name=None)


def _written(item: Any, name: int) -> str:
    if isinstance(item, str):
        return item
    values = np.asarray(item)
    if values.ndim != 1:
        return f"row {name}, {' × '.join(map(str, values.shape))}"
    return _line(((f"x{place}", value) for place, value in enumerate(values.tolist())), len(values))


def _line(named: Any, n: int) -> str:
    shown = [f"{name} {_plain(value)}" for (name, value), _ in zip(named, range(SHOWN_COLUMNS), strict=False)]
    return ", ".join(shown) + (", …" if n > SHOWN_COLUMNS else "")


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
