"""Groups: given, partly given, crossed, by words, or not at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ssae_debias.audit.groups import find_groups
from ssae_debias.audit.splitting import drawn_parts, given_parts
from ssae_debias.data import WordPairs

TEXTS = ["He met his wife.", "She left.", "He saw her; she saw him.", "Rain."]


def test_words_tell_sides_where_nothing_is_given() -> None:
    groups = find_groups(TEXTS, None, WordPairs.gender())
    assert groups.source == "words"
    assert groups.values.tolist() == ["with he-words", "with she-words", "", ""]
    assert groups.known.tolist() == [True, True, False, False]
    assert groups.side.tolist() == [-1, 1, 0, 0]
    assert groups.names == ("with he-words", "with she-words")


def test_given_values_win_over_words_and_sides_stay() -> None:
    groups = find_groups(TEXTS, ["M", "F", None, "F"], WordPairs.gender())
    assert groups.source == "labels"
    assert groups.values.tolist() == ["M", "F", "", "F"]
    assert groups.side.tolist() == [-1, 1, 0, 0]
    assert groups.at(np.array([3, 2])).values.tolist() == ["F", ""]
    assert groups.cells(np.array(["a", "b", "a", "b"])).tolist() == ["a/M", "b/F", "a", "b/F"]


def test_labels_tell_rows_apart_before_words_do_and_only_where_there_are_two_values() -> None:
    labels = ["M", "F", None, "F"]
    both = find_groups(TEXTS, labels, WordPairs.gender())
    assert both.told_by == "labels"
    assert [each.tolist() for each in both.told()] == [["M", "F", "", "F"], [True, True, False, True]]
    some = both.at(np.array([1, 2, 0])).at(np.array([0, 1]))  # one value known
    assert some.told_by == "words"
    assert [each.tolist() for each in some.told()] == [[1, 0], [True, False]]
    by_words = find_groups(TEXTS, None, WordPairs.gender())
    assert by_words.told()[0].tolist() == ["with he-words", "with she-words", "", ""]
    assert find_groups(TEXTS, labels, None).at(np.array([1, 2])).told()[0] is None
    nothing = find_groups(np.zeros((2, 3)), None, None)
    assert (nothing.told_by, nothing.told()[1].tolist()) == ("none", [False, False])


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA, "", "  "])
def test_every_kind_of_hole_is_not_known(hole: object) -> None:
    groups = find_groups(TEXTS, np.array(["M", hole, "F", "M"], dtype=object), None)
    assert groups.known.tolist() == [True, False, True, True]
    assert groups.values.tolist() == ["M", "", "F", "M"]


def test_whole_numbers_keep_their_names_beside_holes() -> None:
    assert find_groups(TEXTS, [1.0, np.nan, 0.0, 1.0], None).names == ("0", "1")
    assert find_groups(TEXTS, np.array([1, 0, 0, 1]), None).names == ("0", "1")


def test_several_attributes_are_crossed_and_known_where_all_are() -> None:
    table = pd.DataFrame({"sex": ["F", "M", "F", None], "age": ["old", "old", "", "young"]})
    groups = find_groups(TEXTS, table, None)
    assert groups.values.tolist() == ["F & old", "M & old", "", ""]
    three = find_groups("______", ["a", "b", "c"] * 2, None)
    assert three.names == ("a", "b", "c")


def test_nothing_is_known_of_arrays_without_an_attribute() -> None:
    groups = find_groups(np.zeros((4, 2)), None, None)
    assert (groups.source, groups.names, groups.known.any()) == ("none", (), np.False_)


def test_a_constant_attribute_is_refused() -> None:
    with pytest.raises(ValueError, match="holds one value, 'F', in 3 known rows"):
        find_groups(TEXTS, ["F", "F", None, "F"], None)


def test_the_attribute_given_is_not_changed() -> None:
    table = pd.DataFrame({"sex": ["F", "", "M", "F"]})
    before = table.copy()
    find_groups(TEXTS, table, None)
    pd.testing.assert_frame_equal(table, before)


def test_rows_are_split_evenly_within_cells() -> None:
    cells = np.repeat(["a/F", "a/M", "b/F", "b/M", "rare"], [100, 40, 20, 10, 1])
    fit, judged = drawn_parts(cells, 0.3, random_state=0)
    assert sorted([*fit, *judged]) == list(range(171))
    counts = {cell: int((cells[judged] == cell).sum()) for cell in ("a/F", "a/M", "b/F", "b/M")}
    # a single odd row does not keep the others from being stratified
    assert counts == {"a/F": 30, "a/M": 12, "b/F": 6, "b/M": 3}
    assert drawn_parts(cells, 0.3, random_state=0)[1].tolist() == judged.tolist()
    sides = {bool(np.isin(170, drawn_parts(cells, 0.3, random_state=seed)[1])) for seed in range(12)}
    assert sides == {True, False}


def test_splits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got 1.5"):
        drawn_parts(np.array(["a", "b"]), 1.5, 0)
    with pytest.raises(ValueError, match="1 rows are too few"):
        drawn_parts(np.array(["a"]), 0.5, 0)
    with pytest.raises(ValueError, match=r"it says \['test', 'train'\]"):
        given_parts(["train", "test"])
