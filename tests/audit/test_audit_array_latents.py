"""Latents on vectors: the planted one is found, nothing is held that need not be, and nothing is flagged blindly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted_audit import other_attribute, planted, read_as_is
from torch import nn

from ssae_debias.audit import LatentSettings, ModuleClassifier, array_latents, training_vectors
from ssae_debias.audit.array_latents import find_array_latents
from ssae_debias.audit.found import Found
from ssae_debias.audit.residues import residue_after
from ssae_debias.edit import edit_latents

DATA = planted(500)
KNOWN = np.ones(500, dtype=bool)
QUICK = LatentSettings(flag="association", d_sae=24, k=3, train_tokens=15_000, realign=True, erase=True)


def found(classifier: Any = None, settings: LatentSettings = QUICK, **given: Any) -> Found:
    known = {"sites": ["module:0"], "attribute": DATA.a, "known": KNOWN}
    return find_array_latents(
        classifier or read_as_is(), DATA.X, DATA.y, settings=settings, **(known | given)
    )


def test_flagged_latents_write_the_attributes_column_and_not_the_labels() -> None:
    result = found()
    flagged = result.table[result.table["decision"] == "ablate"]["latent"]
    assert len(flagged)
    directions = result.saes["module:0"].W_dec.detach().numpy()[flagged]
    assert np.abs(directions[:, 1]).max() > 0.8
    assert np.abs(directions[:, 1]).mean() > 2 * np.abs(directions[:, 0]).mean()
    assert list(result.residue) == ["realignment", "erasure"]
    edited = result.edits()["module:0"](torch.from_numpy(DATA.X)).numpy()
    means = [edited[(DATA.a == value) & (DATA.y == 1), 1].mean() for value in (0, 1)]
    assert abs(means[1] - means[0]) < 0.1
    labels = [edited[DATA.y == value, 0].mean() for value in (0, 1)]
    assert labels[1] - labels[0] > 0.8


def test_examples_are_rows_on_which_the_latent_is_strongest() -> None:
    result = found(numbers=np.arange(500) + 1000)
    (site, latent), examples = next(iter(result.examples.items()))
    values = result.pooled[site].pooled[:, latent]
    strengths = [marks[0][1] for _, marks in examples]
    np.testing.assert_allclose(strengths, np.sort(values)[::-1][: len(strengths)], rtol=1e-6)
    row = int(np.argmax(values))
    assert examples[0][0].startswith(f"x0 {DATA.X[result.rows[row], 0]:.4g}, ")


def test_counterfactuals_with_sides_need_no_labels() -> None:
    settings = LatentSettings(
        flag="counterfactual", d_sae=24, k=3, train_tokens=15_000, realign=True, erase=True
    )
    result = found(
        settings=settings,
        attribute=None,
        counterfactual=other_attribute(DATA),
        side=np.where(DATA.a == 1, 1, -1),
    )
    flagged = result.table[result.table["decision"] == "ablate"]["latent"]
    assert np.abs(result.saes["module:0"].W_dec.detach().numpy()[flagged][:, 1]).max() > 0.8
    assert list(result.residue) == ["realignment"]  # nothing says which rows to tell apart within labels


def test_counterfactuals_that_go_both_ways_are_warned_of() -> None:
    settings = LatentSettings(flag="counterfactual", d_sae=24, k=3, train_tokens=5_000)
    with pytest.warns(UserWarning, match="move activations both ways"):
        found(settings=settings, attribute=None, counterfactual=other_attribute(DATA))
    same_way = DATA.X.copy()
    same_way[:, 1] += 1
    result = found(settings=settings, attribute=None, counterfactual=same_way)
    assert (result.table["response_effect"].abs() > 0.8).any()


def test_an_attribute_that_is_the_label_flags_nothing() -> None:
    result = found(attribute=DATA.y)
    assert result.n_ablated == 0
    assert result.table["reason"].str.contains("no label holds two values").all()
    assert result.edits() == {}
    partly = KNOWN.copy()
    partly[:] = False
    assert found(known=partly).n_ablated == 0


def test_layers_of_different_sizes_are_audited_together() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    classifier = ModuleClassifier(module, ["1", "2"], classes=["a", "b"])
    random = np.random.default_rng(0)
    y, a = random.integers(2, size=(2, 120))
    x = random.normal(size=(120, 1, 8, 8)).astype("float32")
    x[:, :, 0:4, 0:4] += 3 * a[:, None, None, None]  # a watermark
    settings = LatentSettings(flag="association", d_sae=8, k=2, train_tokens=3000, min_effect=0.5)
    result = find_array_latents(
        classifier,
        x,
        y,
        sites=classifier.sites,
        settings=settings,
        attribute=a,
        known=np.ones(120, dtype=bool),
    )
    assert set(result.table["site"]) == {"module:1", "module:2"}
    assert result.n_ablated > 0
    assert classifier.logits(x, result.edits()).shape == (120, 2)
    assert next(iter(result.examples.values()))[0][0].endswith(", 1 × 8 × 8")


def test_evidence_is_taken_from_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_latents, "MAX_ROWS", 100)
    result = found()
    assert result.pooled["module:0"].pooled.shape == (100, 24)
    assert len(result.rows) == 100
    assert (np.diff(result.rows) > 0).all()


def test_training_is_kept_for_a_stopped_run(tmp_path: Path) -> None:
    first = found(home=tmp_path)
    assert list((tmp_path / "saes").iterdir())
    again = found(home=tmp_path)
    torch.testing.assert_close(first.saes["module:0"].W_dec, again.saes["module:0"].W_dec)


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="residue_site is 'module:9'"):
        found(settings=LatentSettings(flag="association", residue_site="module:9"))
    with pytest.raises(ValueError, match="needs counterfactual|needs word pairs|swapped"):
        found(settings=LatentSettings(flag="counterfactual", d_sae=16, k=2, train_tokens=2000))
    monkeypatch.setattr(training_vectors, "MAX_WIDTH", 4)
    with pytest.raises(ValueError, match="vectors of 8 numbers"):
        found()


def test_the_residue_is_learned_for_the_edits_it_follows() -> None:
    classifier, result = read_as_is(), found()
    edits = {"module:0": edit_latents(result.saes["module:0"], [0, 1, 2])}
    known = {"site": "module:0", "attribute": DATA.a, "known": KNOWN}
    residue = residue_after(classifier, DATA.X, DATA.y, edits, **known)
    assert list(residue) == ["realignment", "erasure"]
    assert list(residue_after(classifier, DATA.X, DATA.y, {}, **known)) == ["erasure"]
    assert residue_after(classifier, DATA.X, DATA.y, {}, **(known | {"attribute": DATA.y})) == {}
    assert residue_after(classifier, DATA.X, DATA.y, edits, **known, realign=False, erase=False) == {}
    # erased within labels: what is left of the attribute tells its values apart no more
    x = residue["erasure"](residue["realignment"](edits["module:0"](torch.from_numpy(DATA.X)))).numpy()
    for label in (0, 1):
        gap = x[(DATA.a == 1) & (DATA.y == label)].mean(0) - x[(DATA.a == 0) & (DATA.y == label)].mean(0)
        assert np.abs(gap).max() < 0.15
