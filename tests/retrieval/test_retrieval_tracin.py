from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from torch import Tensor

from ssae_debias.activations import TextModel, load_model, read_tokens
from ssae_debias.retrieval import Retrieved, rerank_tracin
from ssae_debias.retrieval.sae_gradients import TextGradients
from ssae_debias.sae import SAEConfig, SparseAutoencoder

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


def random_sae(d_in: int, d_sae: int, seed: int = 0, **kwargs: object) -> SparseAutoencoder:
    sae = SparseAutoencoder(d_in, SAEConfig(d_sae=d_sae, k=2), random_state=seed, **kwargs)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight, size in ((sae.b_enc, 0.3), (sae.b_dec, 0.5), (sae.W_enc, 0.2)):
            weight += size * torch.randn(weight.shape, generator=generator)
        sae.threshold += 0.4
    return sae


def autograd_gradient(sae: SparseAutoencoder, x: Tensor, tilt: float) -> Tensor:
    """The flattened gradient of one text's loss, by autograd through the SAE's own forward pass."""
    losses = (sae(x) - x).square().sum(dim=1)
    scale = losses.detach().mean()
    loss = losses.mean() if tilt == 0 else torch.logsumexp(tilt * losses / scale, dim=0) * scale / tilt
    gradients = torch.autograd.grad(loss, [getattr(sae, name) for name in WEIGHTS])
    return torch.cat([g.flatten() for g in gradients])


def flat(gradient: object) -> Tensor:
    return torch.cat([getattr(gradient, name).flatten() for name in WEIGHTS])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    tilt=st.sampled_from([0.0, 0.7, 5.0, -1.0]),
    apply_b_dec=st.booleans(),
    top_k=st.sampled_from([None, 3]),
)
def test_factored_gradients_are_autograds(
    seed: int, lengths: list[int], tilt: float, apply_b_dec: bool, top_k: int | None
) -> None:
    sae = random_sae(5, 12, seed, apply_b_dec_to_input=apply_b_dec, top_k=top_k).double()
    x = torch.randn(sum(lengths), 5, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    gradients = TextGradients.of(sae, x, lengths, tilt=tilt)
    expected = torch.stack([autograd_gradient(sae, text, tilt) for text in x.split(lengths)])
    torch.testing.assert_close(flat(gradients.total()), expected.sum(dim=0))
    torch.testing.assert_close(gradients.norms(), expected.norm(dim=1))
    torch.testing.assert_close(gradients.total().norm(), expected.sum(dim=0).norm())
    torch.testing.assert_close(gradients.dot(gradients.total()), expected @ expected.sum(dim=0))


@pytest.fixture(scope="module")
def model(stories_path: Path) -> TextModel:
    return load_model(stories_path)


STORIES = [
    "Once upon a time there was a little girl.",
    "The big dog ran to the park.",
    "She was happy.",
    "One day, a bird flew high over the tree and saw a boat.",
]
SEEDS = ["The girl was sad.", "A boy and his dog played in the park all day."]


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("tilt", [0.0, 2.0])
def test_scores_on_a_real_model_are_those_of_autograd(model: TextModel, similarity: str, tilt: float) -> None:
    sae = random_sae(model.d_model, 96)

    def gradient(text: str) -> Tensor:
        (batch,) = read_tokens(model, [text], ["resid.2"])
        return autograd_gradient(sae, batch.activations["resid.2"], tilt)

    target = torch.stack([gradient(text) for text in SEEDS]).mean(dim=0)
    documents = torch.stack([gradient(text) for text in STORIES])
    expected = documents @ target
    if similarity == "cosine":
        expected = expected / (documents.norm(dim=1) * target.norm())
    found = Retrieved(np.array([10, 11, 12, 13]), np.zeros(4), STORIES)
    # several batches, so that sums over batches and the texts' order are covered
    ranked = rerank_tracin(
        found,
        SEEDS,
        model=model,
        site="resid.2",
        sae=sae,
        tilt=tilt,
        similarity=similarity,  # type: ignore[arg-type]
        batch_tokens=24,
    )
    order = expected.argsort(descending=True).numpy()
    np.testing.assert_array_equal(ranked.ids, order + 10)
    assert ranked.texts == [STORIES[i] for i in order]
    np.testing.assert_allclose(ranked.scores, expected.numpy()[order], rtol=1e-3)


def test_a_step_on_the_winner_lowers_the_seeds_loss_most(model: TextModel) -> None:
    """What TracIn promises, tried out: train on one document, look at the seeds."""
    sae = random_sae(model.d_model, 96)

    def loss(text: str) -> Tensor:
        (batch,) = read_tokens(model, [text], ["resid.2"])
        x = batch.activations["resid.2"]
        return (sae(x) - x).square().sum(dim=1).mean()

    def drop(document: str) -> float:
        weights = [getattr(sae, name) for name in WEIGHTS]
        steps = torch.autograd.grad(loss(document), weights)
        with torch.no_grad():
            before = sum(loss(seed) for seed in SEEDS)
            for weight, step in zip(weights, steps, strict=True):
                weight -= 1e-6 * step
            after = sum(loss(seed) for seed in SEEDS)
            for weight, step in zip(weights, steps, strict=True):
                weight += 1e-6 * step
        return float(before - after)

    ranked = rerank_tracin(
        Retrieved(np.arange(4), np.zeros(4), STORIES),
        SEEDS,
        model=model,
        site="resid.2",
        sae=sae,
        similarity="dot",
    )
    assert int(ranked.ids[0]) == int(np.argmax([drop(text) for text in STORIES]))


def test_the_seeds_own_kind_comes_first(shared: Path, minilm_path: Path) -> None:
    frame = pd.read_parquet(shared / "data" / "wikipedia_leads.parquet")
    is_restaurant = frame["category"].str.contains("restaurant", case=False)
    wanted, other = frame["text"][is_restaurant], frame["text"][~is_restaurant].sample(60, random_state=0)
    texts = [*other, *wanted[:20]]
    ranked = rerank_tracin(
        Retrieved(np.arange(80), np.zeros(80), texts),
        wanted[20:40].to_list(),
        model=load_model("demo"),
        site="resid.3",
        sae=random_sae(384, 256),
        n=20,
        max_length=32,
    )
    assert len(ranked) == 20
    # even under an SAE with random directions, far more than a random choice of 20 would hold
    assert hypergeom.sf((ranked.ids >= 60).sum() - 1, 80, 20, 20) < 0.01


class TestEdges:
    def test_documents_without_a_token_stand_last(self, model: TextModel) -> None:
        found = Retrieved(np.arange(2), np.zeros(2), ["", "The dog ran."])
        with pytest.warns(UserWarning, match="empty"):
            ranked = rerank_tracin(found, SEEDS, model=model, site="resid.2", sae=random_sae(64, 96))
        assert ranked.ids.tolist() == [1, 0]
        assert ranked.scores[1] == -np.inf

    def test_nothing_retrieved(self, model: TextModel) -> None:
        nothing = Retrieved(np.array([], dtype=int), np.array([]), [])
        assert len(rerank_tracin(nothing, SEEDS, model=model, site="resid.2", sae=random_sae(64, 96))) == 0

    def test_bad_input(self, model: TextModel) -> None:
        found = Retrieved(np.arange(1), np.zeros(1), ["The dog ran."])
        sae = random_sae(64, 96)
        with pytest.raises(ValueError, match="similarity must be one of cosine, dot"):
            rerank_tracin(found, SEEDS, model=model, site="resid.2", sae=sae, similarity="l2")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="n must be at least 1"):
            rerank_tracin(found, SEEDS, model=model, site="resid.2", sae=sae, n=0)
        with pytest.raises(ValueError, match=r"width 32.*width 64"):
            rerank_tracin(found, SEEDS, model=model, site="resid.2", sae=random_sae(32, 96))
        with (
            pytest.warns(UserWarning, match="empty"),
            pytest.raises(ValueError, match="none of the seeds has a token"),
        ):
            rerank_tracin(found, [""], model=model, site="resid.2", sae=sae)
