"""What `fit` leaves for a person to read: names, neighbours, descriptions of flagged latents and of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn

from ssae_debias import SSAEDebiaser
from ssae_debias.data import synthetic_biographies
from ssae_debias.estimators.describing import NOT_FLAGGED, TEXTS_KEPT
from ssae_debias.latents import NO_NAME, LatentEvidence

SITES = ("embed", "resid.0")


def by_first_word(evidence: LatentEvidence) -> str:
    return f"{evidence.site}: {evidence.words[0][0] if evidence.words else 'nothing'}"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(synthetic_biographies(200, random_state=0).texts)


@pytest.fixture(scope="module")
def fitted(texts: list[str], minilm_path) -> SSAEDebiaser:
    return SSAEDebiaser(
        "demo", sites=SITES, output_site="resid.0", max_length=32, d_sae=128, k=8, train_tokens=15_000,
        min_effect=0.5, realign=False, random_state=0,
    ).fit(texts)  # fmt: skip


@pytest.mark.slow
def test_flagged_latents_and_the_strongest_others_are_described(
    fitted: SSAEDebiaser, texts: list[str]
) -> None:
    for site in SITES:
        table = fitted.flagged_[fitted.flagged_.site == site]
        flagged = table.decision == "ablate"
        assert flagged.any()
        shown = [latent for at, latent in fitted.descriptions_ if at == site]
        assert shown == [*table[flagged].latent, *table[~flagged].latent.head(NOT_FLAGGED)]
        described = table.latent.isin(shown)
        assert (table[described].name.str.len() > 0).all()
        assert (table[~described].name == "").all()
        assert not any(map(len, table[~described].nearest))
        clear = table.name[described & (table.name != NO_NAME)]
        assert clear.is_unique
        rows = fitted.saes_[site].W_dec.detach().numpy()
        for latent, near in zip(table[described].latent, table[described].nearest, strict=True):
            assert len(near) == 3
            for at, other, cosine, name in near:
                assert at == site
                assert cosine == pytest.approx(rows[latent] @ rows[other], abs=1e-5)
                assert name == table.name[table.latent == other].item()
    assert {"she", "he"} & set(" / ".join(fitted.flagged_.name).split(" / "))
    for description in fitted.descriptions_.values():
        assert len(description.top_texts) <= TEXTS_KEPT
        assert all(0 <= text < len(texts) for text, _ in description.top_texts)


@pytest.mark.slow
def test_names_and_neighbours_are_saved_and_what_was_kept_can_be_ablated(
    fitted: SSAEDebiaser, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "debiaser")
    loaded = SSAEDebiaser.load(tmp_path / "debiaser")
    for column in ("name", "nearest", "top_tokens"):
        assert loaded.flagged_[column].tolist() == fitted.flagged_[column].tolist()
    assert loaded.descriptions_ == fitted.descriptions_
    kept = next(key for key in fitted.descriptions_ if key not in _ablated(fitted))
    loaded.set_decisions({kept: "ablate"})
    assert _ablated(loaded) == {*_ablated(fitted), kept}


def _ablated(debiaser: SSAEDebiaser) -> set[tuple[str, int]]:
    table = debiaser.flagged_[debiaser.flagged_.decision == "ablate"]
    return set(zip(table.site, table.latent, strict=True))


def test_any_callable_names_survives_a_clone_and_is_not_saved(minilm_path, tmp_path: Path) -> None:
    texts = ["She is a nurse.", "He is a surgeon.", "Her ward was full.", "His theatre was empty."]
    debiaser = SSAEDebiaser(
        "demo", sites=["embed"], d_sae=32, k=4, train_tokens=500, namer=by_first_word, random_state=0
    )
    assert sklearn.clone(debiaser).get_params()["namer"] is by_first_word
    debiaser.fit(texts)
    names = debiaser.flagged_.name[debiaser.flagged_.name != ""]
    assert len(names) >= min(NOT_FLAGGED, 32)
    assert names.str.startswith("embed: ").all()
    debiaser.save(tmp_path / "debiaser")
    loaded = SSAEDebiaser.load(tmp_path / "debiaser")
    assert loaded.namer is None
    assert loaded.flagged_.name.tolist() == debiaser.flagged_.name.tolist()
    assert np.isfinite(loaded.transform(texts)).all()


def test_a_namer_that_cannot_be_called_is_refused_before_any_work() -> None:
    with pytest.raises(TypeError, match="namer must be a callable"):
        SSAEDebiaser("no/such-model", namer="qwen").fit(["She is here.", "He is there."])
