"""Nearest latents: against the whole table of cosines, in blocks of any size, within a site and across."""

from __future__ import annotations

import pytest
import torch

from ssae_debias.latents import nearest, nearest_latents
from ssae_debias.sae import SAEConfig, SparseAutoencoder


def sae(d_sae: int, d_in: int = 6, seed: int = 0) -> SparseAutoencoder:
    made = SparseAutoencoder(d_in, SAEConfig(d_sae=d_sae, k=2), random_state=seed)
    with torch.no_grad():
        made.W_dec *= torch.linspace(0.5, 3.0, d_sae)[
            :, None
        ]  # released dictionaries need not have unit rows
    return made


@pytest.mark.parametrize("at_once", [3, 7, 4096])
def test_they_are_the_largest_cosines_whatever_the_blocks(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(nearest, "ASKED_AT_ONCE", max(1, at_once // 3))
    one = sae(20)
    rows = one.W_dec / one.W_dec.norm(dim=1, keepdim=True)
    table = (rows @ rows.t()).detach().fill_diagonal_(-2)
    found = nearest_latents({"embed": one}, {"embed": range(20)}, n=4)
    for latent in range(20):
        values, order = table[latent].topk(4)
        assert [j for _, j, _ in found["embed", latent]] == order.tolist()
        assert [c for _, _, c in found["embed", latent]] == pytest.approx(values.tolist(), abs=1e-6)


def test_other_sites_of_the_same_width_join_when_asked() -> None:
    first, second, narrow = sae(5), sae(7, seed=1), sae(5, d_in=4)
    with torch.no_grad():
        second.W_dec[6] = -2 * first.W_dec[0]
        second.W_dec[2] = 4 * first.W_dec[0]
    saes = {"embed": first, "resid.0": second, "attn.0": narrow}
    within = nearest_latents(saes, {"embed": [0]}, n=9)["embed", 0]
    assert {site for site, _, _ in within} == {"embed"}
    assert sorted(j for _, j, _ in within) == [1, 2, 3, 4]
    across = nearest_latents(saes, {"embed": [0]}, n=20, across_sites=True)["embed", 0]
    assert len(across) == 4 + 7
    assert across[0][:2] == ("resid.0", 2)
    assert across[0][2] == pytest.approx(1.0, abs=1e-6)
    assert across[-1][:2] == ("resid.0", 6)
    assert "attn.0" not in {site for site, _, _ in across}


def test_ties_go_to_the_lower_latent_and_empty_rows_are_near_nothing() -> None:
    one = sae(6, d_in=2)
    one.W_dec.data = torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.5, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = nearest_latents({"embed": one}, {"embed": [0, 1]}, n=5)
    assert [j for _, j, _ in found["embed", 0]] == [2, 3, 1, 4, 5]
    assert {c for _, _, c in found["embed", 1]} == {0.0}
    assert nearest_latents({"embed": one}, {"embed": [0]}, n=0) == {("embed", 0): []}
    assert nearest_latents({"embed": one}, {"embed": []}) == {}


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match=r"no SAE of site 'resid\.9'; there are embed"):
        nearest_latents({"embed": sae(4)}, {"resid.9": [0]})
    with pytest.raises(IndexError, match=r"embed must lie in 0 … 3, got 4"):
        nearest_latents({"embed": sae(4)}, {"embed": [0, 4]})
    with pytest.raises(ValueError, match="n must not be negative"):
        nearest_latents({"embed": sae(4)}, {"embed": [0]}, n=-1)
