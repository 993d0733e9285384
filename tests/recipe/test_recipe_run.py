"""A recipe run whole, through the command line: table, results.json, report.html, and going on where it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssae_debias.cli import main
from ssae_debias.data import synthetic_biographies
from ssae_debias.recipe import Recipe

RECIPE = """
title: A small run
model: demo
data: {source: synthetic, n: 400}
protocol: {site: resid.1, max_length: 32}
ssae: {sites: [embed, resid.0], d_sae: 256, k: 16, train_tokens: 20000, min_effect: 0.5}
seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, minilm_path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(RECIPE)
    assert main(["run", str(folder / "small.yaml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder


def estimate_ok(estimate: dict[str, float]) -> bool:
    return (
        set(estimate) == {"mean", "low", "high"} and estimate["low"] <= estimate["mean"] <= estimate["high"]
    )


@pytest.mark.slow
def test_results_have_the_published_schema(finished: Path) -> None:
    results = json.loads((finished / "out" / "results.json").read_text())
    assert set(results) == {"recipe", "versions", "seeds", "sets", "rows"}
    assert results["seeds"] == [0, 1]
    assert results["recipe"]["ssae"]["sites"] == ["embed", "resid.0"]
    assert [row["method"] for row in results["rows"]] == list(Recipe.model_fields["methods"].default)
    for row in results["rows"]:
        assert set(row) == {
            "method", "needs_group_labels", "task_accuracy", "attribute_accuracy", "worst_group_accuracy", "groups",
            "leakage", "seconds",
        }  # fmt: skip
        for name in ("task_accuracy", "attribute_accuracy", "worst_group_accuracy"):
            assert estimate_ok(row[name])
        assert set(row["groups"]) == {"surgeon/M", "surgeon/F", "nurse/M", "nurse/F"}
        assert all(estimate_ok(group["accuracy"]) and group["n"] == 40 for group in row["groups"].values())
        assert estimate_ok(row["leakage"]["linear"])
        assert estimate_ok(row["leakage"]["mlp"])


@pytest.mark.slow
def test_the_method_helps_and_random_latents_do_not(finished: Path) -> None:
    rows = {row["method"]: row for row in json.loads((finished / "out" / "results.json").read_text())["rows"]}
    worst = {name: row["worst_group_accuracy"]["mean"] for name, row in rows.items()}
    leak = {name: row["leakage"]["linear"]["mean"] for name, row in rows.items()}
    assert worst["debiaser_retrain"] > worst["original"] + 0.1
    assert worst["debiaser_retrain"] > worst["random_latents"] + 0.1
    assert leak["debiaser_retrain"] < leak["original"] - 0.15
    assert leak["random_latents"] > leak["original"] - 0.1
    labels = {name for name, row in rows.items() if row["needs_group_labels"]}
    assert labels == {"leace", "leace_given_y", "reweighting", "oracle"}


@pytest.mark.slow
def test_a_second_run_reads_what_the_first_computed(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (finished / "out" / "results.json").read_text()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model ran again")

    monkeypatch.setattr("ssae_debias.estimators.pooled_cache.read_pooled", refuse)
    assert main(["run", str(finished / "small.yaml"), "--out", str(finished / "out"), "-q"]) == 0
    again = json.loads((finished / "out" / "results.json").read_text())
    first = json.loads(before)
    for old, new in zip(first["rows"], again["rows"], strict=True):
        assert {**old, "seconds": 0} == {**new, "seconds": 0}


@pytest.mark.slow
def test_a_damaged_cache_is_computed_again(finished: Path, tmp_path: Path) -> None:
    from ssae_debias.recipe import read_recipe
    from ssae_debias.recipe.bench import Bench

    recipe = read_recipe(finished / "small.yaml")
    whole = Bench(recipe, finished / "out" / "cache").original
    # a copy: other tests read the cache too
    shutil.copytree(finished / "out" / "cache" / "pooled", tmp_path / "pooled")
    for file in (tmp_path / "pooled").glob("*/pooled.npy"):
        content = bytearray(file.read_bytes())
        content[-5] ^= 255
        file.write_bytes(content)
    with pytest.warns(UserWarning, match=r"computed again.*pooled\.npy does not have the sha256"):
        again = Bench(recipe, tmp_path).original
    np.testing.assert_array_equal(again, whole)


@pytest.mark.slow
def test_the_report_stands_alone_and_names_every_method(finished: Path) -> None:
    page = (finished / "out" / "report.html").read_text()
    assert "A small run" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page
    assert len(page) < 5_000_000
    for label in ("Original", "LEACE", "Oracle", "Random latents"):
        assert label in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "No recipe at nowhere.yaml"),
        (["run", "{recipe}", "--set", "ssae.tlit=1"], "did you mean 'tilt'"),
        (["run", "{recipe}", "--set", "model=no/such"], "neither a folder"),
        (
            ["run", "{recipe}", "--set", "ssae.sites=[resid.77]", "--set", "methods=[debiaser]"],
            "no site 'resid.77'",
        ),
        (["run", "{recipe}", "--out", "{recipe}"], "small.yaml"),
        (["run", "{recipe}", "--set", "data.source=table", "--set", "data.path=nothing.csv"], "nothing.csv"),
    ],
)
def test_bad_input_ends_with_one_clear_line(tmp_path: Path, minilm_path, capsys, arguments, message) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    arguments = [argument.format(recipe=recipe) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    assert main([*arguments, "-q"]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("results.json"))
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_the_residue_on_pooled_rows_is_the_edited_model(finished: Path) -> None:
    from ssae_debias.recipe import METHODS, read_recipe
    from ssae_debias.recipe.bench import Bench

    bench = Bench(read_recipe(finished / "small.yaml"), finished / "out" / "cache")
    rows = METHODS["debiaser"].run(bench, 0).activations
    debiaser = bench.debiaser(0)
    assert set(debiaser.residue_) == {"realignment", "erasure"}
    np.testing.assert_allclose(rows[:40], debiaser.transform(bench.task.texts[:40]), atol=2e-5)


@pytest.mark.slow
def test_validation_reads_no_evaluation_text(tmp_path: Path, minilm_path) -> None:
    task = synthetic_biographies(200)
    found = []
    for name, spoil in (("whole", False), ("spoilt", True)):
        frame = pd.DataFrame(
            {"text": task.texts, "label": task.y, "attribute": task.sensitive_features, "split": task.split}
        )
        if spoil:
            frame.loc[frame.split != "train", "text"] = "spoilt"
        frame.to_parquet(tmp_path / f"{name}.parquet")
        recipe = validation_recipe(tmp_path, f"{tmp_path}/{name}.parquet")
        out = tmp_path / name
        assert main(["run", str(recipe), "--out", str(out), "-q"]) == 0
        results = json.loads((out / "results.json").read_text())
        found.append([{**row, "seconds": 0} for row in results["rows"]])
    assert found[0] == found[1]
    sizes = {name: group["n"] for name, group in found[0][0]["groups"].items()}
    assert sizes == dict(task.cell_counts()["train"].set_axis(sizes))
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "one of 2 folds of the training texts" in page


def validation_recipe(folder: Path, table: str) -> Path:
    path = folder / "validation.yaml"
    path.write_text(
        "title: Validation\nmodel: demo\nprotocol: {site: resid.0, max_length: 32, validation_folds: 2}\n"
        f"data: {{source: table, path: {table}, label: label, attribute: attribute}}\n"
        "methods: [original, leace_given_y]\nseeds: [0, 1]\n"
    )
    return path
