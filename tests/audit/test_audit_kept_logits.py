"""A stopped audit goes on: results lie on disk under all that they depend on, and damaged ones are not believed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted_audit import planted, read_as_is
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ssae_debias.audit import PipelineClassifier
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.edit import Projection

DATA = planted(50)
EDITS = {"module:0": Projection.onto_complement_of(torch.eye(8)[:1], center=torch.zeros(8))}


def refusing(*_: Any, **__: Any) -> Any:
    raise AssertionError("computed again")


def test_results_are_read_from_disk_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptLogits(read_as_is(), tmp_path)
    plain, edited, mean = kept(DATA.X), kept(DATA.X, EDITS), kept.pooled(DATA.X, "module:0", EDITS)
    np.testing.assert_allclose(plain, DATA.X[:, :2])
    np.testing.assert_allclose(edited[:, 0], 0, atol=1e-6)
    again = KeptLogits(read_as_is(), tmp_path)
    monkeypatch.setattr(again.classifier, "decisions", refusing)
    monkeypatch.setattr(again.classifier, "tokens", refusing)
    np.testing.assert_array_equal(again(DATA.X), plain)
    np.testing.assert_array_equal(again(DATA.X.copy(), EDITS), edited)
    np.testing.assert_array_equal(again.pooled(DATA.X, "module:0", EDITS), mean)
    # other inputs and other edits are other results
    for inputs, edits in (
        (DATA.X[:-1], {}),
        (DATA.X + 1, {}),
        (DATA.X, {"module:0": EDITS["module:0"].to("cpu")}),
    ):
        if edits:
            np.testing.assert_array_equal(again(inputs, edits), edited)
        else:
            with pytest.raises(AssertionError, match="computed again"):
                again(inputs, edits)


def test_another_classifiers_results_are_not_taken(tmp_path: Path) -> None:
    KeptLogits(read_as_is(), tmp_path)(DATA.X)
    other = read_as_is()
    with torch.no_grad():
        next(other.module.parameters()).mul_(2)
    np.testing.assert_allclose(KeptLogits(other, tmp_path)(DATA.X), 2 * DATA.X[:, :2])


@pytest.mark.parametrize("harm", ["cut", "altered", "emptied"])
def test_damaged_results_are_computed_again_with_a_warning(tmp_path: Path, harm: str) -> None:
    kept = KeptLogits(read_as_is(), tmp_path)
    expected = kept(DATA.X)
    file = next((tmp_path / "decisions").glob("*/array.npy"))
    if harm == "emptied":
        (file.parent / "manifest.json").write_text("")
    else:
        content = bytearray(file.read_bytes())
        content = content[:-5] if harm == "cut" else content[:-1] + b"\xff"
        file.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="Computed again"):
        np.testing.assert_array_equal(kept(DATA.X), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(kept(DATA.X), expected)  # and the sound one stands there again


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = KeptLogits(read_as_is(), None)
    first = kept(DATA.X)
    assert not list(tmp_path.iterdir())
    # a state's head inputs are asked for right after its logits: they come from the same pass
    monkeypatch.setattr(kept.classifier, "decisions", refusing)
    np.testing.assert_array_equal(kept(DATA.X), first)
    assert kept.head_inputs(DATA.X).shape == (50, 8)


def test_a_pipeline_that_cannot_be_pickled_is_audited_without_a_memory(tmp_path: Path) -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression()).fit(DATA.X, DATA.y)
    with pytest.warns(UserWarning, match="cannot be told from another classifier"):
        kept = KeptLogits(PipelineClassifier(pipeline), tmp_path)
    assert kept(DATA.X).shape == (50, 2)
    assert not list(tmp_path.iterdir())
