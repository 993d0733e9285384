"""Explaining without a language model: by the tokens that a latent fires on, and their neighbours where they matter.

A lexicon says "`nurse`; `of` after `years`". It is a floor, not a contender: a latent of a topic or of a style cannot
be said so, and what a lexicon does say is said exactly and costs nothing. A score that a language model's explanations
do not beat is worth little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ssae_debias.data.alignment import MARKS
from ssae_debias.latents.interpretability.examples import Example
from ssae_debias.latents.interpretability.judging import Shown, Task


@dataclass(frozen=True)
class Rule:
    """A token, perhaps only after or before another one.

    Attributes
    ----------
    token : str
        In small letters; WordPiece's ``##`` is kept, other marks are not.
    after, before : str or None
        The neighbour that it needs, to its left or to its right.

    Examples
    --------
    >>> str(Rule("of", after="years"))
    "'of' after 'years'"
    """

    token: str
    after: str | None = None
    before: str | None = None

    def __str__(self) -> str:
        if self.after is not None:
            return f"{self.token!r} after {self.after!r}"
        return repr(self.token) if self.before is None else f"{self.token!r} before {self.before!r}"


@dataclass(frozen=True)
class Lexicon:
    """An explanation by rules; made by `LexiconExplainer`.

    Attributes
    ----------
    rules : tuple of Rule
        The most telling first; of none, nothing fits.

    Examples
    --------
    >>> lexicon = Lexicon((Rule("nurse"), Rule("of", after="years")))
    >>> str(lexicon), lexicon.predict(("Years", "of", "care", "of", "nurse")).tolist()
    ("'nurse'; 'of' after 'years'", [False, True, False, False, True])
    """

    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.rules)) or "nothing in particular"

    def predict(self, tokens: Sequence[str]) -> NDArray[np.bool_]:
        """On which tokens of a window the latent should fire."""
        plain = [_plain(token) for token in tokens]
        said = np.zeros(len(plain), dtype=bool)
        by_token: dict[str, list[Rule]] = {}
        for rule in self.rules:
            by_token.setdefault(rule.token, []).append(rule)
        for i, token in enumerate(plain):
            said[i] = any(
                (rule.after is None or (i > 0 and plain[i - 1] == rule.after))
                and (rule.before is None or (i + 1 < len(plain) and plain[i + 1] == rule.before))
                for rule in by_token.get(token, ())
            )
        return said


class LexiconExplainer:
    """Explain a latent by the tokens on which it fires.

    From the examples each token's rule is read, and the rule with its left and with its right neighbour. A rule is good
    if the latent fires on most of what matches it. Of the good ones the worthiest is taken, time and again, until none
    is worth anything: a rule's worth is the activation that it explains and no rule before it did (in parts of the
    window's peak) less its false matches (each as much as a peak); the simpler rule wins a tie.

    Parameters
    ----------
    max_rules : int, default 10
        What a person would read.
    min_precision : float, default 0.5
        Part of a rule's matches in the examples on which the latent must fire.
    min_matches : int, default 2
        Examples in which a rule must be right; 1 where there are three examples or fewer.

    Examples
    --------
    >>> example = Example(0, ("the", "nurse", "left"), np.array([0.0, 2.0, 0.0], dtype=np.float32))
    >>> str(LexiconExplainer()([example, example]))
    "'nurse'"
    """

    def __init__(self, *, max_rules: int = 10, min_precision: float = 0.5, min_matches: int = 2) -> None:
        self.max_rules = max_rules
        self.min_precision = min_precision
        self.min_matches = min_matches

    def __call__(self, examples: Sequence[Example]) -> Lexicon:
        """Explain a latent from its strongest examples."""
        matches: Counter[Rule] = Counter()
        right: Counter[Rule] = Counter()
        where: dict[Rule, set[tuple[int, int]]] = {}
        weight: dict[tuple[int, int], float] = {}
        for number, example in enumerate(examples):
            peak = max(float(example.activations.max(initial=0.0)), 1e-30)
            of_example: set[Rule] = set()
            plain = [_plain(token) for token in example.tokens]
            for i, fires in enumerate(example.fires.tolist()):
                for rule in _rules_at(plain, i):
                    matches[rule] += 1
                    if fires:
                        weight[number, i] = float(example.activations[i]) / peak
                        where.setdefault(rule, set()).add((number, i))
                        of_example.add(rule)
            right.update(of_example)
        needed = self.min_matches if len(examples) > 3 else 1
        good = [
            rule
            for rule, places in where.items()
            if right[rule] >= needed and len(places) >= self.min_precision * matches[rule]
        ]
        rules: list[Rule] = []
        left = dict(weight)
        while good and len(rules) < self.max_rules:
            worth = {
                rule: sum(left.get(place, 0.0) for place in where[rule]) - (matches[rule] - len(where[rule]))
                for rule in good
            }
            best = min(
                good, key=lambda rule: (-round(worth[rule], 6), rule.after or rule.before or "", str(rule))
            )
            if worth[best] <= 0:
                break
            rules.append(best)
            good.remove(best)
            for place in where[best]:
                left.pop(place, None)
        return Lexicon(tuple(rules))


def lexicon_judge(explanation: Lexicon, shown: Sequence[Shown], task: Task) -> list[float]:
    """Judge by the rules: a text fits that holds a match, marked tokens fit by the part of them that match.

    Examples
    --------
    >>> lexicon = Lexicon((Rule("nurse"),))
    >>> lexicon_judge(lexicon, [Shown(("a", "nurse"), (False, True)), Shown(("a", "nurse"), (True, False))], "fuzzing")
    [1.0, 0.0]
    """
    answers = []
    for each in shown:
        said = explanation.predict(each.tokens)
        if task == "detection":
            answers.append(float(said.any()))
        else:
            marked = np.array(each.marked, dtype=bool)
            answers.append(float(said[marked].mean()) if marked.any() else 0.0)
    return answers


def _rules_at(plain: Sequence[str], i: int) -> Iterator[Rule]:
    yield Rule(plain[i])
    if i > 0:
        yield Rule(plain[i], after=plain[i - 1])
    if i + 1 < len(plain):
        yield Rule(plain[i], before=plain[i + 1])


@lru_cache(maxsize=1 << 16)
def _plain(token: str) -> str:
    return (token if token.startswith("##") else MARKS.sub("", token)).lower()
