"""The concepts whose latents are looked for, at their places in the test texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence, Set

import numpy as np

from ssae_debias.activations import TextModel
from ssae_debias.metrics.concept_recall import Concept
from ssae_debias.recipe.evaluate.corpora import Corpora
from ssae_debias.recipe.evaluate.schema import EvaluateRecipe

WORD = re.compile(r"[^\W\d_]{3,}")
LEAST_TEXTS = 8
"""Texts that a drawn word is in: fewer make the halves a matter of luck."""


def find_concepts(recipe: EvaluateRecipe, corpora: Corpora, model: TextModel) -> list[Concept]:
    """All concepts of a recipe that occur often enough in the test texts to be measured.

    Planted words come first, then lists, patterns and labels, then drawn words.
    """
    spec, texts = recipe.concepts, corpora.test.texts
    found: dict[str, Concept] = {}
    given = {word: (word,) for word in corpora.planted} | dict(spec.words)
    for name, words in given.items():
        found[name] = Concept.of_words(name, words, texts, model, max_length=recipe.max_length)
    for name, pattern in spec.patterns.items():
        found[name] = Concept.of_pattern(name, pattern, texts, model, max_length=recipe.max_length)
    if spec.labels and corpora.test.labels is not None:
        for label in sorted({label for label in corpora.test.labels if label is not None}):
            labelled = corpora.test.labels == label
            if 2 <= labelled.sum() < len(labelled):
                found[f"label: {label}"] = Concept.of_texts(f"label: {label}", labelled)
    drawn = draw_words(
        texts, spec.drawn, least=spec.least, without=set(found), random_state=recipe.general.random_state
    )
    for word in drawn:
        try:
            found[word] = Concept.of_words(word, [word], texts, model, max_length=recipe.max_length)
        except ValueError:  # all its occurrences lie behind the cut
            continue
    return [concept for concept in found.values() if len(concept.texts) >= 2]


def draw_words(
    texts: Sequence[str], n: int, *, least: int, without: Set[str] = frozenset(), random_state: int = 0
) -> list[str]:
    """Single words of texts, evenly over the logarithm of how often they occur.

    Parameters
    ----------
    texts : sequence of str
    n : int
        How many; fewer where there are no more.
    least : int
        Occurrences that a word has at least.
    without : set of str, default: none
        Words that are not drawn.
    random_state : int

    Examples
    --------
    >>> texts = ["the surgeon and the nurse", "the nurse left"] * 10
    >>> [word in ("the", "nurse") for word in draw_words(texts, 2, least=10)]  # one of either half of the range
    [True, False]
    """
    counts: Counter[str] = Counter()
    in_texts: Counter[str] = Counter()
    for text in texts:
        words = [word.lower() for word in WORD.findall(text)]
        counts.update(words)
        in_texts.update(set(words))
    known = sorted(
        word
        for word, count in counts.items()
        if count >= least and in_texts[word] >= LEAST_TEXTS and word not in without
    )
    if len(known) <= n or n == 0:
        return sorted(known, key=lambda word: (-counts[word], word))[:n]
    rng = np.random.default_rng(random_state)
    logs = np.log([counts[word] for word in known])
    edges = np.linspace(logs.min(), logs.max(), n + 1)
    ranges = np.clip(np.searchsorted(edges, logs, side="right") - 1, 0, n - 1)
    queues = [list(rng.permutation(np.flatnonzero(ranges == place))) for place in range(n)]
    chosen: list[int] = []
    while len(chosen) < n:  # round by round, so that each range gives as many as it can
        for queue in queues:
            if queue and len(chosen) < n:
                chosen.append(int(queue.pop()))
    return sorted((known[place] for place in chosen), key=lambda word: (-counts[word], word))
