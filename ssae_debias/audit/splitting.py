"""Which rows latents are found on, and which judge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def given_parts(part: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows called "fit" and rows called "evaluation"; rows with another word are in neither.

    Raises
    ------
    ValueError
        One of the two is nowhere.

    Examples
    --------
    >>> fit, judged = given_parts(["fit", "evaluation", "", "fit"])
    >>> fit.tolist(), judged.tolist()
    ([0, 3], [1])
    """
    words = np.asarray(part).astype(str)
    fit, judged = np.flatnonzero(words == "fit"), np.flatnonzero(words == "evaluation")
    if not len(fit) or not len(judged):
        raise ValueError(
            f'part must say "fit" and "evaluation" for some rows each; it says {sorted(set(words.tolist()))[:6]}.'
        )
    return fit, judged


def drawn_parts(
    cells: NDArray[Any], evaluation_size: float, random_state: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows at random within cells.

    Of a cell of n rows, `evaluation_size`·n judge, rounded down or up by chance, so that cells of a single row
    fall on either side and no cell keeps the others from being split evenly.

    Parameters
    ----------
    cells : ndarray of shape (n,)
        The (label, attribute) cell of each row.
    evaluation_size : float
        Share of rows that judge, between 0 and 1.
    random_state : int

    Returns
    -------
    fit, evaluation : ndarray of int64
        Both sorted.

    Raises
    ------
    ValueError
        `evaluation_size` outside (0, 1), or so few rows that a part is empty.

    Examples
    --------
    >>> fit, judged = drawn_parts(np.array(["a"] * 6 + ["b"] * 2), 0.5, random_state=0)
    >>> len(fit), len(judged), (judged >= 6).sum()
    (4, 4, np.int64(1))
    """
    if not 0 < evaluation_size < 1:
        raise ValueError(f"evaluation_size is a share between 0 and 1, got {evaluation_size}.")
    random = np.random.default_rng(random_state)
    judges = np.zeros(len(cells), dtype=bool)
    for cell in np.unique(cells):
        rows = random.permutation(np.flatnonzero(cells == cell))
        wanted = evaluation_size * len(rows)
        judges[rows[: int(wanted) + int(random.random() < wanted % 1)]] = True
    if judges.all() or not judges.any():
        raise ValueError(
            f"{len(cells)} rows are too few to be split into rows that latents are found on and rows that judge: give "
            "more, or say which are which with part=."
        )
    return np.flatnonzero(~judges), np.flatnonzero(judges)
