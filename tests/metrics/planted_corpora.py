"""Corpora of made-up activations, and dictionaries made by hand to fit them: the answers are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ssae_debias.activations import TokenBatch
from ssae_debias.sae import SAEConfig, SparseAutoencoder


class Corpus:
    """Texts of equal length whose tokens have given activations; read in batches of whole texts."""

    def __init__(self, x: torch.Tensor, token_id: NDArray[np.int64], length: int) -> None:
        self.x, self.token_id, self.length = x, token_id, length
        self.n_texts = len(x) // length
        self.text_index = np.repeat(np.arange(self.n_texts), length)
        self.position = np.tile(np.arange(length), self.n_texts)

    def read(self, texts_a_batch: int = 7, order: NDArray[np.int64] | None = None) -> Iterator[TokenBatch]:
        every = np.arange(self.n_texts) if order is None else order
        for start in range(0, self.n_texts, texts_a_batch):
            texts = every[start : start + texts_a_batch]
            rows = (texts[:, None] * self.length + np.arange(self.length)).ravel()
            yield TokenBatch(
                self.text_index[rows],
                self.position[rows],
                self.token_id[rows],
                {"embed": self.x[torch.from_numpy(rows)]},
            )

    def batches(self, texts_a_batch: int = 7) -> Callable[[], Iterator[TokenBatch]]:
        return lambda: self.read(texts_a_batch)


def one_hot_corpus(
    n_texts: int = 60, length: int = 10, vocabulary: int = 20, *, noise: float = 0.0, seed: int = 0
) -> Corpus:
    """Token type v lies on axis v; types are drawn with Zipf's frequencies."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocabulary + 1)
    token_id = rng.choice(vocabulary, size=n_texts * length, p=weights / weights.sum())
    x = torch.eye(vocabulary)[torch.from_numpy(token_id)]
    x += noise * torch.from_numpy(rng.normal(size=x.shape)).float()
    return Corpus(x, token_id, length)


def dictionary_of(rows: torch.Tensor, threshold: float = 0.5) -> SparseAutoencoder:
    """Latents that read and write the given directions, from a threshold on."""
    sae = SparseAutoencoder(rows.shape[1], SAEConfig(d_sae=len(rows), k=1))
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.t())
        sae.threshold.fill_(threshold)
    return sae
