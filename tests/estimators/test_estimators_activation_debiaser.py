"""`ActivationDebiaser`: scikit-learn's own checks, pipelines with routing, and an effect that is known in advance."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssae_debias import ActivationDebiaser
from ssae_debias.metrics import leakage


@parametrize_with_checks([ActivationDebiaser(n_samples_seen=2000, random_state=0)])
@pytest.mark.filterwarnings("ignore:Neither sensitive_features")
def test_scikit_learn_checks(estimator, check) -> None:
    check(estimator)


def planted(
    n: int = 1500, seed: int = 0, agreement: float = 0.9
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sparse concepts in 24 dimensions: one is the task, one the attribute, ten others are noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    a = np.where(rng.random(n) < agreement, y, 1 - y)
    dictionary = rng.normal(size=(12, 24))
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    codes = np.where(rng.random((n, 12)) < 0.2, rng.uniform(1, 2, (n, 12)), 0)
    codes[:, 0] = np.where(y == 1, rng.uniform(1, 2, n), 0)
    codes[:, 1] = np.where(a == 1, rng.uniform(1, 2, n), 0)
    return codes @ dictionary + rng.normal(0, 0.02, (n, 24)), y, a


@pytest.fixture(scope="module")
def fitted() -> ActivationDebiaser:
    X, y, a = planted()
    return ActivationDebiaser(n_samples_seen=200_000, d_sae=48, k=4, random_state=0).fit(
        X, y, sensitive_features=a
    )


def test_the_attribute_goes_and_the_task_stays(fitted: ActivationDebiaser) -> None:
    X, y, a = planted()
    edited = fitted.transform(X)
    rows = np.concatenate([np.flatnonzero((y == c) & (a == b))[:60] for c in (0, 1) for b in (0, 1)])
    train, test = rows[::2], rows[1::2]
    assert leakage(X[train], a[train], X[test], a[test]) > 0.95
    assert leakage(edited[train], a[train], edited[test], a[test]) < 0.75
    # nine rows in ten agree, so the dictionary mixes the two a little and the task pays for it
    assert leakage(edited[train], y[train], edited[test], y[test]) > 0.85


def test_flagged_table_is_complete_and_ordered(fitted: ActivationDebiaser) -> None:
    table = fitted.flagged_
    assert len(table) == 48
    assert set(table.decision) == {"ablate", "keep"}
    assert table.score.is_monotonic_decreasing
    assert table.reason.str.len().gt(0).all()
    assert {"attribute_effect", "attribute_q", "label_effect", "frequency"} <= set(table.columns)


def test_counterfactual_rows_flag_without_labels() -> None:
    X, _, a = planted()
    direction = X[a == 1].mean(0) - X[a == 0].mean(0)
    other = np.where((a == 1)[:, None], X - direction, X + direction)
    debiaser = ActivationDebiaser(
        n_samples_seen=100_000, d_sae=48, k=4, flag="counterfactual", random_state=0
    )
    debiaser.fit(X, sensitive_features=a, X_counterfactual=other)
    assert (debiaser.flagged_.decision == "ablate").any()
    assert "label_effect" not in debiaser.flagged_


def test_decisions_of_a_person_change_the_edit(fitted: ActivationDebiaser) -> None:
    X, y, a = planted()
    debiaser = sklearn.clone(fitted).fit(X, y, sensitive_features=a)
    np.testing.assert_array_equal(debiaser.transform(X), fitted.transform(X))
    chosen = debiaser.flagged_.query("decision == 'ablate'").latent.tolist()
    debiaser.set_decisions(dict.fromkeys(chosen, "keep"))
    np.testing.assert_array_equal(debiaser.transform(X), X)


def test_sensitive_features_are_routed_through_pipeline_and_grid_search() -> None:
    X, y, a = planted(n=400)
    with sklearn.config_context(enable_metadata_routing=True):
        debiaser = ActivationDebiaser(n_samples_seen=20_000, random_state=0).set_fit_request(
            sensitive_features=True
        )
        pipeline = Pipeline([("debias", debiaser), ("classify", LogisticRegression())])
        search = GridSearchCV(pipeline, {"debias__min_effect": [0.2, 50.0]}, cv=2, error_score="raise")
        search.fit(X, y, sensitive_features=a)
        assert search.best_estimator_.predict(X).shape == (400,)
        kept_all = pipeline.set_params(debias__min_effect=50.0).fit(X, y, sensitive_features=a)
        np.testing.assert_array_equal(kept_all[0].transform(X), X)
    assert len(search.cv_results_["params"]) == 2


def test_pandas_in_pandas_out_with_names() -> None:
    X, y, a = planted(n=200)
    frame = pd.DataFrame(X, columns=[f"unit{i}" for i in range(24)])
    debiaser = ActivationDebiaser(n_samples_seen=5000, random_state=0).set_output(transform="pandas")
    out = debiaser.fit(frame, y, sensitive_features=a).transform(frame)
    assert list(out.columns) == list(frame.columns)
    assert "ActivationDebiaser" in debiaser._repr_html_()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_activations_are_refused(bad: float) -> None:
    X, y, a = planted(n=50)
    X[3, 2] = bad
    with pytest.raises(ValueError, match="NaN|infinity"):
        ActivationDebiaser().fit(X, y, sensitive_features=a)


def test_bad_input_is_named() -> None:
    X, y, a = planted(n=50)
    with pytest.raises(ValueError, match="sensitive_features"):
        ActivationDebiaser().fit(X, y, sensitive_features=a[:40])
    with pytest.raises(ValueError, match="constant|one value"):
        ActivationDebiaser().fit(X, y, sensitive_features=np.zeros(50))
    with pytest.raises(NotFittedError):
        ActivationDebiaser().transform(X)
    with pytest.raises(ValueError, match="flag must be"):
        ActivationDebiaser(flag="magic").fit(X, y, sensitive_features=a)
    frame, other = pd.DataFrame(X), pd.Series(a, index=range(1, 51))
    with pytest.raises(ValueError, match="ind(ex|ices)"):
        ActivationDebiaser().fit(frame, y, sensitive_features=other)


def test_an_attribute_that_is_the_label_warns_and_says_what_still_works() -> None:
    X, y, _ = planted(n=200)
    debiaser = ActivationDebiaser(n_samples_seen=2000, random_state=0)
    with (
        pytest.warns(UserWarning, match="counterfactual"),
        pytest.raises(ValueError, match="counterfactual pairs need"),
    ):
        debiaser.fit(X, y, sensitive_features=y)


def test_without_an_attribute_nothing_is_flagged_and_that_is_said() -> None:
    X, _, _ = planted(n=100)
    debiaser = ActivationDebiaser(n_samples_seen=2000, random_state=0)
    with pytest.warns(UserWarning, match="no latent is flagged"):
        debiaser.fit(X)
    np.testing.assert_array_equal(debiaser.transform(X), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        debiaser.transform(X)


def test_pairs_still_work_where_the_attribute_is_the_label() -> None:
    X, y, _ = planted(n=200)
    direction = X[y == 1].mean(0) - X[y == 0].mean(0)
    other = np.where((y == 1)[:, None], X - direction, X + direction)
    debiaser = ActivationDebiaser(n_samples_seen=20_000, flag="counterfactual", random_state=0)
    with pytest.warns(UserWarning, match="determine each other"):
        debiaser.fit(X, y, sensitive_features=y, X_counterfactual=other)
    assert (debiaser.flagged_.decision == "ablate").any()


def test_a_fit_that_failed_leaves_it_unfitted() -> None:
    X, y, a = planted(n=50)
    debiaser = ActivationDebiaser(n_samples_seen=1000)
    with pytest.raises(ValueError, match="features"):
        debiaser.fit(X, y, sensitive_features=a, X_counterfactual=X[:, :5])
    with pytest.raises(NotFittedError):
        debiaser.transform(X)
