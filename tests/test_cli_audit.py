"""`ssae-debias audit`: what is asked reaches `audit`, wrong input is named, and the report and export are written."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssae_debias.audit import LatentSettings, audit
from ssae_debias.cli import audit as command
from ssae_debias.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    pd.DataFrame(
        {
            "bio": ["He left.", "She sang.", "NA", "They came."],
            "job": ["nurse", "surgeon", "nurse", "surgeon"],
            "sex": ["M", "F", None, "F"],
            "age": ["old", "old", "young", None],
            "split": ["train", "dev", "test", "train"],
        }
    ).to_csv(path, index=False)
    return path


class Asked(dict[str, Any]):
    """What `audit` was asked, in its place."""

    __signature__ = inspect.signature(audit)

    def __call__(self, model: Any, texts: list[str], y: Any, **options: Any) -> Any:
        self.update(options, model=model, texts=texts, y=list(y))
        return SimpleNamespace(
            export=lambda path: SimpleNamespace(path=path), __str__=lambda: "the table", asked=self
        )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr(command, "audit", found)
    return found


def run(table: Path, *arguments: str) -> int:
    needed = [
        "--model",
        "my-classifier",
        "--data",
        str(table),
        "--text-column",
        "bio",
        "--label-column",
        "job",
    ]
    return main(["audit", *needed, "--out", "audited", *arguments])


def test_defaults_are_those_of_audit(table: Path, asked: Asked) -> None:
    assert run(table) == 0
    assert asked["texts"] == ["He left.", "She sang.", "NA", "They came."]  # "NA" is a word in a text
    assert asked["y"] == ["nurse", "surgeon", "nurse", "surgeon"]
    assert (asked["model"], asked["attribute"], asked["part"]) == ("my-classifier", "gender", None)
    assert asked["sensitive_features"] is None
    assert asked["settings"] == LatentSettings()
    assert asked["random_state"] == 0
    assert asked["out"] == Path("audited")


def test_columns_tell_the_attribute_and_the_parts(table: Path, asked: Asked) -> None:
    assert run(table, "--attribute-column", "sex", "age", "--split-column", "split") == 0
    assert list(asked["sensitive_features"].columns) == ["sex", "age"]
    assert asked["sensitive_features"]["sex"].isna().tolist() == [False, False, True, False]
    assert asked["part"].tolist() == ["fit", "evaluation", "evaluation", "fit"]
    assert asked["attribute"] is None  # the columns may mean anything: their words are not gender's
    assert run(table, "--attribute-column", "sex", "--attribute", "gender") == 0
    assert asked["attribute"] == "gender"
    assert run(table, "--split-column", "split", "--evaluation-splits", "train") == 0
    assert asked["part"].tolist() == ["evaluation", "fit", "fit", "evaluation"]


def test_pairs_and_settings(
    table: Path, asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "ages.csv"
    pairs.write_text("young,old\nyouth,age\n")
    arguments = "--sites embed resid.1 --edit mean --min-effect 0.5 --train-tokens 900 --flag both --seed 3"
    more = ["--no-rivals", "--keep-head", "-q", "--export", "edited", "--decisions", "decisions.json"]
    assert run(table, "--pairs", str(pairs), *arguments.split(), *more) == 0
    assert asked["attribute"].pairs == (("young", "old"), ("youth", "age"))
    settings = asked["settings"]
    assert settings.sites == ("embed", "resid.1")
    assert (settings.edit, settings.min_effect, settings.train_tokens, settings.flag) == (
        "mean",
        0.5,
        900,
        "both",
    )
    assert asked["rivals"] is False
    assert not settings.refit
    assert (asked["random_state"], asked["verbose"], asked["decisions"]) == (3, 0, Path("decisions.json"))
    assert "Edited classifier: edited" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--label-column", "work"], "work"),
        (["--attribute-column", "gender"], "gender"),
        (["--split-column", "part"], "part"),
        (["--data", "nowhere.csv"], "no file at nowhere.csv"),
        (["--pairs", "nowhere.csv"], "nowhere.csv"),
        (["--attribute", "none"], "Nothing says what the attribute is"),
        (["--label-column", "sex"], "missing"),
    ],
)
def test_wrong_input_is_named(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    class Fixed:
        """A classifier that is there, so that the rest is looked at."""

        name, classes, sites = "fixed", ("nurse", "surgeon"), ("embed",)

        def checked(self, inputs: Any) -> Any:
            return list(inputs)

        def logits(self, inputs: Any, edits: Any = None, *, verbose: int = 0) -> Any:
            return np.zeros((len(inputs), 2))

        decisions = tokens = written = logits

    monkeypatch.chdir(tmp_path)
    own = command.audit

    def fixed(model: str, *given: Any, random_state: int = 0, **options: Any) -> Any:
        return own(Fixed(), *given, random_state=random_state, **options)

    monkeypatch.setattr(command, "audit", fixed)
    assert run(table, *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_a_trained_head(
    table: Path, minilm_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(table, "--model", str(minilm_path)) == 2
    assert "without a trained classification head" in capsys.readouterr().err
