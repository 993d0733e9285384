r"""The error term: what it is made of, what of the attribute it carries, and what of the model's work.

An SAE writes each activation as reconstruction and error term, ``x = x̂ + e``. An edit of latents leaves e alone, so
what e carries survives every edit. Three questions, for one SAE at one site:

1. *How much of e is linearly predictable from x?* (`ssae_debias.metrics.error_regression`.) That part is made of
   directions the dictionary has not learned; a larger dictionary could. The rest are the encoder's mistakes.
2. *How well is the attribute read from e?* Leakage of pooled parts, linear and by a small network. Parts are pooled,
   not their probes' scores.
3. *What does the model need e for?* The loss with x replaced by parts of it, at the same tokens:

   =====================  ==================  ========================================================
   variant                stands for x        what its loss says
   =====================  ==================  ========================================================
   ``reconstruction``     x̂                   the dictionary alone
   ``and_predictable``    x̂ + ê(x)            with the linearly predictable error given back
   ``and_nonlinear``      x − ê(x)            with the rest of the error given back instead
   ``error_only``         e                   what the model can do without the dictionary
   ``zero``, ``mean``     0, corpus mean      nothing, for scale
   =====================  ==================  ========================================================

   ê is always that of a map fitted on other texts.

References
----------
Engels, Riggs and Tegmark: "Decomposing the Dark Matter of Sparse Autoencoders", TMLR 2025 (arXiv 2410.14670).
Marks et al.: "Sparse Feature Circuits", 2025 (the error term kept in every edit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssae_debias.activations import TextModel
from ssae_debias.data import check_texts
from ssae_debias.metrics.corpus_reconstruction import reconstruct_corpus
from ssae_debias.metrics.error_regression import ErrorRegression, predict_error
from ssae_debias.metrics.fidelity_figures import recovered
from ssae_debias.metrics.intervals import Interval
from ssae_debias.metrics.language_head import LanguageObjective, language_objective
from ssae_debias.metrics.predictions import CLEAN, Predictions, causal_predictions
from ssae_debias.metrics.pseudo_likelihood import masked_predictions
from ssae_debias.metrics.replacing import Replacement, constant, reconstruction
from ssae_debias.metrics.text_bootstrap import TextBootstrap, finite_or_none
from ssae_debias.sae import SparseAutoencoder

PARTS = ("reconstruction", "and_predictable", "and_nonlinear", "error_only", "zero", "mean")


@dataclass(frozen=True)
class ErrorTerm:
    """What an SAE's error term is made of and what the model needs it for. Intervals are over texts.

    Attributes
    ----------
    site : str
    n_texts, n_tokens : int
    r2 : Interval
        Share of the error's variance that a linear map of the activation predicts on texts it has not seen.
    norm_r2 : Interval
        The same of the error's squared length.
    share : Interval
        Fraction of variance that the error is of the activations (FVU).
    objective : {"causal", "masked"} or None
        What the model predicts; None for an encoder without a head, which has no loss.
    cross_entropy : dict of str to Interval
        Nats a prediction, for "clean" and each of `PARTS`; empty without a head.
    loss_recovered : dict of str to Interval
        ``(H_mean − H_part) / (H_mean − H_clean)`` for the first four of `PARTS`; NaN where the mean costs nothing.

    Examples
    --------
    See `error_term`.
    """

    site: str
    n_texts: int
    n_tokens: int
    r2: Interval
    norm_r2: Interval
    share: Interval
    objective: LanguageObjective | None
    cross_entropy: dict[str, Interval]
    loss_recovered: dict[str, Interval]

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


def error_term(
    model: TextModel,
    sae: SparseAutoencoder,
    site: str,
    texts: Sequence[str],
    *,
    objective: LanguageObjective | None = None,
    n_parts: int = 5,
    ridge: float = 1e-3,
    max_tokens: int | None = 2000,
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    random_state: int | None = 0,
    verbose: int = 0,
) -> ErrorTerm:
    """Take an SAE's error term apart.

    What of the attribute it carries is measured by `ssae_debias.metrics.pooled_parts`, on the sets that leakage
    needs.

    Parameters
    ----------
    model : TextModel
        With or without a language head; without one, no loss is measured.
    sae, site, texts, n_parts, ridge
        As in `predict_error`.
    objective : {"causal", "masked"}, optional
        What the head predicts, where its class is not a known one.
    max_tokens : int or None, default 2000
        Tokens masked, for masked language models.
    include_special : bool, default False
        Whether special tokens are read and replaced too.
    max_length, batch_tokens, n_resamples, level, random_state, verbose
        As in `fidelities`.

    Returns
    -------
    ErrorTerm

    Raises
    ------
    ValueError
        Fewer texts than parts, an SAE of another width than the site.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(384, SAEConfig(d_sae=64, k=4), top_k=4)
    >>> texts = [f"{who} {what}." for who in ("A nurse", "She", "Tom") for what in ("sang", "left", "is here")]
    >>> found = error_term(load_model("demo"), sae, "resid.1", texts, n_parts=3, n_resamples=10)
    >>> found.n_tokens, found.objective, found.cross_entropy
    (33, None, {})
    """
    texts = check_texts(texts)
    reading: dict[str, Any] = {
        "include_special": include_special,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "verbose": verbose,
    }
    mean, corpora = reconstruct_corpus(model, {"sae": sae}, site, texts, **reading)
    corpus = corpora["sae"]
    maps = predict_error(
        model, sae, site, texts, n_parts=n_parts, ridge=ridge, random_state=random_state, **reading
    )
    draws = TextBootstrap(len(texts), n_resamples=n_resamples, level=level, random_state=random_state)

    def explained(residual: np.ndarray, spread: np.ndarray) -> Interval:
        return draws.interval(lambda r, s: 1 - r / s, residual, spread)

    kind = objective or language_objective(model)
    cross_entropy: dict[str, Interval] = {}
    loss_recovered: dict[str, Interval] = {}
    if kind is not None:
        found, rows = None, []
        for part in range(n_parts):
            chosen = np.flatnonzero(maps.part == part)
            some = _losses(
                model, kind, [texts[i] for i in chosen], site, _replacements(sae, maps, part, mean),
                max_tokens=None if max_tokens is None else -(-max_tokens // n_parts),
                random_state=random_state, **reading,
            )  # fmt: skip
            found = some if found is None else found.followed_by(some)
            rows.append(chosen)
        assert found is not None
        # the draws are of texts in their given order
        order = np.argsort(np.concatenate(rows))
        loss = {name: values[order] for name, values in found.loss.items()}
        count = found.count[order]
        cross_entropy = {
            name: draws.interval(lambda total, n: total / n, values, count) for name, values in loss.items()
        }
        loss_recovered = {
            name: draws.interval(recovered, loss["mean"], loss[name], loss[CLEAN]) for name in PARTS[:4]
        }
    return ErrorTerm(
        site=site,
        n_texts=len(texts),
        n_tokens=int(maps.n_tokens.sum()),
        r2=explained(maps.residual, maps.spread),
        norm_r2=explained(maps.norm_residual, maps.norm_spread),
        share=corpus.fvu(draws),
        objective=kind,
        cross_entropy=cross_entropy,
        loss_recovered=loss_recovered,
    )


def _replacements(
    sae: SparseAutoencoder, maps: ErrorRegression, part: int, mean: Tensor
) -> dict[str, Replacement]:
    whole = reconstruction(sae)

    def expected(x: Tensor) -> Tensor:
        return maps.predict(x, part).to(x)

    found: dict[str, Replacement] = {
        "reconstruction": whole,
        "and_predictable": lambda x: whole(x) + expected(x),
        "and_nonlinear": lambda x: x - expected(x),
        "error_only": lambda x: x - whole(x),
        "zero": torch.zeros_like,
        "mean": constant(mean),
    }
    assert tuple(found) == PARTS
    return found


def _losses(
    model: TextModel,
    kind: LanguageObjective,
    texts: Sequence[str],
    site: str,
    replacements: dict[str, Replacement],
    *,
    max_tokens: int | None,
    random_state: int | None,
    **reading: Any,
) -> Predictions:
    if kind == "causal":
        return causal_predictions(model, texts, site, replacements, **reading)
    return masked_predictions(
        model, texts, site, replacements, max_tokens=max_tokens, random_state=random_state, **reading
    )
