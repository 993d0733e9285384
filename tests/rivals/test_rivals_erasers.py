"""What every eraser promises: the face of a transformer, and no attribute left for a linear probe."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ssae_debias.metrics import leakage
from ssae_debias.rivals import INLP, LEACE, CorrelationRemover, LEACEGivenY, MeanProjection, SwapProjection

LABELLED = [
    LEACE(),
    LEACEGivenY(),
    MeanProjection(),
    MeanProjection(within_y=False),
    INLP(random_state=0),
    INLP(within_y=True, random_state=0),
    CorrelationRemover(),
]


def skewed(
    n: int = 1500, agree: float = 0.9, values: tuple = ("F", "M"), seed: int = 0
) -> tuple[NDArray, NDArray, NDArray]:
    """Rows with a label direction and attribute directions; y follows the attribute in `agree` of them."""
    rng = np.random.default_rng(seed)
    a = rng.integers(len(values), size=n)
    y = np.where(rng.random(n) < agree, a > 0, a == 0).astype(int)
    X = rng.normal(size=(n, 12)) @ rng.normal(size=(12, 12))
    X[:, 0] += 6 * y
    X += np.eye(len(values), 12)[a] @ rng.normal(size=(12, 12)) * 4
    return X, np.array(["nurse", "surgeon"])[y], np.array(values)[a]


@pytest.mark.parametrize("eraser", LABELLED, ids=str)
@pytest.mark.parametrize("values", [("F", "M"), (0, 1, 2), ("a", "b", "c", "d")])
def test_leakage_falls_on_new_rows(eraser, values) -> None:
    X, y, a = skewed(values=values, agree=0.5)
    train, test = slice(0, 1000), slice(1000, None)
    before = leakage(X[train], a[train], X[test], a[test])
    fitted = clone(eraser).fit(X[train], y[train], sensitive_features=a[train])
    after = leakage(fitted.transform(X[train]), a[train], fitted.transform(X[test]), a[test])
    chance = 1 / len(values)
    assert before > chance + 0.2
    # an attribute that is only guessed leaves what the guess was unsure of
    assert after < (before if isinstance(eraser, CorrelationRemover) else chance + 0.12)


@pytest.mark.parametrize("eraser", LABELLED, ids=str)
def test_the_face_is_scikit_learns(eraser) -> None:
    X, y, a = skewed(400)
    kept = X.copy()
    untouched = eraser.get_params()
    eraser = clone(eraser)
    with pytest.raises(NotFittedError):
        eraser.transform(X)
    fitted = eraser.fit(X, y, sensitive_features=a)
    assert fitted is eraser
    assert eraser.get_params() == untouched
    erased = eraser.transform(X)
    assert np.array_equal(X, kept)
    assert erased.shape == X.shape
    assert erased.dtype == np.float64
    assert eraser.transform(X.astype(np.float32)).dtype == np.float32
    assert np.allclose(eraser.transform(X.astype(np.float32)), erased, atol=1e-3)
    assert np.array_equal(clone(eraser).fit_transform(X, y, sensitive_features=a), erased)
    assert eraser.n_features_in_ == 12
    with pytest.raises(ValueError, match="features"):
        eraser.transform(X[:, :5])
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        eraser.transform(np.full_like(X, np.nan))


@pytest.mark.parametrize("eraser", LABELLED, ids=str)
def test_frames_keep_their_column_names(eraser) -> None:
    X, y, a = skewed(300)
    frame = pd.DataFrame(X, columns=[f"d{i}" for i in range(12)])
    eraser = clone(eraser).set_output(transform="pandas").fit(frame, y, sensitive_features=a)
    assert list(eraser.transform(frame).columns) == list(frame.columns)
    assert list(eraser.get_feature_names_out()) == list(frame.columns)


@pytest.mark.parametrize("eraser", LABELLED, ids=str)
def test_bad_attributes_are_named(eraser) -> None:
    X, y, a = skewed(60)
    with pytest.raises(ValueError, match="sensitive_features"):
        clone(eraser).fit(X, y)
    with pytest.raises(ValueError, match="constant"):
        clone(eraser).fit(X, y, sensitive_features=["F"] * 60)
    with pytest.raises(ValueError, match="expected 60"):
        clone(eraser).fit(X, y, sensitive_features=a[:-1])
    with pytest.raises(ValueError, match="missing in 1 of 60"):
        clone(eraser).fit(X, y, sensitive_features=[None, *a[1:]])
    with pytest.raises(ValueError, match="infinity"):
        clone(eraser).fit(np.where(X > 0, np.inf, X), y, sensitive_features=a)


def test_the_attribute_is_routed_through_a_pipeline() -> None:
    X, y, a = skewed(400)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(LEACEGivenY().set_fit_request(sensitive_features=True), LogisticRegression())
        pipeline.fit(X, y, sensitive_features=a)
    alone = LEACEGivenY().fit(X, y, sensitive_features=a)
    expected = LogisticRegression().fit(alone.transform(X), y).predict(alone.transform(X))
    assert np.array_equal(pipeline.predict(X), expected)


@pytest.mark.parametrize(
    "eraser", [LEACE(), LEACEGivenY(), MeanProjection(), INLP(random_state=0)], ids=lambda e: type(e).__name__
)
def test_linear_erasers_are_projections_about_the_mean(eraser) -> None:
    X, y, a = skewed(values=("a", "b", "c"))
    eraser = clone(eraser).fit(X, y, sensitive_features=a)
    erased = eraser.transform(X)
    assert np.allclose(erased.mean(axis=0), X.mean(axis=0))
    assert np.allclose(eraser.transform(erased), erased)
    assert np.linalg.matrix_rank(X - erased, tol=1e-6) == eraser.proj_left_.shape[1]


def test_swap_projection_has_the_same_face() -> None:
    X, y, _ = skewed(200)
    swapped = X - 2 * np.outer(X[:, 3], np.eye(12)[3])
    eraser = SwapProjection().fit(X, y, counterfactual=swapped)
    assert clone(eraser).get_params() == {"n_directions": 1}
    assert np.allclose(eraser.transform(X)[:, 3], 0)
    assert np.allclose(np.delete(eraser.transform(X), 3, axis=1), np.delete(X, 3, axis=1))
    assert eraser.transform(X.astype(np.float32)).dtype == np.float32
