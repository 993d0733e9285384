"""Two halves of a corpus that share each concept evenly: one to choose units on, one to test them on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.metrics.concepts.concept import Concept


def split_texts(
    concepts: Sequence[Concept], n_texts: int, *, random_state: RandomState = 0
) -> NDArray[np.bool_]:
    """Halve the texts at random, so that each concept's occurrences are halved too.

    With ten occurrences a plain coin would often leave two in a half. Concepts are taken rarest first; each text of a
    concept that has no half yet goes to the one that holds less of the concept.

    Parameters
    ----------
    concepts : sequence of Concept
    n_texts : int
    random_state : int, Generator, RandomState or None, default 0

    Returns
    -------
    ndarray of bool, shape (n_texts,)
        True: a text to select on.

    Examples
    --------
    >>> half = split_texts([Concept.of_tokens("rare", [3, 9], [1, 1])], 20)
    >>> int(half.sum()), int(half[[3, 9]].sum())
    (10, 1)
    """
    rng = as_generator(random_state)
    side = np.zeros(n_texts, dtype=np.int8)  # 1 select, -1 test, 0 open
    for concept in sorted(concepts, key=lambda concept: concept.n_occurrences):
        first = np.unique(concept.occurrence, return_index=True)[1]
        texts, sizes = np.unique(concept.occurrence_texts[first], return_counts=True)
        balance = int((side[texts] * sizes).sum())
        # the texts of many occurrences first: the small ones even out what they leave
        order = np.lexsort((rng.random(len(texts)), -sizes))
        for text, size in zip(texts[order], sizes[order], strict=True):
            if side[text] == 0:
                side[text] = -1 if balance > 0 or (balance == 0 and rng.random() < 0.5) else 1
                balance += int(side[text]) * int(size)
    rest = rng.permutation(np.flatnonzero(side == 0))
    n_select = int(np.clip(n_texts // 2 - (side == 1).sum(), 0, len(rest)))
    side[rest] = -1
    side[rest[:n_select]] = 1
    return side == 1
