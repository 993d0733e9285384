"""A uniform sample of a corpus whose length is unknown.

Every document draws a number, and the n largest win: one pass, no matter how long, and every set of n
documents is equally likely. Such a sample is what retrieval is to be compared with, and what an approximate
index is trained on.
"""

from __future__ import annotations

import numpy as np

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.retrieval.corpus import BATCH_SIZE, CorpusLike, as_corpus
from ssae_debias.retrieval.retrieved import BestSoFar, Retrieved


def sample_documents(corpus: CorpusLike, n: int, *, random_state: RandomState = 0) -> Retrieved:
    """Draw `n` documents without replacement, or all where there are fewer.

    Parameters
    ----------
    corpus : Corpus, sequence of str, or path
        See `as_corpus`; it is read once to draw and once to fetch.
    n : int
        How many documents.
    random_state : int, Generator, RandomState or None, default 0
        Makes the draw repeatable.

    Returns
    -------
    Retrieved
        In the order of the corpus; all scores are 0.

    Raises
    ------
    ValueError
        `n` is below 1, or the corpus holds no documents.

    Examples
    --------
    >>> sample = sample_documents(["a", "b", "c", "d"], n=2, random_state=0)
    >>> len(sample), set(sample.texts) <= {"a", "b", "c", "d"}
    (2, True)
    """
    corpus = as_corpus(corpus)
    generator = as_generator(random_state)
    best = BestSoFar(n)
    start = 0
    for texts in corpus.batches(BATCH_SIZE):
        best.add(np.arange(start, start + len(texts)), generator.random(len(texts), dtype=np.float32))
        start += len(texts)
    if start == 0:
        raise ValueError("the corpus holds no documents; nothing to draw from.")
    ids = np.sort(best.sorted()[0])
    return Retrieved(ids, np.zeros(len(ids), dtype=np.float32), corpus.fetch(ids))
