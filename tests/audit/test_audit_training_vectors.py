"""What SAEs of an audit are trained on: drawn at random and in part, and moved apart where that is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_audit import read_as_is
from torch import nn

from ssae_debias.audit import LatentSettings, ModuleClassifier, training_vectors
from ssae_debias.audit.array_latents import find_array_latents

drawn = training_vectors.training_vectors


def test_vectors_of_images_are_drawn_at_random_and_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(2 * 36, 2))
    classifier = ModuleClassifier(module, "0", classes=["a", "b"], batch_size=50)
    x = np.random.default_rng(0).normal(size=(300, 2, 6, 6)).astype("float32")
    x[:, :, 0, 0] += 100  # one pixel that a stride would always meet, or never
    vectors, center = drawn(classifier, x, "module:0", 2000)
    assert 1700 < len(vectors) < 2300
    assert (vectors[:, 0] > 50).float().mean() == pytest.approx(1 / 36, abs=0.015)
    np.testing.assert_allclose(center, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    # of the same pixels their counterfactuals are read
    apart, center = drawn(classifier, x, "module:0", 2000, counterfactual=x + 1, apart=3.0)
    own, other, away, far = apart.chunk(4)
    torch.testing.assert_close(other, own + 1)
    torch.testing.assert_close(far - away, torch.full_like(own, 7.0), atol=1e-4, rtol=0)
    np.testing.assert_allclose(center, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(training_vectors, "MAX_FLOATS", 1000)
    assert len(drawn(classifier, x, "module:0", 2000)[0]) < 650
    assert len(drawn(classifier, x, "module:0", 2000, counterfactual=x + 1, apart=3.0)[0]) < 650


def test_a_counterfactual_that_changes_nothing_adds_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
    other = x.copy()
    other[:5, 1] += 1
    vectors, _ = drawn(read_as_is(), x, "module:0", 1000, counterfactual=other, apart=1.0)
    assert len(vectors) == 20 + 3 * 5
    np.testing.assert_array_equal(
        drawn(read_as_is(), x, "module:0", 1000, counterfactual=other)[0].numpy(), x
    )


def test_moved_apart_an_attribute_of_little_weight_gets_its_latent() -> None:
    random = np.random.default_rng(0)
    a = random.integers(2, size=800)
    concepts = random.exponential(size=(800, 60)) * (random.random((800, 60)) < 0.08)
    x = concepts @ random.normal(size=(60, 32)) / 4
    along = random.normal(size=32) / 5
    texts, swapped = (x + np.outer(side - 0.5, along) for side in (a, 1 - a))
    settings = LatentSettings(flag="counterfactual", d_sae=64, k=10, train_tokens=20_000, min_effect=0.8)

    def flagged(apart: float) -> list[float]:
        """How closely the dictionary's rows of the latents that are flagged follow the attribute's direction."""
        found = find_array_latents(
            read_as_is(d=32), texts.astype("float32"), np.arange(800) % 2, sites=["module:0"], attribute=None,
            known=np.zeros(800, dtype=bool), counterfactual=swapped.astype("float32"), side=2 * a - 1,
            settings=replace(settings, apart=apart),
        )  # fmt: skip
        latents = found.table.query("decision == 'ablate'")["latent"]
        directions = found.saes["module:0"].W_dec.detach().numpy()[latents]
        cosines: list[float] = (np.abs(directions @ along) / np.linalg.norm(along)).tolist()
        return cosines

    assert flagged(0.0) == []
    assert max(flagged(2.0)) > 0.7


def test_moving_apart_what_has_no_counterfactual_is_refused() -> None:
    x = np.zeros((4, 8), dtype="float32")
    with pytest.raises(ValueError, match="apart=2 trains SAEs on counterfactuals moved apart: give"):
        drawn(read_as_is(), x, "module:0", 10, apart=2.0)
    with pytest.raises(ValueError, match="apart=-1"):
        drawn(read_as_is(), x, "module:0", 10, counterfactual=x, apart=-1.0)
    with pytest.raises(ValueError, match="inputs give 4 vectors and the counterfactuals 3"):
        drawn(read_as_is(), x, "module:0", 100, counterfactual=x[:3], apart=1.0)
