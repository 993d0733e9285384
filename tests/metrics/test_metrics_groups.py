"""Group metrics against fairlearn's own figures and hand counts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.metrics import attribute_accuracy, bootstrap, group_codes, group_report, wilson


def draw(seed: int, n: int = 300, n_values: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    a = rng.integers(n_values, size=n)
    return y, np.where(rng.random(n) < 0.6 + 0.3 * (a == y), y, 1 - y), a


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000), n_values=st.integers(2, 4))
def test_binary_differences_are_fairlearns(seed: int, n_values: int) -> None:
    y, made, a = draw(seed, n_values=n_values)
    report = group_report(y, made, a)
    assert report.demographic_parity_difference == pytest.approx(
        demographic_parity_difference(y, made, sensitive_features=a)
    )
    assert report.equalized_odds_difference == pytest.approx(
        equalized_odds_difference(y, made, sensitive_features=a)
    )


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_every_cell_is_counted_once(seed: int) -> None:
    y, made, a = draw(seed)
    report = group_report(y, made, a)
    for _, row in report.groups.iterrows():
        inside = (y.astype(str) == row["label"]) & (a.astype(str) == row["attribute"])
        assert row["n"] == inside.sum()
        assert row["accuracy"] == pytest.approx((made == y)[inside].mean())
        assert (row["low"], row["high"]) == wilson((made == y)[inside].sum(), inside.sum())[1:]
    assert report.groups["n"].sum() == report.n == len(y)
    assert report.worst_group_accuracy.mean == report.groups["accuracy"].min()
    assert report.groups.loc[report.worst_group, "accuracy"] == report.groups["accuracy"].min()
    assert report.task_accuracy.mean == pytest.approx((made == y).mean())


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 10_000))
def test_names_of_the_values_do_not_matter(seed: int) -> None:
    y, made, a = draw(seed)
    plain = group_report(y, made, a)
    named = group_report(
        np.array(["nurse", "surgeon"])[y], np.array(["nurse", "surgeon"])[made], np.array(["F", "M"])[a]
    )
    assert named.groups["accuracy"].tolist() == plain.groups["accuracy"].tolist()
    assert named.demographic_parity_difference == plain.demographic_parity_difference
    assert set(named.groups.index) <= {"nurse/F", "nurse/M", "surgeon/F", "surgeon/M"}


def test_multi_class_differences_are_the_largest_of_one_against_rest() -> None:
    rng = np.random.default_rng(1)
    y, a = rng.integers(3, size=600), rng.choice(["x", "y", "z"], size=600)
    made = np.where(rng.random(600) < 0.7, y, rng.integers(3, size=600))
    report = group_report(y, made, a)
    kwargs = {"sensitive_features": a}
    assert report.demographic_parity_difference == pytest.approx(
        max(demographic_parity_difference(y == c, made == c, **kwargs) for c in range(3))
    )
    assert report.equalized_odds_difference == pytest.approx(
        max(equalized_odds_difference(y == c, made == c, **kwargs) for c in range(3))
    )
    assert len(report.groups) == 9


def test_intersecting_attributes_make_their_own_groups() -> None:
    y = np.array([1, 1, 1, 1])
    frame = pd.DataFrame({"gender": ["F", "F", "M", "M"], "age": ["old", "young", "old", "young"]})
    report = group_report(y, [0, 1, 1, 1], frame)
    assert report.worst_group == "1/F & old"
    assert report.worst_group_accuracy.mean == 0.0
    assert len(report.groups) == 4
    by_array = group_report(y, [0, 1, 1, 1], frame.to_numpy())
    assert by_array.to_dict() == report.to_dict()


def test_a_group_without_positives_does_not_fake_a_disparity() -> None:
    # the ambiguous set: all of label 1 has attribute 1, all of label 0 attribute 0; every decision is right
    report = group_report([0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1])
    assert report.equalized_odds_difference == 0.0
    assert report.demographic_parity_difference == 1.0
    assert list(report.groups.index) == ["0/0", "1/1"]


def test_a_decision_that_is_nobodys_label_is_an_error_and_not_a_crash() -> None:
    report = group_report(["a", "b"], ["c", "b"], [0, 1])
    assert report.task_accuracy.mean == 0.5


def test_bootstrap_intervals_match_the_general_bootstrap() -> None:
    y, made, a = draw(5, n=400)
    report = group_report(y, made, a, interval="bootstrap", random_state=0, n_resamples=4000)
    cell = 2 * y + a

    def worst(right: np.ndarray, cells: np.ndarray) -> float:
        return min(right[cells == c].mean() for c in range(4))

    general = bootstrap(worst, made == y, cell, strata=cell, n_resamples=2000, random_state=1)
    assert report.worst_group_accuracy.mean == pytest.approx(general.mean)
    assert report.worst_group_accuracy.low == pytest.approx(general.low, abs=0.02)
    assert report.worst_group_accuracy.high == pytest.approx(general.high, abs=0.02)
    again = group_report(y, made, a, interval="bootstrap", random_state=0, n_resamples=4000)
    assert again.to_dict() == report.to_dict()


def test_the_dictionary_is_plain_json() -> None:
    y, made, a = draw(0)
    content = json.loads(json.dumps(group_report(y, made, a).to_dict(), allow_nan=False))
    assert set(content["groups"]) == {"0/0", "0/1", "1/0", "1/1"}
    assert set(content["groups"]["0/0"]) == {"mean", "low", "high", "n"}


def test_the_frame_is_a_copy() -> None:
    report = group_report(*draw(0))
    frame = report.to_frame()
    frame["accuracy"] = 0.0
    assert report.groups["accuracy"].max() > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], [0], [0, 1]), ValueError, "y_pred has 1 rows, expected 2"),
        (([0, 1], [0, 1], [0, 1, 1]), ValueError, "sensitive_features has 3 rows, expected 2"),
        (([0, 1], [0, 1], ["F", None]), ValueError, "missing in 1 of 2"),
        (([0, 1], ["0", "1"], [0, 1]), TypeError, "y_true holds numbers, y_pred text"),
        (([], [], []), ValueError, "no rows"),
    ],
)
def test_bad_input_is_named(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        group_report(*arguments)


def test_an_unknown_interval_is_named() -> None:
    with pytest.raises(ValueError, match="'clopper'"):
        group_report([0, 1], [0, 1], [0, 1], interval="clopper")  # type: ignore[arg-type]


def test_attribute_accuracy_by_hand() -> None:
    assert attribute_accuracy([1, 1, 1, 0], [1, 0, 1, 1]) == 0.5
    pairing = {"nurse": "F", "surgeon": "M"}
    assert attribute_accuracy(
        ["nurse", "nurse", "surgeon"], ["F", "M", "F"], pairing=pairing
    ) == pytest.approx(1 / 3)


def test_attribute_accuracy_asks_which_values_go_together() -> None:
    with pytest.raises(ValueError, match="pairing"):
        attribute_accuracy(["nurse", "surgeon"], ["F", "M"])
    with pytest.raises(ValueError, match=r"\['surgeon'\]"):
        attribute_accuracy(["nurse", "surgeon"], ["F", "M"], pairing={"nurse": "F"})
    with pytest.raises(ValueError, match="one length"):
        attribute_accuracy([1, 0], [1])


@given(st.lists(st.sampled_from(["F", "M", "X"]), min_size=1, max_size=40))
def test_codes_and_names_give_the_values_back(values: list[str]) -> None:
    codes, names = group_codes(values)
    assert [names[code] for code in codes] == values
    assert list(names) == sorted(set(values))


def test_codes_of_numbers_are_sorted_by_size() -> None:
    assert group_codes([10, 9, 10])[1] == ("9", "10")
    with pytest.raises(ValueError, match="expected 2"):
        group_codes([1], n=2)
    with pytest.raises(TypeError, match="string"):
        group_codes("FM")
