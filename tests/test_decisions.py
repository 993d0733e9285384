from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssae_debias.decisions import Decision, Decisions, from_json, read_decisions, to_json, write_decisions
from ssae_debias.files import DamagedFileError

ROW = {"site": "embed", "latent": 530, "decision": "keep", "note": "task word"}


def content(**changes: Any) -> dict[str, Any]:
    whole = {"format": "ssae-debias decisions", "version": 1, "saes": {"embed": "0123456789abcdef"},
             "decisions": [ROW]}  # fmt: skip
    return {**whole, **changes}


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "decisions.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    read = read_decisions(written(tmp_path, content()))
    assert read.items == {("embed", 530): Decision("keep", "task word")}
    assert read.saes == {"embed": "0123456789abcdef"}
    assert read.words == {("embed", 530): "keep"}
    assert read.notes == {("embed", 530): "task word"}


def test_saes_and_notes_may_be_left_out(tmp_path: Path) -> None:
    bare = content(decisions=[{"site": "X", "latent": 0, "decision": "ablate"}])
    del bare["saes"]
    assert read_decisions(written(tmp_path, bare)).items == {("X", 0): Decision("ablate")}


sites = st.text(min_size=1, max_size=40)
items = st.dictionaries(
    st.tuples(sites, st.integers(0, 2**31 - 1)),
    st.builds(Decision, st.sampled_from(["ablate", "keep"]), st.text(max_size=60)),
    max_size=12,
)


@given(items, st.dictionaries(sites, st.text("0123456789abcdef", min_size=16, max_size=16), max_size=4))
def test_what_is_written_is_read_again(made: dict[tuple[str, int], Decision], saes: dict[str, str]) -> None:
    decisions = Decisions(made, saes)
    assert from_json(json.loads(json.dumps(to_json(decisions)))) == decisions


def test_a_plain_mapping_with_numpy_latents_is_written(tmp_path: Path) -> None:
    path = write_decisions(
        tmp_path / "d.json", {("embed", np.int64(3)): Decision("keep")}, {"embed": "0" * 16}
    )
    assert json.loads(path.read_text())["decisions"] == [
        {"site": "embed", "latent": 3, "decision": "keep", "note": ""}
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([ROW], "no file of decisions"),
        ({"decisions": [ROW]}, "no file of decisions"),
        (content(version=2), "version 2, and this release reads version 1"),
        (content(saes=["embed"]), "saes maps sites"),
        (content(saes={"embed": "XYZ"}), "16 hexadecimal digits"),
        (content(saes={"embed": 17}), "16 hexadecimal digits"),
        (content(decisions={}), "decisions is a list"),
        (content(decisions=[1]), "decision 1: it takes an object"),
        (content(decisions=[ROW, {"site": "embed", "latent": 1}]), "decision 2: .* lacks decision"),
        (content(decisions=[{**ROW, "decison": "keep"}]), "has 'decison' too"),
        (content(decisions=[{**ROW, "decision": "remove"}]), "'ablate' or 'keep'; got 'remove'"),
        (content(decisions=[{**ROW, "decision": ["keep"]}]), "'ablate' or 'keep'"),
        (content(decisions=[{**ROW, "latent": "530"}]), "whole number from 0; got '530'"),
        (content(decisions=[{**ROW, "latent": 1.0}]), "whole number"),
        (content(decisions=[{**ROW, "latent": True}]), "whole number"),
        (content(decisions=[{**ROW, "latent": -1}]), "whole number"),
        (content(decisions=[{**ROW, "latent": 2**31}]), "whole number"),
        (content(decisions=[{**ROW, "site": ""}]), "a site is a name"),
        (content(decisions=[{**ROW, "site": None}]), "a site is a name"),
        (content(decisions=[{**ROW, "site": "s" * 501}]), "a site is a name"),
        (content(decisions=[{**ROW, "note": 3}]), "a note is text"),
        (content(decisions=[{**ROW, "note": "x" * 2001}]), "at most 2,000 characters; this one has 2,001"),
        (content(decisions=[ROW, {**ROW, "decision": "ablate"}]), "latent 530 of 'embed' comes twice"),
        (content(decisions=[ROW] * 100_001), "at most 100,000 decisions"),
    ],
)
def test_what_is_wrong_is_said_with_the_files_name(tmp_path: Path, value: Any, message: str) -> None:
    path = written(tmp_path, value)
    with pytest.raises(ValueError, match=message) as caught:
        read_decisions(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"format": "ssae-debias', "[" * 100_000])
def test_what_is_no_json_is_called_damaged(tmp_path: Path, text: str) -> None:
    with pytest.raises(DamagedFileError, match=r"decisions\.json"):
        read_decisions(written(tmp_path, text))


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    with path.open("wb") as file:
        file.truncate(33 * 2**20)
    with pytest.raises(DamagedFileError, match="at most 33,554,432"):
        read_decisions(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        read_decisions(tmp_path / "nothing.json")


def test_decisions_about_other_saes_are_refused() -> None:
    made = Decisions(
        {("embed", 1): Decision("keep"), ("resid.1", 2): Decision("keep")},
        {"embed": "a" * 16, "resid.3": "c" * 16},
    )
    made.check({"embed": "a" * 16, "resid.1": "b" * 16})  # resid.1 was decided on without a fingerprint
    made.check({"resid.3": "d" * 16})  # nothing was decided there
    assert made.differing({"embed": "d" * 16}) == ["embed"]
    with pytest.raises(ValueError, match="made about other SAEs .embed: aaaa"):
        made.check({"embed": "d" * 16})
