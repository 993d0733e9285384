from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ssae_debias.data import check_texts


@pytest.mark.parametrize("container", [list, tuple, np.array, pd.Series, pd.Index])
def test_every_usual_container_gives_the_same_list(container):
    texts = check_texts(container(["He sings.", "She paints."]))
    assert texts == ["He sings.", "She paints."]
    assert all(type(text) is str for text in texts)


def test_a_bare_string_is_refused():
    with pytest.raises(TypeError, match="bare string"):
        check_texts("He sings.")


@pytest.mark.parametrize("hole", [None, float("nan"), pd.NA, 3, b"bytes"])
def test_holes_are_counted_and_located(hole):
    with pytest.raises(TypeError, match=r"documents holds 2 of 4 .* position 1"):
        check_texts(["a", hole, "b", hole], name="documents")


def test_a_series_with_a_hole_is_refused_by_position_and_not_by_index():
    with pytest.raises(TypeError, match="position 1"):
        check_texts(pd.Series(["a", None], index=[7, 8]))


def test_empty_texts_are_counted_in_a_warning():
    with pytest.warns(UserWarning, match="2 of 3 texts are empty"):
        assert check_texts(["a", "", " \n"]) == ["a", "", " \n"]


def test_no_texts_and_wrong_shapes():
    with pytest.raises(ValueError, match="no texts"):
        check_texts([])
    with pytest.raises(ValueError, match="1-D"):
        check_texts(np.array([["a"]]))
    with pytest.raises(TypeError, match="generator"):
        check_texts(text for text in "ab")
