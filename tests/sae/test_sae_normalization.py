"""SAEs that normalise each token: their algebra, edits of their latents, and what cannot be done with them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.activations import load_model
from ssae_debias.edit import edit_latents, load_edits, save_edits
from ssae_debias.latents import slice_latents
from ssae_debias.retrieval.sae_gradients import TextGradients
from ssae_debias.sae import SAEConfig, SparseAutoencoder, reconstruction_metrics, train_sae
from ssae_debias.sae.normalization import Normalization, normalize_tokens

PER_TOKEN = [how for how in get_args(Normalization) if how != "none"]


def random_sae(normalization: Normalization, seed: int = 0, top_k: int | None = None) -> SparseAutoencoder:
    sae = SparseAutoencoder(7, SAEConfig(d_sae=25, k=4), normalization=normalization, top_k=top_k).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in sae.parameters():
            part.copy_(torch.randn(part.shape, generator=generator, dtype=torch.float64) / 2)
        sae.threshold.abs_()
    return sae


def tokens(seed: int = 0, n: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    return 5 * torch.randn(n, 7, generator=generator, dtype=torch.float64) + 3


@pytest.mark.parametrize("how", get_args(Normalization))
def test_scale_and_shift_bring_tokens_back(how: Normalization) -> None:
    x = tokens()
    normalized, scale, shift = normalize_tokens(x, how)
    torch.testing.assert_close(normalized * scale + shift, x, atol=1e-4, rtol=1e-4)
    if how == "constant_norm":
        torch.testing.assert_close(normalized.norm(dim=1), torch.full((20,), 7**0.5, dtype=x.dtype))
        zeros = normalize_tokens(torch.zeros(1, 7), how)
        assert all(bool((part == 0).all()) for part in zeros)
    if how == "layer_norm":
        np.testing.assert_allclose(normalized.numpy().std(1, ddof=1), 1, atol=1e-4)
        np.testing.assert_allclose(normalized.numpy().mean(1), 0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(PER_TOKEN), st.sampled_from([None, 3]))
def test_algebra(seed: int, how: Normalization, top_k: int | None) -> None:
    sae, x = random_sae(how, seed, top_k), tokens(seed)
    z, reconstruction = sae.encode(x), sae(x)
    torch.testing.assert_close(sae.encode_selected(x, [7, 0, 24]), z[:, [7, 0, 24]])
    # a plain SAE on normalised tokens, brought back
    plain = copy.deepcopy(sae)
    plain.normalization = "none"
    normalized, scale, shift = normalize_tokens(x, how)
    torch.testing.assert_close(reconstruction, plain(normalized) * scale + shift)
    # a latent set to 0 takes its row with it and nothing else
    edited = z.clone()
    edited[:, 7] = 0
    torch.testing.assert_close(sae.decode(edited, x), reconstruction - z[:, [7]] * sae.W_dec[7])
    torch.testing.assert_close(sae.rescale_(3.0)(3 * x), 3 * reconstruction, atol=1e-3, rtol=1e-4)
    if top_k is None:
        torch.testing.assert_close(copy.deepcopy(sae).normalize_decoder_()(x), reconstruction)


@pytest.mark.parametrize("how", PER_TOKEN)
@pytest.mark.parametrize("mode", ["zero", "mean", "clamp"])
def test_edits_are_decoding_with_other_codes_and_the_error_kept(
    how: Normalization, mode: str, tmp_path: Path
) -> None:
    sae, x, latents = random_sae(how).float(), tokens(n=60).float(), [2, 11, 20]
    z, error = sae.encode(x), x - sae(x)
    value = None if mode == "zero" else torch.tensor([0.5, 1.0, 2.0])
    wanted = z.clone()
    for column, latent in enumerate(latents):
        reached = z[:, latent] > 0 if mode == "clamp" else torch.ones(60, dtype=torch.bool)
        wanted[reached, latent] = 0.0 if value is None else value[column]
    assert (z[:, latents] > 0).any(0).all()
    edit = edit_latents(sae, latents, mode, value=value)
    expected = sae.decode(wanted, x) + error
    torch.testing.assert_close(edit(x), expected, atol=1e-4, rtol=1e-4)
    save_edits(tmp_path / "edits", {"embed": edit})
    assert torch.equal(load_edits(tmp_path / "edits")["embed"](x), edit(x))


@pytest.mark.parametrize("how", PER_TOKEN)
def test_metrics_and_slices_see_the_normalisation(how: Normalization) -> None:
    sae, x = random_sae(how).float(), tokens(n=100).float()
    errors = (x - sae(x)).detach().square().sum(1).mean()
    assert reconstruction_metrics(sae, x)["mean_error"] == pytest.approx(float(errors), rel=1e-4)
    torch.testing.assert_close(slice_latents(sae, [3, 9]).encode(x), sae.encode(x)[:, [3, 9]])


@pytest.mark.parametrize("how", PER_TOKEN)
def test_what_would_be_wrong_is_refused(how: Normalization) -> None:
    sae, x = random_sae(how).float(), tokens(n=100).float()
    with pytest.raises(ValueError, match="normalises each token"):
        sae.decode(sae.encode(x))
    with pytest.raises(ValueError, match="normalises each token"):
        train_sae(x, SAEConfig(d_sae=25, k=4, batch_size=50), init=sae)
    with pytest.raises(ValueError, match="normalises each token"):
        TextGradients.of(sae, x, [60, 40])


@pytest.mark.parametrize("how", PER_TOKEN)
def test_the_path_of_integrated_gradients_starts_where_no_latent_is_active(how: Normalization) -> None:
    """An affine decision makes every gradient exact, on the path too: attribution equals ablation."""
    from ssae_debias.latents import ProbeDecision, attribute_decision

    model = load_model("demo")
    sae = SparseAutoencoder(384, SAEConfig(d_sae=16, k=4), normalization=how)
    probe = ProbeDecision("resid.0", np.linspace(-1, 1, 384), 0.0)
    given = (["A nurse said so.", "The surgeon left."], [1, 0], probe)
    exact = attribute_decision(model, {"resid.0": sae}, *given, method="exact")["resid.0"]
    found = attribute_decision(model, {"resid.0": sae}, *given, method="integrated")["resid.0"]
    assert np.abs(exact).max() > 0
    np.testing.assert_allclose(found, exact, atol=1e-4)
