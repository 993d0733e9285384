"""The autoencoder's algebra, and its metrics against independent computations."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import paired_cosine_distances

from ssae_debias.sae import (
    SAEConfig,
    SparseAutoencoder,
    fraction_of_variance_unexplained,
    reconstruction_metrics,
)


def random_sae(seed: int, top_k: int | None = None, apply_b_dec_to_input: bool = True) -> SparseAutoencoder:
    sae = SparseAutoencoder(
        5, SAEConfig(d_sae=30, k=4), top_k=top_k, apply_b_dec_to_input=apply_b_dec_to_input
    ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in sae.parameters():
            part.copy_(torch.randn(part.shape, generator=generator, dtype=torch.float64))
        sae.threshold.abs_()
    return sae


def activations(seed: int, n: int = 50) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 3]), st.booleans())
def test_algebra(seed: int, top_k: int | None, apply_b_dec_to_input: bool) -> None:
    sae, x = random_sae(seed, top_k, apply_b_dec_to_input), activations(seed)
    z = sae.encode(x)
    latents = [7, 0, 29, 7]
    torch.testing.assert_close(sae.encode_selected(x, latents), z[:, latents])
    reconstruction = sae(x)
    # editing by difference is decoding with latents set to zero
    edited = z.clone()
    edited[:, 7] = 0
    torch.testing.assert_close(sae.decode(edited), reconstruction - z[:, [7]] * sae.W_dec[7])
    torch.testing.assert_close(copy.deepcopy(sae).rescale_(3.0)(3.0 * x), 3.0 * reconstruction)
    if top_k is None:
        unit = copy.deepcopy(sae).normalize_decoder_()
        torch.testing.assert_close(unit(x), reconstruction)
        torch.testing.assert_close(unit.W_dec.detach().norm(dim=1), torch.ones(30, dtype=torch.float64))


def test_latents_outside_the_dictionary_are_refused() -> None:
    with pytest.raises(IndexError, match="0 … 29"):
        random_sae(0).encode_selected(activations(0), [30])


def test_metrics_against_independent_computations() -> None:
    sae, x = random_sae(1).float(), activations(1, 333).float()
    metrics = reconstruction_metrics(sae, x.numpy(), batch_size=50)
    z, reconstruction = sae.encode(x).detach(), sae(x).detach()
    errors = ((x - reconstruction) ** 2).sum(1).numpy()
    residual = (x - reconstruction).numpy()
    assert metrics["fvu"] == pytest.approx(residual.var(0).sum() / x.numpy().var(0).sum(), rel=1e-4)
    assert metrics["explained_variance"] == pytest.approx(1 - metrics["fvu"])
    assert metrics["l0"] == pytest.approx(np.count_nonzero(z.numpy(), axis=1).mean())
    assert metrics["dead_fraction"] == pytest.approx((z.numpy() == 0).all(0).mean())
    assert metrics["mean_error"] == pytest.approx(errors.mean(), rel=1e-4)
    assert metrics["max_error"] == pytest.approx(errors.max(), rel=1e-4)
    assert metrics["tail_error"] == pytest.approx(np.sort(errors)[-3:].mean(), rel=1e-4)
    cosine = 1 - paired_cosine_distances(x.numpy(), reconstruction.numpy()).mean()
    assert metrics["cosine"] == pytest.approx(cosine, abs=1e-4)


def test_unexplained_variance_is_one_minus_the_weighted_r2_of_centred_residuals() -> None:
    x = activations(2)
    guess = 0.8 * x + 0.1 * activations(3)
    guess -= (guess - x).mean(0)
    expected = 1 - r2_score(x.numpy(), guess.numpy(), multioutput="variance_weighted")
    assert fraction_of_variance_unexplained(x, x - guess) == pytest.approx(expected)
    assert fraction_of_variance_unexplained(torch.ones(5, 2), torch.zeros(5, 2)) == 0
    assert fraction_of_variance_unexplained(torch.ones(5, 2), x[:5, :2]) == float("inf")


def test_metrics_refuse_another_width() -> None:
    with pytest.raises(ValueError, match="7 wide"):
        reconstruction_metrics(random_sae(0), torch.ones(3, 7))
