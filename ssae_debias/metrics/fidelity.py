r"""Fidelity: how much of what a model does survives when an SAE's reconstruction takes the activations' place.

At one site every token's activation x is replaced by the reconstruction x̂ (special tokens keep theirs unless asked
otherwise, see `ssae_debias.metrics.replacing`), and the model predicts as if nothing had happened. What its
predictions lose, it loses to the error term. For scale, the activations are also replaced by zero and by the
corpus's mean, at the same tokens:

.. math::

   \mathrm{loss\ recovered} = \frac{H_{\mathrm{ablated}} - H_{\mathrm{spliced}}}
                                   {H_{\mathrm{ablated}} - H_{\mathrm{clean}}}
   \qquad
   \mathrm{KL\ recovered} = \frac{D_{\mathrm{ablated}} - D_{\mathrm{spliced}}}{D_{\mathrm{ablated}}}

with H the cross-entropy and D the divergence KL(p_clean ‖ p) of the predictions, in nats, each over all predictions
of the corpus. 1 is a perfect dictionary, 0 one that is worth no more than the ablation, and a dictionary can be worse.
*Zero* may lie far from all activations and *mean* within them, or the other way about in a network that normalises what
it reads: which of the two costs more, and so flatters more, depends on the model, and both are given. Where the ablation
costs nothing, the score is undefined (NaN): there was nothing to recover.

Three kinds of model are measured, see `ssae_debias.metrics.predictions`: causal language models (perplexity), masked
ones (pseudo-perplexity), and encoders without a head (a linear probe's log loss).

What differs from the published code, and why
---------------------------------------------
- dictionary_learning averages batches' means, and loss recovered over batches, a mean of ratios; here every prediction
  weighs the same, and no figure depends on how texts fall into batches.
- Padding is never predicted from, predicted or replaced.
- The variance that FVU divides by is one (`ssae_debias.metrics.corpus_reconstruction`).
- Every figure has an interval by resampling texts. Only the share of dead latents has none: it is a union over the
  corpus, which a resample can only shrink.

References
----------
Karvonen et al.: "SAEBench", 2025, core metrics (`ce_loss_score`, `kl_div_score`).
Bricken et al.: "Towards Monosemanticity", 2023 (loss recovered).
Marks, Karvonen and Mueller: dictionary_learning, `evaluation.py` (its loss recovered).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike

from ssae_debias.activations import TextModel
from ssae_debias.metrics.corpus_reconstruction import reconstruct_corpus
from ssae_debias.metrics.fidelity_figures import ABLATIONS, SPLICED, Fidelity, summarise
from ssae_debias.metrics.language_head import language_objective
from ssae_debias.metrics.predictions import CLEAN, Objective, causal_predictions
from ssae_debias.metrics.probe_predictions import probe_predictions
from ssae_debias.metrics.pseudo_likelihood import masked_predictions
from ssae_debias.metrics.replacing import Replacement, constant, reconstruction
from ssae_debias.metrics.text_bootstrap import TextBootstrap
from ssae_debias.sae import SparseAutoencoder


def fidelity(
    model: TextModel,
    sae: SparseAutoencoder,
    site: str,
    texts: Sequence[str],
    *,
    y: ArrayLike | None = None,
    objective: Objective | None = None,
    **options: Any,
) -> Fidelity:
    """Splice one SAE into a model and see what its predictions lose.

    Parameters
    ----------
    model : TextModel
        With its language head (`load_language_model`, or `load_model` on a live module that has one); or an encoder
        without one, and `y`.
    sae : SparseAutoencoder
    site : str
        Where its reconstruction takes the activations' place.
    texts : sequence of str
        Held out: not what the SAE was trained on.
    y : array-like of shape (n_texts,), optional
        Labels to measure by a probe.
    objective : {"causal", "masked", "probe"}, optional
        Default: "probe" where `y` is given, else what the model's head predicts.
    **options
        As in `fidelities`.

    Returns
    -------
    Fidelity

    Raises
    ------
    ValueError
        The model has no language head and there are no labels; the SAE has another width than the site; no text
        is long enough.

    Examples
    --------
    A dictionary that gives every activation back costs nothing:

    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(384, SAEConfig(d_sae=768, k=384))
    >>> with torch.no_grad():
    ...     _ = sae.W_dec.copy_(torch.cat([torch.eye(384), -torch.eye(384)]))
    ...     _ = sae.W_enc.copy_(sae.W_dec.T)
    >>> texts, labels = ["A nurse.", "A surgeon.", "My nurse.", "My surgeon."], [1, 0, 1, 0]
    >>> found = fidelity(load_model("demo"), sae, "resid.3", texts, y=labels, n_folds=2)
    >>> found.kl["spliced"].mean, found.loss_recovered["mean"].mean
    (0.0, 1.0)
    """
    return fidelities(model, {SPLICED: sae}, site, texts, y=y, objective=objective, **options)[SPLICED]


def fidelities(
    model: TextModel,
    saes: Mapping[str, SparseAutoencoder],
    site: str,
    texts: Sequence[str],
    *,
    reference: str | None = None,
    y: ArrayLike | None = None,
    objective: Objective | None = None,
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    random_state: int | None = 0,
    verbose: int = 0,
    **options: Any,
) -> dict[str, Fidelity]:
    """Splice several SAEs into a model, one at a time, on the same texts and the same predictions.

    The clean model and the ablations run once for all, and intervals are drawn over the same resamples.

    Parameters
    ----------
    model, site, texts, y, objective
        As in `fidelity`.
    saes : mapping of str to SparseAutoencoder
        By any name but "clean", "zero" and "mean".
    reference : str, optional
        One of the names (the general-purpose SAE, say): `relative_perplexity` is taken against it.
    include_special : bool, default False
        Whether special tokens are replaced too, and count for FVU and L0.
    max_length : int, default 128
        Tokens a text is cut at.
    batch_tokens : int, optional
        Padded tokens a batch: a matter of memory and speed.
    n_resamples, level
        Of the bootstrap over texts.
    random_state : int or None, default 0
        Seed of the resamples, of the masked tokens and of the cross-validation.
    verbose : int, default 0
        Above 0, progress bars.
    **options
        `max_tokens` (`masked_predictions`), or `probe_site`, `pool_special`, `n_folds` and `C`
        (`probe_predictions`).

    Returns
    -------
    dict of str to Fidelity
        By the SAEs' names.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig
    >>> saes = {f"k={k}": SparseAutoencoder(384, SAEConfig(d_sae=768, k=k), top_k=k) for k in (8, 64)}
    >>> texts, labels = ["A nurse.", "A surgeon.", "My nurse.", "My surgeon."], [1, 0, 1, 0]
    >>> found = fidelities(load_model("demo"), saes, "resid.3", texts, y=labels, n_folds=2, reference="k=8")
    >>> found["k=64"].fvu.mean < found["k=8"].fvu.mean, found["k=8"].relative_perplexity.mean
    (True, 1.0)
    """
    taken = sorted({CLEAN, *ABLATIONS} & set(saes))
    if not saes or taken or (reference is not None and reference not in saes):
        raise ValueError(
            f"saes must hold one SAE or more, none of them called {CLEAN}, zero or mean, and the reference "
            f"{reference!r} if it is given; got {list(saes)}."
        )
    kind = objective or ("probe" if y is not None else language_objective(model))
    if kind is None or (kind == "probe") != (y is not None):
        raise ValueError(
            f"{model.name} ({type(model.module).__name__}) has no language head that is known. Load it by "
            'load_language_model, name its objective ("causal" or "masked"), or give labels y to measure it by a '
            f"probe. Got objective={objective!r} and {'no ' if y is None else ''}labels."
        )
    reading: dict[str, Any] = {
        "include_special": include_special,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "verbose": verbose,
    }
    mean, corpora = reconstruct_corpus(model, saes, site, texts, **reading)
    replacements: dict[str, Replacement] = {"zero": torch.zeros_like, "mean": constant(mean)}
    replacements |= {name: reconstruction(sae) for name, sae in saes.items()}
    if kind == "causal":
        found = causal_predictions(model, texts, site, replacements, **reading, **options)
    elif kind == "masked":
        found = masked_predictions(
            model, texts, site, replacements, random_state=random_state, **reading, **options
        )
    else:
        assert y is not None
        found = probe_predictions(
            model, texts, y, site, replacements, random_state=random_state, **reading, **options
        )
    draws = TextBootstrap(len(found.count), n_resamples=n_resamples, level=level, random_state=random_state)
    return {name: summarise(name, site, found, corpora[name], draws, reference) for name in saes}
