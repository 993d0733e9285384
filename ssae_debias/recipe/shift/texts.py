"""The texts that SAEs are trained on: a sample of general text, and the subdomain of the task.

Activations of a dozen sites are kept on disk for every token, so both are bounded in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssae_debias.activations.batching import tokenize
from ssae_debias.data import synthetic_corpus
from ssae_debias.retrieval import retrieve_subdomain, sample_documents

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench
    from ssae_debias.sae import SparseAutoencoder

# documents drawn per token wanted: even where they are this short there are enough of them
SHORTEST_DOCUMENT = 8


def corpus_of(bench: Bench) -> str | list[str]:
    """The recipe's general text; the embedded one for `synthetic`."""
    corpus = bench.recipe.shift.corpus
    if corpus is None:
        raise ValueError("shift.corpus, general text, is needed and was not given.")
    return synthetic_corpus(random_state=bench.recipe.data.random_state) if corpus == "synthetic" else corpus


def general_texts(bench: Bench, seed: int) -> list[str]:
    """Documents drawn from the corpus, about `gsae_tokens` tokens of them."""
    wanted = bench.recipe.shift.gsae_tokens
    drawn = sample_documents(corpus_of(bench), max(1, wanted // SHORTEST_DOCUMENT), random_state=seed)
    return _within(bench, drawn.texts, wanted, seed)


def subdomain_texts(bench: Bench, seed: int, sae: SparseAutoencoder, site: str) -> list[str]:
    """Training texts and the documents that they retrieve, about `ssae_tokens` tokens of them.

    The GSAE of the last site, which is what TracIn ranks with, is given by the caller.
    """
    recipe, spec = bench.recipe, bench.recipe.shift
    texts = [bench.task.texts[row] for row in bench.task.rows(*recipe.protocol.train_splits)]
    if spec.n_retrieved:
        texts += retrieve_subdomain(
            corpus_of(bench),
            texts,
            n=spec.n_retrieved,
            retriever=spec.retriever,
            encoder=bench.model,
            model=bench.model,
            site=site,
            sae=sae,
            tilt=spec.tilt,
            max_length=recipe.protocol.max_length,
            random_state=seed,
            verbose=bench.verbose,
        ).texts
    return _within(bench, texts, spec.ssae_tokens, seed)


def _within(bench: Bench, texts: Sequence[str], n_tokens: int, seed: int) -> list[str]:
    """Texts in random order, up to the one that completes `n_tokens` tokens."""
    protocol = bench.recipe.protocol
    order = np.random.default_rng(seed).permutation(len(texts))
    shuffled = [texts[i] for i in order]
    tokenized = tokenize(
        bench.model, shuffled, max_length=protocol.max_length, include_special=protocol.include_special
    )
    return shuffled[: int(np.searchsorted(np.cumsum(tokenized.counts), n_tokens)) + 1]
