"""The figures that say how faithful an SAE is, out of sums over texts; `ssae_debias.metrics.fidelity` measures them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssae_debias.metrics.corpus_reconstruction import CorpusReconstruction
from ssae_debias.metrics.intervals import Interval
from ssae_debias.metrics.predictions import CLEAN, Objective, Predictions
from ssae_debias.metrics.text_bootstrap import TextBootstrap, finite_or_none

SPLICED, ABLATIONS = "spliced", ("zero", "mean")


@dataclass(frozen=True)
class Fidelity:
    """What is left of a model's predictions with an SAE spliced in. Intervals are over texts.

    Attributes
    ----------
    site : str
    objective : {"causal", "masked", "probe"}
        What is predicted: the next token, a masked one, or a label by a linear probe.
    n_texts, n_tokens, n_predictions : int
        Texts given, tokens replaced, and predictions made.
    cross_entropy : dict of str to Interval
        Nats a prediction, of the "clean" and the "spliced" model and under ablation by "zero" and by "mean".
    perplexity : dict of str to Interval
        exp of the cross-entropy; pseudo-perplexity for masked models. For a probe: the effective number of labels
        that it wavers between.
    loss_recovered, kl_recovered : dict of str to Interval
        Against ablation by "zero" and by "mean"; see `ssae_debias.metrics.fidelity`. NaN where undefined.
    kl : dict of str to Interval
        KL(p_clean ‖ p) a prediction in nats, for "spliced", "zero" and "mean".
    accuracy : dict of str to Interval
        Share of predictions whose likeliest answer is the right one, by variant.
    agreement : dict of str to Interval
        Share whose likeliest answer is the clean model's, for "spliced", "zero" and "mean".
    fvu : Interval
        Fraction of variance unexplained at the site, over the corpus's tokens.
    l0 : Interval
        Active latents a token.
    dead_fraction : float
        Share of latents active on no token of the corpus.
    relative_perplexity : Interval or None
        Spliced perplexity over that of a reference SAE on the same texts, where one was given.

    Examples
    --------
    See `ssae_debias.metrics.fidelity.fidelity`.
    """

    site: str
    objective: Objective
    n_texts: int
    n_tokens: int
    n_predictions: int
    cross_entropy: dict[str, Interval]
    perplexity: dict[str, Interval]
    loss_recovered: dict[str, Interval]
    kl_recovered: dict[str, Interval]
    kl: dict[str, Interval]
    accuracy: dict[str, Interval]
    agreement: dict[str, Interval]
    fvu: Interval
    l0: Interval
    dead_fraction: float
    relative_perplexity: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything by name, ready for JSON; None where a figure is undefined."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Interval):
                found[name] = finite_or_none(value)
            elif isinstance(value, dict):
                found[name] = {key: finite_or_none(interval) for key, interval in value.items()}
            else:
                found[name] = value
        return found


def recovered(
    ablated: NDArray[np.float64], spliced: NDArray[np.float64], clean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(ablated − spliced) / (ablated − clean)``; NaN where the ablation costs nothing.

    Examples
    --------
    >>> recovered(np.array([10.0, 3.0]), np.array([4.0, 3.0]), np.array([2.0, 3.0]))
    array([0.75,  nan])
    """
    cost = ablated - clean
    return (ablated - spliced) / np.where(cost > 0, cost, np.nan)


def summarise(
    name: str,
    site: str,
    found: Predictions,
    corpus: CorpusReconstruction,
    draws: TextBootstrap,
    reference: str | None,
) -> Fidelity:
    """All figures of one variant of some predictions, and of its SAE over the corpus."""
    variants = {CLEAN: CLEAN, SPLICED: name, **{ablation: ablation for ablation in ABLATIONS}}
    loss, kl, n = found.loss, found.kl, found.count

    def rate(sums: NDArray[Any]) -> Interval:
        return draws.interval(lambda total, count: total / count, sums, n)

    return Fidelity(
        site=site,
        objective=found.objective,
        n_texts=len(n),
        n_tokens=int(corpus.n_tokens.sum()),
        n_predictions=int(n.sum()),
        cross_entropy={key: rate(loss[variant]) for key, variant in variants.items()},
        perplexity={
            key: draws.interval(lambda total, count: np.exp(total / count), loss[variant], n)
            for key, variant in variants.items()
        },
        loss_recovered={
            ablation: draws.interval(recovered, loss[ablation], loss[name], loss[CLEAN])
            for ablation in ABLATIONS
        },
        kl_recovered={
            ablation: draws.interval(recovered, kl[ablation], kl[name], kl[CLEAN]) for ablation in ABLATIONS
        },
        kl={key: rate(kl[variant]) for key, variant in variants.items() if key != CLEAN},
        accuracy={key: rate(found.correct[variant]) for key, variant in variants.items()},
        agreement={key: rate(found.agree[variant]) for key, variant in variants.items() if key != CLEAN},
        fvu=corpus.fvu(draws),
        l0=draws.interval(lambda total, count: total / count, corpus.active, corpus.n_tokens),
        dead_fraction=corpus.dead_fraction,
        relative_perplexity=None
        if reference is None
        else draws.interval(
            lambda total, other, count: np.exp((total - other) / count), loss[name], loss[reference], n
        ),
    )
