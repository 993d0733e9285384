"""From the results of single seeds to rows: one a metric, SAE, ranking and number of zeroed latents.

A seed's score is the mean over the tasks (pairs of classes); intervals are Student's t over the seeds. With one
seed an interval is the point itself. Test texts have a chance of their own that no number of seeds shows: 396
texts know an accuracy to about 2 points, and an SCR score divides by a difference of two accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ssae_debias.metrics import Interval, SCRDirection, SCRResult, TPPResult, seeds_interval

Ranking = Literal["effect", "random"]
Result = SCRResult | SCRDirection | TPPResult
REMOVED: tuple[Literal["attribute", "label"], ...] = ("attribute", "label")


@dataclass(frozen=True)
class Found:
    """What one SAE, one ranking, one task and one seed gave; several draws where the ranking is random."""

    sae: str
    ranking: Ranking
    task: str
    seed: int
    draws: Sequence[Result]

    @property
    def scores(self) -> dict[int, float]:
        """Score by n, averaged over the draws."""
        return _mean([draw.scores for draw in self.draws])


@dataclass(frozen=True)
class ScoreRow:
    """A figure of the table.

    Attributes
    ----------
    sae : str
    ranking : {"effect", "random"}
    n : int
        Zeroed latents.
    score : Interval
        Mean over the seeds.
    by_seed : tuple of float
        In the recipe's order.
    tasks : dict
        The same for each task, with the accuracies that it is made of.
    """

    sae: str
    ranking: Ranking
    n: int
    score: Interval
    by_seed: tuple[float, ...]
    tasks: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As `results.json` holds it."""
        return {
            "sae": self.sae,
            "ranking": self.ranking,
            "n": self.n,
            "score": self.score.to_dict(),
            "by_seed": list(self.by_seed),
            "tasks": self.tasks,
        }


def score_rows(found: Sequence[Found]) -> list[ScoreRow]:
    """Rows of one metric, SAE by SAE in the order found, each with its control.

    Examples
    --------
    >>> from ssae_debias.metrics import TPPResult
    >>> results = [TPPResult({"a": 1.0}, {"a": {2: drop}}, {"a": {2: 0.0}}) for drop in (0.25, 0.75)]
    >>> rows = score_rows([Found("mine", "effect", "abc", i, [result]) for i, result in enumerate(results)])
    >>> rows[0].n, rows[0].score.mean, rows[0].by_seed
    (2, 0.5, (0.25, 0.75))
    """
    rows = []
    for sae, ranking in dict.fromkeys((one.sae, one.ranking) for one in found):
        by_task: dict[str, list[Found]] = {}
        for one in found:
            if (one.sae, one.ranking) == (sae, ranking):
                by_task.setdefault(one.task, []).append(one)
        for n in next(iter(by_task.values()))[0].scores:
            by_seed = np.mean([[one.scores[n] for one in of_task] for of_task in by_task.values()], axis=0)
            tasks = {name: _of_task(of_task, n) for name, of_task in by_task.items()}
            rows.append(ScoreRow(sae, ranking, n, seeds_interval(by_seed), tuple(by_seed.tolist()), tasks))
    return rows


def by_direction(found: Sequence[Found]) -> dict[str, list[Found]]:
    """The two directions of SCR results, whichever of them is reported.

    Examples
    --------
    >>> directions = [SCRDirection(removed, biased, 0.9, {2: 0.8}) for removed, biased in
    ...               (("attribute", 0.8), ("label", 0.7))]
    >>> found = [Found("mine", "effect", "pair", 0, [SCRResult(*directions)])]
    >>> {name: round(part[0].scores[2], 2) for name, part in by_direction(found).items()}
    {'attribute': 0.0, 'label': 0.5}
    """
    return {
        removed: [
            replace(one, draws=[getattr(draw, removed) for draw in one.draws if isinstance(draw, SCRResult)])
            for one in found
        ]
        for removed in REMOVED
    }


def probe_accuracies(found: Sequence[Found]) -> dict[str, dict[str, Any]]:
    """How well the probes read unedited test texts, by task: the same for every SAE.

    For SCR by what is read: the biased and the clean probe's accuracy. For TPP by class.
    """
    # one SAE is enough, and one draw: no latent is zeroed yet
    first = found[0].sae, found[0].ranking
    results: dict[str, list[Result]] = {}
    for one in found:
        if (one.sae, one.ranking) == first:
            results.setdefault(one.task, []).append(one.draws[0])
    accuracies: dict[str, dict[str, Any]] = {}
    for task, of_task in results.items():
        if all(isinstance(result, TPPResult) for result in of_task):
            tested = [result for result in of_task if isinstance(result, TPPResult)]
            accuracies[task] = {
                name: _interval([result.accuracy[name] for result in tested]) for name in tested[0].accuracy
            }
        else:
            pairs = [result for result in of_task if isinstance(result, SCRResult)]
            accuracies[task] = {
                "label": _biased_and_clean([result.attribute for result in pairs]),
                "attribute": _biased_and_clean([result.label for result in pairs]),
            }
    return accuracies


def _biased_and_clean(directions: Sequence[SCRDirection]) -> dict[str, Any]:
    return {
        "biased": _interval([direction.biased for direction in directions]),
        "clean": _interval([direction.clean for direction in directions]),
    }


def _of_task(found: Sequence[Found], n: int) -> dict[str, Any]:
    by_seed = [one.scores[n] for one in found]
    facts: dict[str, Any] = {"score": _interval(by_seed), "by_seed": by_seed}
    draws = [draw for one in found for draw in one.draws]
    tpp = [draw for draw in draws if isinstance(draw, TPPResult)]
    pairs = [one.draws[0] for one in found if isinstance(one.draws[0], SCRResult)]
    if tpp:
        facts["classes"] = {
            name: {
                "score": float(np.mean([draw.by_class[name][n] for draw in tpp])),
                "own_drop": float(np.mean([draw.own[name][n] for draw in tpp])),
                "others_drop": float(np.mean([draw.others[name][n] for draw in tpp])),
            }
            for name in tpp[0].own
        }
    elif pairs:
        facts["reported"] = {
            removed: sum(pair.reported.removed == removed for pair in pairs) for removed in REMOVED
        }
    else:
        facts["accuracy"] = _interval(
            [
                float(np.mean([draw.ablated[n] for draw in one.draws if isinstance(draw, SCRDirection)]))
                for one in found
            ]
        )
    return facts


def _interval(values: Sequence[float]) -> dict[str, float]:
    return seeds_interval(values).to_dict()


def _mean(scores: Sequence[Mapping[int, float]]) -> dict[int, float]:
    return {n: float(np.mean([one[n] for one in scores])) for n in scores[0]}
