"""Slices: the latents of most activation, each acting in the narrow dictionary as it did in the wide one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.activations import TokenBatch
from ssae_debias.edit import edit_latents
from ssae_debias.latents import activation_mass, largest, slice_latents
from ssae_debias.sae import SAEConfig, SparseAutoencoder


def random_sae(seed: int, *, subtract: bool = True, top_k: int | None = None) -> SparseAutoencoder:
    torch.manual_seed(seed)
    sae = SparseAutoencoder(6, SAEConfig(d_sae=16, k=4), apply_b_dec_to_input=subtract, top_k=top_k)
    with torch.no_grad():
        for part in (sae.W_enc, sae.b_enc, sae.b_dec):
            part.normal_()
        sae.threshold.uniform_(0, 0.5)
    return sae


@given(st.integers(0, 50), st.booleans(), st.sets(st.integers(0, 15), min_size=1))
@settings(deadline=None, max_examples=40)
def test_kept_latents_act_as_they_did(seed: int, subtract: bool, kept: set[int]) -> None:
    sae, x = random_sae(seed, subtract=subtract), torch.randn(7, 6)
    numbers = sorted(kept)
    narrow = slice_latents(sae, numbers)
    code = sae.encode(x)
    torch.testing.assert_close(narrow.encode(x), code[:, numbers])
    # what the others wrote is now in the error term
    others = torch.ones(16, dtype=torch.bool)
    others[numbers] = False
    torch.testing.assert_close(narrow(x), sae.decode(code.masked_fill(others, 0.0)))
    place = len(numbers) // 2
    torch.testing.assert_close(edit_latents(narrow, [place])(x), edit_latents(sae, [numbers[place]])(x))


def test_a_slice_is_a_copy_with_the_same_facts() -> None:
    sae = random_sae(0, top_k=3)
    sae.metadata["hook_name"] = "embed"
    narrow = slice_latents(sae, np.array([9, 2]))
    with torch.no_grad():
        narrow.W_dec.zero_()
    assert sae.W_dec.abs().min(1).values.max() > 0
    assert (narrow.d_in, narrow.d_sae, narrow.top_k, narrow.metadata) == (6, 2, 3, {"hook_name": "embed"})
    assert (narrow.config.d_sae, narrow.config.k) == (2, 2)


@pytest.mark.parametrize("latents", [[], [3, 3], [16], [-1], [[1]]])
def test_what_is_no_slice_is_refused(latents: list[int]) -> None:
    with pytest.raises(ValueError, match="latents must"):
        slice_latents(random_sae(0), latents)


def test_mass_is_the_sum_over_all_tokens_however_they_are_cut() -> None:
    sae, x = random_sae(1), torch.randn(50, 6)

    def batches(size: int) -> list[TokenBatch]:
        parts = [slice(start, start + size) for start in range(0, 50, size)]
        return [TokenBatch(*(np.zeros(len(x[p]), int),) * 3, {"embed": x[p]}) for p in parts]

    expected = sae.encode(x).detach().double().sum(0).numpy()
    for size, chunk in ((50, 4096), (7, 3)):
        found = activation_mass(batches(size), {"embed": sae}, chunk_tokens=chunk)["embed"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    kept = largest(expected, 1 / 8)
    assert kept.tolist() == sorted(np.argsort(expected)[-2:].tolist())


@pytest.mark.parametrize("share", [0, 1.5, -1])
def test_a_share_is_a_part_of_the_whole(share: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        largest(np.ones(4), share)
    assert largest(np.ones(4), 0.01).tolist() == [0]
