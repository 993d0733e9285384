"""One seed, two kinds of generator: NumPy's, and Python's where a published protocol shuffles with it."""

from __future__ import annotations

import random
from typing import TypeAlias

import numpy as np

RandomState: TypeAlias = int | np.random.Generator | np.random.RandomState | None


def as_generator(random_state: RandomState) -> np.random.Generator:
    """NumPy generator for a `random_state`.

    Parameters
    ----------
    random_state : int, numpy Generator, numpy RandomState or None
        An int gives the same draws every time; a Generator is used as it is; None draws anew.

    Raises
    ------
    TypeError
        `random_state` is none of these.

    Examples
    --------
    >>> int(as_generator(0).integers(100)) == int(as_generator(0).integers(100))
    True
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(int(random_state.randint(2**31)))
    return np.random.default_rng(_seed(random_state))


def as_python_random(random_state: RandomState) -> random.Random:
    """Python generator for a `random_state`; an int seeds it directly, as in the published protocol.

    Parameters
    ----------
    random_state : int, numpy Generator, numpy RandomState or None
        As for `as_generator`.

    Raises
    ------
    TypeError
        `random_state` is none of these.

    Examples
    --------
    >>> as_python_random(42).random() == random.Random(42).random()
    True
    """
    if isinstance(random_state, np.random.Generator | np.random.RandomState):
        return random.Random(int(as_generator(random_state).integers(2**31)))
    return random.Random(_seed(random_state))


def _seed(random_state: object) -> int | None:
    if random_state is None:
        return None
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return int(random_state)
    raise TypeError(
        "random_state must be an int, a numpy Generator, a numpy RandomState or None, "
        f"got {type(random_state).__name__}."
    )
