"""TPP: the published formula, and what it says of dictionaries whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import recall_score

from ssae_debias.metrics import TPPResult, fit_tpp_probes, tpp, tpp_rankings

CLASSES = ("film", "food", "flight", "flood")


def world(seed: int, n_each: tuple[int, ...] = (60, 60, 60, 60)) -> tuple[np.ndarray, dict, np.ndarray]:
    """Pooled latents (two a class, two of none), class membership, decoder."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(4), n_each)
    f = rng.exponential(0.2, size=(len(which), 10))
    for i in range(4):
        f[which == i, 2 * i : 2 * i + 2] += 1.0
    return f, {name: which == i for i, name in enumerate(CLASSES)}, np.eye(10)


def test_every_figure_follows_the_published_formula() -> None:
    f, members, decoder = world(0)
    f_test, members_test, _ = world(1, (30, 50, 20, 40))
    x, x_test = f @ decoder, f_test @ decoder + 0.3 * np.random.default_rng(2).normal(size=f_test.shape)
    probes = fit_tpp_probes(x, members)
    rankings = tpp_rankings(probes, f, members, decoder)
    found = tpp(probes, x_test, f_test, members_test, decoder, rankings, n_latents=(1, 2))

    def accuracy(name: str, activations: np.ndarray) -> float:
        predicted, expected = probes[name].predict(activations), members_test[name]
        return (recall_score(expected, predicted) + recall_score(~expected, ~predicted)) / 2

    for n in (1, 2):
        by_class = []
        for name in CLASSES:
            edited = x_test.copy()
            for latent in rankings[name][:n]:
                edited -= np.outer(f_test[:, latent], decoder[latent])
            drops = {other: accuracy(other, x_test) - accuracy(other, edited) for other in CLASSES}
            own = drops.pop(name)
            assert found.own[name][n] == pytest.approx(own)
            assert found.others[name][n] == pytest.approx(np.mean(list(drops.values())))
            by_class.append(own - np.mean(list(drops.values())))
        assert found.scores[n] == pytest.approx(np.mean(by_class))


def test_latents_of_a_class_come_first_and_quiet_ones_never() -> None:
    f, members, decoder = world(0)
    rankings = tpp_rankings(fit_tpp_probes(f, members), f, members, decoder)
    for i, name in enumerate(CLASSES):
        assert set(rankings[name][:2]) == {2 * i, 2 * i + 1}
        # those of the other classes are less active here: zeroing them is no removal of this class
        assert not set(rankings[name]) & (set(range(8)) - {2 * i, 2 * i + 1})


def test_a_dictionary_that_separates_beats_one_that_does_not() -> None:
    f, members, decoder = world(0)
    probes = fit_tpp_probes(f, members)
    apart = tpp(probes, f, f, members, decoder, tpp_rankings(probes, f, members, decoder), n_latents=(2,))
    assert apart.scores[2] > 0.3
    # one latent that stands for all classes at once
    whole, code = np.ones((1, 10)) / np.sqrt(10), (f.sum(1) / np.sqrt(10))[:, None]
    mixed = tpp(probes, f, code, members, whole, dict.fromkeys(CLASSES, np.array([0])), n_latents=(1,))
    assert abs(mixed.scores[1]) < 0.1


def test_a_rare_class_counts_as_much_as_a_common_one() -> None:
    f, members, _ = world(0, (400, 40, 40, 40))
    noisy = f + np.random.default_rng(1).normal(size=f.shape)
    probes = fit_tpp_probes(noisy, members)
    rest = noisy[~members["food"]]
    assert probes["food"].score(noisy[members["food"]], np.ones(40, dtype=bool)) > 0.7
    assert probes["food"].score(rest, np.zeros(len(rest), dtype=bool)) > 0.7


def test_complements_are_no_other_class() -> None:
    rng = np.random.default_rng(0)
    nurse, female = rng.random(300) < 0.5, rng.random(300) < 0.5
    f = np.stack([nurse, ~nurse, female, ~female], axis=1) + 0.1 * rng.random((300, 4))
    members = {"surgeon": ~nurse, "nurse": nurse, "M": ~female, "F": female}
    probes = fit_tpp_probes(f, members)
    found = tpp(
        probes, f, f, members, np.eye(4), tpp_rankings(probes, f, members, np.eye(4)), n_latents=(1, 2)
    )
    # the nurse's probe loses as much as the surgeon's; gender's loses nothing, and it alone counts
    assert found.own["nurse"][1] > 0.2
    assert found.others["nurse"][1] == pytest.approx(0, abs=0.02)


def test_scores_are_the_mean_over_classes() -> None:
    result = TPPResult({}, {"a": {2: 0.5}, "b": {2: 0.1}}, {"a": {2: 0.1}, "b": {2: 0.3}})
    assert result.by_class["b"][2] == pytest.approx(-0.2)
    assert result.scores[2] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "at least two classes"),
        ({"a": [True, False, False]}, "none among a"),
        ({"a": [True, False, False], "b": [False, True, True]}, "its complement"),
        ({"a": [True, True, True], "b": [True, False, True]}, "holds all"),
        ({"a": [False, False, False], "b": [True, False, True]}, "holds none"),
        ({"a": [1, 0, 0], "b": [True, False, True]}, "must be a bool"),
        ({"a": [True, False]}, "for each of 3"),
    ],
)
def test_bad_classes_are_named(members: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_tpp_probes(np.eye(3), members)
