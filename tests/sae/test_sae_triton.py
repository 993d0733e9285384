"""The Triton step, under Triton's interpreter or on a GPU, gives the reference's gradients, updates and codes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.sae import SAEConfig, SparseAutoencoder, tilted_weights
from ssae_debias.sae.kernels import language, rows, selection, transposition
from ssae_debias.sae.kernels.language import why_unavailable
from ssae_debias.sae.kernels.rounding import RESULT_ROUNDING, product_error, rounded
from ssae_debias.sae.kernels.selection import KernelCodes, KernelSelection
from ssae_debias.sae.optimizer import UnitNormAdam
from ssae_debias.sae.steps import DenseStep
from ssae_debias.sae.steps.triton_step import TritonStep, TritonTrainingStep

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MISSING = why_unavailable(DEVICE)
needs_triton = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
ARCHITECTURES = ("topk", "batchtopk")


def _sae(config: SAEConfig, d_in: int, seed: int, **options: bool) -> SparseAutoencoder:
    sae = SparseAutoencoder(d_in, config, random_state=seed, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in (sae.W_enc, sae.b_enc, sae.b_dec):
            part += 0.1 * torch.randn(part.shape, generator=generator)
    return sae.to(DEVICE)


def _batch(n: int, d_in: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def _grads(sae: SparseAutoencoder) -> dict[str, torch.Tensor]:
    return {name: part.grad.clone() for name, part in sae.named_parameters() if part.grad is not None}


def _flat(n: int) -> torch.Tensor:
    return torch.full((n,), 1.0 / n, device=DEVICE)


@needs_triton
@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    architecture=st.sampled_from(ARCHITECTURES),
    precision=st.sampled_from(["fp32", "bf16"]),
    n=st.integers(1, 9),
    d_in=st.integers(1, 13),
    k=st.integers(1, 20),
    tilt=st.sampled_from([0.0, 2.0, -1.0]),
    n_dead=st.integers(0, 6),
    apply_b_dec_to_input=st.booleans(),
)
def test_gradients_agree_with_the_dense_step(
    seed: int,
    architecture: str,
    precision: selection.Precision,
    n: int,
    d_in: int,
    k: int,
    tilt: float,
    n_dead: int,
    apply_b_dec_to_input: bool,
) -> None:
    """k up to d_sae: then it exceeds the positive entries."""
    config = SAEConfig(d_sae=20, k=k, architecture=architecture, aux_k=3)
    sae = _sae(config, d_in, seed, apply_b_dec_to_input=apply_b_dec_to_input)
    x = _batch(n, d_in, seed + 1)
    dead = torch.randperm(20, generator=torch.Generator().manual_seed(seed))[:n_dead].to(DEVICE)
    results, grads = [], []
    for step in (DenseStep(config), TritonStep(config, precision)):
        results.append(step(sae, x, lambda losses: tilted_weights(losses, tilt), dead))
        grads.append(_grads(sae))
    dense, ours = results
    assert grads[0].keys() == grads[1].keys() == {"W_enc", "b_enc", "W_dec", "b_dec"}
    for name, grad in grads[0].items():
        torch.testing.assert_close(
            grads[1][name], grad, rtol=2e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    torch.testing.assert_close(ours.residual, dense.residual, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.losses, dense.losses, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.fired, dense.fired)
    assert ours.n_active == dense.n_active
    assert ours.smallest_kept == pytest.approx(dense.smallest_kept, rel=1e-5, abs=1e-5)


@needs_triton
@pytest.mark.parametrize(
    ("architecture", "parts_of"), [("topk", 2), ("batchtopk", 2), ("batchtopk", transposition.PART_ENTRIES)]
)
def test_whole_updates_agree_with_dense_step_and_adam(
    architecture: str, parts_of: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where popular latents are summed in parts: of two entries, so that all popular ones are."""
    monkeypatch.setattr(transposition, "PART_ENTRIES", parts_of)
    monkeypatch.setattr(rows, "PART_ENTRIES", parts_of)
    config = SAEConfig(d_sae=24, k=3, architecture=architecture, aux_k=2)
    ours = _sae(config, 7, seed=0)
    theirs = copy.deepcopy(ours)
    start = ours.W_dec.detach().clone()
    training, dense, optimizer = TritonTrainingStep(config), DenseStep(config), UnitNormAdam(theirs)
    assert training.state() == {} == optimizer.state()
    for turn in range(4):
        x = _batch(9, 7, seed=turn)
        dead = torch.tensor([1, 4], device=DEVICE) if turn % 2 else None

        def weigh(losses: torch.Tensor) -> torch.Tensor:
            return tilted_weights(losses, 1.0)

        training.step(ours, x, weigh, dead, 1e-2)
        dense(theirs, x, weigh, dead)
        optimizer.step(1e-2)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(ours.W_dec.detach().norm(dim=1), torch.ones(24, device=DEVICE))
    assert float((ours.W_dec.detach() - start).norm()) > 0.05


@needs_triton
def test_a_latent_without_tokens_is_still_moved_by_its_moments() -> None:
    config = SAEConfig(d_sae=4, k=1, aux_k=0)
    ours = _sae(config, 3, seed=2)
    theirs = copy.deepcopy(ours)
    training, dense, optimizer = TritonTrainingStep(config), DenseStep(config), UnitNormAdam(theirs)
    for turn in range(3):
        x = _batch(6, 3, seed=turn)
        if turn == 2:
            for sae in (ours, theirs):
                sae.b_enc.data[:2] = -100.0
        before = ours.W_enc.detach().clone()
        result = training.step(ours, x, lambda losses: _flat(6), None, 0.05)
        dense(theirs, x, lambda losses: _flat(6))
        optimizer.step(0.05)
    assert not bool(result.fired[:2].any())
    assert float((ours.W_enc.detach() - before)[:, :2].abs().max()) > 1e-3
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@needs_triton
@pytest.mark.parametrize("fused_first", [True, False])
def test_checkpoints_are_interchangeable_with_unit_norm_adam(fused_first: bool) -> None:
    config = SAEConfig(d_sae=12, k=2)
    sae = _sae(config, 5, seed=4)
    reference = copy.deepcopy(sae)
    dense, optimizer = DenseStep(config), UnitNormAdam(reference)
    batches = [_batch(8, 5, seed=turn) for turn in range(6)]
    for x in batches:
        dense(reference, x, lambda losses: _flat(8))
        optimizer.step(0.01)

    def fused(state: dict[str, torch.Tensor] | None, part: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        training = TritonTrainingStep(config)
        if state is not None:
            training.restore(state)
        for x in part:
            training.step(sae, x, lambda losses: _flat(8), None, 0.01)
        return training.state()

    def plain(state: dict[str, torch.Tensor] | None, part: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        adam = UnitNormAdam(sae)
        if state is not None:
            adam.restore(state)
        for x in part:
            dense(sae, x, lambda losses: _flat(8))
            adam.step(0.01)
        return adam.state()

    first, second = (fused, plain) if fused_first else (plain, fused)
    state = second(first(None, batches[:3]), batches[3:])
    expected = optimizer.state()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            state[name], value, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert (state[name].dtype, state[name].stride()) == (value.dtype, value.stride())
    for one, other in zip(sae.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@needs_triton
def test_with_clipping_the_update_is_unit_norm_adams() -> None:
    config = SAEConfig(d_sae=12, k=2, clip_grad_norm=0.05)
    ours = _sae(config, 5, seed=4)
    theirs = copy.deepcopy(ours)
    training, dense = TritonTrainingStep(config), DenseStep(config)
    optimizer = UnitNormAdam(theirs, clip_grad_norm=0.05)
    for turn in range(4):
        x = _batch(8, 5, seed=turn)
        if turn == 2:
            state = training.state()
            training = TritonTrainingStep(config)
            training.restore(state)
        training.step(ours, x, lambda losses: _flat(8), None, 0.01)
        dense(theirs, x, lambda losses: _flat(8))
        optimizer.step(0.01)
    for name, value in optimizer.state().items():
        torch.testing.assert_close(training.state()[name], value, rtol=1e-3, atol=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def _dense(codes: KernelCodes, n: int, d_sae: int) -> torch.Tensor:
    z = torch.zeros(n, d_sae, device=DEVICE)
    z[codes.rows.long(), codes.columns.long()] = codes.values
    return z


def _select(p: torch.Tensor, k: int, precision: selection.Precision, per_token: bool) -> KernelCodes:
    """The selection among given pre-activations: an identity encoder reads them off."""
    identity = torch.eye(p.shape[1], device=DEVICE)
    zeros = torch.zeros(p.shape[1], device=DEVICE)
    return KernelSelection(k, per_token=per_token, precision=precision)(p.contiguous(), identity, zeros)


@needs_triton
@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 4),
    d_sae=st.integers(3, 70),
    k=st.integers(1, 3),
    distinct=st.integers(1, 6),
    precision=st.sampled_from(["fp32", "bf16"]),
)
def test_ties_are_cut_as_documented(
    seed: int, n: int, d_sae: int, k: int, distinct: int, precision: selection.Precision
) -> None:
    """Few distinct values, so that most cuts fall among equals: TopK keeps the first, BatchTopK all."""
    generator = torch.Generator().manual_seed(seed)
    p = (torch.randint(-2, distinct, (n, d_sae), generator=generator) / 3).to(DEVICE)
    codes = _select(p, k, precision, per_token=True)
    order = torch.sort(p, dim=1, descending=True, stable=True).indices[:, :k]
    expected = torch.zeros_like(p).scatter(1, order, torch.relu(p).gather(1, order))
    assert torch.equal(_dense(codes, n, d_sae), expected)
    assert codes.offsets.tolist() == [0, *(expected > 0).sum(1).cumsum(0).tolist()]

    codes = _select(p, k, precision, per_token=False)
    cut = torch.relu(p).flatten().topk(n * k).values.min()
    assert torch.equal(_dense(codes, n, d_sae), torch.where((p >= cut) & (p > 0), p, 0.0))


@needs_triton
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_entries_crowded_into_one_lane_are_all_found(
    precision: selection.Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More candidates than there is room for: the token is done over, and other tokens are not disturbed."""
    monkeypatch.setattr(selection, "LANES", 4)
    p = _batch(3, 200, seed=0).abs() * 0.01
    p[1] = 0.0
    p[1, ::4] = 5.0 + torch.arange(50, device=DEVICE)
    p[2] = 1.0
    select = KernelSelection(2, per_token=True, precision=precision)
    assert select._room_per_token < 50
    codes = select(p, torch.eye(200, device=DEVICE), torch.zeros(200, device=DEVICE))
    assert codes.offsets.tolist() == [0, 2, 4, 6]
    assert codes.columns[:2].tolist() == p[0].topk(2).indices.sort().values.tolist()
    assert codes.columns[2:4].tolist() == [192, 196]
    assert codes.values[2:].tolist() == pytest.approx([53.0, 54.0, 1.0, 1.0])


@needs_triton
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batch_selection_is_exact_after_any_earlier_batch(precision: selection.Precision) -> None:
    """The remembered floor and the room made are hints: batches may grow or shrink a thousandfold."""
    select = KernelSelection(k=1, per_token=False, precision=precision)
    select._room_per_token = 2
    W_enc_rows, b_enc = _batch(30, 6, seed=1), torch.zeros(30, device=DEVICE)
    for turn, scale in enumerate((1.0, 1000.0, 0.001, 1.0)):
        x = _batch(9, 6, seed=turn) * scale
        p = x @ W_enc_rows.t()
        cut = p.flatten().topk(9).values.min()
        z = _dense(select(x, W_enc_rows, b_enc), 9, 30)
        assert torch.equal(z > 0, p >= cut)
        torch.testing.assert_close(z, torch.where(p >= cut, p, 0.0), rtol=1e-5, atol=1e-5 * scale)


@needs_triton
@pytest.mark.parametrize("per_token", [True, False])
def test_bfloat16_candidates_give_the_codes_of_float32(per_token: bool) -> None:
    """Cuts near 0 among crowded values: there rounding changes ranks, and only the margin saves the result."""
    x, W_enc_rows, b_enc = _batch(3, 64, seed=0), _batch(2000, 64, seed=1), torch.zeros(2000, device=DEVICE)
    p = x @ W_enc_rows.t()
    short = (x.bfloat16() @ W_enc_rows.bfloat16().t()).topk(960, dim=1).indices.sort(dim=1).values
    assert not torch.equal(short, p.topk(960, dim=1).indices.sort(dim=1).values), (
        "rounding changes nothing here"
    )
    codes = [
        KernelSelection(960, per_token=per_token, precision=precision)(x, W_enc_rows, b_enc)
        for precision in get_args(selection.Precision)
    ]
    assert torch.equal(codes[0].columns, codes[1].columns)
    assert torch.equal(codes[0].offsets, codes[1].offsets)
    torch.testing.assert_close(codes[0].values, codes[1].values, rtol=1e-4, atol=1e-5)


@needs_triton
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_chunks_of_a_batch_change_nothing(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SAEConfig(d_sae=16, k=2, architecture=architecture)
    sae, x = _sae(config, 5, seed=3), _batch(11, 5, seed=3)
    TritonStep(config)(sae, x, lambda losses: _flat(11))
    whole = _grads(sae)
    monkeypatch.setattr(selection, "CHUNK_ENTRIES", 4 * 16)
    TritonStep(config)(sae, x, lambda losses: _flat(11))
    for name, grad in _grads(sae).items():
        torch.testing.assert_close(grad, whole[name])


@needs_triton
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6), d_in=st.integers(1, 60), spread=st.sampled_from([0.0, 1.0, 4.0]))
def test_rounding_errors_stay_within_the_bound(seed: int, d_in: int, spread: float) -> None:
    """Against float64, for rows whose entries span up to exp(±12) in size."""
    x, W = (_batch(8, d_in, seed + i) * (spread * _batch(8, d_in, seed + 2 + i)).exp() for i in range(2))
    bias = _batch(8, 1, seed + 9).squeeze(1)
    short_x, short_W = rounded(x), rounded(W)
    for exact, (short, norms, errors) in ((x, short_x), (W, short_W)):
        # GPUs round to the nearest, the interpreter cuts off: the errors are those of the copy at hand
        assert bool(((exact - short.float()).abs() <= 2.0**-7 * exact.abs()).all())
        torch.testing.assert_close(norms, exact.norm(dim=1))
        torch.testing.assert_close(errors, (exact - short.float()).norm(dim=1))
    computed = torch.addmm(bias.bfloat16(), short_x[0], short_W[0].t()).double()
    wrong = (computed - (x.double() @ W.double().t() + bias.double())).abs()
    bound = product_error(short_x, short_W, bias)
    assert bool((wrong <= bound[:, None] + RESULT_ROUNDING * computed.abs()).all())


@needs_triton
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_without_any_active_latent_still_steps(architecture: str) -> None:
    config = SAEConfig(d_sae=4, k=2, architecture=architecture)
    sae = SparseAutoencoder(3, config).to(DEVICE)
    with torch.no_grad():
        sae.b_enc.fill_(-100)
    x = torch.ones(5, 3, device=DEVICE)
    result = TritonStep(config)(sae, x, lambda losses: _flat(5))
    assert (result.n_active, result.smallest_kept, bool(result.fired.any())) == (0, float("inf"), False)
    assert float(sae.W_dec.grad.abs().sum()) == 0
    torch.testing.assert_close(sae.b_dec.grad, torch.full((3,), -2.0, device=DEVICE))


@needs_triton
def test_what_the_kernels_cannot_serve_is_refused() -> None:
    config = SAEConfig(d_sae=8, k=2)
    step = TritonStep(config)
    sae, x = SparseAutoencoder(3, config).to(DEVICE), torch.ones(4, 3, device=DEVICE)
    with pytest.raises(ValueError, match=r"shape \(n ≥ 1, 3\).*got torch.float32 of shape \(4, 2\)"):
        step(sae, x[:, :2], lambda losses: _flat(4))
    with pytest.raises(ValueError, match="serve float32 weights"):
        step(copy.deepcopy(sae).double(), x.double(), lambda losses: _flat(4))
    with pytest.raises(ValueError, match="stored latent by latent"):
        row_major = copy.deepcopy(sae)
        row_major.W_enc.data = row_major.W_enc.data.contiguous()
        step(row_major, x, lambda losses: _flat(4))
    with pytest.raises(ValueError, match=r"lacks W_enc\.step, W_enc\.exp_avg"):
        TritonTrainingStep(config).restore({})
    training = TritonTrainingStep(config)
    training.step(sae, x, lambda losses: _flat(4), None, 1e-3)
    with pytest.raises(ValueError, match="one TritonTrainingStep for each SAE"):
        other = SparseAutoencoder(5, config).to(DEVICE)
        training.step(other, torch.ones(4, 5, device=DEVICE), lambda losses: _flat(4), None, 1e-3)


def test_architectures_and_precisions_without_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="topk and batchtopk"):
        TritonStep(SAEConfig(d_sae=8, architecture="relu"))
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, got 'fp16'"):
        TritonTrainingStep(SAEConfig(d_sae=8, k=2), precision="fp16")  # type: ignore[arg-type]


def test_without_a_device_to_run_on_the_step_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "INTERPRETED", False)
    config = SAEConfig(d_sae=8, k=2)
    step, sae = TritonStep(config), SparseAutoencoder(3, config)
    missing = "Triton is not installed" if language.tl is None else "need a CUDA device"
    with pytest.raises(RuntimeError, match=f"{missing}.*use SparseStep"):
        step(sae, torch.ones(4, 3), lambda losses: losses)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ssae_debias.sae.kernels import candidates, cuts, decoding, rounding, rows, transposition, updates
from ssae_debias.sae.kernels.language import row_block

f, h, i, l = "*fp32", "*bf16", "*i32", "*i64"
kernels = []
for width in (384, 4096):
    block = row_block(width)
    warps, tile = block.pop("num_warps"), block
    kernels += [
        (candidates.exact_values, [f, f, f, i, f, l, i, "i32", "i32"], tile, warps),
        (decoding.decode_tokens, [i, f, l, f, f, f, f, f, f, "i32"], tile, warps),
        (rows.sum_parts, [l, l, l, i, f, f, f, f, f, "i32", "i32"], {"PART": 256, **tile}, warps),
        (rows.latent_gradients, [l, l, f, i, f, f, f, f, f, f, "i32"], tile, warps),
        (updates.update_latents, [l, l, f, i, f, f, f, f, i, *[f] * 8, *["fp32"] * 3, "i32"], tile, warps),
    ]
kernels += [
    (rounding.round_rows, [f, h, f, f, "i32"], {"WIDTH": 512}, 4),
    (candidates.topk_candidates, [h, f, "fp32", i, f, i, *["i32"] * 4], {"LANES": 1024}, 4),
    (candidates.candidates_above, [f, f, "fp32", "fp32", i, f, l, i, l, *["i32"] * 3], {"LANES": 1024}, 4),
    (cuts.topk_cuts, [f, i, f, i, i, "i32", "i32"], {"CAPACITY": 128}, 4),
    (cuts.count_kept, [f, l, i, f, i, i], {"BLOCK": 256}, 4),
    (cuts.keep_candidates, [i, f, l, i, f, i, l, i, i, f], {"BLOCK": 256}, 4),
    (transposition.weigh_entries, [l, i, f, f, f, i, f, f, "i32"], {"BLOCK": 1024}, 4),
    (transposition.sum_entries, [f, l, f], {"BLOCK": 128}, 1),
    (updates.update_vector, [f, f, f, f, "fp32", "fp32", "fp32", "i32"], {"BLOCK": 1024}, 4),
]
for kernel, types, constants, warps in kernels:
    names = iter(types)
    signature = {n: "constexpr" if n in constants else next(names) for n in kernel.arg_names}
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    options = {"num_warps": warps}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    print(kernel.fn.__name__, len(compiled.asm["cubin"]) > 0)
"""


@pytest.mark.skipif(language.tl is None, reason="Triton is not installed")
def test_every_kernel_compiles_for_a_gpu(tmp_path: os.PathLike[str]) -> None:
    """The interpreter takes more than the compiler does: here the latter makes code for an H100 or H200."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.count("True") == 2 * 5 + 9
