"""Tilted risk against its definition, its limits and autograd."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.sae.tilted_risk import (
    RunningMean,
    effective_sample_size,
    hierarchical_tilted_risk,
    hierarchical_tilted_weights,
    tilted_risk,
    tilted_weights,
)

losses_lists = st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=40)
tilts = st.one_of(st.just(0.0), st.floats(-1e9, 1e9), st.floats(-5, 5), st.floats(-1e-9, 1e-9))


@settings(deadline=None)
@given(losses_lists, tilts)
def test_risk_lies_between_the_extremes(losses: list[float], tilt: float) -> None:
    f = torch.tensor(losses)
    risk = float(tilted_risk(f, tilt))
    assert float(f.min()) - 1e-6 <= risk <= float(f.max()) + 1e-6


@settings(deadline=None)
@given(losses_lists, tilts, tilts)
def test_risk_rises_with_the_tilt(losses: list[float], one: float, other: float) -> None:
    f = torch.tensor(losses)
    low, high = sorted((one, other))
    assert float(tilted_risk(f, low)) <= float(tilted_risk(f, high)) + 1e-6 * (1 + max(losses))


@settings(deadline=None)
@given(st.lists(st.floats(0, 20), min_size=2, max_size=20), st.floats(-3, 3).filter(lambda t: abs(t) > 1e-3))
def test_risk_is_the_published_formula(losses: list[float], tilt: float) -> None:
    expected = math.log(math.fsum(math.exp(tilt * f) for f in losses) / len(losses)) / tilt
    assert float(tilted_risk(torch.tensor(losses, dtype=torch.float64), tilt)) == pytest.approx(
        expected, abs=1e-9
    )


@settings(deadline=None)
@given(losses_lists, st.floats(-5, 5), st.floats(0.1, 100))
def test_weights_are_the_risks_gradient(losses: list[float], tilt: float, scale: float) -> None:
    f = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(tilted_risk(f, tilt, scale), f)
    torch.testing.assert_close(tilted_weights(f, tilt, scale), gradient, rtol=1e-6, atol=1e-9)


@settings(deadline=None)
@given(losses_lists, tilts)
def test_weights_are_a_distribution(losses: list[float], tilt: float) -> None:
    weights = tilted_weights(torch.tensor(losses), tilt)
    assert bool((weights >= 0).all())
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert 1 - 1e-5 <= effective_sample_size(weights) <= len(losses) + 1e-4


def test_zero_tilt_is_exactly_the_mean() -> None:
    f = torch.rand(7)
    assert torch.equal(tilted_weights(f, 0.0), torch.full((7,), 1 / 7))
    assert float(tilted_risk(f, 0.0)) == float(f.double().mean())


@pytest.mark.parametrize(("tilt", "extreme"), [(1e9, 1e30), (-1e9, 1e-30)])
def test_huge_tilts_stay_finite_on_huge_losses(tilt: float, extreme: float) -> None:
    f = torch.tensor([1e-30, 1.0, 1e30])
    assert float(tilted_risk(f, tilt)) == pytest.approx(extreme, rel=1e-6, abs=1e-8)
    assert tilted_weights(f, tilt).tolist() == [float(v == torch.tensor(extreme)) for v in f]


@settings(deadline=None)
@given(losses_lists, st.floats(-5, 5), st.floats(0.01, 100))
def test_scaled_tilt_means_the_same_on_every_unit(losses: list[float], tilt: float, factor: float) -> None:
    f = torch.tensor(losses, dtype=torch.float64)
    mean = float(f.mean()) or 1.0
    ours, theirs = tilted_weights(f, tilt, mean), tilted_weights(f * factor, tilt, mean * factor)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        tilted_risk(f, tilt, mean) * factor, tilted_risk(f * factor, tilt, mean * factor)
    )


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(-4, 4), st.floats(-4, 4))
def test_hierarchical_weights_are_the_risks_gradient(seed: int, tilt: float, group_tilt: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    f = torch.rand(12, generator=generator, dtype=torch.float64).mul(5).requires_grad_()
    groups = torch.randint(0, 3, (12,), generator=generator)
    (gradient,) = torch.autograd.grad(hierarchical_tilted_risk(f, groups, tilt, group_tilt), f)
    weights = hierarchical_tilted_weights(f, groups, tilt, group_tilt)
    torch.testing.assert_close(weights, gradient, rtol=1e-6, atol=1e-9)
    # tilting groups and members alike is tilting all of them once
    torch.testing.assert_close(hierarchical_tilted_risk(f, groups, tilt, tilt), tilted_risk(f, tilt))


def test_running_mean_of_a_constant_is_the_constant() -> None:
    mean = RunningMean(decay=0.9)
    assert mean.value == 0
    assert [mean.update(3.0) for _ in range(5)] == pytest.approx([3.0] * 5)


@pytest.mark.parametrize(
    ("losses", "tilt", "scale", "said"),
    [
        (torch.rand(0), 1.0, 1.0, "non-empty"),
        (torch.rand(2, 2), 1.0, 1.0, "vector"),
        (torch.rand(3), float("inf"), 1.0, "finite"),
        (torch.rand(3), 1.0, 0.0, "positive"),
    ],
)
def test_nonsense_is_named(losses: torch.Tensor, tilt: float, scale: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tilted_weights(losses, tilt, scale)
