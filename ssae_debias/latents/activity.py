"""What a latent does in its strongest texts, counted by word, and what texts in general hold.

A latent's *mass* on a word is its activation there, relative to its usual peak and summed over its strongest texts: a
count of the word, weighed by how strongly the latent means it.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ssae_debias.latents.words import ActiveWord, active_words, word_key, words_of


@dataclass
class Background:
    """How often words occur in texts in general, and words beside words.

    Attributes
    ----------
    words : Counter of str
        Occurrences of each word.
    neighbours : Counter of (str, str)
        Of each pair of neighbours, in reading order.
    held : Counter of str
        Number of texts that hold each word.
    n_texts : int
    """

    words: Counter[str] = field(default_factory=Counter)
    neighbours: Counter[tuple[str, str]] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    n_texts: int = 0

    @classmethod
    def of(cls, texts: Iterable[str]) -> Background:
        """Count the words of texts.

        Examples
        --------
        >>> general = Background.of(["A nurse, a nurse"])
        >>> general.words["nurse"], general.neighbours["a", "nurse"], general.held["nurse"]
        (2, 2, 1)
        """
        counted = cls()
        for text in texts:
            keys = [word_key(word) for word in words_of(text)]
            counted.words.update(keys)
            counted.neighbours.update(pairwise(keys))
            counted.held.update(set(keys))
            counted.n_texts += 1
        return counted


@dataclass
class Activity:
    """What a latent does in its strongest texts, by word.

    Attributes
    ----------
    mass : dict of str to float
        Activation on each word, summed.
    outside : dict of str to float
        Activation on tokens that are no words of the text: `[CLS]`, `[SEP]`.
    words : Counter of str
        Occurrences of each word, and
    held : Counter of str
        in how many of the texts it occurs, whether the latent fires on it or not.
    fired : Counter of str
        In how many it fires on the word.
    n_texts : int
    before, after : dict of (str, str) to float
        Mass on a pair's second word, and on its first: by neighbours in reading order.
    beside : Counter of (str, str)
        In how many of the texts the pair stands.
    forms : mapping of str to Counter of str
        How each word was written.
    """

    mass: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    outside: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    words: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    n_texts: int = 0
    before: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    after: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    beside: Counter[tuple[str, str]] = field(default_factory=Counter)
    forms: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @classmethod
    def in_texts(cls, texts: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> Activity:
        """Read a latent's strongest texts.

        Parameters
        ----------
        texts : sequence of (str, sequence of (str, float))
            Each as written, with its tokens' activations.

        Examples
        --------
        >>> activity = Activity.in_texts([("She sang", [("she", 2.0), ("sang", 0.0)])])
        >>> activity.mass["she"], activity.written("she"), activity.after["she", "sang"]
        (1.0, 'She', 1.0)
        """
        activity = cls(n_texts=len(texts))
        peaks = [max((value for _, value in tokens), default=0.0) for _, tokens in texts]
        # against the usual peak, not the largest: one outlier would shrink all that the other texts say
        usual = statistics.median(peaks) if peaks else 0.0
        for text, tokens in texts:
            if usual > 0:
                words, outside = active_words(text, [(token, min(v / usual, 1.0)) for token, v in tokens])
                activity._add(words, outside)
        return activity

    def _add(self, words: list[ActiveWord], outside: list[tuple[str, float]]) -> None:
        for token, value in outside:
            self.outside[token] += value
        keys = [word.key for word in words]
        self.words.update(keys)
        self.held.update(set(keys))
        self.fired.update({key for word, key in zip(words, keys, strict=True) if word.activation > 0})
        for word, key in zip(words, keys, strict=True):
            self.mass[key] += word.activation
            self.forms[key][word.written] += 1
        pairs = list(pairwise(keys))
        for pair, first, second in zip(pairs, words, words[1:], strict=False):
            self.before[pair] += second.activation
            self.after[pair] += first.activation
        self.beside.update(set(pairs))

    def written(self, key: str) -> str:
        """A word as people write it: small where it is ever written so, otherwise in its most frequent form."""
        forms = self.forms[key]
        small = [form for form in forms if form == form.lower()]
        return min(small or forms, key=lambda form: (-forms[form], form), default=key)
