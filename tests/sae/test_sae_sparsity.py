"""Sparsity functions against their definitions, surrogate gradients against the published formulas."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.sae.sparsity import active_count, batch_topk, jumprelu, threshold_relu, topk


def _pre_activations(seed: int, n: int, d_sae: int) -> torch.Tensor:
    return torch.randn(n, d_sae, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


cases = (st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 20), st.integers(1, 20))


@settings(deadline=None)
@given(*cases)
def test_topk_keeps_each_tokens_largest(seed: int, n: int, d_sae: int, k: int) -> None:
    p = _pre_activations(seed, n, d_sae)
    expected = np.zeros(p.shape)
    for row, values in enumerate(p.numpy()):
        best = np.argsort(-values)[:k]
        expected[row, best] = np.maximum(values[best], 0)
    np.testing.assert_array_equal(topk(p, k).numpy(), expected)


@settings(deadline=None)
@given(*cases)
def test_batch_topk_keeps_the_batchs_largest(seed: int, n: int, d_sae: int, k: int) -> None:
    p = _pre_activations(seed, n, d_sae)
    best = np.argsort(-p.numpy(), axis=None)[: n * k]
    expected = np.zeros(p.numel())
    expected[best] = np.maximum(p.numpy().ravel()[best], 0)
    np.testing.assert_array_equal(batch_topk(p, k).numpy().ravel(), expected)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 2))
def test_jumprelu_gradients_are_the_published_ones(seed: int, bandwidth: float) -> None:
    p = _pre_activations(seed, 6, 5).requires_grad_()
    theta = torch.rand(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
    upstream = _pre_activations(seed + 1, 6, 5)
    z = jumprelu(p, theta, bandwidth)
    torch.testing.assert_close(z, threshold_relu(p, theta))
    to_p, to_theta = torch.autograd.grad(z, (p, theta), upstream)
    for j in range(5):
        near = ((p[:, j] - theta[j]).abs() < bandwidth / 2).double()
        torch.testing.assert_close(to_theta[j], -(theta[j] / bandwidth) * (near * upstream[:, j]).sum())
    torch.testing.assert_close(to_p, upstream * (p > theta))
    count = active_count(p, theta, bandwidth)
    torch.testing.assert_close(count, (p > theta).double().sum(1))
    (count_to_theta,) = torch.autograd.grad(count.sum(), theta)
    near = ((p - theta).abs() < bandwidth / 2).double()
    torch.testing.assert_close(count_to_theta, -near.sum(0) / bandwidth)


def test_topk_ranks_latents_whatever_the_leading_dimensions() -> None:
    p = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(topk(p, 2), topk(p.flatten(0, 1), 2).reshape(3, 4, 10))
