"""A person's decisions from a file, applied to both estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssae_debias import ActivationDebiaser, SSAEDebiaser
from ssae_debias.decisions import Decision, Decisions, write_decisions
from ssae_debias.latents.decisions import fingerprint, fingerprints

TEXTS = ["She is a nurse in Leeds.", "He is a surgeon.", "She drove home.", "His ward was full."] * 4


def fitted(seed: int = 0) -> SSAEDebiaser:
    debiaser = SSAEDebiaser(
        "demo", sites=["embed"], d_sae=64, k=4, train_tokens=2000, min_effect=0.2, max_q=1.0, realign=False,
        random_state=seed,
    )  # fmt: skip
    return debiaser.fit(TEXTS)


def test_a_file_of_decisions_overrules_the_debiaser_it_is_about(minilm_path, tmp_path: Path) -> None:
    debiaser = fitted()
    flagged = debiaser.flagged_[debiaser.flagged_["decision"] == "ablate"]
    assert len(flagged)
    latent = int(flagged["latent"].iloc[0])
    path = write_decisions(
        tmp_path / "decisions.json",
        {("embed", latent): Decision("keep", "the task")},
        fingerprints(debiaser.saes_),
    )
    before = debiaser.transform(TEXTS)
    debiaser.set_decisions(path, TEXTS)
    row = debiaser.flagged_.query("latent == @latent").iloc[0]
    assert (row["decision"], row["note"], row["reason"]) == (
        "keep",
        "the task",
        "decided by a person: the task",
    )
    assert np.abs(debiaser.transform(TEXTS) - before).max() > 1e-4
    debiaser.save(tmp_path / "saved")  # and the file is about the saved one, too
    loaded = SSAEDebiaser.load(tmp_path / "saved")
    assert loaded.flagged_.query("latent == @latent")["note"].item() == "the task"
    loaded.set_decisions(path, TEXTS)
    with pytest.raises(ValueError, match="made about other SAEs"):
        fitted(seed=1).set_decisions(path, TEXTS)


def test_decisions_on_an_array_stand_at_the_site_x(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, a = rng.normal(size=(80, 6)), np.arange(80) % 2
    X[:, 0] += 3 * a
    debiaser = ActivationDebiaser(n_samples_seen=4000, random_state=0).fit(X, sensitive_features=a)
    latent = int(debiaser.flagged_["latent"].iloc[0])
    made = Decisions({("X", latent): Decision("keep", "why")}, {"X": fingerprint(debiaser.sae_)})
    row = debiaser.set_decisions(made).flagged_.query("latent == @latent").iloc[0]
    assert (row["decision"], row["note"]) == ("keep", "why")
    other = ActivationDebiaser(n_samples_seen=4000, random_state=1).fit(X, sensitive_features=a)
    with pytest.raises(ValueError, match="made about other SAEs"):
        other.set_decisions(write_decisions(tmp_path / "d.json", made))
