"""Edits on activations: what they change, what they leave, and that they survive a round trip to disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.edit import (
    MODES,
    Affine,
    Composed,
    LatentEdit,
    Projection,
    compose,
    edit_latents,
    load_edits,
    save_edits,
)
from ssae_debias.files import DamagedFileError
from ssae_debias.sae import SAEConfig, SparseAutoencoder


def random_sae(seed: int, d_in: int = 6, d_sae: int = 20) -> SparseAutoencoder:
    sae = SparseAutoencoder(d_in, SAEConfig(d_sae=d_sae, k=3), random_state=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        sae.b_enc.copy_(torch.randn(d_sae, generator=generator) / 3)
        sae.b_dec.copy_(torch.randn(d_in, generator=generator))
        sae.threshold.copy_(torch.rand(d_sae, generator=generator) / 3)
    return sae


def rows(seed: int, n: int = 7, d: int = 6) -> torch.Tensor:
    return 2 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed + 1000))


@given(st.integers(0, 10_000), st.sets(st.integers(0, 19), max_size=6))
@settings(max_examples=40, deadline=None)
def test_zeroing_flagged_rows_equals_decoding_with_zeros_plus_error(seed: int, flagged: set[int]) -> None:
    sae, x, latents = random_sae(seed), rows(seed), sorted(flagged)
    z = sae.encode(x)
    error = x - sae.decode(z)
    z[:, latents] = 0.0
    expected = sae.decode(z) + error
    torch.testing.assert_close(edit_latents(sae, latents, "zero")(x), expected, atol=1e-5, rtol=1e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_mean_and_clamp_set_the_latents_they_say(seed: int) -> None:
    sae, x, latents = random_sae(seed), rows(seed), [0, 4, 9]
    z, value = sae.encode(x), torch.tensor([0.5, 0.0, 2.0])
    for mode in ("mean", "clamp"):
        wanted = z.clone()
        for column, latent in enumerate(latents):
            active = torch.ones(len(x), dtype=torch.bool) if mode == "mean" else z[:, latent] > 0
            wanted[active, latent] = value[column]
        expected = x + (wanted - z) @ sae.W_dec
        edited = edit_latents(sae, latents, mode, value=value)(x)
        torch.testing.assert_close(edited, expected, atol=1e-5, rtol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_projection_removes_the_span_and_nothing_else(seed: int, m: int) -> None:
    generator = np.random.default_rng(seed)
    directions, center = generator.normal(size=(m, 6)), generator.normal(size=6)
    directions = np.vstack([directions, directions[:1]])  # dependent rows must not blow up
    edit = Projection.onto_complement_of(directions, center=center)
    x = rows(seed)
    moved = edit(x)
    inside = (moved - edit.center) @ torch.as_tensor(directions, dtype=torch.float32).T
    assert inside.abs().max() < 1e-4
    torch.testing.assert_close(edit(moved), moved, atol=1e-4, rtol=1e-4)
    # what moved lies in the span
    basis = np.linalg.svd(directions, full_matrices=False)[2][: np.linalg.matrix_rank(directions)]
    change = (moved - x).numpy()
    np.testing.assert_allclose(change @ basis.T @ basis, change, atol=1e-4)


def test_projection_keeps_the_mean_and_half_strength_goes_half_way() -> None:
    x = rows(3, n=500)
    center = x.mean(0)
    direction = torch.tensor([[1.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    full = Projection.onto_complement_of(direction, center=center)(x)
    half = Projection.onto_complement_of(direction, center=center, strength=0.5)(x)
    torch.testing.assert_close(full.mean(0), center, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(half, (x + full) / 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["zero", "project"])
def test_no_latents_means_no_change_bit_for_bit(mode: str) -> None:
    sae, x = random_sae(0), rows(0)
    assert torch.equal(edit_latents(sae, [], mode, center=np.zeros(6))(x), x)


def test_tokens_without_active_latents_come_back_bit_for_bit_in_float64() -> None:
    sae, x = random_sae(1), rows(1, n=200).double()
    edited = edit_latents(sae, [2], "zero")(x)
    silent = sae.encode(x.float())[:, 2] == 0
    assert silent.any()
    assert (~silent).any()
    assert torch.equal(edited[silent], x[silent])
    assert (edited[~silent] != x[~silent]).any(1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_shape_and_dtype_are_kept(mode: str, dtype: torch.dtype) -> None:
    edit = edit_latents(random_sae(2), [1, 3], mode, value=[0.1, 0.2], center=np.zeros(6))
    x = rows(2).to(dtype).reshape(7, 1, 6)
    assert edit(x).shape == x.shape
    assert edit(x).dtype == dtype


@pytest.mark.parametrize("latents", [[20], [-1], [[1]]])
def test_a_latent_that_the_sae_lacks_is_named(latents: list) -> None:
    with pytest.raises(ValueError, match="indices from 0 to 19"):
        edit_latents(random_sae(0), latents)


def test_missing_arguments_say_what_is_needed() -> None:
    sae = random_sae(0)
    with pytest.raises(ValueError, match="mode must be one of zero, mean, clamp, project"):
        edit_latents(sae, [1], "remove")
    with pytest.raises(ValueError, match="needs value"):
        edit_latents(sae, [1], "mean")
    with pytest.raises(ValueError, match="needs center"):
        edit_latents(sae, [1], "project")
    ranked = SparseAutoencoder(6, SAEConfig(d_sae=20, k=3), top_k=3)
    with pytest.raises(ValueError, match="without thresholds"):
        edit_latents(ranked, [1])


def test_saved_edits_come_back_and_damage_is_found(tmp_path) -> None:
    sae, x = random_sae(5), rows(5)
    edits = {
        "embed": edit_latents(sae, [1, 2], "zero"),
        "resid.0": edit_latents(sae, [1, 2], "clamp", value=[0.1, 0.5]),
        "module:a.b": edit_latents(sae, [1], "project", center=np.ones(6), strength=0.7),
    }
    save_edits(tmp_path / "edits", edits)
    loaded = load_edits(tmp_path / "edits")
    assert list(loaded) == list(edits)
    for site, edit in edits.items():
        assert torch.equal(loaded[site](x), edit(x))
    assert isinstance(loaded["embed"], LatentEdit)
    file = tmp_path / "edits" / "edits.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(DamagedFileError, match="sha256"):
        load_edits(tmp_path / "edits")


def test_composed_edits_act_in_order_and_survive_the_disk(tmp_path) -> None:
    torch.manual_seed(0)
    sae = SparseAutoencoder(6, SAEConfig(d_sae=12, k=3))
    latents = edit_latents(sae, [0, 4, 7])
    affine = Affine(0.1 * torch.randn(6, 6), torch.randn(6), torch.randn(6))
    projection = Projection.onto_complement_of(torch.randn(2, 6), center=torch.randn(6))
    edit = compose(compose(latents, None), compose(affine, projection))
    assert isinstance(edit, Composed)
    assert [part.kind for part in edit.parts] == ["latents", "affine", "projection"]
    x = torch.randn(5, 3, 6)
    torch.testing.assert_close(edit(x), projection(affine(latents(x))))
    save_edits(tmp_path / "edits", {"resid.0": edit, "embed": latents})
    torch.testing.assert_close(load_edits(tmp_path / "edits")["resid.0"](x), edit(x))
    assert compose(None, latents) is latents


def test_an_affine_edit_keeps_dtype_and_refuses_other_shapes() -> None:
    edit = Affine(torch.eye(4), torch.zeros(4), torch.ones(4))
    x = torch.randn(3, 4, dtype=torch.bfloat16)
    assert edit(x).dtype == torch.bfloat16
    torch.testing.assert_close(edit(x.float()), 2 * x.float() + 1)
    with pytest.raises(ValueError, match="change must be"):
        Affine(torch.eye(4), torch.zeros(3), torch.ones(4))
