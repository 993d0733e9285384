"""The sparse step gives the dense reference's gradients, whatever the batch, the tilt and the dead latents."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.sae import SAEConfig, SparseAutoencoder, tilted_weights
from ssae_debias.sae.optimizer import UnitNormAdam
from ssae_debias.sae.steps import DenseStep, SparseStep, StepResult
from ssae_debias.sae.steps.screening import Screen
from ssae_debias.sae.steps.selection import ActiveLatents, Whole


def _sae(config: SAEConfig, d_in: int, seed: int, **options: bool) -> SparseAutoencoder:
    sae = SparseAutoencoder(d_in, config, random_state=seed, **options).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in (sae.W_enc, sae.b_enc, sae.b_dec):
            part += 0.1 * torch.randn(part.shape, generator=generator, dtype=torch.float64)
    return sae


def _grads(sae: SparseAutoencoder) -> dict[str, torch.Tensor]:
    return {name: part.grad for name, part in sae.named_parameters() if part.grad is not None}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    architecture=st.sampled_from(["topk", "batchtopk"]),
    n=st.integers(1, 40),
    d_in=st.integers(2, 12),
    k=st.integers(1, 8),
    tilt=st.sampled_from([0.0, 2.0, -1.0, 1e9]),
    n_dead=st.integers(0, 6),
    apply_b_dec_to_input=st.booleans(),
)
def test_sparse_and_dense_gradients_agree(
    seed: int,
    architecture: str,
    n: int,
    d_in: int,
    k: int,
    tilt: float,
    n_dead: int,
    apply_b_dec_to_input: bool,
) -> None:
    config = SAEConfig(d_sae=20, k=k, architecture=architecture, aux_k=3)
    sae = _sae(config, d_in, seed, apply_b_dec_to_input=apply_b_dec_to_input)
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(n, d_in, generator=generator, dtype=torch.float64)
    dead = torch.randperm(20, generator=generator)[:n_dead]

    def run(step: DenseStep | SparseStep) -> tuple[StepResult, dict[str, torch.Tensor]]:
        result = step(sae, x, lambda losses: tilted_weights(losses, tilt), dead)
        return result, {name: grad.clone() for name, grad in _grads(sae).items()}

    dense, dense_grads = run(DenseStep(config))
    sparse, sparse_grads = run(SparseStep(config))
    assert sparse_grads.keys() == dense_grads.keys() == {"W_enc", "b_enc", "W_dec", "b_dec"}
    for name, grad in dense_grads.items():
        torch.testing.assert_close(
            sparse_grads[name], grad, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}"
        )
    torch.testing.assert_close(sparse.residual, dense.residual)
    torch.testing.assert_close(sparse.losses, dense.losses)
    assert torch.equal(sparse.fired, dense.fired)
    assert (sparse.n_active, sparse.smallest_kept) == (dense.n_active, pytest.approx(dense.smallest_kept))


def test_both_steps_train_to_the_same_weights() -> None:
    config = SAEConfig(d_sae=48, k=3)
    ours = _sae(config, 10, seed=0)
    theirs = copy.deepcopy(ours)
    start = ours.W_dec.detach().clone()
    pairs = [
        (ours, SparseStep(config), UnitNormAdam(ours)),
        (theirs, DenseStep(config), UnitNormAdam(theirs)),
    ]
    generator = torch.Generator().manual_seed(3)
    for _ in range(30):
        x = torch.randn(50, 10, generator=generator, dtype=torch.float64)
        for sae, step, optimizer in pairs:
            step(sae, x, lambda losses: tilted_weights(losses, 1.0), torch.tensor([1, 4]))
            optimizer.step(1e-2)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    assert float((ours.W_dec.detach() - start).norm()) > 0.5


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from([0.001, 0.5, 1.0, 3.0, 1000.0]), min_size=2, max_size=6), st.integers(0, 1000)
)
def test_batch_selection_is_exact_after_any_earlier_batch(scales: list[float], seed: int) -> None:
    """The remembered floor is a hint: batches that grow or shrink a thousandfold are still cut exactly."""
    generator = torch.Generator().manual_seed(seed)
    select = ActiveLatents(k=2, per_token=False)
    W_enc, b_enc = torch.randn(6, 30, generator=generator), torch.zeros(30)
    for scale in scales:
        x = torch.randn(600, 6, generator=generator) * scale
        codes = select(x, W_enc, b_enc)
        p = x @ W_enc
        expected = p.flatten().topk(1200).values.sort().values
        torch.testing.assert_close(codes.values.sort().values, expected)
        torch.testing.assert_close(p[codes.rows, codes.columns], codes.values)


def test_too_few_positive_pre_activations_are_all_kept() -> None:
    x, W_enc = torch.ones(3, 1), torch.tensor([[1.0, -1.0, -2.0]])
    for per_token in (True, False):
        codes = ActiveLatents(k=2, per_token=per_token)(x, W_enc, torch.zeros(3))
        assert codes.columns.tolist() == [0, 0, 0]


def test_a_batch_without_any_active_latent_still_steps() -> None:
    config = SAEConfig(d_sae=4, k=2)
    sae = SparseAutoencoder(3, config)
    with torch.no_grad():
        sae.b_enc.fill_(-100)
    result = SparseStep(config)(sae, torch.ones(5, 3), lambda losses: tilted_weights(losses, 0.0))
    assert result.n_active == 0
    assert not result.fired.any()
    assert float(sae.W_dec.grad.abs().sum()) == 0
    torch.testing.assert_close(sae.b_dec.grad, torch.full((3,), -2.0))


def test_relu_and_jumprelu_steps_match_finite_differences() -> None:
    """Where neither penalty nor threshold jumps, the gradient is the slope of the objective."""
    for architecture in ("relu", "jumprelu"):
        config = SAEConfig(d_sae=6, architecture=architecture, l1_coefficient=0.3)
        sae = _sae(config, 4, seed=5)
        x = torch.randn(9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        step = DenseStep(config)

        def objective(step: DenseStep = step, sae: SparseAutoencoder = sae, x: torch.Tensor = x) -> float:
            return float(step(sae, x, lambda losses: tilted_weights(losses, 0.0)).losses.mean())

        objective()
        slope = sae.W_dec.grad[2, 1].item()
        with torch.no_grad():
            sae.W_dec[2, 1] += 1e-6
        above = objective()
        with torch.no_grad():
            sae.W_dec[2, 1] -= 2e-6
        assert (above - objective()) / 2e-6 == pytest.approx(slope, abs=1e-5)


def test_adam_on_the_column_major_encoder_is_plain_adam() -> None:
    config = SAEConfig(d_sae=7, k=2)
    sae = SparseAutoencoder(5, config)
    reference = torch.nn.Parameter(sae.W_enc.detach().clone().contiguous())
    plain = torch.optim.Adam([reference], lr=0.01, foreach=False)
    optimizer = UnitNormAdam(sae)
    for seed in range(5):
        grad = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed))
        sae.W_enc.grad = grad.t().contiguous().t()
        reference.grad = grad.clone()
        optimizer.step(0.01)
        plain.step()
    torch.testing.assert_close(sae.W_enc.detach(), reference.detach())


def test_the_decoders_rows_keep_norm_one_and_feel_no_pull_along_themselves() -> None:
    config = SAEConfig(d_sae=7, k=2)
    one, other = SparseAutoencoder(5, config), SparseAutoencoder(5, config)
    sideways = torch.randn(7, 5, generator=torch.Generator().manual_seed(9))
    one.W_dec.grad, other.W_dec.grad = sideways.clone(), sideways + 3.0 * other.W_dec.detach()
    for sae in (one, other):
        UnitNormAdam(sae).step(0.1)
    torch.testing.assert_close(one.W_dec.detach(), other.W_dec.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.W_dec.detach().norm(dim=1), torch.ones(7))


def test_sparse_step_refuses_what_it_cannot_serve() -> None:
    with pytest.raises(ValueError, match="topk and batchtopk"):
        SparseStep(SAEConfig(d_sae=8, architecture="relu"))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 300),
    d_in=st.integers(1, 24),
    d_sae=st.sampled_from([1, 7, 64, 96, 250, 1024]),
    k=st.integers(1, 40),
    scale=st.sampled_from([1e-6, 1.0, 300.0]),
    bias=st.sampled_from([-1.0, 0.0, 0.3]),
    equal=st.booleans(),
)
def test_screening_in_bfloat16_finds_what_full_precision_finds(
    seed: int, n: int, d_in: int, d_sae: int, k: int, scale: float, bias: float, equal: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d_in, generator=generator) * scale
    W_enc = torch.randn(d_sae, d_in, generator=generator).t()
    if equal:  # many latents alike: ties at every cut, within bfloat16's rounding
        W_enc = (W_enc[:, :1] * (1 + 1e-3 * torch.rand(d_sae, generator=generator))).contiguous()
    b_enc = bias * scale * torch.rand(d_sae, generator=generator)
    k = min(k, d_sae)
    p = x @ W_enc + b_enc
    for precision in ("full", "bfloat16"):
        rows, columns, values = Screen(x, W_enc, b_enc, k, precision=precision).largest()
        torch.testing.assert_close(values, p[rows, columns], rtol=1e-4, atol=1e-5 * scale)
        assert (rows.diff() >= 0).all()
        # row by row the same values as the reference: which of equal latents is taken is anyone's choice
        found = torch.zeros(n, k)
        place = torch.arange(len(rows)) - torch.searchsorted(rows, rows)
        found[rows, place] = values
        expected = torch.relu(p).topk(k, dim=1).values
        torch.testing.assert_close(
            found.sort(dim=1, descending=True).values, expected, rtol=1e-4, atol=1e-5 * scale
        )
        floor = float(p.flatten().topk(min(k * n, p.numel())).values.min().clamp(min=0))
        _, _, above = Screen(x, W_enc, b_enc, k, precision=precision).above(floor)
        clear = 1e-4 * abs(floor) + 1e-5 * scale
        assert int((p > floor + clear).sum()) <= len(above) <= int((p > floor - clear).sum())


def test_a_token_crowded_with_equal_latents_is_looked_at_whole() -> None:
    x, W_enc = torch.ones(3, 4), torch.full((4, 2048), 0.5)
    rows, columns, values = Screen(x, W_enc, torch.zeros(2048), k=2, precision="bfloat16").largest()
    assert rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert values.tolist() == [2.0] * 6
    assert len(set(columns[:2].tolist())) == 2


def test_the_whole_product_is_searched_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    x, W_enc = torch.randn(70, 9, generator=generator), torch.randn(33, 9, generator=generator).t()
    b_enc = torch.randn(33, generator=generator)
    screen, whole = Screen(x, W_enc, b_enc, 5, precision="full"), Whole(x, W_enc, b_enc, 5)
    for one, other in ((screen.largest(), whole.largest()), (screen.above(0.7), whole.above(0.7))):
        dense = [torch.zeros(70, 33).index_put((r, c), v) for r, c, v in (one, other)]
        torch.testing.assert_close(dense[0], dense[1])
    assert screen.likely_floor() == pytest.approx(whole.likely_floor())
