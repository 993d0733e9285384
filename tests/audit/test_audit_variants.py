"""The states of a classifier: each against the same made by hand, learned on fit rows, judged on the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from planted_audit import (
    Planted,
    leaning_network,
    leaning_pipeline,
    named_groups,
    other_attribute,
    planted,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ssae_debias.audit import LatentSettings, ModuleClassifier, PipelineClassifier
from ssae_debias.audit.array_latents import find_array_latents
from ssae_debias.audit.classifiers import Classifier
from ssae_debias.audit.groups import Groups, find_groups
from ssae_debias.audit.heads import refit_head
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.variants import Part, Variants, changed_rows, fitted_head, softmax
from ssae_debias.data import WordPairs
from ssae_debias.report.audit import Variant
from ssae_debias.rivals import DFR, LEACEGivenY, SwapProjection

DATA = planted(700, noise=0.4)
FIT, JUDGED = np.arange(350), np.arange(350, 700)
SETTINGS = LatentSettings(
    flag="association", d_sae=24, k=3, train_tokens=10_000, min_effect=0.4, realign=True, erase=True
)


def making(
    classifier: Classifier,
    *,
    groups: Groups | None = None,
    counterfactual: Any = None,
    settings: LatentSettings = SETTINGS,
    data: Planted = DATA,
) -> Variants:
    groups = named_groups(data.a) if groups is None else groups
    whole = Part(data.X, counterfactual, data.y, groups)
    fit, judged = whole.at(FIT), whole.at(JUDGED)
    known = {"attribute": fit.groups.values if fit.groups.known.any() else None, "known": fit.groups.known}
    found = find_array_latents(
        classifier,
        fit.inputs,
        fit.y,
        sites=classifier.sites,
        settings=settings,
        counterfactual=fit.counterfactual,
        side=None if counterfactual is None else np.where(data.a[FIT] == 1, 1, -1),
        **known,
    )
    logits = KeptLogits(classifier, None)
    found = replace(found, head=fitted_head(logits, fit, found.edits(), 0))
    return Variants(classifier, fit, judged, found, None, logits, settings=settings)


@pytest.fixture(scope="module")
def pipeline() -> PipelineClassifier:
    return PipelineClassifier(leaning_pipeline(DATA))


@pytest.fixture(scope="module")
def made(pipeline: PipelineClassifier) -> Variants:
    return making(pipeline, counterfactual=other_attribute(DATA))


@pytest.fixture(scope="module")
def variants(made: Variants) -> dict[str, Variant]:
    return {variant.name: variant for variant in made.all()}


def test_all_that_must_be_compared_is_there(variants: dict[str, Variant]) -> None:
    assert {name: (each.role, each.needs_group_labels) for name, each in variants.items()} == {
        "as it is": ("start", False),
        "edited": ("ours", True),
        "latents ablated, nothing else": ("ours", True),
        "averaged with the counterfactual": ("rival", False),
        "edited, head refitted": ("ours", True),
        "random latents ablated, realignment and erasure, head refitted": ("control", True),
        "random latents ablated, realignment and erasure": ("control", True),
        "random latents ablated": ("control", False),
        "swap projection": ("rival", False),
        "swap projection, head refitted": ("rival", True),  # its cells are told by labels here
        "LEACE given y": ("rival", True),
        "LEACE given y, head refitted": ("rival", True),
        "head refitted": ("rival", True),
        "head refitted on balanced groups (DFR)": ("rival", True),
    }
    assert list(variants)[:3] == ["as it is", "edited, head refitted", "edited"]


def test_the_edit_serves_the_worst_group(variants: dict[str, Variant]) -> None:
    start, edited, random = (variants[name] for name in ("as it is", "edited", "random latents ablated"))
    assert edited.worst_group_accuracy.low > start.worst_group_accuracy.high
    assert edited.flips["rate"].high < start.flips["rate"].low
    assert random.worst_group_accuracy.mean < edited.worst_group_accuracy.mean


def accuracy(logits: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == DATA.y[JUDGED]).mean())


def test_the_classifier_as_it_came_is_the_pipelines_own(variants: dict[str, Variant]) -> None:
    pipeline = leaning_pipeline(DATA)
    decided = pipeline.predict(DATA.X[JUDGED])
    assert variants["as it is"].accuracy.mean == (decided == DATA.y[JUDGED]).mean()
    flipped = decided != pipeline.predict(other_attribute(DATA)[JUDGED])
    assert variants["as it is"].flips["rate"].mean == flipped.mean()
    both = pipeline.predict_proba(DATA.X[JUDGED]) + pipeline.predict_proba(other_attribute(DATA)[JUDGED])
    averaged = variants["averaged with the counterfactual"]
    assert averaged.accuracy.mean == accuracy(both)
    assert averaged.flips["rate"].mean == 0


def test_rivals_learn_on_fit_rows_alone(variants: dict[str, Variant]) -> None:
    pipeline = leaning_pipeline(DATA)
    scaled, swapped = pipeline[0].transform(DATA.X), pipeline[0].transform(other_attribute(DATA))
    y, a = DATA.y[FIT], DATA.a[FIT]
    head, read = pipeline[1], scaled[JUDGED]
    leace = LEACEGivenY().fit(scaled[FIT], y, sensitive_features=a)
    assert variants["LEACE given y"].accuracy.mean == accuracy(head.predict_proba(leace.transform(read)))
    swap = SwapProjection().fit(scaled[FIT], counterfactual=swapped[FIT])
    assert variants["swap projection"].accuracy.mean == accuracy(head.predict_proba(swap.transform(read)))
    probe = refit_head(scaled[FIT], y, y * 2 + a, 2)
    assert variants["head refitted"].accuracy.mean == accuracy(probe.logits(read))
    again = refit_head(leace.transform(scaled[FIT]), y, y * 2 + a, 2)
    found = variants["LEACE given y, head refitted"]  # a rival is given what ours is
    assert found.accuracy.mean == pytest.approx(accuracy(again.logits(leace.transform(read))), abs=0.01)
    balanced = DFR(random_state=0).fit(scaled[FIT], y, sensitive_features=a)
    found = variants["head refitted on balanced groups (DFR)"]
    assert found.accuracy.mean == pytest.approx(accuracy(balanced.predict_proba(read)), abs=0.01)


def test_evaluation_rows_teach_nothing(pipeline: PipelineClassifier, made: Variants) -> None:
    """Labels and attributes of the evaluation rows turned round: every decision stays."""
    turned = DATA._replace(y=DATA.y.copy(), a=DATA.a.copy())
    turned.y[JUDGED] = 1 - turned.y[JUDGED]
    other = making(pipeline, counterfactual=other_attribute(DATA), data=turned)
    for one, two in zip(made.all(), other.all(), strict=True):
        assert two.accuracy.mean == pytest.approx(1 - one.accuracy.mean)


def test_a_network_with_three_labels_and_an_attribute_of_three_values() -> None:
    random = np.random.default_rng(5)
    y, a = random.integers(3, size=(2, 700))
    X = random.normal(0, 0.4, (700, 8)) + np.eye(8)[y] + np.eye(8)[a + 4]
    data = Planted(X.astype("float32"), y, a)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3))
    found = list(
        making(
            ModuleClassifier(network, "1", classes=["x", "y", "z"]), data=data, groups=named_groups(a)
        ).all()
    )
    assert len(found[0].groups) == 9
    assert {"LEACE given y", "head refitted on balanced groups (DFR)"} <= {each.name for each in found}


def test_cells_without_rows_leave_the_balanced_head_out(pipeline: PipelineClassifier) -> None:
    a = np.where((DATA.y == 1) & (np.arange(700) < 350), 1, DATA.a)
    names = [each.name for each in making(pipeline, groups=named_groups(a)).all()]
    assert "LEACE given y" in names
    assert "head refitted on balanced groups (DFR)" not in names


def test_labels_are_not_needed_where_none_were_used(pipeline: PipelineClassifier) -> None:
    settings = LatentSettings(flag="counterfactual", d_sae=24, k=3, train_tokens=10_000)
    partly = DATA.a.astype(str)
    partly[FIT] = ""
    groups = named_groups(partly)
    found = {
        each.name: each
        for each in making(
            pipeline, groups=groups, counterfactual=other_attribute(DATA), settings=settings
        ).all()
    }
    assert not any(each.needs_group_labels for each in found.values())
    assert "LEACE given y" not in found
    assert found["edited"].groups  # evaluation rows' attribute judges all the same


def test_nothing_flagged_gives_no_control(pipeline: PipelineClassifier) -> None:
    settings = LatentSettings(
        flag="association", d_sae=24, k=3, train_tokens=5000, min_effect=50, realign=True, erase=False
    )
    names = [each.name for each in making(pipeline, settings=settings).all()]
    assert not any("random" in name or "nothing else" in name for name in names)


def test_words_are_deleted_for_pipelines_of_texts_too() -> None:
    texts = [
        f"{who} works as a {job}" for who in ("he", "she", "nobody") for job in ("nurse", "surgeon")
    ] * 20
    y = np.array(["surgeon" in text for text in texts]).astype(int)
    pairs = WordPairs.gender()
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, y)
    classifier = PipelineClassifier(pipeline)
    groups = find_groups(texts, None, pairs)
    part = Part(texts, [pairs.swap(text) for text in texts], y, groups)
    settings = LatentSettings(flag="counterfactual", d_sae=16, k=2, train_tokens=3000)
    found = find_array_latents(
        classifier, texts, y, sites=classifier.sites, settings=settings, attribute=groups.values,
        known=groups.known, counterfactual=part.counterfactual, side=groups.side,
    )  # fmt: skip
    kept = KeptLogits(classifier, None)
    named = {
        each.name: each
        for each in Variants(classifier, part, part, found, pairs, kept, settings=settings).all()
    }
    assert named["words deleted"].flips["rate"].mean == 0
    assert named["words deleted"].flips["n"] == 80  # texts with "nobody" are not swapped
    assert "LEACE given y, by words" in named
    assert not any(each.needs_group_labels for each in named.values())


def test_rows_that_change() -> None:
    table = pd.DataFrame({"sex": ["F", "M"], "age": [1.0, np.nan]})
    other = pd.DataFrame({"age": [1.0, np.nan], "sex": ["M", "M"]})
    assert changed_rows(table, other).tolist() == [True, False]  # NaN stays NaN, and columns go by name
    images = np.zeros((3, 2, 2))
    assert changed_rows(images, images + np.array([0, 1, 0])[:, None, None]).tolist() == [False, True, False]
    assert changed_rows([[1, 2], [3, 4]], [[1, 2], [3, 5]]).tolist() == [False, True]
    with pytest.raises(ValueError, match="has the columns"):
        changed_rows(table, other.rename(columns={"sex": "gender"}))
    with pytest.raises(ValueError, match=r"has the shape \(2, 2\), the inputs \(3, 2, 2\)"):
        changed_rows(images, np.zeros((2, 2)))


def test_softmax_takes_impossible_labels() -> None:
    np.testing.assert_allclose(softmax(np.array([[-np.inf, 0.0], [1000.0, 999.0]])).sum(1), 1)


def test_networks_lean_as_planted() -> None:
    """The planted network is what other tests take it for."""
    network = leaning_network(DATA)
    decided = network(torch.from_numpy(DATA.X)).argmax(1).numpy()
    against = DATA.y != DATA.a
    assert (decided == DATA.y)[against].mean() < 0.75
