"""SCR and TPP as a recipe: what a file may say, a run whole through the command line, and its figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssae_debias.cli import main
from ssae_debias.data import synthetic_biographies
from ssae_debias.recipe import Recipe, RecipeError, ScrRecipe, read_recipe

RECIPE = """
kind: scr
title: A small run
model: demo
data: {source: synthetic, n: 800}
protocol: {site: resid.1, max_length: 32, n_train: 120, n_test: 160, n_latents: [2, 10, 40, 999]}
saes:
  wide: {d_sae: 192, k: 12, train_tokens: 20000, n_texts: 150}
  narrow: {d_sae: 32, k: 4, train_tokens: 5000, n_texts: 150}
seeds: [3, 4]
quick: {seeds: [3], saes.wide: {d_sae: 64, k: 4}}
"""


def write(folder: Path, text: str = RECIPE) -> Path:
    file = folder / "small.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_kind_decides_what_a_file_may_hold(tmp_path: Path) -> None:
    assert isinstance(read_recipe(write(tmp_path)), ScrRecipe)
    assert isinstance(read_recipe(write(tmp_path, "title: t")), Recipe)
    assert isinstance(read_recipe(write(tmp_path, "kind: table\ntitle: t")), Recipe)
    quick = read_recipe(write(tmp_path), ["saes.mine.path=folder", "protocol.C=2"], quick=True)
    assert isinstance(quick, ScrRecipe)
    assert quick.seeds == (3,)
    assert {name: (sae.d_sae, sae.path) for name, sae in quick.saes.items()} == {
        "wide": (64, None),
        "narrow": (32, None),
        "mine": (2048, "folder"),
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kind=src", "unknown kind 'src'; did you mean 'scr'"),
        ("kind=other", "known are table, scr"),
        ("protocol.n_latent=[2]", "unknown key 'protocol.n_latent'; did you mean 'n_latents'"),
        ("saes.wide.d_sea=9", "unknown key 'saes.wide.d_sea'; did you mean 'd_sae'"),
        ("ssae.tilt=1", "unknown key 'ssae'; did you mean 'saes'"),
        ("saes.wide.path=folder", "leave d_sae, k, n_texts, train_tokens out"),
        ("saes={}", "saes: Dictionary should have at least 1 item"),
        ("data.labels=[a, b]", "data.pairs says which labels"),
        ("data.pairs=[[a, b], [a, b]]", "each once"),
        ("data.source=table", "data.path"),
        ("protocol.n_latents=[2, 2]", "each once"),
        ("protocol.n_latents=[0]", "at least 1"),
        ("seeds=[-1]", "greater than or equal to 0"),
        ("seeds=[]", "at least one"),
        ("tpp.source=table", "tpp.path"),
        ("tpp.source=bias_in_bios", "tpp.classes"),
        ("tpp.path=x.csv", "concepts takes no path"),
    ],
)
def test_faults_are_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(tmp_path), [override])
    assert message in str(caught.value)


def test_each_pair_is_a_task_of_its_own(tmp_path: Path) -> None:
    recipe = read_recipe(
        write(tmp_path), ["data.source=table", "data.path=a.csv", "data.pairs=[[surgeon, nurse], [poet, dj]]"]
    )
    assert isinstance(recipe, ScrRecipe)
    tasks = recipe.data.tasks()
    assert {name: spec.labels for name, spec in tasks.items()} == {
        "surgeon/nurse": ("surgeon", "nurse"),
        "poet/dj": ("poet", "dj"),
    }
    hub = read_recipe(write(tmp_path), ["data.source=bias_in_bios", "data.pairs=[[professor, nurse]]"])
    assert isinstance(hub, ScrRecipe)
    assert hub.data.tasks()["professor/nurse"].professions == ("professor", "nurse")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, minilm_path) -> Path:
    folder = tmp_path_factory.mktemp("scr")
    assert main(["run", str(write(folder)), "--out", str(folder / "out"), "-q"]) == 0
    return folder


@pytest.mark.slow
def test_results_say_what_was_measured_on_how_much(finished: Path) -> None:
    results = json.loads((finished / "out" / "results.json").read_text())
    assert set(results) == {
        "recipe", "versions", "seeds", "sets", "saes", "probes", "scr", "scr_attribute", "scr_label", "tpp",
    }  # fmt: skip
    sets = results["sets"]["surgeon/nurse"]
    assert (sets["train per cell"], sets["test per cell"]) == (24, 40)  # 24: as many as the rarest cell has
    assert sets["train"] == 4 * 24
    assert sets["available train surgeon/F"] == 24
    assert results["saes"]["wide"]["d_sae"] == 192
    assert 0 < results["saes"]["wide"]["explained_variance"]["mean"] < 1
    for metric in ("scr", "scr_attribute", "scr_label", "tpp"):
        rows = results[metric]
        # 40 and 999 exceed the narrow SAE, 999 both
        assert [(row["sae"], row["ranking"], row["n"]) for row in rows] == [
            (sae, ranking, n)
            for sae, ns in (("wide", (2, 10, 40)), ("narrow", (2, 10)))
            for ranking in ("effect", "random")
            for n in ns
        ]
        for row in rows:
            assert len(row["by_seed"]) == 2
            assert row["score"]["mean"] == pytest.approx(np.mean(row["by_seed"]))
            assert row["score"]["low"] <= row["score"]["mean"] <= row["score"]["high"]
    for row, attribute, label in zip(
        results["scr"], results["scr_attribute"], results["scr_label"], strict=True
    ):
        reported = row["tasks"]["surgeon/nurse"]["reported"]
        assert sum(reported.values()) == 2
        for mine, other in zip(
            row["by_seed"], zip(attribute["by_seed"], label["by_seed"], strict=True), strict=True
        ):
            assert any(mine == pytest.approx(one) for one in other)
    probes = results["probes"]["scr"]["surgeon/nurse"]
    accuracy = results["scr_attribute"][1]["tasks"]["surgeon/nurse"]["accuracy"]["mean"]
    assert probes["label"]["biased"]["mean"] < probes["label"]["clean"]["mean"]
    assert 0 < accuracy <= 1
    assert set(results["probes"]["tpp"]["surgeon/nurse"]) == {"surgeon", "nurse", "M", "F"}
    assert set(results["tpp"][0]["tasks"]["surgeon/nurse"]["classes"]) == {"surgeon", "nurse", "M", "F"}


@pytest.mark.slow
def test_chosen_latents_beat_random_ones(finished: Path) -> None:
    results = json.loads((finished / "out" / "results.json").read_text())
    for metric in ("scr_attribute", "tpp"):
        best = {
            ranking: max(
                row["score"]["mean"]
                for row in results[metric]
                if row["sae"] == "wide" and row["ranking"] == ranking
            )
            for ranking in ("effect", "random")
        }
        assert best["effect"] > best["random"] + 0.1


@pytest.mark.slow
def test_the_table_and_the_picture_name_every_sae(finished: Path, capsys) -> None:
    picture = (finished / "out" / "scores.svg").read_text()
    assert picture.startswith("<svg")
    for text in ("wide, random latents", "narrow", "TPP", "SCR, attribute zeroed"):
        assert text in picture
    # a seed gives the same figures again, whatever other seeds run, from the stored activations and SAEs
    first = json.loads((finished / "out" / "results.json").read_text())
    arguments = ["--set", "seeds=[3]", "--set", f"cache_dir={finished / 'out' / 'cache'}", "-q"]
    assert main(["run", str(finished / "small.yaml"), "--out", str(finished / "again"), *arguments]) == 0
    again = json.loads((finished / "again" / "results.json").read_text())
    for metric in ("scr", "scr_attribute", "scr_label", "tpp"):
        assert [row["by_seed"][0] for row in first[metric]] == [row["by_seed"][0] for row in again[metric]]
    assert not (finished / "again" / "cache").exists()
    table = capsys.readouterr().out
    for text in ("n = 40", "random latents", "narrow", "explained variance", "TPP", "results.json"):
        assert text in table
    assert not list(finished.rglob("*.partial"))


@pytest.mark.slow
def test_tpp_over_the_classes_of_another_file_and_a_saved_sae(tmp_path: Path, minilm_path) -> None:
    from ssae_debias.sae import SAEConfig, SparseAutoencoder

    topics = {
        "sea": "The ship sailed the sea at night.",
        "food": "Fry the onions in butter.",
        "law": "The court ruled.",
    }
    pd.DataFrame(
        [{"topic": topic, "text": f"{text} {i}"} for topic, text in topics.items() for i in range(30)]
    ).to_csv(tmp_path / "topics.csv", index=False)
    SparseAutoencoder(384, SAEConfig(d_sae=64, k=8)).save_pretrained(tmp_path / "sae")
    arguments = [
        *(
            "--set",
            "tpp.source=table",
            "--set",
            f"tpp.path={tmp_path / 'topics.csv'}",
            "--set",
            "tpp.label=topic",
        ),
        *("--set", "data.n=400", "--set", "seeds=[1]", "--set", "saes={}"),
        *("--set", f"saes.saved.path={tmp_path / 'sae'}"),
    ]
    out = tmp_path / "out"
    assert main(["run", str(write(tmp_path)), "--out", str(out), "-q", *arguments]) == 0
    results = json.loads((out / "results.json").read_text())
    assert set(results["tpp"][0]["tasks"]) == {"topics"}
    assert set(results["tpp"][0]["tasks"]["topics"]["classes"]) == set(topics)
    assert results["sets"]["topics"]["train per cell"] == 18
    assert results["probes"]["tpp"]["topics"]["sea"]["mean"] == 1.0
    assert not (out / "cache" / "saes").exists()  # nothing was trained
    for row in results["scr"]:  # one seed: a point
        assert row["score"]["low"] == row["score"]["high"]


@pytest.mark.slow
def test_pooled_parts_are_those_of_the_model(minilm_path, tmp_path: Path) -> None:
    from ssae_debias.activations import read_pooled
    from ssae_debias.recipe.scr.bench import ScrBench
    from ssae_debias.sae import SAEConfig, SparseAutoencoder

    recipe = read_recipe(write(tmp_path), ["protocol.n_train=16", "protocol.n_test=8"])
    assert isinstance(recipe, ScrRecipe)
    bench = ScrBench(recipe, tmp_path)
    (task,) = bench.tasks.values()
    rows = bench.draw(task, 5)
    for part, splits in zip(rows, (("train",), ("dev", "test")), strict=True):
        assert set(task.split[part]) <= set(splits)
        assert np.bincount(task.groups()[part]).tolist() == [len(part) // 4] * 4
    assert not np.array_equal(rows[0], bench.draw(task, 6)[0])
    sae = SparseAutoencoder(384, SAEConfig(d_sae=16, k=4))
    train, test = bench.pooled(task, rows, {"one": sae, "two": sae})
    for part, chosen in ((train, rows[0]), (test, rows[1])):
        texts = [task.texts[row] for row in chosen]
        expected = read_pooled(bench.model, texts, "resid.1", max_length=32)["resid.1"]
        np.testing.assert_allclose(part.activations, expected, atol=1e-5)
        assert part.latents["one"].shape == (len(chosen), 16)
        np.testing.assert_array_equal(part.latents["one"], part.latents["two"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["saes.wide={path: nowhere}"], "nowhere"),
        (["protocol.site=resid.77"], "no site 'resid.77'"),
        (["protocol.evaluation_splits=[exam]"], "unknown split 'exam'"),
        (["saes={}", "saes.mine.path={folder}/sae"], "saes.mine reads activations of width 16"),
        (
            ["tpp.source=table", "tpp.path={folder}/two.csv", "tpp.label=topic"],
            "three or more classes; column 'topic'",
        ),
        (
            ["data.source=table", "data.path={folder}/bios.csv", "data.pairs=[[surgeon, poet]]"],
            "no value 'poet'",
        ),
    ],
)
def test_bad_input_ends_with_one_clear_line(tmp_path: Path, minilm_path, capsys, overrides, message) -> None:
    from ssae_debias.sae import SAEConfig, SparseAutoencoder

    task = synthetic_biographies(200)
    pd.DataFrame({"topic": ["a", "b"] * 20, "text": ["one", "two"] * 20}).to_csv(tmp_path / "two.csv")
    pd.DataFrame(
        {
            "text": task.texts,
            "profession": [task.label_names[y] for y in task.y],
            "gender": "M",
            "split": "train",
        }
    ).to_csv(tmp_path / "bios.csv")
    SparseAutoencoder(16, SAEConfig(d_sae=8, k=2)).save_pretrained(tmp_path / "sae")
    arguments = [part for one in overrides for part in ("--set", one.replace("{folder}", str(tmp_path)))]
    assert main(["run", str(write(tmp_path)), "--out", str(tmp_path / "out"), "-q", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("results.json"))


@pytest.mark.slow
def test_on_real_bios_the_chosen_latents_carry_gender(tmp_path: Path, bios_path: Path, minilm_path) -> None:
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "scr_local.yaml"
    smaller = [
        "protocol.site=resid.1",
        "protocol.max_length=48",
        "protocol.n_latents=[10]",
        "protocol.n_train=240",
        "protocol.n_test=240",
        "saes={}",
        "saes.one={d_sae: 256, k: 16, train_tokens: 20000, n_texts: 200}",
    ]
    arguments = [part for one in [f"data.path={bios_path}", *smaller] for part in ("--set", one)]
    with pytest.warns(UserWarning, match="2 texts stand in more than one split"):
        assert main(["run", str(recipe), "--quick", "--out", str(tmp_path), "-q", *arguments]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    sets = results["sets"]["surgeon/nurse"]
    assert (sets["train per cell"], sets["test per cell"]) == (60, 60)
    assert (sets["available train nurse/M"], sets["available test nurse/M"]) == (150, 99)
    chosen, random = results["tpp"]
    assert chosen["score"]["mean"] > random["score"]["mean"] + 0.03
    chosen, random = results["scr_attribute"]
    assert chosen["score"]["mean"] > random["score"]["mean"] + 0.1


@pytest.mark.slow
def test_the_hub_recipe_runs_on_a_local_copy_and_averages_its_pairs(tmp_path: Path, minilm_path) -> None:
    pytest.importorskip("datasets", reason='needs datasets: pip install "ssae-debias[hub]"')
    from ssae_debias.data import PROFESSIONS
    from ssae_debias.sae import SAEConfig, SparseAutoencoder

    names = ("professor", "nurse", "architect", "journalist")
    for split, n in (("train", 10), ("test", 6)):
        rows = [
            {
                "hard_text": f"{('He', 'She')[gender]} works with the {name} {i}.",
                "profession": PROFESSIONS.index(name),
                "gender": gender,
            }
            for name in names
            for gender in (0, 1)
            for i in range(n)
        ]
        (tmp_path / "data").mkdir(exist_ok=True)
        pd.DataFrame(rows).to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    SparseAutoencoder(384, SAEConfig(d_sae=64, k=8)).save_pretrained(tmp_path / "sae")
    overrides = [
        *("model=demo", "protocol.site=embed", f"data.path={tmp_path}", f"tpp.path={tmp_path}", "seeds=[1]"),
        "data.pairs=[[professor, nurse], [architect, journalist]]",
        *("tpp.classes=[professor, nurse, architect]", "saes={}", f"saes.one.path={tmp_path / 'sae'}"),
    ]
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "scr.yaml"
    arguments = [part for one in overrides for part in ("--set", one)]
    assert main(["run", str(recipe), "--out", str(tmp_path / "out"), "-q", *arguments]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["sets"]) == [
        "professor/nurse",
        "architect/journalist",
        "bias_in_bios professor/nurse/architect",
    ]
    assert results["sets"]["professor/nurse"]["test per cell"] == 6
    row = results["scr"][0]
    pairs = row["tasks"]
    assert list(pairs) == ["professor/nurse", "architect/journalist"]
    assert row["score"]["mean"] == pytest.approx(np.mean([pair["score"]["mean"] for pair in pairs.values()]))
    assert set(results["probes"]["tpp"]["bias_in_bios professor/nurse/architect"]) == {
        "professor",
        "nurse",
        "architect",
    }
