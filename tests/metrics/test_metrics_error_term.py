"""The error term: regressions against scikit-learn's, parts whose sum is known, losses with known limits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from ssae_debias.activations import TextModel, load_model, read_pooled, read_tokens
from ssae_debias.metrics import leakage
from ssae_debias.metrics.error_regression import predict_error
from ssae_debias.metrics.error_term import PARTS, error_term
from ssae_debias.metrics.fidelity import fidelity
from ssae_debias.metrics.language_head import load_language_model
from ssae_debias.metrics.pooled_parts import leakage_of_parts, pooled_parts
from ssae_debias.sae import SAEConfig, SparseAutoencoder

SITE = "resid.2"
SUBJECTS = ("The dog", "A little girl", "Tom", "His mom", "The red ball", "One big tree")
REST = (
    "was very happy and ran to the park",
    "saw a shiny stone",
    "wanted to play with the cat",
    "went home",
)
TEXTS = [f"Once upon a time, {a.lower()} {b}." for a in SUBJECTS for b in REST]


@pytest.fixture(scope="module")
def stories(stories_path) -> TextModel:
    return load_language_model(stories_path)


def known_dimensions(kept: int, width: int = 64) -> SparseAutoencoder:
    """A dictionary that knows `kept` coordinates perfectly and nothing else: its error is linear in x."""
    sae = SparseAutoencoder(width, SAEConfig(d_sae=2 * kept, k=kept))
    with torch.no_grad():
        axes = torch.eye(width)[:kept]
        sae.W_dec.copy_(torch.cat([axes, -axes]))
        sae.W_enc.copy_(sae.W_dec.T)
    return sae


@pytest.fixture(scope="module")
def sparse() -> SparseAutoencoder:
    """A random dictionary: an error that is partly linear."""
    return SparseAutoencoder(64, SAEConfig(d_sae=256, k=8), top_k=8, random_state=1)


def test_the_maps_are_least_squares_on_the_other_texts(stories: TextModel, sparse) -> None:
    found = predict_error(stories, sparse, SITE, TEXTS, n_parts=4, ridge=0.0, batch_tokens=200)
    batches = list(read_tokens(stories, TEXTS, SITE))
    x = torch.cat([batch.activations[SITE] for batch in batches])
    text = np.concatenate([batch.text_index for batch in batches])
    with torch.no_grad():
        error = (x.double() - sparse(x).double()).numpy()
    targets = {"error": error, "norm": np.square(error).sum(1, keepdims=True)}
    r2 = {}
    for name, target in targets.items():
        expected = np.empty_like(target)
        for part in range(4):
            test = found.part[text] == part
            expected[test] = (
                LinearRegression().fit(x[~test].double(), target[~test]).predict(x[test].double())
            )
        spread = np.square(target - target.mean(0)).sum()
        r2[name] = 1 - np.square(target - expected).sum() / spread
        if name == "error":
            np.testing.assert_allclose(
                found.residual, np.bincount(text, np.square(target - expected).sum(1)), rtol=1e-3
            )
            part = found.part[text[0]]
            np.testing.assert_allclose(found.predict(x[:1], part)[0], expected[0], atol=1e-3)
    assert found.r2 == pytest.approx(r2["error"], abs=1e-3)
    assert found.norm_r2 == pytest.approx(r2["norm"], abs=1e-3)
    assert 0 < found.r2 < 1


def test_a_missing_direction_is_linear_and_a_constant_error_is_nothing(stories: TextModel) -> None:
    """What the dictionary lacks is predicted wholly on unseen texts."""
    found = predict_error(stories, known_dimensions(20), SITE, TEXTS, ridge=1e-9)
    assert found.r2 == pytest.approx(1.0, abs=1e-6)
    assert np.isnan(predict_error(stories, known_dimensions(64), SITE, TEXTS).r2)


def test_errors_of_noise_are_not_predictable(stories: TextModel) -> None:
    """Cross-validation over texts: a map that fits its own texts' noise earns nothing."""

    class Noise(SparseAutoencoder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # a fixed pseudo-random function of x, with no linear part
            return x - torch.sin(1e4 * x)

    words = sorted({word for text in TEXTS for word in text[:-1].split()})
    rng = np.random.default_rng(0)
    # no two begin alike: a causal model would give them the same activations there
    texts = [" ".join(rng.choice(words, 12)) + "." for _ in range(60)]
    found = predict_error(stories, Noise(64, SAEConfig(d_sae=4, k=2)), SITE, texts)
    assert -0.2 < found.r2 < 0.05


def test_losses_of_the_parts_have_their_known_limits(stories: TextModel, sparse) -> None:
    linear = error_term(stories, known_dimensions(40), SITE, TEXTS, ridge=1e-9, n_resamples=50)
    h = {name: interval.mean for name, interval in linear.cross_entropy.items()}
    assert tuple(h) == ("clean", *PARTS)
    # an error that is all linear: given back it is the clean model, and its rest is the bare reconstruction
    assert h["and_predictable"] == pytest.approx(h["clean"], abs=1e-3)
    assert h["and_nonlinear"] == pytest.approx(h["reconstruction"], abs=1e-3)
    assert linear.loss_recovered["and_predictable"].mean == pytest.approx(1, abs=1e-3)
    spliced = fidelity(stories, known_dimensions(40), SITE, TEXTS, n_resamples=50)
    for part, variant in (("reconstruction", "spliced"), ("zero", "zero"), ("mean", "mean"), ("clean",) * 2):
        np.testing.assert_allclose(
            linear.cross_entropy[part], spliced.cross_entropy[variant], rtol=1e-6, err_msg=part
        )
    np.testing.assert_allclose(linear.share, spliced.fvu)

    mixed = error_term(stories, sparse, SITE, TEXTS, n_resamples=50)
    assert 0 < mixed.r2.low < mixed.r2.mean < mixed.r2.high < 1
    assert mixed.cross_entropy["and_predictable"].mean < mixed.cross_entropy["reconstruction"].mean
    assert json.loads(json.dumps(mixed.to_dict(), allow_nan=False))["objective"] == "causal"


def test_without_a_head_there_is_no_loss_and_too_few_texts_are_named(stories_path, sparse) -> None:
    bare = load_model(stories_path)
    found = error_term(bare, sparse, SITE, TEXTS, n_resamples=20)
    assert (found.objective, found.cross_entropy) == (None, {})
    with pytest.raises(ValueError, match=r"3 text\(s\) with tokens do not fill 5 parts"):
        predict_error(bare, sparse, SITE, TEXTS[:3])
    with pytest.raises(ValueError, match="n_parts must be at least 2"):
        predict_error(bare, sparse, SITE, TEXTS, n_parts=1)


@pytest.mark.parametrize("normalization", ["none", "layer_norm"])
def test_pooled_parts_are_the_means_of_the_tokens_parts(stories: TextModel, normalization: str) -> None:
    sae = SparseAutoencoder(64, SAEConfig(d_sae=128, k=8), top_k=8, normalization=normalization)
    with torch.no_grad():
        sae.b_dec.normal_()
    flagged = [1, 5, 77]
    parts = pooled_parts(stories, {SITE: sae}, TEXTS, flagged={SITE: flagged})[SITE]
    np.testing.assert_allclose(parts["activation"], read_pooled(stories, TEXTS, SITE)[SITE], atol=1e-6)
    for batch in read_tokens(stories, TEXTS, SITE, batch_tokens=100):
        x = batch.activations[SITE]
        with torch.no_grad():
            z = sae.encode(x)
            by_token = {"error term": x - sae(x), "flagged latents": z[:, flagged] @ sae.W_dec[flagged]}
        for text in np.unique(batch.text_index):
            for name, values in by_token.items():
                expected = values[batch.text_index == text].mean(0)
                np.testing.assert_allclose(parts[name][text], expected, atol=1e-4)
    np.testing.assert_allclose(parts["rest"] + parts["flagged latents"], parts["activation"], atol=1e-4)


def test_the_part_that_carries_the_attribute_is_the_one_that_leaks(stories: TextModel) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(2, size=400)
    parts = {name: rng.normal(size=(400, 6)) for name in ("reconstruction", "error term")}
    parts["error term"][:, 2] += 3 * a
    rows = [{name: x[i] for name, x in parts.items()} for i in (slice(200), slice(200, None))]
    found = leakage_of_parts(rows[0], a[:200], rows[1], a[200:], random_state=0)
    assert all(value > 0.85 for value in found["error term"].values())
    assert all(value < 0.62 for value in found["reconstruction"].values())
    assert found["error term"]["linear"] == leakage(
        rows[0]["error term"], a[:200], rows[1]["error term"], a[200:]
    )
    with pytest.raises(ValueError, match="give the same"):
        leakage_of_parts({"rest": parts["error term"]}, a, parts, a)
    with pytest.raises(ValueError, match="flags for embed"):
        pooled_parts(stories, {SITE: known_dimensions(8)}, TEXTS, flagged={"embed": [0]})
    with pytest.raises(ValueError, match="lie in 0 … 15"):
        pooled_parts(stories, {SITE: known_dimensions(8)}, TEXTS, flagged={SITE: [16]})
