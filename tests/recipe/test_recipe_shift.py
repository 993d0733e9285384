"""SHIFT's rows on a tiny recipe: what is ablated and how, a person's veto, one set of SAEs a run, clear refusals."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ssae_debias.activations import read_pooled, read_tokens, resolve_site
from ssae_debias.cli import main
from ssae_debias.latents import Neurons, ProbeDecision, attribute_decision
from ssae_debias.recipe import METHODS, RecipeError, read_recipe
from ssae_debias.recipe.bench import Bench
from ssae_debias.recipe.methods.method import fit_probe
from ssae_debias.recipe.methods.shift import SHIFT
from ssae_debias.recipe.shift.texts import general_texts, subdomain_texts
from ssae_debias.sae import SAEConfig, SparseAutoencoder

SITES = ("embed", "attn.0", "resid.0")
N, LENGTH, GENERAL, SPECIAL = 12, 32, 4000, 3000
RECIPE = f"""
title: A small run
model: demo
data: {{source: synthetic, n: 200}}
protocol: {{site: resid.1, max_length: {LENGTH}}}
shift:
  sites: [{", ".join(SITES)}]
  corpus: synthetic
  gsae_tokens: {GENERAL}
  ssae_tokens: {SPECIAL}
  d_sae: 128
  k: 8
  epochs: 2
  attribution: gradient
  n_texts: 24
  n_latents: {N}
methods: [original, {", ".join(SHIFT)}, oracle]
seeds: [0]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, minilm_path) -> Path:
    folder = tmp_path_factory.mktemp("shift")
    (folder / "small.yaml").write_text(RECIPE)
    assert main(["run", str(folder / "small.yaml"), "--out", str(folder / "out"), "-q"]) == 0
    return folder


@pytest.fixture(scope="module")
def bench(finished: Path) -> Bench:
    return Bench(read_recipe(finished / "small.yaml"), finished / "out" / "cache")


def again(finished: Path, *overrides: str) -> Bench:
    bench = Bench(read_recipe(finished / "small.yaml", overrides), finished / "out" / "cache")
    bench.shift.check()
    return bench


def ablated(table: pd.DataFrame) -> set[tuple[str, int]]:
    chosen = table[table["decision"] == "ablate"]
    return set(zip(chosen["site"], chosen["latent"], strict=True))


@pytest.mark.slow
def test_every_row_is_scored_and_says_what_it_needs(finished: Path) -> None:
    rows = json.loads((finished / "out" / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["original", *SHIFT, "oracle"]
    assert [name for name in METHODS if name in ("cbp", *SHIFT)] == ["cbp", *SHIFT]
    needs = {row["method"] for row in rows if row["needs_group_labels"]}
    assert needs == {"neuron_skyline", "latent_skyline", "oracle"}
    by_name = {row["method"]: row for row in rows}
    for name in ("gsae", "ssae", "gsae_slice", "ssae_slice"):
        # the same activations, another probe
        assert by_name[name]["leakage"] == by_name[f"{name}_retrain"]["leakage"]
        assert by_name[name]["leakage"] != by_name["original"]["leakage"]


@pytest.mark.slow
def test_a_second_run_trains_attributes_and_reads_nothing(finished: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was computed again")

    monkeypatch.setattr("ssae_debias.estimators.pooled_cache.read_pooled", refuse)
    monkeypatch.setattr("ssae_debias.recipe.shift.effects.attribute_decision", refuse)
    monkeypatch.setattr("ssae_debias.sae.trainer.Trainer.train_on", refuse)
    monkeypatch.setattr("ssae_debias.activations.building.read_tokenized", refuse)
    before = json.loads((finished / "out" / "results.json").read_text())["rows"]
    assert main(["run", str(finished / "small.yaml"), "--out", str(finished / "out"), "-q"]) == 0
    after = json.loads((finished / "out" / "results.json").read_text())["rows"]
    for old, new in zip(before, after, strict=True):
        assert {**old, "seconds": 0} == {**new, "seconds": 0}


@pytest.mark.slow
def test_a_seed_redraws_rows_and_shares_the_edits(finished: Path) -> None:
    bench = again(finished, "seeds=[0, 1]")
    for name in ("gsae", "gsae_retrain"):
        first, second = (METHODS[name].run(bench, seed) for seed in (0, 1))
        np.testing.assert_array_equal(first.activations, second.activations)
    assert set(bench.sets(0).balanced) != set(bench.sets(1).balanced)


@pytest.mark.slow
def test_damaged_effects_are_computed_again(finished: Path, bench: Bench, tmp_path: Path) -> None:
    expected = bench.shift.effects("gsae")
    shutil.copytree(finished / "out" / "cache", tmp_path / "cache")
    for file in (tmp_path / "cache" / "shift").glob("attribution-*/effects.npz"):
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="Effects are computed again"):
        found = Bench(bench.recipe, tmp_path / "cache").shift.effects("gsae")
    for site in SITES:
        np.testing.assert_allclose(found[site], expected[site], atol=1e-6)


@pytest.mark.slow
def test_the_edit_is_the_published_ablated_forward(bench: Bench) -> None:
    """Encode, keep the error, zero the chosen latents, write back decode + error, at all sites at once."""
    texts, chosen = list(bench.task.texts[:20]), ablated(bench.shift.table("ssae"))
    assert len({site for site, _ in chosen}) > 1

    def ablation(site: str):
        sae, latents = bench.shift.ssae[site], [latent for s, latent in chosen if s == site]

        def apply(x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                f = sae.encode(x)
                error = x - sae.decode(f)
                f[..., latents] = 0
                return sae.decode(f) + error

        return apply

    with ExitStack() as hooks:
        for site in SITES:
            hooks.enter_context(resolve_site(bench.model.module, site).attach(ablation(site)))
        expected = read_pooled(bench.model, texts, "resid.1", max_length=LENGTH, include_special=True)[
            "resid.1"
        ]
    found = bench.pooled(texts, bench.shift.edits("ssae"))
    assert np.abs(found - bench.original[:20]).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.slow
def test_effects_are_those_on_the_original_probe_and_ambiguous_texts(bench: Bench) -> None:
    sets, task = bench.sets(0), bench.task
    probe = fit_probe(bench, bench.original, sets.ambiguous)
    decision = ProbeDecision.from_pipeline(probe, "resid.1", include_special=True)

    def expected(saes, rows, answers):
        texts = [task.texts[row] for row in rows]
        return attribute_decision(
            bench.model, saes, texts, answers, decision, method="gradient", max_length=LENGTH
        )

    ambiguous, balanced = sets.ambiguous[:24], sets.balanced[:24]
    neurons = {site: Neurons(384) for site in SITES}
    attribute = task.sensitive_features[balanced]
    for row, effects in {
        "gsae": expected(bench.shift.gsae, ambiguous, task.y[ambiguous]),
        "ssae": expected(bench.shift.ssae, ambiguous, task.y[ambiguous]),
        "latent_skyline": expected(bench.shift.gsae, balanced, attribute),
        "neuron_skyline": expected(neurons, balanced, attribute),
    }.items():
        for site in SITES:
            np.testing.assert_allclose(bench.shift.effects(row)[site], effects[site], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["gsae", "ssae", "latent_skyline", "neuron_skyline"])
def test_the_strongest_of_all_sites_together_are_ablated(bench: Bench, row: str) -> None:
    every = [(e, (site, j)) for site in SITES for j, e in enumerate(bench.shift.effects(row)[site])]
    strongest = {key for e, key in sorted(every, reverse=True)[:N] if e > 0}
    assert ablated(bench.shift.table(row)) == strongest
    assert len(strongest) == N


@pytest.mark.slow
def test_a_threshold_is_signed_and_the_skylines_follow_its_number(finished: Path, bench: Bench) -> None:
    effects = bench.shift.effects("gsae")
    limit = float(np.sort(np.concatenate(list(effects.values())))[-6])
    other = again(finished, f"shift.threshold={limit}", "shift.n_latents=null").shift
    above = {(site, j) for site in SITES for j in np.flatnonzero(effects[site] > limit)}
    assert ablated(other.table("gsae")) == above
    assert len(above) == len(ablated(other.table("latent_skyline"))) == 5
    nothing = again(finished, "shift.threshold=1e6", "shift.n_latents=null").shift
    with pytest.warns(UserWarning, match="gsae ablates no latent"):
        assert nothing.edits("gsae") == {}


@pytest.mark.slow
def test_a_slice_keeps_an_eighth_by_activation_on_the_subdomain(bench: Bench) -> None:
    texts = subdomain_texts(bench, 0, bench.shift.gsae["resid.0"], "resid.0")
    for row, saes in (("gsae_slice", bench.shift.gsae), ("ssae_slice", bench.shift.ssae)):
        mass = {site: np.zeros(128) for site in SITES}
        for batch in read_tokens(bench.model, texts, SITES, max_length=LENGTH, include_special=True):
            for site in SITES:
                mass[site] += saes[site].encode(batch.activations[site]).detach().double().sum(0).numpy()
        kept = {site: set(np.argsort(-mass[site])[:16].tolist()) for site in SITES}
        table, effects = bench.shift.table(row), bench.shift.effects(row.removesuffix("_slice"))
        for site in SITES:
            there = table[table["site"] == site]
            # half precision on disk may swap latents at the edge
            assert len(kept[site] & set(there["latent"])) >= 15
            assert len(there) == 16
            np.testing.assert_array_equal(there["attribution"], effects[site][there["latent"]])


@pytest.mark.slow
def test_the_ssae_comes_from_the_gsae(finished: Path, bench: Bench, tmp_path: Path) -> None:
    # of another seed: a training that forgot them would start where this run's own GSAEs did
    for number, site in enumerate(SITES):
        given = SparseAutoencoder(384, SAEConfig(d_sae=128, k=8), random_state=90 + number)
        given.save_pretrained(tmp_path / site)
    for shift in (bench.shift, again(finished, f"shift.gsae={tmp_path}").shift):
        for site in SITES:
            general, special = (s[site].W_dec.detach() for s in (shift.gsae, shift.ssae))
            close = torch.nn.functional.cosine_similarity(general, special)
            assert close.median() > 0.5  # two trainings of random starts would have nothing in common
            assert (general - special).abs().max() > 1e-3
            assert shift.ssae[site].config.tilt == bench.recipe.shift.tilt
            assert shift.gsae[site].config.tilt == 0


@pytest.mark.slow
def test_neurons_are_set_to_their_means(bench: Bench) -> None:
    texts = [bench.task.texts[row] for row in bench.sets(0).balanced[:24]]
    read = read_tokens(bench.model, texts, "embed", max_length=LENGTH, include_special=True)
    x = torch.cat([batch.activations["embed"] for batch in read])
    neurons = sorted(
        latent for site, latent in ablated(bench.shift.table("neuron_skyline")) if site == "embed"
    )
    edited = bench.shift.edits("neuron_skyline").get("embed", lambda x: x)(x)
    expected = x.clone()
    expected[:, neurons] = x.mean(0)[neurons]
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_person_vetoes_and_adds(finished: Path, bench: Bench, tmp_path: Path) -> None:
    again(finished).shift.table("gsae")  # another test's run in this folder may have written its own
    written = pd.read_csv(finished / "out" / "cache" / "shift" / "gsae.csv")
    assert list(written) == ["sae", "site", "latent", "attribution", "decision", "reason", "top_tokens"]
    before = ablated(bench.shift.table("gsae"))
    assert set(zip(written["site"], written["latent"], strict=True)) == before
    assert written["top_tokens"].str.len().gt(0).all()
    spared = (written["site"][0], int(written["latent"][0]))
    added = next(("embed", j) for j in range(128) if ("embed", j) not in before)
    written.loc[0, "decision"] = "keep"
    written.loc[len(written)] = {"sae": "gsae", "site": "embed", "latent": added[1], "decision": "ablate"}
    written.to_csv(tmp_path / "mine.csv", index=False)
    other = again(finished, f"shift.decisions={tmp_path / 'mine.csv'}")
    assert ablated(other.shift.table("gsae")) == before - {spared} | {added}
    assert ablated(other.shift.table("ssae")) == ablated(bench.shift.table("ssae"))
    assert len(ablated(other.shift.table("latent_skyline"))) == N
    # what the run writes then can be handed back as it is
    rewritten = tmp_path / "again.csv"
    rewritten.write_text((finished / "out" / "cache" / "shift" / "gsae.csv").read_text())
    assert "decided by a person" in rewritten.read_text()
    third = again(finished, f"shift.decisions={rewritten}")
    assert ablated(third.shift.table("gsae")) == before - {spared} | {added}
    # the slice obeys where it holds the latent
    in_slice = ablated(bench.shift.table("gsae_slice"))
    assert in_slice
    rows = [{"sae": "gsae", "site": s, "latent": j, "decision": "keep"} for s, j in in_slice | before]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    nothing = again(finished, f"shift.decisions={tmp_path / 'mine.json'}")
    with pytest.warns(UserWarning, match="ablates no latent"):
        assert not ablated(nothing.shift.table("gsae_slice"))


@pytest.mark.slow
def test_decisions_without_a_column_sae_belong_to_the_only_kind(
    finished: Path, tmp_path: Path, bench
) -> None:
    site, latent = min(ablated(bench.shift.table("ssae")))
    (tmp_path / "mine.csv").write_text(f"site,latent,decision\n{site},{latent},keep\n")
    other = again(finished, f"shift.decisions={tmp_path / 'mine.csv'}", "methods=[ssae]")
    assert ablated(other.shift.table("ssae")) == ablated(bench.shift.table("ssae")) - {(site, latent)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.csv", "site,latent,decision\nembed,3,keep\n", "GSAEs and SSAEs"),
        ("mine.csv", "site,decision\nembed,keep\n", "no column latent"),
        (
            "mine.csv",
            "sae,site,latent,decision\ngsae,embed,3,spare\n",
            "decision is ablate or keep; got spare",
        ),
        ("mine.csv", "sae,site,latent,decision\nlatent_skyline,embed,3,keep\n", "sae is gsae or ssae"),
        ("mine.csv", "sae,site,latent,decision\ngsae,embed,128,keep\n", "no latent 128 at site 'embed'"),
        ("mine.csv", "sae,site,latent,decision\ngsae,resid.1,1,keep\n", "no latent 1 at site 'resid.1'"),
        ("mine.csv", "sae,site,latent,decision\ngsae,embed,x,keep\n", "latent holds numbers"),
        (
            "mine.csv",
            "sae,site,latent,decision\ngsae,embed,1,keep\ngsae,embed,1,ablate\n",
            "both ablate and keep",
        ),
        ("mine.csv", "", "cannot be read as CSV"),
        ("mine.json", '{"site": "embed"}', "JSON list"),
        ("mine.json", "[", "not valid JSON"),
    ],
)
def test_bad_decisions_are_named(
    finished: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        again(finished, f"shift.decisions={tmp_path / name}")


@pytest.mark.slow
def test_a_table_that_the_run_would_write_over_is_no_decisions_file(finished: Path) -> None:
    with pytest.raises(ValueError, match="copy it to another folder"):
        again(finished, f"shift.decisions={finished / 'out' / 'cache' / 'shift' / 'gsae.csv'}")
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.csv"):
        again(finished, "shift.decisions=nowhere.csv")


@pytest.mark.slow
def test_what_is_read_is_bounded_and_documents_join_the_subdomain(finished: Path, bench: Bench) -> None:
    def tokens(texts: list[str]) -> int:
        read = read_tokens(bench.model, texts, "embed", max_length=LENGTH, include_special=True)
        return sum(len(batch) for batch in read)

    training = {bench.task.texts[row] for row in bench.task.rows("train")}
    alone = subdomain_texts(bench, 0, bench.shift.gsae["resid.0"], "resid.0")
    assert set(alone) <= training
    assert SPECIAL <= tokens(alone) < SPECIAL + LENGTH
    general = general_texts(bench, 0)
    assert GENERAL <= tokens(general) < GENERAL + LENGTH
    assert not set(general) & training
    other = again(finished, "shift.n_retrieved=40", "shift.retriever=bm25", "shift.ssae_tokens=1000000")
    both = subdomain_texts(other, 0, bench.shift.gsae["resid.0"], "resid.0")
    assert training <= set(both)
    assert len(set(both) - training) == 40


@pytest.mark.slow
def test_saes_of_a_folder_are_taken_as_they_are(finished: Path, bench: Bench, tmp_path: Path) -> None:
    for site in SITES:
        bench.shift.gsae[site].save_pretrained(tmp_path / "saes" / site)
    other = again(finished, f"shift.gsae={tmp_path / 'saes'}", "shift.corpus=null")
    assert ablated(other.shift.table("gsae")) == ablated(bench.shift.table("gsae"))
    SparseAutoencoder(384, SAEConfig(d_sae=16, k=4), top_k=4).save_pretrained(tmp_path / "saes" / "embed")
    with pytest.raises(ValueError, match="ranks its latents"):
        again(finished, f"shift.gsae={tmp_path / 'saes'}")
    again(finished, f"shift.gsae={tmp_path / 'saes'}", "methods=[ssae]")
    SparseAutoencoder(64, SAEConfig(d_sae=16, k=4)).save_pretrained(tmp_path / "saes" / "embed")
    with pytest.raises(ValueError, match="64 wide, and the model .* 384 there"):
        again(finished, f"shift.gsae={tmp_path / 'saes'}")
    with pytest.raises(ValueError, match="resid.1"):
        again(finished, f"shift.gsae={tmp_path / 'saes'}", "shift.sites=[embed, resid.1]")


def test_auto_takes_every_site_up_to_the_one_that_is_read(tmp_path: Path, minilm_path) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE)
    recipe = read_recipe(tmp_path / "small.yaml", ["shift.sites=auto", "protocol.site=resid.3"])
    assert Bench(recipe, tmp_path).shift.sites == (
        "embed", *(f"{kind}.{i}" for i in range(4) for kind in ("attn", "mlp", "resid")),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["shift.corpus=null"], "SHIFT needs general SAEs"),
        (["shift.corpus=null", "shift.gsae=x", "shift.n_retrieved=5"], "come from shift.corpus"),
        (["shift.threshold=0.1"], "both are given"),
        (["methods=[cbp]"], "cbp needs words of the task"),
        (["shift.keywords=[nurse]"], "two or more different words"),
        (["shift.slice_width=0"], "shift.slice_width"),
        (["shift.slices=1"], "did you mean"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError, match=message):
        read_recipe(tmp_path / "small.yaml", overrides)


def test_without_a_rule_as_many_are_taken_as_were_published(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("title: t\nshift: {threshold: null}")
    assert read_recipe(tmp_path / "small.yaml").shift.n_latents == 55
    found = read_recipe(tmp_path / "small.yaml", ["shift.threshold=0.1"]).shift
    assert (found.threshold, found.n_latents) == (0.1, None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["shift.corpus=nothing.parquet"], "no file nothing.parquet"),
        (["shift.sites=[embed, resid.2]"], "resid.2 come after resid.1"),
        (["shift.sites=[resid.77]"], "no site 'resid.77'"),
        (["shift.k=500"], "k must not exceed d_sae"),
        (["protocol.pool=cls"], "mean-pooled"),
        (["shift.decisions=nowhere.csv"], "no file nowhere.csv"),
        (["shift.corpus=null", "shift.gsae=nowhere"], "there is no nowhere"),
    ],
)
def test_what_is_not_there_is_found_before_any_work(
    tmp_path: Path, minilm_path, capsys, monkeypatch, overrides: list[str], message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr("ssae_debias.estimators.pooled_cache.read_pooled", refuse)
    (tmp_path / "small.yaml").write_text(RECIPE)
    sets = [part for override in overrides for part in ("--set", override)]
    assert main(["run", str(tmp_path / "small.yaml"), *sets, "--out", str(tmp_path / "out"), "-q"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
