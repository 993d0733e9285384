"""Recipe files: what is accepted, what is refused, and how the refusal reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssae_debias.recipe import Recipe, RecipeError, read_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


# evaluations have seeds of their own: tests/recipe/test_recipe_evaluate_run.py
@pytest.mark.parametrize(
    "path",
    sorted(path for path in RECIPES.glob("*.yaml") if not path.stem.startswith("evaluate")),
    ids=lambda path: path.stem,
)
@pytest.mark.parametrize("quick", [False, True])
def test_shipped_recipes_are_valid(path: Path, quick: bool) -> None:
    text = path.read_text(encoding="utf-8")
    given = ["data.path=somewhere.parquet"] if "source: table" in text else []
    given += ["shift.corpus=somewhere.parquet"] if "gsae_retrain" in text else []
    recipe = read_recipe(path, given, quick=quick)
    assert len(recipe.seeds) == (1 if quick else 5)
    if isinstance(recipe, Recipe):
        assert recipe.methods[0] == "original"


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: t\nsseae: {}", "unknown key 'sseae'; did you mean 'ssae'"),
        ("title: t\nssae: {tlit: 1}", "unknown key 'ssae.tlit'; did you mean 'tilt'"),
        ("title: t\ndata: {qqqq: 1}", "unknown key 'data.qqqq'; known are source, path"),
        ("title: t\nseeds: []", "seeds: at least one"),
        ("title: t\nseeds: [1, 1]", "each once"),
        ("title: t\nmethods: [original, laece]", "unknown laece; known are original"),
        ("title: t\ndata: {source: table}", "data.path"),
        ("title: t\nssae: {d_sae: zero}", "ssae.d_sae"),
        ("- a list", "must hold keys and values"),
        ("title: [", "is not YAML"),
        ("seeds: [1]", "title: Field required"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=None) as caught:
        read_recipe(write(tmp_path, text))
    assert message in str(caught.value)


def test_every_fault_stands_on_its_own_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(tmp_path, "title: t\nnope: 1\nseeds: []\nssae: {k: 0}"))
    assert len(str(caught.value).splitlines()) == 4


def test_overrides_reach_into_sections_and_keep_their_type(tmp_path: Path) -> None:
    file = write(tmp_path, "title: t\nquick: {seeds: [9], ssae.k: 8}")
    recipe = read_recipe(
        file, ["ssae.tilt=1e9", "ssae.sites=[embed, resid.1]", "data.source=table", "data.path=a=b.csv"]
    )
    assert recipe.ssae.tilt == 1e9
    assert recipe.ssae.sites == ("embed", "resid.1")
    assert recipe.data.path == "a=b.csv"
    assert (read_recipe(file, quick=True).seeds, read_recipe(file, quick=True).ssae.k) == ((9,), 8)
    assert read_recipe(file, ["seeds=[4]"], quick=True).seeds == (4,)  # the command line comes last
    with pytest.raises(RecipeError, match="takes key=value"):
        read_recipe(file, ["seeds"])
    with pytest.raises(RecipeError, match="not YAML"):
        read_recipe(file, ["seeds=[1, 2"])
    with pytest.raises(RecipeError, match="reads no file"):
        read_recipe(write(tmp_path, "title: t"), ["data.path=mine.csv"])
    with pytest.raises(RecipeError, match="is no section"):
        read_recipe(file, ["title.x=1"])


def test_a_missing_file_lists_the_recipes_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "title: t")
    with pytest.raises(FileNotFoundError, match=r"mine\.yaml"):
        read_recipe(tmp_path / "other.yaml")
    plain = write(tmp_path, "title: t")
    with pytest.raises(RecipeError, match="no quick section"):
        read_recipe(plain, quick=True)
