"""Diversity: 0 for a latent of one token type, 1 for one that lies on all alike, and what lies between."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.activations import TokenBatch
from ssae_debias.latents.diversity import diversity_scores
from ssae_debias.sae import SAEConfig, SparseAutoencoder


def reading(x: torch.Tensor, token_id: np.ndarray, size: int = 16):
    def read() -> Iterator[TokenBatch]:
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            places = np.arange(len(token_id[rows]))
            yield TokenBatch(places * 0, places, token_id[rows], {"embed": x[rows]})

    return read


def latents_reading(rows: torch.Tensor) -> SparseAutoencoder:
    sae = SparseAutoencoder(rows.shape[1], SAEConfig(d_sae=len(rows), k=1))
    with torch.no_grad():
        sae.W_enc.copy_(rows.t())
    return sae


def test_one_type_all_types_and_none() -> None:
    token_id = np.tile(np.array([5, 6, 900, 3]), 10)
    x = torch.eye(4)[torch.arange(40) % 4]
    # reads token type 6 alone, all types alike, types 5 and 900, nothing
    sae = latents_reading(torch.tensor([[0.0, 3, 0, 0], [1, 1, 1, 1], [2, 0, 2, 0], [-1, -1, -1, -1]]))
    found = diversity_scores(reading(x, token_id), sae, "embed")
    assert found["diversity"].tolist()[:3] == pytest.approx([0, 1, 0.5])
    assert found["n_types"].tolist()[:3] == pytest.approx([1, 4, 2])
    assert found["n_active"].tolist() == [10, 40, 20, 0]
    assert found["top_type"].tolist()[0] == 6
    assert found["top_type"].tolist()[3] == -1
    assert found["top_share"].tolist()[0] == 1
    assert np.isnan(found["diversity"][3])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 9))
def test_scores_are_those_of_the_whole_table_in_any_groups(seed: int, at_once: int) -> None:
    rng = np.random.default_rng(seed)
    token_id = rng.integers(0, 12, 90)
    x = torch.from_numpy(rng.normal(size=(90, 5))).float()
    sae = SparseAutoencoder(5, SAEConfig(d_sae=8, k=2), random_state=seed)
    chosen = rng.permutation(8)[:6]
    found = diversity_scores(reading(x, token_id), sae, "embed", latents=chosen, latents_at_once=at_once)
    z = sae.encode(x).detach().double().numpy()
    for latent, diversity in zip(found["latent"], found["diversity"], strict=True):
        weight = np.array([z[token_id == v, latent].sum() for v in np.unique(token_id)])
        p = weight[weight > 0] / weight.sum()
        assert diversity == pytest.approx(-(p * np.log(p)).sum() / np.log(len(weight)), abs=1e-5)
    assert found["latent"].tolist() == chosen.tolist()


def test_what_makes_no_sense_is_refused() -> None:
    sae = latents_reading(torch.eye(4))
    read = reading(torch.eye(4), np.arange(4))
    with pytest.raises(ValueError, match="at least one"):
        diversity_scores(read, sae, "embed", latents=[])
    with pytest.raises(IndexError, match="must lie in"):
        diversity_scores(read, sae, "embed", latents=[4])
    with pytest.raises(ValueError, match="no token"):
        diversity_scores(lambda: [], sae, "embed")
