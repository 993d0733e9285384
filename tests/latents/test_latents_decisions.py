from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from ssae_debias.decisions import Decision, Decisions, write_decisions
from ssae_debias.latents import overrule
from ssae_debias.latents.decisions import checked, fingerprint, fingerprints
from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae, save_sae


def sae(seed: int = 0) -> SparseAutoencoder:
    return SparseAutoencoder(8, SAEConfig(d_sae=32, k=4), random_state=seed)


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {"site": "embed", "latent": [3, 5], "decision": ["ablate", "keep"], "reason": ["strong", "weak"]}
    )


def test_an_sae_keeps_its_fingerprint_through_a_file(tmp_path: Path) -> None:
    save_sae(sae(), tmp_path / "sae")
    assert fingerprint(load_sae(tmp_path / "sae")) == fingerprint(sae())


def test_every_tensor_counts_and_metadata_does_not() -> None:
    original = fingerprint(sae())
    for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
        changed = sae()
        with torch.no_grad():
            getattr(changed, name)[..., 0] += 1
        assert fingerprint(changed) != original, name
    named = sae()
    named.metadata["model_name"] = "other"
    assert fingerprint(named) == original
    assert fingerprint(sae().half()) != original


def test_notes_stand_beside_decisions_and_in_the_reason() -> None:
    made = Decisions({("embed", 3): Decision("keep", "task word"), ("embed", 5): Decision("keep", "agreed")})
    changed = overrule(table(), made)
    assert changed[["decision", "reason", "note"]].values.tolist() == [
        ["keep", "decided by a person: task word", "task word"],
        ["keep", "weak", "agreed"],  # the rule's decision, with a person's word on it
    ]
    again = overrule(changed, Decisions({("embed", 5): Decision("ablate")}))
    assert again[["decision", "reason", "note"]].values.tolist()[1] == [
        "ablate",
        "decided by a person",
        "agreed",
    ]
    assert "note" not in overrule(table(), Decisions({("embed", 3): Decision("keep")}))


def test_a_path_is_read_and_fingerprints_are_compared(tmp_path: Path) -> None:
    saes = {"embed": sae()}
    path = write_decisions(tmp_path / "d.json", {("embed", 3): Decision("keep")}, fingerprints(saes))
    assert checked(path, saes).words == {("embed", 3): "keep"}  # type: ignore[union-attr]
    assert checked(str(path), saes) == checked(path, saes)
    with pytest.raises(ValueError, match="made about other SAEs"):
        checked(path, {"embed": sae(1)})
    plain = {("embed", 3): "keep"}
    assert checked(plain, {"embed": sae(1)}) is plain
