"""Recipes whose label is read from the text: what is accepted, what is refused, and the task that comes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ssae_debias.data import ambiguous
from ssae_debias.recipe import Recipe, RecipeError, read_recipe
from ssae_debias.recipe.bench import load_task
from ssae_debias.recipe.schema import DataSpec

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
WIKIPEDIA = ("wikipedia_actors", "wikipedia_writers", "wikipedia_films")


def write(tmp_path: Path, data: str) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(f"title: t\ndata: {data}", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{label_patterns: {a: b, c: d}}", "are for source: table"),
        ("{where: {kind: [film]}}", "are for source: table"),
        ("{source: table, path: x, label_patterns: {a: 'b('}}", "'b(' of 'a' is no regular expression"),
        (
            "{source: table, path: x, attribute_patterns: {a: [b, '.*']}}",
            "'.*' of 'a' matches the empty text",
        ),
        ("{source: table, path: x, label_patterns: {a: b}, label: job}", "label_patterns, not both"),
        (
            "{source: table, path: x, attribute_patterns: {a: b}, attribute: sex}",
            "attribute_patterns, not both",
        ),
        ("{source: table, path: x, patterns_in: title}", "data.patterns_in"),
        ("{source: table, path: x, where: {kind: film}}", "data.where.kind"),
        ("{source: table, path: x, label_pattern: {}}", "did you mean 'label_patterns'"),
    ],
)
def test_faults_are_named(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(tmp_path, data))
    assert message in str(caught.value)


def test_a_data_section_gives_the_task_it_describes(tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    rows = [
        {"kind": "film", "text": f"{genre[0]}{n} is a {year} {genre} film. It is {genre}tic."}
        for n in range(20)
        for year in (1950, 1990)
        for genre in ("drama", "comedy")
    ]
    pd.DataFrame([*rows, {"kind": "play", "text": "It is a 1950 drama."}]).to_csv(path, index=False)
    spec = DataSpec(
        source="table",
        path=str(path),
        split=None,
        where={"kind": ("film",)},
        label_patterns={"drama": r"\bdrama\w*", "comedy": ("comedy", "comic")},
        attribute_patterns={"new": r"\b1990\b", "old": r"\b1950\b"},
        attributes=("old", "new"),
    )
    task = load_task(spec)
    assert (task.label_names, task.attribute_names) == (("drama", "comedy"), ("old", "new"))
    assert task.cell_counts().to_numpy().tolist() == [[12, 4, 4]] * 4
    assert (task.texts[0], task.texts[3]) == ("d0 is a 1950 film. It is.", "c0 is a 1990 film. It is.")
    whole = load_task(spec.model_copy(update={"delete_label_words": False}))
    assert whole.texts[3] == "c0 is a 1990 comedy film. It is comedytic."


@pytest.mark.parametrize("name", WIKIPEDIA)
def test_wikipedia_recipes_are_those_of_bias_in_bios_but_for_the_task(name: str) -> None:
    ours, bios = (
        read_recipe(
            RECIPES / f"{stem}.yaml", ["data.path=somewhere.parquet", "shift.corpus=somewhere.parquet"]
        )
        for stem in (name, "bias_in_bios_local")
    )
    assert isinstance(ours, Recipe)
    assert isinstance(bios, Recipe)
    other = {"title", "data", "methods", "shift"}
    expected = bios.model_dump(exclude=other)
    expected["quick"] = {key: value for key, value in bios.quick.items() if not key.startswith("shift.")}
    got = ours.model_dump(exclude=other)
    if name == "wikipedia_films":
        got["ssae"].pop("attribute")
        expected["ssae"].pop("attribute")
        assert all(int(new) - int(old) == 60 for old, new in ours.ssae.attribute)  # type: ignore[misc]
    assert got == expected


@pytest.mark.parametrize("name", WIKIPEDIA)
def test_a_written_out_recipe_reads_back(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml", ["data.path=somewhere.parquet"])
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    assert read_recipe(file) == recipe


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("wikipedia_actors", r"\bact(or|ress)|politician|\bpresident|minister|\bsenator"),
        ("wikipedia_writers", r"\b(writer|author|poet|football|athlete|tennis|skier|olympics?)s?\b"),
        ("wikipedia_films", r"comed(y|ic)|drama"),
    ],
)
def test_wikipedia_tasks(shared: Path, name: str, gone: str) -> None:
    path = shared / "data" / "wikipedia_leads.parquet"
    recipe = read_recipe(RECIPES / f"{name}.yaml", [f"data.path={path}"])
    assert isinstance(recipe, Recipe)
    task, protocol = load_task(recipe.data), recipe.protocol
    assert len(task.label_names) == len(task.attribute_names) == 2
    assert not any(re.search(gone, text, re.IGNORECASE) for text in task.texts)
    counts = task.cell_counts()
    evaluation = counts[list(protocol.evaluation_splits)].sum(axis=1)
    assert evaluation.min() >= 30
    # the groups trained on are those that the file itself holds more of: odds of label given attribute above 1
    total = counts.sum(axis=1).to_numpy().reshape(2, 2)
    assert total[0, 0] * total[1, 1] > total[0, 1] * total[1, 0]
    rows = ambiguous(task, splits=protocol.train_splits, random_state=0)
    assert set(task.split[rows]) == {"train"}
