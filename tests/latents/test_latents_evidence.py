"""Evidence: each statistic against an independent computation, and what each must and must not blame."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssae_debias.activations import TokenBatch
from ssae_debias.latents import association, counterfactual_response, evidence_table, pool_latents
from ssae_debias.sae import SAEConfig, SparseAutoencoder


def confounded(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latent 0 carries the attribute, 1 the task, 2 nothing; attribute and task agree in 90 % of rows."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    a = np.where(rng.random(n) < 0.9, y, 1 - y)
    return np.column_stack([a, y, np.zeros(n)]) + rng.normal(0, 1, (n, 3)), y, a


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_within_class_association_is_ordinary_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    y, a, z = rng.integers(0, 3, n), rng.integers(0, 2, n), rng.normal(size=(n, 1))
    if any(len(np.unique(a[y == c])) < 2 for c in np.unique(y)):
        return
    found = association(z, a, within=y).iloc[0]
    design = np.column_stack([pd.get_dummies(y).to_numpy(float), a])
    beta, residual, *_ = np.linalg.lstsq(design, z[:, 0], rcond=None)
    freedom = n - design.shape[1]
    sigma = np.sqrt(residual[0] / freedom)
    t = beta[-1] / (sigma * np.sqrt(np.linalg.inv(design.T @ design)[-1, -1]))
    assert found.effect == pytest.approx(beta[-1] / sigma, rel=1e-6)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-6)


def test_marginal_association_blames_the_task_and_within_class_does_not() -> None:
    z, y, a = confounded()
    assert (association(z, a).q[:2] < 1e-3).all()
    within = association(z, a, within=y)
    assert within.q[0] < 1e-3
    assert within.q[1] > 0.01
    swapped_roles = association(z, y, within=a)
    assert swapped_roles.q[1] < 1e-3
    assert swapped_roles.q[0] > 0.01


def test_false_discovery_rate_holds_on_pure_noise() -> None:
    rng = np.random.default_rng(1)
    found = association(rng.normal(size=(200, 2000)), rng.integers(0, 2, 200), within=rng.integers(0, 2, 200))
    assert (found.q < 0.05).mean() < 0.01
    assert stats.kstest(found.p, "uniform").pvalue > 0.001


def test_an_attribute_of_three_values_names_the_one_that_stands_out() -> None:
    rng = np.random.default_rng(2)
    a = np.array(["north", "south", "west"])[rng.integers(0, 3, 300)]
    z = rng.normal(size=(300, 2))
    z[:, 0] += 2.0 * (a == "south")
    found = association(z, a)
    assert found.value[0] == "south"
    assert found.effect[0] > 1
    assert found.q[1] > 0.01


def test_association_says_what_to_do_when_the_attribute_is_the_label() -> None:
    y = np.arange(40) % 2
    with pytest.raises(ValueError, match="Flag by counterfactual pairs"):
        association(np.ones((40, 2)), y, within=y)
    with pytest.raises(ValueError, match="must agree"):
        association(np.ones((40, 2)), y[:39])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_counterfactual_response_is_the_paired_t_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, swapped, side = rng.normal(size=(30, 2)), rng.normal(size=(30, 2)), rng.integers(-1, 2, 30)
    if (side != 0).sum() < 3:
        return
    found = counterfactual_response(z, swapped, side)
    towards = np.where(side[:, None] > 0, z, swapped)[side != 0]
    away = np.where(side[:, None] > 0, swapped, z)[side != 0]
    t, p = stats.ttest_rel(towards, away)
    np.testing.assert_allclose(found.p, p, rtol=1e-8)
    np.testing.assert_allclose(found.effect, t / np.sqrt((side != 0).sum()), rtol=1e-8)


def test_counterfactual_response_needs_texts_with_a_side() -> None:
    with pytest.raises(ValueError, match="0 of 5 texts hold words"):
        counterfactual_response(np.ones((5, 2)), np.ones((5, 2)), np.zeros(5))


def random_batches(seed: int = 0) -> tuple[list[TokenBatch], SparseAutoencoder, torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    owner = np.array([0, 0, 0, 2, 2, 1, 1, 1, 1, 4])  # text 3 has no token
    x = torch.from_numpy(rng.normal(size=(10, 6)).astype(np.float32))
    batches = [
        TokenBatch(owner[part], np.arange(10)[part], np.arange(10)[part], {"embed": x[part]})
        for part in (slice(0, 4), slice(4, 10))  # text 2 is split over both
    ]
    return batches, SparseAutoencoder(6, SAEConfig(d_sae=20, k=3)), x, owner


def test_pooled_latents_are_means_over_each_texts_tokens() -> None:
    batches, sae, x, owner = random_batches()
    found = pool_latents(batches, {"embed": sae}, 5, chunk_tokens=3)["embed"]
    with torch.no_grad():
        z = sae.encode(x).numpy()
    for text in range(5):
        expected = z[owner == text].mean(0) if (owner == text).any() else np.zeros(20)
        np.testing.assert_allclose(found.pooled[text], expected, atol=1e-6)
    np.testing.assert_allclose(found.frequency, (z > 0).mean(0))
    np.testing.assert_allclose(found.mean, z.mean(0), atol=1e-6)
    active = [column[column > 0].mean() if (column > 0).any() else 0.0 for column in z.T]
    np.testing.assert_allclose(found.mean_active, active, atol=1e-6)


def test_the_table_holds_what_its_input_allows() -> None:
    batches, sae, _, _ = random_batches()
    pooled = pool_latents(batches, {"embed": sae}, 5)
    side, y, a = [1, -1, 1, -1, 1], [0, 1, 0, 1, 0], [0, 0, 1, 1, None]
    table = evidence_table(
        pooled, swapped=pooled, side=side, y=y, sensitive_features=a, known=[1, 1, 1, 1, 0]
    )
    assert len(table) == 20
    assert (table.response == 0).all()
    assert {"attribute_effect", "label_effect"} <= set(table.columns)
    assert "attribute_effect" not in evidence_table(pooled)
    with pytest.raises(ValueError, match="belong together"):
        evidence_table(pooled, side=side)
