"""Neurons as latents, and what an effect depends on: on real weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssae_debias.activations import TextModel, load_model, read_pooled, read_tokens, resolve_site
from ssae_debias.edit import Projection, edit_latents, spliced
from ssae_debias.latents import Neurons, ProbeDecision, attribute_decision, slice_latents
from ssae_debias.sae import SAEConfig, SparseAutoencoder, train_sae

TEXTS = ["Once there was a girl.", "The dog ran to the park.", "Tom was sad.", "She had a red ball."]
Y = np.array([1, 0, 0, 1])
RIGHT = 2 * Y - 1
METHODS = ("gradient", "integrated", "exact")


@pytest.fixture(scope="module")
def stories(stories_path) -> TextModel:
    return load_model(stories_path)


@pytest.fixture(scope="module")
def coef() -> np.ndarray:
    return np.random.default_rng(0).normal(size=64)


@pytest.mark.parametrize("method", METHODS)
def test_a_neuron_that_is_read_counts_as_much_as_it_adds_to_the_margin(
    stories: TextModel, coef: np.ndarray, method: str
) -> None:
    decision = ProbeDecision("resid.2", coef, 0.3)
    found = attribute_decision(stories, {"resid.2": Neurons(64)}, TEXTS, Y, decision, method=method)
    pooled = read_pooled(stories, TEXTS, "resid.2")["resid.2"]
    # without neuron j the right answer's margin loses its term of the scalar product, whatever its sign
    expected = (RIGHT[:, None] * coef * pooled).mean(0)
    assert (expected < 0).any()
    np.testing.assert_allclose(found["resid.2"], expected, atol=1e-4)


def test_mean_ablation_sets_neurons_to_their_means_on_every_token(stories: TextModel) -> None:
    (batch,) = read_tokens(stories, TEXTS, "resid.2", include_special=True)
    clean = batch.activations["resid.2"]
    center, chosen = clean.mean(0), [3, 60]
    edit = Projection.onto_complement_of(Neurons(64).rows(chosen), center=center)
    with spliced(stories, {"resid.2": edit}):
        (batch,) = read_tokens(stories, TEXTS, "resid.2", include_special=True)
    expected = clean.clone()
    expected[:, chosen] = center[chosen]
    assert (clean - expected).abs().max() > 0.01
    torch.testing.assert_close(batch.activations["resid.2"], expected, atol=1e-5, rtol=1e-5)


def test_a_slices_effects_are_those_of_its_latents_in_the_whole(stories: TextModel, coef: np.ndarray) -> None:
    tokens = torch.cat([batch.activations["resid.1"] for batch in read_tokens(stories, TEXTS, "resid.1")])
    sae = train_sae(tokens, SAEConfig(d_sae=64, k=8, n_tokens=4000, batch_size=64), random_state=0)
    kept, decision = [0, 5, 17, 40, 41, 42, 63], ProbeDecision("resid.3", coef, 0.0)
    for method in METHODS:
        whole, narrow = (
            attribute_decision(stories, {"resid.1": d}, TEXTS, Y, decision, method=method)["resid.1"]
            for d in (sae, slice_latents(sae, kept))
        )
        assert np.abs(whole[kept]).max() > 1e-3
        np.testing.assert_allclose(narrow, whole[kept], atol=1e-5)


def test_the_forward_stops_where_the_probe_reads(stories: TextModel, coef: np.ndarray) -> None:
    ran: list[str] = []
    sae = SparseAutoencoder(64, SAEConfig(d_sae=16, k=4))
    with (
        resolve_site(stories.module, "resid.1").attach(lambda _: ran.append("resid.1")),
        resolve_site(stories.module, "resid.2").attach(lambda _: ran.append("resid.2")),
    ):
        for method in METHODS:
            decision = ProbeDecision("resid.1", coef, 0.0)
            beyond = attribute_decision(stories, {"resid.3": sae}, TEXTS, Y, decision, method=method)
            assert (beyond["resid.3"] == 0).all()
    assert set(ran) == {"resid.1"}
    with spliced(stories, {"resid.1": edit_latents(sae, [])}):
        assert read_pooled(stories, TEXTS, "resid.2")["resid.2"].any()  # later blocks still run for others
