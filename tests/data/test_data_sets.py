"""The evaluation sets, against the published construction written out anew, and against the real bios."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssae_debias.data import (
    Task,
    ambiguous,
    at_most,
    balanced,
    cells,
    held_out,
    load_table,
    synthetic_biographies,
)


@pytest.fixture(scope="module")
def skewed() -> Task:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 300)
    a = np.where(rng.random(300) < 0.8, y, 1 - y)
    split = rng.choice(["train", "dev", "test"], 300)
    return Task([f"text {i}" for i in range(300)], y, a, split, ("professor", "nurse"), ("M", "F"))


@pytest.fixture(scope="module")
def bios(bios_path) -> Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_table(
            bios_path,
            label="profession",
            attribute="gender",
            split="split",
            labels=("surgeon", "nurse"),
            attributes=("M", "F"),
        )


def published(task: Task, groups: list[tuple[int, int]], split: str) -> list[str]:
    """The notebook's way: lists of texts, cut, concatenated, shuffled by an index list."""
    lists = [
        [
            text
            for text, y, a, s in zip(task.texts, task.y, task.sensitive_features, task.split, strict=True)
            if (y, a) == group and s == split
        ]
        for group in groups
    ]
    n = min(map(len, lists))
    texts = [text for texts in lists for text in texts[:n]]
    index = list(range(len(texts)))
    random.Random(42).shuffle(index)
    return [texts[i] for i in index]


def test_ambiguous_is_the_published_construction(skewed):
    rows = ambiguous(skewed)
    assert [skewed.texts[i] for i in rows] == published(skewed, [(0, 0), (1, 1)], "train")


def test_balanced_is_the_published_construction(skewed):
    rows = balanced(skewed, splits=("test",))
    expected = published(skewed, [(0, 0), (0, 1), (1, 0), (1, 1)], "test")
    assert [skewed.texts[i] for i in rows] == expected


def test_cells_are_everything_once(skewed):
    parts = cells(skewed, splits=("dev", "test"))
    assert sorted(np.concatenate(list(parts.values()))) == skewed.rows("dev", "test").tolist()
    for (y, a), rows in parts.items():
        assert set(skewed.y[rows]) == {y}
        assert set(skewed.sensitive_features[rows]) == {a}


def test_the_sizes_on_the_real_bios(bios):
    sizes = {group: len(rows) for group, rows in cells(bios, splits=("dev", "test")).items()}
    assert sizes == {(0, 0): 1245, (0, 1): 196, (1, 0): 99, (1, 1): 1015}
    assert len(bios.rows("train")) == 3832
    assert len(ambiguous(bios)) == 3170
    assert len(balanced(bios, splits=("train",))) == 4 * 150
    assert len(balanced(bios, splits=("dev", "test"))) == 396


def test_random_draws_differ_by_seed_and_stay_balanced(skewed):
    draws = [
        balanced(skewed, splits=("train",), n_per_cell=5, draw="random", random_state=i) for i in (0, 0, 1)
    ]
    assert draws[0].tolist() == draws[1].tolist()
    assert set(draws[0]) != set(draws[2])
    for rows in draws:
        assert len(set(rows)) == 20
        assert np.bincount(skewed.groups()[rows]).tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_numpy_generators_are_random_states_too(skewed, kind):
    first, second = (ambiguous(skewed, draw="random", n=4, random_state=kind(5)) for _ in range(2))
    assert first.tolist() == second.tolist()
    with pytest.raises(TypeError, match="random_state"):
        ambiguous(skewed, random_state="42")


def test_pairs_turn_the_stereotype_over(skewed):
    rows = ambiguous(skewed, pairs=[(0, 1), (1, 0)])
    assert (skewed.y[rows] != skewed.sensitive_features[rows]).all()


def test_what_cannot_be_drawn_is_said():
    task = synthetic_biographies(200, correlation=1.0)
    with pytest.raises(ValueError, match="'surgeon/F': 0"):
        balanced(task, splits=("train",))
    with pytest.raises(ValueError, match="cannot take 999"):
        ambiguous(task, n=999)
    with pytest.raises(ValueError, match="draw must be"):
        ambiguous(task, draw="last")
    with pytest.raises(TypeError, match="bare string"):
        cells(task, splits="train")
    with pytest.raises(ValueError, match="unknown groups"):
        ambiguous(task, pairs=[(0, 2)])
    three = synthetic_biographies(200, professions=("nurse", "teacher", "dentist"))
    with pytest.raises(ValueError, match="3 labels"):
        ambiguous(three)
    assert len(ambiguous(three, pairs=[(0, 0), (1, 1), (2, 0)])) == 3 * 36


def test_a_smaller_task_keeps_small_groups_whole() -> None:
    task = synthetic_biographies(600, correlation=0.9, random_state=1)
    rows = at_most(task, 25, random_state=3)
    smaller = task.select(rows)
    before, after = task.cell_counts(), smaller.cell_counts()
    np.testing.assert_array_equal(after.to_numpy(), np.minimum(before.to_numpy(), 25))
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, at_most(task, 25, random_state=3))
    with pytest.raises(ValueError, match="n must be 1 or more"):
        at_most(task, 0)


@given(n_folds=st.integers(2, 6), seed=st.integers(0, 1000))
def test_folds_share_the_training_texts_out_and_see_no_other(n_folds: int, seed: int) -> None:
    task = synthetic_biographies(300, random_state=seed)
    folds = [held_out(task, fold, n_folds=n_folds, random_state=seed) for fold in range(n_folds)]
    train = [task.texts[row] for row in task.rows("train")]
    assert all(list(fold.texts) == train for fold in folds)
    assert sorted(np.concatenate([fold.rows("dev") for fold in folds])) == list(range(len(train)))
    for fold in folds:
        sizes = fold.cell_counts()
        # every group in every fold, as evenly as can be
        assert (sizes["dev"] >= sizes.sum(axis=1) // n_folds).all()
        assert not len(fold.rows("test"))


def test_folds_that_cannot_be_made_are_refused() -> None:
    task = synthetic_biographies(200)
    with pytest.raises(ValueError, match="got 5 of 5"):
        held_out(task, 5)
    with pytest.raises(ValueError, match="surgeon/F has 6"):
        held_out(task, 0, n_folds=7)
