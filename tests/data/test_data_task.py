from __future__ import annotations

import numpy as np
import pytest

from ssae_debias.data import Task, synthetic_biographies


@pytest.fixture
def task() -> Task:
    return Task(
        ["a", "b", "c", "d"],
        [0, 1, 0, 1],
        [0, 0, 1, 1],
        ["train", "train", "dev", "test"],
        ["surgeon", "nurse"],
        ["M", "F"],
    )


def test_parts_have_the_promised_types(task):
    assert task.texts == ("a", "b", "c", "d")
    assert task.y.dtype == task.sensitive_features.dtype == np.int64
    assert task.split.dtype.kind == "U"
    assert len(task) == 4


def test_rows_by_split(task):
    assert task.rows("train").tolist() == [0, 1]
    assert task.rows("test", "dev").tolist() == [2, 3]
    assert task.rows().tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="unknown split 'eval'"):
        task.rows("eval")


def test_select_by_position_and_by_mask(task):
    chosen = task.select([2, 0])
    assert chosen.texts == ("c", "a")
    assert chosen.y.tolist() == [0, 0]
    assert chosen.sensitive_features.tolist() == [1, 0]
    assert chosen.split.tolist() == ["dev", "train"]
    assert chosen.label_names == task.label_names
    assert task.select(task.y == 1).texts == ("b", "d")
    with pytest.raises(ValueError, match="no row"):
        task.select([])
    with pytest.raises(IndexError):
        task.select([4])


def test_groups_and_counts_agree(task):
    assert [task.group_names()[group] for group in task.groups()] == [
        "surgeon/M",
        "nurse/M",
        "surgeon/F",
        "nurse/F",
    ]
    counts = task.cell_counts()
    assert counts.loc[("nurse", "M"), "train"] == 1
    assert counts.to_numpy().sum() == 4
    assert "train 2, dev 1, test 1" in repr(task)


def test_a_task_does_not_share_its_arrays_with_the_caller():
    y = np.array([0, 1])
    task = Task(["a", "b"], y, [0, 1], ["train", "dev"], "SN", "MF")
    y[0] = 1
    assert task.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [0, 1, 2, 0]}, r"y must lie in 0\.\.1"),
        ({"y": [0, 1]}, "y has 2 rows, expected 4"),
        ({"sensitive_features": ["M", "F", "M", "F"]}, "must hold ints"),
        ({"split": ["train", "train", "eval", "test"]}, "split holds"),
        ({"label_names": ("nurse", "nurse")}, "distinct"),
    ],
)
def test_bad_parts_are_named(task, change, message):
    parts = {field: getattr(task, field) for field in task.__dataclass_fields__} | change
    with pytest.raises(ValueError, match=message):
        Task(**parts)


def test_an_empty_group_is_still_counted():
    counts = synthetic_biographies(200, correlation=1.0).cell_counts()
    assert counts.loc[("surgeon", "F"), "train"] == 0
