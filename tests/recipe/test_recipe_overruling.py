"""A person's decisions in a run: applied where they are about a seed's SAEs, said where they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ssae_debias.cli import main
from ssae_debias.decisions import Decision, Decisions, write_decisions
from ssae_debias.latents.decisions import fingerprint
from ssae_debias.recipe import Recipe
from ssae_debias.recipe.overruling import Overruling
from ssae_debias.review import read_listing
from ssae_debias.sae import SAEConfig, SparseAutoencoder

RECIPE = """
title: A reviewed run
model: demo
data: {source: synthetic, n: 200}
protocol: {site: resid.0, max_length: 32}
ssae: {sites: [embed], d_sae: 128, k: 8, train_tokens: 8000, min_effect: 0.5}
methods: [original, debiaser]
seeds: [0, 1]
"""


class Seed:
    """A fitted debiaser as far as decisions are concerned."""

    def __init__(self, *seeds: int) -> None:
        self.sites_ = ("embed", "resid.1")[: len(seeds)]
        self.saes_ = {
            site: SparseAutoencoder(8, SAEConfig(d_sae=32, k=4), random_state=seed)
            for site, seed in zip(self.sites_, seeds, strict=True)
        }
        self.got: dict[Any, str] = {}

    def set_decisions(self, decisions: Decisions, texts: Any, y: Any) -> None:
        self.got = decisions.words


def made() -> Decisions:
    first = Seed(0, 1)
    saes = {site: fingerprint(sae) for site, sae in first.saes_.items()}
    return Decisions({("embed", 3): Decision("keep"), ("resid.1", 4): Decision("ablate")}, saes)


def overruling(decisions: Decisions, said: list[str], **changes: Any) -> Overruling:
    return Overruling(decisions, Recipe(title="t", **changes), said.append)


def test_each_seed_gets_what_is_about_its_saes_and_the_rest_is_said() -> None:
    said: list[str] = []
    person = overruling(made(), said)
    same, half, other = Seed(0, 1), Seed(0, 7), Seed(8, 9)
    for seed, debiaser in enumerate((same, half, other)):
        person.apply(debiaser, [], [], seed)  # type: ignore[arg-type]
    person.check()
    assert same.got == {("embed", 3): "keep", ("resid.1", 4): "ablate"}
    assert half.got == {("embed", 3): "keep"}
    assert other.got == {}
    assert person.applied == {0: 2, 1: 1, 2: 0}
    assert said == person.notes
    assert said[0].startswith("Seed 1 has other SAEs than those decided on at resid.1: 1 of 2 decisions")
    assert said[1].startswith("Seed 2 has other SAEs than those decided on at embed, resid.1: 2 of 2")
    assert person.said() == "A person decided on 2 latents (seed 0, 1)."


def test_decisions_that_no_seed_can_use_are_an_error() -> None:
    person = overruling(made(), [])
    person.apply(Seed(8, 9), [], [], 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="made about other SAEs than this run has at embed, resid.1"):
        person.check()


def test_decisions_without_fingerprints_are_taken_on_trust() -> None:
    said: list[str] = []
    person, seed = overruling(Decisions(made().items), said), Seed(8, 9)
    person.apply(seed, [], [], 0)  # type: ignore[arg-type]
    assert (len(seed.got), said) == (2, [])


def test_decisions_that_nothing_would_use_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="holds none"):
        overruling(Decisions({}), [])
    with pytest.raises(ValueError, match="No method of the recipe ablates"):
        overruling(made(), [], methods=("original", "leace"))


def test_the_benchmark_of_saes_takes_no_decisions(tmp_path: Path, capsys) -> None:
    (tmp_path / "scr.yaml").write_text("kind: scr\ntitle: t\nsaes: {one: {d_sae: 64}}")
    assert main(["run", str(tmp_path / "scr.yaml"), "--decisions", str(tmp_path / "d.json")]) == 2
    assert "flags no latents" in capsys.readouterr().err


@pytest.mark.slow
def test_a_page_is_reviewed_and_run_again(minilm_path, tmp_path: Path, capsys) -> None:
    recipe, out = tmp_path / "small.yaml", tmp_path / "out"
    recipe.write_text(RECIPE)
    assert main(["run", str(recipe), "--out", str(out), "-q"]) == 0
    before = read_listing((out / "report.html").read_text())
    assert set(before.saes) == {"embed"}
    assert "decisions" not in json.loads((out / "results.json").read_text())
    site, latent = next(key for key, listed in before.latents.items() if listed.decision == "ablate")

    path = write_decisions(
        tmp_path / "mine.json", {(site, latent): Decision("keep", "a task word")}, before.saes
    )
    capsys.readouterr()
    assert main(["run", str(recipe), "--out", str(out), "-q", "--decisions", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "Seed 1 has other SAEs" in printed  # even where only the table is wanted
    results = json.loads((out / "results.json").read_text())
    assert results["decisions"]["applied"] == {"0": 1, "1": 0}
    page = (out / "report.html").read_text()
    assert "Seed 1 has other SAEs" in page
    after = read_listing(page)
    assert after.latents[site, latent].decision == "keep"
    assert after.latents[site, latent].note == "a task word"
    assert after.latents[site, latent].by_a_person
    assert after.saes == before.saes

    write_decisions(path, {(site, latent): Decision("keep")}, {"embed": "f" * 16})
    results = (out / "results.json").read_text()
    assert main(["run", str(recipe), "--out", str(out), "-q", "--decisions", str(path)]) == 2
    assert "made about other SAEs" in capsys.readouterr().err
    assert (out / "results.json").read_text() == results
    assert main(["run", str(recipe), "--out", str(out), "--decisions", str(tmp_path / "no.json")]) == 2
    assert "no file of decisions" in capsys.readouterr().err
