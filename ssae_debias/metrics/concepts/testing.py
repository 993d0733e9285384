r"""On the other half of the texts: how well the chosen units find their concepts, with intervals over texts.

Only the chosen units are computed. The bootstrap draws texts, since tokens of one text are no independent examples.
Every text gets its number of copies in each resample beforehand, and counts are summed with those copies as weights:
the ordinary bootstrap, in one reading and without keeping a token. All units and concepts share the resamples, so the
difference between two of them has an interval of its own.

Precision at recall ½ is read at the highest threshold at which half of the occurrences are found: how clean a unit can
be while it still finds them. A unit that fires on fewer than half of them reaches the rest only by calling everything
the concept, and then its precision is the concept's frequency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from torch import Tensor

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.metrics.compared import BatchFactory, part_tokens, whole_text_parts
from ssae_debias.metrics.concepts.concept import Concept
from ssae_debias.metrics.concepts.levels import FINER, Choice, level_edges, levels_of
from ssae_debias.metrics.concepts.selection import Finder, over_groups

_ENTRIES = 1 << 13
"""Examples kept one by one before they are summed with their weights."""

FIGURES = ("f1", "precision", "recall", "precision_at_half_recall")


def copies(texts: NDArray[np.bool_], n_resamples: int, random_state: RandomState) -> NDArray[np.uint8]:
    """How often each text is in the data and in each resample of them, shape (n_texts, 1 + n_resamples).

    Column 0 is the data themselves. It takes n_resamples bytes a text: less than the text.

    Examples
    --------
    >>> copies(np.array([True, False, True]), 3, random_state=0).sum(0)
    array([2, 2, 2, 2], dtype=uint64)
    """
    rng = as_generator(random_state)
    table = np.zeros((len(texts), 1 + n_resamples), dtype=np.uint8)
    chosen = np.flatnonzero(texts)
    table[chosen, 0] = 1
    for draw in range(1, 1 + n_resamples):
        drawn = np.bincount(rng.integers(len(chosen), size=len(chosen)), minlength=len(chosen))
        table[chosen, draw] = np.minimum(drawn, 255)
    return table


@dataclass
class Tally:
    """Examples of one choice by level, weighed by the copies of their texts.

    Attributes
    ----------
    weights : ndarray of shape (n_texts, 1 + n_resamples)
    n_levels : int
        Fine levels.
    """

    weights: NDArray[np.uint8]
    n_levels: int
    _waiting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = field(
        default_factory=list
    )
    _n_waiting: int = 0

    def __post_init__(self) -> None:
        self._table = np.zeros((self.n_levels + 1, self.weights.shape[1]))

    def add(self, values: NDArray[np.int64], texts: NDArray[np.int64], sign: float = 1.0) -> None:
        """Count examples by level and text; `sign` -1 takes them back."""
        kept = values > 0
        if self.weights.shape[1] == 1:  # without resamples there is nothing to put off
            counts = self.weights[texts[kept], 0] * sign
            self._table[:, 0] += np.bincount(values[kept], counts, minlength=len(self._table))
            return
        self._waiting.append((values[kept], texts[kept], np.full(int(kept.sum()), sign)))
        self._n_waiting += int(kept.sum())
        if self._n_waiting > _ENTRIES:
            self._sum()

    def reaching(self) -> NDArray[np.float64]:
        """Weighed number of examples above each threshold, shape (n_levels, 1 + n_resamples)."""
        self._sum()
        return np.cumsum(self._table[::-1], axis=0)[::-1][1:]

    def _sum(self) -> None:
        if not self._n_waiting:
            return
        levels, texts, signs = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        present, row = np.unique(levels, return_inverse=True)
        named, column = np.unique(texts, return_inverse=True)
        matrix = coo_matrix((signs, (row, column)), shape=(len(present), len(named))).tocsr()
        self._table[present] += matrix @ self.weights[named].astype(np.float64)
        self._waiting, self._n_waiting = [], 0


@dataclass(frozen=True)
class Score:
    """How well a choice found its concept on the other half.

    Attributes
    ----------
    draws : dict of str to ndarray, shape (1 + n_resamples,)
        Each of `FIGURES`: element 0 for the texts themselves, the rest for the resamples. NaN where a resample holds
        no occurrence.
    """

    draws: dict[str, NDArray[np.float64]]


def measure(
    batches: BatchFactory,
    finders: Sequence[Finder],
    concepts: Sequence[Concept],
    texts: NDArray[np.bool_],
    choices: Mapping[tuple[str, str], Sequence[Choice]],
    *,
    n_levels: int,
    n_resamples: int,
    random_state: RandomState,
) -> tuple[dict[tuple[str, str], list[Score]], dict[str, int], dict[str, int]]:
    """Read the other half once and score every choice on it.

    Parameters
    ----------
    batches, finders, concepts
    texts : ndarray of bool, shape (n_texts,)
        The texts to test on.
    choices : mapping of (finder, concept) to sequence of Choice
        The first of each gets resamples, the others the figures alone.
    n_levels : int
        As in `select`.
    n_resamples : int
    random_state : int, Generator, RandomState or None

    Returns
    -------
    dict of (finder, concept) to list of Score
        In the order of `choices`.
    dict of str to int
        Occurrences in the half, by concept.
    dict of str to int
        Tokens and texts in the half, by level.
    """
    weights = copies(texts, n_resamples, random_state)
    fine = n_levels * FINER
    columns = {f.name: _columns(f.name, choices) for f in finders}
    # what a unit does on all examples is the same for every concept
    chosen_first = {(f, given[0].unit, _level_of(c, concepts)) for (f, c), given in choices.items()}
    every = {
        (finder, choice.unit, level): Tally(
            weights if (finder, choice.unit, level) in chosen_first else weights[:, :1], fine
        )
        for (finder, concept), given in choices.items()
        for level in (_level_of(concept, concepts),)
        for choice in given
    }
    found, joined = (
        {
            (*pair, i): Tally(weights if i == 0 else weights[:, :1], fine)
            for pair, given in choices.items()
            for i in range(len(given))
        }
        for _ in range(2)
    )
    n_found = dict.fromkeys((c.name for c in concepts), 0)
    occurrences = {c.name: np.zeros(weights.shape[1]) for c in concepts}
    examples = {"token": np.zeros(weights.shape[1]), "text": np.zeros(weights.shape[1])}
    n_examples = {"token": 0, "text": 0}
    at_once = part_tokens(max(finder.units.n for finder in finders))
    for batch in batches():
        for part in whole_text_parts(batch, texts, at_once):
            present, sizes = np.unique(part.text_index, return_counts=True)
            n_examples["token"] += len(part)
            n_examples["text"] += len(present)
            examples["token"] += sizes @ weights[present].astype(np.float64)
            examples["text"] += weights[present].sum(0, dtype=np.float64)
            held = []
            for c in concepts:
                rows, numbers = c.tokens(part)
                if not len(rows):
                    continue
                first = np.unique(numbers, return_index=True)[1]
                where = part.text_index[rows[first]]
                n_found[c.name] += len(where)
                occurrences[c.name] += weights[where].sum(0, dtype=np.float64)
                held.append((c, rows, numbers, where))
            for finder in finders:
                units = columns[finder.name]
                values = finder.units.selected(part.activations[finder.site], list(units))
                levels = _levels(values, finder.largest[torch.as_tensor(list(units))], fine)
                by_text = _levels_over(levels, part.text_index)
                for unit, column in units.items():
                    if (tally := every.get((finder.name, unit, "token"))) is not None:
                        tally.add(levels[:, column], part.text_index)
                    if (tally := every.get((finder.name, unit, "text"))) is not None:
                        tally.add(by_text[:, column], present)
                for c, rows, numbers, where in held:
                    for i, choice in enumerate(choices[finder.name, c.name]):
                        column = units[choice.unit]
                        hits = _levels_over(levels[rows][:, [column]], numbers)[:, 0]
                        key = finder.name, c.name, i
                        found[key].add(hits, where)
                        if c.level == "token":  # an occurrence of several tokens is one example
                            joined[key].add(hits, where)
                            joined[key].add(levels[rows, column], part.text_index[rows], -1.0)
    results: dict[tuple[str, str], list[Score]] = {}
    for (name, concept), given in choices.items():
        level = _level_of(concept, concepts)
        results[name, concept] = []
        for i, choice in enumerate(given):
            hits_of = found.pop((name, concept, i)).reaching()
            n_draws = hits_of.shape[1]
            alone = every[name, choice.unit, level].reaching()[:, :n_draws]
            predicted = alone + joined.pop((name, concept, i)).reaching()
            score = _scored(hits_of, predicted, occurrences[concept], examples[level], choice.level * FINER)
            results[name, concept].append(score)
    return results, n_found, n_examples


def _level_of(concept: str, concepts: Sequence[Concept]) -> str:
    return next(c.level for c in concepts if c.name == concept)


def _columns(finder: str, choices: Mapping[tuple[str, str], Sequence[Choice]]) -> dict[int, int]:
    units = sorted(
        {choice.unit for (name, _), given in choices.items() if name == finder for choice in given}
    )
    return {unit: column for column, unit in enumerate(units)}


def _levels(values: Tensor, largest: Tensor, n_levels: int) -> NDArray[np.int64]:
    return levels_of(values / largest.clamp(min=1e-30), level_edges(n_levels)).numpy()


def _levels_over(levels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return over_groups(torch.from_numpy(levels), groups).numpy()


def _scored(
    found: NDArray[np.float64],
    predicted: NDArray[np.float64],
    occurrences: NDArray[np.float64],
    examples: NDArray[np.float64],
    level: int,
) -> Score:
    """Figures of every resample; `found` and `predicted` are (n_levels, n_draws)."""
    n_draws = found.shape[1]
    n = occurrences[:n_draws]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(predicted[level] > 0, found[level] / predicted[level], 0.0)
        recall = np.where(n > 0, found[level] / n, np.nan)
        f1 = np.where(n > 0, 2 * found[level] / (predicted[level] + n), np.nan)
        # thresholds ascend, so the last one with recall ½ is the highest
        enough = found >= 0.5 * n
        reached = enough.any(axis=0)
        highest = np.where(reached, len(enough) - 1 - np.argmax(enough[::-1], axis=0), 0)
        draw = np.arange(n_draws)
        at_half = np.where(
            reached, found[highest, draw] / np.maximum(predicted[highest, draw], 1), n / examples[:n_draws]
        )
        at_half = np.where(n > 0, at_half, np.nan)
    precision = np.where(n > 0, precision, np.nan)
    return Score(dict(zip(FIGURES, (f1, precision, recall, at_half), strict=True)))
