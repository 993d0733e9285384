r"""Pseudo-likelihood: what a masked language model's perplexity is.

A masked model gives no probability of a text, but of each token given all others. Every token in turn is replaced by
the mask token and predicted from the rest; the sum of the log-probabilities is the text's pseudo-log-likelihood

.. math:: \mathrm{PLL}(w) = \sum_t \log p(w_t \mid w_{\setminus t}),

and ``exp(−Σ PLL / N)`` over the N tokens of a corpus its pseudo-perplexity. That is one forward pass for each token,
so a sample of tokens, drawn over the whole corpus, stands for all.

References
----------
Salazar et al., "Masked Language Model Scoring", ACL 2020, equations 2 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from ssae_debias.activations import TextModel
from ssae_debias.activations.batching import batches_by_length, pad, tokenize
from ssae_debias.data import check_texts
from ssae_debias.metrics.predictions import Predictions, Tally, logits_budget, token_logits, variant_names
from ssae_debias.metrics.replacing import Replacement, replaced


def masked_predictions(
    model: TextModel,
    texts: Sequence[str],
    site: str,
    replacements: Mapping[str, Replacement],
    *,
    max_tokens: int | None = 2000,
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
    random_state: int | None = 0,
    verbose: int = 0,
) -> Predictions:
    """Mask tokens one at a time and predict each, undisturbed and with each replacement.

    The activation at the masked position is replaced like those of the others: which tokens are special is settled
    before one is masked.

    Parameters
    ----------
    model : TextModel
        With a masked head (`load_language_model`, or a live `…ForMaskedLM`).
    texts, site, replacements, include_special, max_length, batch_tokens, verbose
        As in `causal_predictions`.
    max_tokens : int or None, default 2000
        How many tokens are masked, drawn without replacement from all that are not special; None: every one. The
        default is a matter of time: 2000 forward passes of one text and variant.
    random_state : int or None, default 0
        Seed of the draw.

    Returns
    -------
    Predictions
        Texts of which no token was drawn have a count of 0.

    Raises
    ------
    ValueError
        The tokenizer has no mask token, the model no language head, or no text a token that could be masked.
    """
    texts, names = check_texts(texts), variant_names(replacements)
    mask_id = model.tokenizer.mask_token_id
    if mask_id is None:
        raise ValueError(
            f"The tokenizer of {model.name} has no mask token: it is not a masked language model's."
        )
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, or None for every token; got {max_tokens}.")
    tokenized = tokenize(model, texts, max_length=max_length, include_special=False)
    text_index, position, token_id = tokenized.counted_tokens()
    if max_tokens is not None and max_tokens < len(text_index):
        drawn = np.sort(
            np.random.default_rng(random_state).choice(len(text_index), max_tokens, replace=False)
        )
        text_index, position, token_id = text_index[drawn], position[drawn], token_id[drawn]
    tally = Tally("masked", len(texts), names)
    batches = batches_by_length(tokenized.lengths[text_index], logits_budget(model, batch_tokens))
    for rows in tqdm(batches, desc="predicting", disable=not verbose):
        batch = pad(tokenized, text_index[rows], model.tokenizer.pad_token_id)
        at = np.arange(len(rows)), position[rows]
        batch.input_ids[at] = mask_id
        tokens = batch.attention_mask == 1 if include_special else batch.counted
        target = torch.from_numpy(token_id[rows]).to(model.device)
        for name in names:
            mask = torch.from_numpy(tokens).to(model.device)
            with torch.no_grad(), replaced(model, site, replacements.get(name), mask):
                logits = token_logits(model, batch)
            tally.add(name, text_index[rows], logits[at].float().log_softmax(-1), target)
    return tally.finish()
