"""What counts as texts: a sequence of strings, each present.

The commonest mistakes, one bare string and a column with holes in it, would otherwise run to the end and give
nonsense: a string is a sequence of one-letter texts, and `str(None)` is the text "None".
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd


def check_texts(texts: Any, name: str = "texts") -> list[str]:
    """Texts as a list of Python strings, or an error that says what is wrong with them.

    Parameters
    ----------
    texts : list, tuple, 1-D numpy array, pandas Series or pandas Index of str
        At least one text. Empty texts are let through with a warning that counts them.
    name : str, default="texts"
        What the caller's parameter is called, for the messages.

    Returns
    -------
    list of str
        The texts in order.

    Raises
    ------
    TypeError
        A bare string, another kind of container, or something that is no string among the texts
        (the count and the first position are named).
    ValueError
        No texts, or an array that is not 1-D.

    Warns
    -----
    UserWarning
        Some texts are empty or hold only white space.

    Examples
    --------
    >>> check_texts(("He sings.", "She paints."))
    ['He sings.', 'She paints.']
    >>> check_texts("He sings.")
    Traceback (most recent call last):
        ...
    TypeError: texts must be a list of strings, got one bare string; write [text] for a single text.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(
            f"{name} must be a list of strings, got one bare string; write [text] for a single text."
        )
    if not isinstance(texts, list | tuple | np.ndarray | pd.Series | pd.Index):
        raise TypeError(
            f"{name} must be a list, tuple, array or pandas Series of strings, got {type(texts).__name__}."
        )
    if isinstance(texts, np.ndarray) and texts.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got an array of shape {texts.shape}.")
    values = list(texts)
    if not values:
        raise ValueError(f"{name} holds no texts; give at least one.")
    wrong = [i for i, text in enumerate(values) if not isinstance(text, str)]
    if wrong:
        first = values[wrong[0]]
        raise TypeError(
            f"{name} holds {len(wrong)} of {len(values)} values that are no strings, the first at position "
            f"{wrong[0]} ({first!r:.60}); drop those rows or fill them in."
        )
    n_empty = sum(not text.strip() for text in values)
    if n_empty:
        warnings.warn(f"{n_empty} of {len(values)} {name} are empty.", UserWarning, stacklevel=2)
    return [str(text) for text in values]
