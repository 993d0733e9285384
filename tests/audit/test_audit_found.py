"""From decisions to edits: in order of strength, with what follows them, by a person, and at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted_audit import found_with

from ssae_debias.edit import Affine, Projection
from ssae_debias.latents.decisions import Decision, Decisions, fingerprints, write_decisions

ABLATED = [1, 4, 6]


def table(site: str = "module:0") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "site": site,
            "latent": range(8),
            "frequency": [1, 1, 0, 1, 1, 1, 1, 1],
            "mean": [0.1, 1.0, 0.5, 1.1, 0.2, 0.21, 5.0, 4.0],
            "mean_active": 1.0,
            "score": [0.1, 2.0, 0.0, 0.2, 3.0, 0.1, 1.0, 0.3],
            "decision": ["ablate" if latent in ABLATED else "keep" for latent in range(8)],
            "reason": "",
        }
    )


X = torch.arange(1.0, 9.0).repeat(2, 1)


def zeroed(edits: dict, site: str = "module:0") -> list[int]:
    return [] if site not in edits else (edits[site](X)[0] == 0).nonzero()[:, 0].tolist()


def test_the_strongest_latents_come_first() -> None:
    found = found_with(table())
    assert found.n_ablated == 3
    assert [zeroed(found.latent_edits(n)) for n in range(5)] == [[], [4], [1, 4], ABLATED, ABLATED]
    assert zeroed(found.edits()) == ABLATED


def test_scores_that_are_not_known_do_not_hide_latents() -> None:
    unscored = table().assign(score=np.nan)
    assert zeroed(found_with(unscored).latent_edits(3)) == ABLATED
    assert len(zeroed(found_with(unscored).latent_edits(2))) == 2


def test_the_residue_acts_after_the_latents() -> None:
    shift = Affine(change=torch.zeros(8, 8), center=torch.zeros(8), shift=torch.ones(8))
    project = Projection.onto_complement_of(torch.eye(8)[:1], center=torch.zeros(8))
    residue = {"realignment": shift, "erasure": project}
    edited = found_with(table(), residue=residue).edits()["module:0"](X)[0]
    assert edited.tolist() == [0, 1, 4, 5, 1, 7, 1, 9]
    # with every latent kept nothing was moved: there is nothing to move back, and erasure alone is left
    kept = found_with(table().assign(decision="keep"), residue=residue).edits()["module:0"](X)[0]
    assert kept.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]
    assert found_with(table().assign(decision="keep"), residue={"realignment": shift}).edits() == {}


def test_random_latents_are_as_many_live_and_about_as_active() -> None:
    found = found_with(table())
    drawn = [zeroed(found.random(seed).edits()) for seed in range(5)]
    assert all(len(latents) == 3 and not {2, *ABLATED} & set(latents) for latents in drawn)
    assert drawn[0] == zeroed(found.random(0).edits())
    many = pd.DataFrame(
        {
            "site": "module:0", "latent": range(400), "frequency": 1.0, "mean": np.geomspace(1e-4, 10, 400),
            "score": 0.0, "decision": "keep",
        }
    )  # fmt: skip
    many.loc[[50, 300, 390], "decision"] = "ablate"
    chosen = found_with(many).random(1).table.query("decision == 'ablate'").index.tolist()
    assert len(chosen) == 3
    assert all(min(abs(row - flagged) for flagged in (50, 300, 390)) <= 20 for row in chosen)


def test_a_control_draws_from_the_site_of_the_latent() -> None:
    both = pd.concat([table("a"), table("b").assign(decision="keep")], ignore_index=True)
    drawn = found_with(both).random(0).table
    assert set(drawn.loc[drawn["decision"] == "ablate", "site"]) == {"a"}


def test_a_persons_decisions_overrule_and_are_checked(tmp_path: Path) -> None:
    found = found_with(table())
    decisions = Decisions(
        {("module:0", 1): Decision("keep", "a task word"), ("module:0", 0): Decision("ablate")},
        fingerprints(found.saes),
    )
    path = write_decisions(tmp_path / "decisions.json", decisions)
    decided = found.decided(path)
    assert zeroed(decided.edits()) == [0, 4, 6]
    assert zeroed(found.edits()) == ABLATED
    assert decided.table.loc[1, "reason"] == "decided by a person: a task word"
    other = Decisions(decisions.items, {"module:0": "0" * 16})
    with pytest.raises(ValueError, match="made about other SAEs"):
        found.decided(other)
    with pytest.raises(FileNotFoundError, match="no file of decisions"):
        found.decided(tmp_path / "nowhere.json")
