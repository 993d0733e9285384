"""Zeroing latents in pooled arrays is what the live, spliced model does; and what ranks latents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.metrics import ablate_pooled, latent_effects, linear_probe, probe_direction, random_ranking
from ssae_debias.metrics.pooled_ablation import ablations, ranked, sizes

TEXTS = [
    "She is a nurse in Leeds.",
    "He operates on hearts, and has done so since 1998.",
    "Yes.",
    "A b c d e",
]


@pytest.mark.parametrize("top_k", [None, 8])
def test_it_equals_the_live_edit_on_minilm(minilm_path, top_k: int | None) -> None:
    import torch

    from ssae_debias.activations import load_model, read_pooled, read_tokens, resolve_site
    from ssae_debias.edit import edit_latents, spliced
    from ssae_debias.latents import pool_latents
    from ssae_debias.sae import SAEConfig, SparseAutoencoder

    model = load_model("demo")
    sae = SparseAutoencoder(384, SAEConfig(d_sae=96, k=8), top_k=top_k, random_state=3)
    with torch.no_grad():  # biases and unequal thresholds, so that nothing holds by symmetry
        sae.b_dec.copy_(torch.linspace(-0.2, 0.2, 384))
        sae.b_enc.copy_(torch.linspace(-0.3, 0.5, 96))
        sae.threshold.copy_(torch.linspace(0.0, 1.0, 96))
    clean = read_pooled(model, TEXTS, "resid.3")["resid.3"]
    latents = pool_latents(read_tokens(model, TEXTS, "resid.3"), {"resid.3": sae}, len(TEXTS))["resid.3"]
    chosen = np.argsort(-latents.pooled.sum(0))[[0, 2, 3, 5, 8]]  # some of the most active ones
    pooled = ablate_pooled(clean, latents.pooled, sae.W_dec.detach().numpy(), chosen)

    if top_k is None:
        with spliced(model, {"resid.3": edit_latents(sae, chosen)}):
            live = read_pooled(model, TEXTS, "resid.3")["resid.3"]
    else:  # its latents compete, so none can be edited alone: splice the whole dictionary, error kept

        def decode_with_zeros(x: torch.Tensor) -> torch.Tensor:
            z = sae.encode(x.flatten(0, 1))
            error = x.flatten(0, 1) - sae.decode(z)
            z[:, chosen] = 0
            return (sae.decode(z) + error).view_as(x)

        with resolve_site(model.module, "resid.3").attach(decode_with_zeros):
            live = read_pooled(model, TEXTS, "resid.3")["resid.3"]
    np.testing.assert_allclose(pooled, live, atol=2e-5)
    assert (np.abs(live - clean).max(1) > 0.05).all()


def test_behind_another_block_it_would_not(minilm_path) -> None:
    """The equality is of the edited site alone: why the recipe reads where the SAE stands."""
    from ssae_debias.activations import load_model, read_pooled, read_tokens
    from ssae_debias.edit import edit_latents, spliced
    from ssae_debias.latents import pool_latents
    from ssae_debias.sae import SAEConfig, SparseAutoencoder

    model = load_model("demo")
    sae = SparseAutoencoder(384, SAEConfig(d_sae=96, k=8))
    latents = pool_latents(read_tokens(model, TEXTS, "resid.2"), {"resid.2": sae}, len(TEXTS))["resid.2"]
    with spliced(model, {"resid.2": edit_latents(sae, range(48))}):
        live = read_pooled(model, TEXTS, "resid.3")["resid.3"]
    clean = read_pooled(model, TEXTS, "resid.3")["resid.3"]
    pooled = ablate_pooled(clean, latents.pooled, sae.W_dec.detach().numpy(), range(48))
    assert np.abs(pooled - live).max() > 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.integers(1, 8))
def test_latents_are_taken_off_one_by_one(seed: int, n: int, d: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    x, f, decoder = rng.normal(size=(n, d)), rng.exponential(size=(n, m)), rng.normal(size=(m, d))
    chosen = rng.permutation(m)[: rng.integers(0, m + 1)]
    step = x
    for latent in chosen:
        step = ablate_pooled(step, f, decoder, [latent])
    np.testing.assert_allclose(ablate_pooled(x, f, decoder, chosen), step, atol=1e-9)
    np.testing.assert_array_equal(ablate_pooled(x, f, decoder, []), x)


def test_effects_follow_the_published_formula() -> None:
    rng = np.random.default_rng(0)
    f, decoder = rng.exponential(size=(40, 7)), rng.normal(size=(7, 5))
    positive, X = np.arange(40) < 15, rng.normal(size=(40, 5)) * [1, 10, 0.1, 3, 1]
    probe = linear_probe().fit(X, positive)
    effects = latent_effects(f, positive, probe_direction(probe), decoder)
    for j in range(7):
        difference = np.mean([f[i, j] for i in range(15)]) - np.mean([f[i, j] for i in range(15, 40)])
        # the probe's weight along a decoder row, told by the probe itself
        slope = (probe.decision_function(X + decoder[j]) - probe.decision_function(X)).mean()
        assert effects[j] == pytest.approx(difference * slope)


def test_a_ranking_leaves_out_what_has_no_effect_and_keeps_ties_in_order() -> None:
    assert ranked(np.array([1.0, 0.0, 3.0, 1.0, -2.0])).tolist() == [2, 0, 3, 4]


def test_random_rankings_hold_live_latents_once_and_repeat_with_their_seed() -> None:
    latents = np.zeros((3, 50))
    latents[1, ::2] = 0.5
    first = random_ranking(latents, 20, random_state=7)
    assert len(set(first)) == 20
    assert (first % 2 == 0).all()
    assert first.tolist() == random_ranking(latents, 20, random_state=7).tolist()
    assert first.tolist() != random_ranking(latents, 20, random_state=8).tolist()


def test_more_latents_than_the_dictionary_has_are_left_out() -> None:
    assert sizes((500, 2, 5, 5), 100) == (2, 5)
    with pytest.raises(ValueError, match="none of at most d_sae = 3"):
        sizes((5, 10), 3)
    with pytest.raises(ValueError, match="at least 1"):
        sizes((0, 2), 10)
    edits = dict(ablations(np.ones((1, 1)), np.ones((1, 3)), np.ones((3, 1)), np.array([1]), (1, 2, 9)))
    assert {n: float(x[0, 0]) for n, x in edits.items()} == {1: 0.0, 2: 0.0}  # a short ranking is used up


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activations": np.ones((3, 5))}, ValueError, r"activations \(3, 5\)"),
        ({"decoder": np.ones((6, 4))}, ValueError, r"decoder \(6, 4\)"),
        ({"latents": np.full((2, 5), np.nan)}, ValueError, "latents hold NaN"),
        ({"chosen": [5]}, IndexError, "from 0 to 4"),
        ({"chosen": [-1]}, IndexError, "from 0 to 4"),
    ],
)
def test_bad_input_is_named(change: dict, error: type, message: str) -> None:
    sound = {
        "activations": np.ones((2, 4)),
        "latents": np.ones((2, 5)),
        "decoder": np.ones((5, 4)),
        "chosen": [0],
    }
    with pytest.raises(error, match=message):
        ablate_pooled(**(sound | change))


def test_effects_need_both_classes_and_fitting_shapes() -> None:
    with pytest.raises(ValueError, match="both classes"):
        latent_effects(np.ones((2, 3)), [True, True], np.ones(4), np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"direction \(5,\)"):
        latent_effects(np.ones((2, 3)), [True, False], np.ones(5), np.ones((3, 4)))
