"""A scikit-learn pipeline as an audit sees it: its own decisions, and those from edited activations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from planted_audit import leaning_pipeline, planted
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from ssae_debias.audit import PipelineClassifier
from ssae_debias.audit.classifiers import label_codes, pooled
from ssae_debias.edit import Projection

DATA = planted(200)


def test_unedited_logits_are_the_pipelines_own() -> None:
    pipeline = leaning_pipeline(DATA)
    found = PipelineClassifier(pipeline)
    np.testing.assert_allclose(found.logits(DATA.X), pipeline.predict_log_proba(DATA.X), atol=1e-5)
    assert found.name == "StandardScaler → LogisticRegression"
    assert found.sites == ("standardscaler",)


def test_an_edit_acts_between_the_steps() -> None:
    pipeline = leaning_pipeline(DATA)
    found = PipelineClassifier(pipeline)
    edit = Projection.onto_complement_of(torch.eye(8)[1:2], center=torch.zeros(8))
    by_hand = pipeline[0].transform(DATA.X)
    by_hand[:, 1] = 0
    edits = {"standardscaler": edit}
    np.testing.assert_allclose(found.logits(DATA.X, edits), pipeline[1].predict_log_proba(by_hand), atol=1e-5)
    np.testing.assert_allclose(
        pooled(found, DATA.X, found.sites, edits)["standardscaler"], by_hand, atol=1e-5
    )


@pytest.mark.parametrize(
    "classifier",
    [
        LinearSVC(),
        VotingClassifier([("a", LinearSVC()), ("b", SVC())]),
        RandomForestClassifier(5, random_state=0),
        FixedThresholdClassifier(LogisticRegression(), threshold=0.9, response_method="predict_proba"),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_the_largest_score_is_what_the_pipeline_predicts(classifier: object) -> None:
    data = planted(300, noise=0.8, seed=1)
    pipeline = make_pipeline(StandardScaler(), classifier).fit(data.X, data.y)
    scores = PipelineClassifier(pipeline).logits(data.X)
    np.testing.assert_array_equal(scores.argmax(axis=1), pipeline.predict(data.X))
    assert np.isfinite(scores).all()  # a forest is certain, and its log-odds would be infinite


def test_three_classes_by_name() -> None:
    names = np.array(["cat", "dog", "emu"])[np.arange(200) % 3]
    pipeline = make_pipeline(PCA(3), LogisticRegression()).fit(DATA.X, names)
    found = PipelineClassifier(pipeline)
    assert found.classes == ("cat", "dog", "emu")
    assert found.logits(DATA.X).shape == (200, 3)
    assert label_codes(found, names, 200).tolist() == (np.arange(200) % 3).tolist()


def test_later_steps_that_work_in_place_do_not_change_what_is_kept() -> None:
    pipeline = make_pipeline(FunctionTransformer(), StandardScaler(copy=False), LogisticRegression())
    pipeline.fit(DATA.X.copy(), DATA.y)
    given = DATA.X.copy()
    found = PipelineClassifier(pipeline)
    first = found.logits(given)
    np.testing.assert_array_equal(found.logits(given), first)
    np.testing.assert_array_equal(given, DATA.X)
    np.testing.assert_array_equal(found.activations(given), DATA.X)


def test_texts_and_their_swaps_are_embedded_once_each() -> None:
    calls: list[int] = []

    class Counting(FunctionTransformer):
        def transform(self, X: list[str]) -> np.ndarray:
            calls.append(len(X))
            return np.array([[len(x), x.count("e")] for x in X], dtype=float)

    texts, swapped = ["he sings", "she sang here"] * 20, ["she sings", "he sang here"] * 20
    pipeline = make_pipeline(Counting(), LogisticRegression()).fit(texts, [0, 1] * 20)
    calls.clear()
    found = PipelineClassifier(pipeline)
    for _ in range(3):
        found.logits(texts)
        found.logits(swapped)
    assert calls == [40, 40]
    assert found.written(texts)[:1] == ["he sings"]


def test_texts_in_an_array_or_series_are_texts() -> None:
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["he a", "she b"], [0, 1])
    found = PipelineClassifier(pipeline)
    for given in (np.array(["he a", "b"]), pd.Series(["he a", "b"], index=[5, 9]), ("he a", "b")):
        assert found.checked(given) == ["he a", "b"]
    assert found.logits(["he a"]).shape == (1, 2)  # a sparse step is written out


def test_tables_with_holes_go_through_an_imputer() -> None:
    table = pd.DataFrame(DATA.X, columns=[f"c{i}" for i in range(8)])
    table.iloc[::3, 2] = np.nan
    pipeline = make_pipeline(SimpleImputer(), LogisticRegression()).fit(table, DATA.y)
    found = PipelineClassifier(pipeline)
    np.testing.assert_array_equal(found.logits(table).argmax(axis=1), pipeline.predict(table))
    assert found.written(table.iloc[:1])[0].startswith("c0 ")


def test_fingerprints_tell_fits_apart() -> None:
    one, other = (
        PipelineClassifier(leaning_pipeline(DATA)),
        PipelineClassifier(leaning_pipeline(planted(150))),
    )
    assert one.fingerprint == PipelineClassifier(leaning_pipeline(DATA)).fingerprint
    assert one.fingerprint != other.fingerprint
    two_steps = make_pipeline("passthrough", StandardScaler(), LogisticRegression()).fit(DATA.X, DATA.y)
    assert PipelineClassifier(two_steps).fingerprint != PipelineClassifier(two_steps, n_steps=2).fingerprint


def test_what_is_no_pipeline_is_refused() -> None:
    with pytest.raises(TypeError, match="got LogisticRegression"):
        PipelineClassifier(LogisticRegression())
    with pytest.raises(ValueError, match="at least one more that decides"):
        PipelineClassifier(make_pipeline(LogisticRegression()).fit(DATA.X, DATA.y))
    with pytest.raises(NotFittedError):
        PipelineClassifier(make_pipeline(StandardScaler(), LogisticRegression()))
    with pytest.raises(TypeError, match="not a classifier"):
        PipelineClassifier(make_pipeline(StandardScaler(), PCA(2)).fit(DATA.X))
    with pytest.raises(TypeError, match="got str"):
        PipelineClassifier(leaning_pipeline(DATA)).checked("one text")


def test_a_step_that_embeds_into_nan_is_named() -> None:
    def embed(X: np.ndarray) -> np.ndarray:
        return np.where(X > 100, np.nan, X)

    pipeline = make_pipeline(FunctionTransformer(embed), LogisticRegression()).fit(DATA.X, DATA.y)
    with pytest.raises(ValueError, match="'functiontransformer' must return a finite array"):
        PipelineClassifier(pipeline).logits(DATA.X + 200)
