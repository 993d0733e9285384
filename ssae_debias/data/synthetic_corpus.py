"""A synthetic general corpus: what the subdomain of the synthetic biographies is retrieved from.

Half of its documents are biographies of all professions that `synthetic_biographies` knows, the other half
notices on the weather, trade, sport, cooking, travel, history and science, without a person in them. A retriever
that works finds the biographies.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.data.resources import read_resource
from ssae_debias.data.synthetic import PROFESSIONS_KNOWN, biography, pick, words

SENTENCES_A_NOTICE = 3


def synthetic_corpus(n: int = 2000, *, random_state: RandomState = 0) -> list[str]:
    """Made-up documents, biographies and notices alternating.

    Parameters
    ----------
    n : int, default=2000
        How many documents.
    random_state : int, Generator, RandomState or None, default=0

    Returns
    -------
    list of str
        Even positions hold biographies, odd ones notices.

    Raises
    ------
    ValueError
        `n` is below 1.

    Examples
    --------
    >>> len(synthetic_corpus(4)), " is expected" in synthetic_corpus(1)[0]
    (4, False)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    rng = as_generator(random_state)
    return [
        biography(pick(PROFESSIONS_KNOWN, rng), int(rng.integers(2)), rng) if i % 2 == 0 else _notice(rng)
        for i in range(n)
    ]


def _notice(rng: np.random.Generator) -> str:
    sentences = _notices()[pick(tuple(_notices()), rng)]
    chosen = rng.permutation(len(sentences))[:SENTENCES_A_NOTICE]
    return " ".join(sentences[i].format_map(_Places(rng)) for i in chosen)


class _Places(dict[str, str]):
    """Cities, regions and years, drawn at each use."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self._rng = rng

    def __missing__(self, slot: str) -> str:
        return pick(words()[slot.rstrip("2")], self._rng)


@cache
def _notices() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in read_resource("synthetic_notices.tsv"):
        found.setdefault(row["about"], []).append(row["sentence"])
    return found
