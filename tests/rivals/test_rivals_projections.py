"""Mean projection, swap projection, INLP and the correlation remover, each against its own definition."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.preprocessing import CorrelationRemover as FairlearnRemover

from ssae_debias.rivals import INLP, CorrelationRemover, MeanProjection, SwapProjection


def test_group_means_agree_after_mean_projection() -> None:
    rng = np.random.default_rng(0)
    a = rng.choice(["a", "b", "c"], size=300)
    X = rng.normal(size=(300, 5)) + np.select([a == "a", a == "b"], [1.0, -2.0])[:, None]
    erased = MeanProjection(within_y=False).fit_transform(X, sensitive_features=a)
    means = np.stack([erased[a == value].mean(axis=0) for value in "abc"])
    assert np.allclose(means, means[0])


def test_mean_projection_within_y_leaves_the_label_direction() -> None:
    # every cell's mean is exact: the label moves column 0, the attribute column 1, and they go together
    y, a = np.repeat([0, 0, 1, 1], [90, 10, 10, 90]), np.repeat([0, 1, 0, 1], [90, 10, 10, 90])
    X = np.column_stack([y, a]).astype(float)
    assert np.allclose(np.abs(MeanProjection().fit(X, y, sensitive_features=a).proj_left_[:, 0]), [0, 1])
    marginal = MeanProjection(within_y=False).fit(X, y, sensitive_features=a).proj_left_[:, 0]
    assert abs(marginal[0]) > 0.5


def test_mean_projection_skips_a_class_in_which_the_attribute_is_constant() -> None:
    y, a = np.repeat([0, 0, 1], 10), np.repeat([0, 1, 1], 10)
    X = np.column_stack([y, a]).astype(float)
    assert np.allclose(np.abs(MeanProjection().fit(X, y, sensitive_features=a).proj_left_[:, 0]), [0, 1])
    with pytest.raises(ValueError, match="within_y=False"):
        MeanProjection().fit(X, a, sensitive_features=a)


def test_the_number_of_directions_is_bounded() -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 2
    a = np.arange(40) // 2 % 4
    assert MeanProjection().fit(X, y, sensitive_features=a).proj_left_.shape == (6, 3)
    assert MeanProjection(n_directions=2).fit(X, y, sensitive_features=a).proj_left_.shape == (6, 2)
    for given in (0, 4):
        with pytest.raises(ValueError, match="1 to 3"):
            MeanProjection(n_directions=given).fit(X, y, sensitive_features=a)


def test_swap_projection_finds_planted_directions_in_order() -> None:
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0][:, :3].T
    side = rng.choice(
        [-1.0, 1.0], size=(500, 1)
    )  # which side a text starts from: the mean difference is near 0
    X = rng.normal(size=(500, 8))
    swapped = X - side * (rng.normal(size=(500, 3)) * [3.0, 2.0, 1.0] + [4.0, 0.0, 0.0]) @ directions
    eraser = SwapProjection(n_directions=2).fit(X, counterfactual=swapped)
    assert np.all(np.abs(np.sum(eraser.proj_left_.T * directions[:2], axis=1)) > 0.99)
    assert eraser.explained_[0] > eraser.explained_[1]
    every = SwapProjection(n_directions=3).fit(X, counterfactual=swapped)
    assert np.allclose(every.transform(X), every.transform(swapped))
    assert every.explained_.sum() == pytest.approx(1)


def test_swap_projection_keeps_the_middle_of_the_pairs() -> None:
    rng = np.random.default_rng(1)
    X, swapped = rng.normal(size=(2, 50, 4)) + 5
    eraser = SwapProjection().fit(X, counterfactual=swapped)
    both = np.concatenate([X, swapped])
    assert np.allclose(eraser.transform(both).mean(axis=0), both.mean(axis=0))


def test_swap_projection_names_what_cannot_be() -> None:
    X = np.arange(12.0).reshape(4, 3)
    with pytest.raises(ValueError, match="changed no text"):
        SwapProjection().fit(X, counterfactual=X)
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        SwapProjection().fit(X, counterfactual=X[:3])
    with pytest.raises(ValueError, match="1 to 1"):
        SwapProjection(n_directions=2).fit(X, counterfactual=X + 1)
    with pytest.raises(ValueError, match="counterfactual contains NaN"):
        SwapProjection().fit(X, counterfactual=np.full_like(X, np.nan))


def test_inlp_takes_planted_directions_one_after_another() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(2, size=2000)
    X = rng.normal(size=(2000, 10))
    # redundant copies of the attribute, each of which a probe can use alone
    X[:, :3] += np.outer(2 * a - 1, [3.0, 3.0, 3.0]) * (rng.random((2000, 3)) < 0.8)
    eraser = INLP(random_state=0).fit(X, sensitive_features=a)
    basis = eraser.proj_left_
    assert np.allclose(basis.T @ basis, np.eye(basis.shape[1]))
    assert basis.shape[1] >= 2
    assert eraser.accuracies_[0] > 0.9
    assert eraser.accuracies_[-1] < 0.55


def test_inlp_stops_where_nothing_is_to_be_read_and_where_nothing_is_left() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(2, size=5000)
    nothing = INLP(random_state=0, tolerance=0.05).fit(rng.normal(size=(5000, 3)), sensitive_features=a)
    assert nothing.proj_left_.shape == (3, 0)
    X = np.outer(a, [1.0, 1.0]) + 0.01 * rng.normal(size=(5000, 2))
    everything = INLP(tolerance=-1.0, random_state=0).fit(X, sensitive_features=a)
    assert everything.proj_left_.shape == (2, 2)
    assert np.allclose(everything.transform(X), X.mean(axis=0))


def test_inlp_repeats_with_its_seed() -> None:
    rng = np.random.default_rng(0)
    X, a = rng.normal(size=(200, 5)), rng.integers(2, size=200)
    X[:, 0] += 2 * a
    first, second = (INLP(random_state=3).fit(X, sensitive_features=a) for _ in range(2))
    assert np.array_equal(first.proj_left_, second.proj_left_)
    with pytest.raises(ValueError, match="at least 1"):
        INLP(n_iterations=0).fit(X, sensitive_features=a)


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_correlation_remover_is_fairlearns_where_the_attribute_is_known(alpha: float) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(2, size=300)
    X = rng.normal(size=(300, 4)) + a[:, None]
    theirs = FairlearnRemover(sensitive_feature_ids=[0], alpha=alpha).fit_transform(np.column_stack([a, X]))
    ours = CorrelationRemover(alpha=alpha).fit(X, sensitive_features=np.array(["F", "M"])[a])
    assert np.allclose(ours.transform(X, sensitive_features=np.array(["F", "M"])[a]), theirs)


def test_correlation_remover_takes_part_of_the_values_at_transform() -> None:
    rng = np.random.default_rng(0)
    a = rng.choice(["a", "b", "c"], size=300)
    X = rng.normal(size=(300, 4)) + (a == "b")[:, None] - 2 * (a == "c")[:, None]
    remover = CorrelationRemover().fit(X, sensitive_features=a)
    whole = remover.transform(X, sensitive_features=a)
    only = a == "c"
    assert np.allclose(remover.transform(X[only], sensitive_features=a[only]), whole[only])
    with pytest.raises(ValueError, match="'d'"):
        remover.transform(X[:1], sensitive_features=["d"])
    with pytest.raises(ValueError, match="alpha"):
        CorrelationRemover(alpha=2).fit(X, sensitive_features=a)


def test_inlp_within_y_reads_the_attribute_and_not_the_label() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=4000)
    a = np.where(rng.random(4000) < 0.95, y, 1 - y)
    X = 0.3 * rng.normal(size=(4000, 4)) + np.pad(np.column_stack([y, a]), ((0, 0), (0, 2)))
    within = INLP(within_y=True, n_iterations=1, random_state=0).fit(X, y, sensitive_features=a)
    marginal = INLP(n_iterations=1, random_state=0).fit(X, sensitive_features=a)
    # a class-wise skew does not hide the attribute from the probe either
    assert within.accuracies_[0] > 0.9
    assert abs(within.proj_left_[0, 0]) < 0.1 < abs(marginal.proj_left_[0, 0])
