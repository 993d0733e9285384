"""An encoder without a head, judged by a linear probe that reads it.

A sentence encoder predicts no token, so what replaced activations cost is measured on what people use it for: a
linear classifier on pooled activations. The probe is trained on *undisturbed* activations, of the site where they
are replaced or of a later one, and reads the replaced ones as it is. Each text is judged by a probe that never saw
it (cross-validation over texts), and the predicted distribution over the labels takes the place of the one over
tokens: the loss is the probe's own log loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedKFold
from tqdm.auto import tqdm

from ssae_debias.activations import TextModel, resolve_sites
from ssae_debias.activations.batching import TokenizedTexts, batches_by_length, pad, tokenize
from ssae_debias.activations.reading import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, forward_to
from ssae_debias.data import check_texts
from ssae_debias.metrics.codes import group_codes
from ssae_debias.metrics.predictions import CLEAN, Predictions, Tally, variant_names
from ssae_debias.metrics.probes import linear_probe
from ssae_debias.metrics.replacing import Replacement, replaced


def probe_predictions(
    model: TextModel,
    texts: Sequence[str],
    y: ArrayLike,
    site: str,
    replacements: Mapping[str, Replacement],
    *,
    probe_site: str | None = None,
    pool_special: bool = False,
    n_folds: int = 5,
    C: float = 0.1,
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
    random_state: int | None = 0,
    verbose: int = 0,
) -> Predictions:
    """Predict labels by a probe on undisturbed activations, from undisturbed and from replaced ones.

    Parameters
    ----------
    model : TextModel
    texts, site, replacements, include_special, max_length, batch_tokens, verbose
        As in `causal_predictions`.
    y : array-like of shape (n_texts,)
        Labels of any type, two values or more.
    probe_site : str, optional
        Where the probe reads; the same site by default, or a later one.
    pool_special : bool, default False
        Whether special tokens count in the mean that the probe reads, as sentence-transformers has it. Those that
        are not replaced (`include_special=False`) soften the damage at the same site.
    n_folds : int, default 5
        Parts of the cross-validation, drawn within the labels.
    C : float, default 0.1
        Of `linear_probe`.
    random_state : int or None, default 0
        Seed of the parts.

    Returns
    -------
    Predictions
        One prediction a text.

    Raises
    ------
    ValueError
        Fewer than two labels, or one with fewer than `n_folds` texts; the site comes after `probe_site`.
    """
    texts, names = check_texts(texts), variant_names(replacements)
    codes, labels = group_codes(y, "y", n=len(texts))
    rarest = int(np.bincount(codes).min())
    if len(labels) < 2 or rarest < n_folds:
        raise ValueError(
            f"y needs two labels or more with at least n_folds={n_folds} texts each; the {len(labels)} label(s) "
            f"{list(labels)[:5]} have {rarest} at the least. Give more texts, or lower n_folds."
        )
    read = probe_site or site
    replaced_at, read_at = resolve_sites(model, [site])[0], resolve_sites(model, [read])[0]
    if read_at.order < replaced_at.order:
        raise ValueError(
            f"probe_site {read!r} comes before {site!r}: what is replaced could not reach it. Name the same site or "
            "a later one."
        )
    tokenized = tokenize(model, texts, max_length=max_length, include_special=include_special)
    pooled_tokens = (
        tokenize(model, texts, max_length=max_length, include_special=True) if pool_special else tokenized
    )
    if include_special and not pool_special:
        pooled_tokens = tokenize(model, texts, max_length=max_length, include_special=False)
    budget = batch_tokens or (CPU_BATCH_TOKENS if model.device.type == "cpu" else GPU_BATCH_TOKENS)
    pooled = _pooled(model, tokenized, pooled_tokens, site, read, replacements, names, budget, verbose)
    tally = Tally("probe", len(texts), names)
    parts = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
    for train, test in parts.split(codes, codes):
        probe = linear_probe(C=C).fit(pooled[CLEAN][train], codes[train])
        for name in names:
            scores = probe.decision_function(pooled[name][test])
            # a score of two classes is the second one's logit against the first's
            logits = np.stack([np.zeros_like(scores), scores], 1) if scores.ndim == 1 else scores
            log_p = torch.from_numpy(log_softmax(logits.astype(np.float64), axis=1))
            tally.add(name, test, log_p, torch.from_numpy(codes[test]))
    return tally.finish()


def _pooled(
    model: TextModel,
    tokenized: TokenizedTexts,
    pooled_tokens: TokenizedTexts,
    site: str,
    read: str,
    replacements: Mapping[str, Replacement],
    names: Sequence[str],
    batch_tokens: int,
    verbose: int,
) -> dict[str, NDArray[np.float32]]:
    sites = resolve_sites(model, [read])
    found: dict[str, NDArray[np.float32]] = {}
    for rows in tqdm(batches_by_length(tokenized.lengths, batch_tokens), desc="reading", disable=not verbose):
        batch = pad(tokenized, rows, model.tokenizer.pad_token_id)
        counted = pad(pooled_tokens, rows, model.tokenizer.pad_token_id).counted
        weights = torch.from_numpy(counted / np.maximum(counted.sum(1, keepdims=True), 1)).float()
        weights = weights.to(model.device)[:, None]
        mask = torch.from_numpy(batch.counted).to(model.device)

        def mean(x: torch.Tensor, weights: torch.Tensor = weights) -> torch.Tensor:
            return torch.bmm(weights, x.float())[:, 0]

        for name in names:
            # the reader's hook comes after the replacing one and sees what it left
            with torch.no_grad(), replaced(model, site, replacements.get(name), mask):
                means = forward_to(model, sites, batch, mean)[read].cpu().numpy()
            if name not in found:
                found[name] = np.zeros((len(tokenized), means.shape[1]), dtype=np.float32)
            found[name][batch.texts] = means
    return found
