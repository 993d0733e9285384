"""The SAEs that a user brings, in each way to bring them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssae_debias import SSAEDebiaser
from ssae_debias.estimators.fitting import given_saes
from ssae_debias.sae import SAEConfig, SparseAutoencoder

WIDTH = 8


def sae(seed: int) -> SparseAutoencoder:
    return SparseAutoencoder(WIDTH, SAEConfig(d_sae=16, k=4), random_state=seed)


def state(seed: int, width: int = WIDTH) -> dict[str, torch.Tensor]:
    """An AutoEncoder of dictionary_learning."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "bias": (width,),
        "encoder.weight": (16, width),
        "encoder.bias": (16,),
        "decoder.weight": (width, 16),
    }
    return {name: torch.randn(shape, generator=generator) / width**0.5 for name, shape in shapes.items()}


def release(root: Path, width: int = WIDTH) -> Path:
    for seed, name in enumerate(("embed", "attn_out_layer0", "mlp_out_layer0", "resid_out_layer0")):
        (root / name / "10_32768").mkdir(parents=True)
        torch.save(state(seed, width), root / name / "10_32768" / "ae.pt")
    return root


def test_a_folder_with_one_folder_a_site(tmp_path: Path) -> None:
    for seed, site in enumerate(("embed", "resid.0")):
        sae(seed).save_pretrained(tmp_path / site)
    found = given_saes(tmp_path, ["resid.0", "embed"])
    assert torch.equal(found["resid.0"].W_dec, sae(1).W_dec)
    assert torch.equal(found["embed"].W_dec, sae(0).W_dec)
    with pytest.raises(ValueError, match=r"none for mlp\.0; it has embed"):
        given_saes(tmp_path, ["embed", "mlp.0"])


def test_a_sparse_feature_circuits_release_is_recognised(tmp_path: Path) -> None:
    found = given_saes(str(release(tmp_path)), ["mlp.0", "embed", "resid.0"])
    assert set(found) == {"embed", "mlp.0", "resid.0"}
    for site, seed in (("embed", 0), ("mlp.0", 2), ("resid.0", 3)):
        torch.testing.assert_close(found[site].W_enc.T, state(seed)["encoder.weight"])
    with pytest.raises(ValueError, match=r"none for resid\.4; it has embed, attn\.0, mlp\.0, resid\.0"):
        given_saes(tmp_path, ["embed", "resid.4"])


def test_sites_of_a_release_can_be_replaced_by_folders_of_ours(tmp_path: Path) -> None:
    sae(9).save_pretrained(release(tmp_path) / "resid.0")
    found = given_saes(tmp_path, ["embed", "resid.0"])
    assert torch.equal(found["resid.0"].W_dec, sae(9).W_dec)
    torch.testing.assert_close(found["embed"].W_enc.T, state(0)["encoder.weight"])


def test_one_sae_serves_one_site(tmp_path: Path) -> None:
    torch.save(state(5), tmp_path / "ae.pt")
    for path in (tmp_path, tmp_path / "ae.pt"):
        assert list(given_saes(path, ["mlp.3"])) == ["mlp.3"]
    with pytest.raises(ValueError, match=r"one SAE and there are 2 sites \(embed, mlp\.3\)"):
        given_saes(tmp_path, ["embed", "mlp.3"])


def test_a_mapping_of_paths_and_saes_of_any_format(tmp_path: Path) -> None:
    torch.save(state(5), tmp_path / "ae.pt")
    found = given_saes(
        {"embed": tmp_path / "ae.pt", "resid.0": sae(1), "resid.9": sae(2)}, ["embed", "resid.0"]
    )
    assert list(found) == ["embed", "resid.0"]
    assert found["embed"].metadata["format"] == "dictionary_learning AutoEncoder"


def test_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got int"):
        given_saes(3, ["embed"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        given_saes(tmp_path / "nowhere", ["embed"])
    with pytest.raises(ValueError, match=r"none for embed; it has no site"):
        given_saes(tmp_path, ["embed"])
    (tmp_path / "embed").mkdir()
    with pytest.raises(FileNotFoundError, match="it is empty"):
        given_saes(tmp_path, ["embed"])


def test_a_debiaser_uses_a_release_as_it_is(tmp_path: Path) -> None:
    texts = ["She is a nurse.", "He is a surgeon.", "Her ward was full.", "His knife was sharp."] * 3
    debiaser = SSAEDebiaser(
        "demo", sites=["embed", "resid.0"], output_site="resid.0", sae=release(tmp_path, 384), train_tokens=0,
        random_state=0,
    )  # fmt: skip
    pooled = debiaser.fit_transform(texts)
    assert pooled.shape == (12, 384)
    torch.testing.assert_close(debiaser.saes_["resid.0"].W_enc.T, state(3, 384)["encoder.weight"])
