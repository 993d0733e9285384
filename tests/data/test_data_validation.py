from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.contingency import association

from ssae_debias.data import check_aligned, check_labels, check_sensitive, cramers_v, warn_if_determined


def test_labels_pass_in_their_own_dtype():
    assert check_labels(["b", "a"], 2).tolist() == ["b", "a"]
    assert check_labels(pd.Series([1.0, 0.0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("y", "n", "error", "message"),
    [
        ("nurse", None, TypeError, "bare string"),
        ([[0], [1]], None, ValueError, "1-D"),
        ([0, 1], 3, ValueError, "2 rows, expected 3"),
        ([0.0, np.nan], None, ValueError, "1 missing of 2"),
        (["a", None, None], None, ValueError, "2 missing of 3 values, the first at position 1"),
        ([0.5, 1.0], None, ValueError, "continuous"),
    ],
)
def test_bad_labels(y, n, error, message):
    with pytest.raises(error, match=message):
        check_labels(y, n)


@pytest.mark.parametrize("hole", [None, float("nan"), pd.NA])
def test_missing_attribute_policies(hole):
    attribute = ["F", hole, "M", hole]
    with pytest.raises(ValueError, match="missing in 2 of 4 rows, the first at position 1"):
        check_sensitive(attribute)
    values, kept = check_sensitive(attribute, missing="drop")
    assert values.tolist() == ["F", "M"]
    assert kept.tolist() == [True, False, True, False]
    values, kept = check_sensitive(attribute, missing="keep")
    assert values.tolist() == ["F", "missing", "M", "missing"]
    assert kept.all()


def test_missing_among_numbers_keeps_the_numbers_names():
    values, _ = check_sensitive([1.0, np.nan, 0.0], missing="keep")
    assert values.tolist() == ["1", "missing", "0"]


def test_several_columns_become_their_intersections():
    frame = pd.DataFrame({"gender": ["F", "M", "F"], "old": [1.0, 0.0, np.nan]})
    values, kept = check_sensitive(frame, missing="drop")
    assert values.tolist() == ["F & 1", "M & 0"]
    assert kept.tolist() == [True, True, False]


def test_bad_attributes():
    with pytest.raises(TypeError, match="bare string"):
        check_sensitive("FM")
    with pytest.raises(ValueError, match="2 rows, expected 3"):
        check_sensitive(["F", "M"], n=3)
    with pytest.raises(ValueError, match="missing must be"):
        check_sensitive(["F", "M"], missing="ignore")
    with pytest.raises(ValueError, match="every row"):
        check_sensitive([None, None], missing="drop")


def test_alignment():
    assert check_aligned(texts=["a"], y=None, sensitive_features=np.array([1])) == 1
    with pytest.raises(ValueError, match="texts 2, y 1"):
        check_aligned(texts=["a", "b"], y=[0])
    y = pd.Series([0, 1], index=[1, 0])
    with pytest.raises(ValueError, match="indices of texts and y disagree"):
        check_aligned(texts=pd.Series(["a", "b"]), y=y)
    assert check_aligned(texts=["a", "b"], y=y) == 2, "only pandas objects have an index to disagree"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("FMX")), min_size=2, max_size=60))
def test_cramers_v_is_scipys(rows):
    a, b = zip(*rows, strict=True)
    if len(set(a)) < 2 or len(set(b)) < 2:
        assert cramers_v(a, b) == 0
        return
    table = pd.crosstab(np.array(a), np.array(b)).to_numpy()
    assert cramers_v(a, b) == pytest.approx(association(table, method="cramer"))
    assert cramers_v(a, b) == pytest.approx(cramers_v(b, a))


def test_an_attribute_that_determines_y_warns_with_v_and_the_way_out():
    with pytest.warns(UserWarning, match=r"V = 1\.000.*[Cc]ounterfactual pairs"):
        assert warn_if_determined([0, 0, 1, 1], ["M", "M", "F", "F"]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_if_determined([0, 0, 1, 1], ["M", "F", "F", "F"]) < 0.99


def test_a_constant_attribute_is_an_error():
    with pytest.raises(ValueError, match=r"constant \(F\)"):
        warn_if_determined([0, 1], ["F", "F"])
