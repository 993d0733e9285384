"""The three sets on which a debiasing method is trained and judged.

*Ambiguous*: only the groups in which label and attribute agree (male surgeons, female nurses), equally many
of each. A classifier trained here cannot know which of the two it was meant to learn. *Balanced*: all
groups, equally many of each; label and attribute are independent, so accuracy on either is read here, and
an oracle trained here is the ceiling. *Cells*: every text of every group, for the worst-group accuracy.

References
----------
S. Marks et al., Sparse Feature Circuits, ICLR 2025, section 4 (SHIFT) and its published notebook.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssae_debias.data.randomness import RandomState, as_python_random
from ssae_debias.data.task import Task

Draw = Literal["first", "random"]


def ambiguous(
    task: Task,
    *,
    splits: Sequence[str] = ("train",),
    random_state: RandomState = 42,
    draw: Draw = "first",
    pairs: Sequence[tuple[int, int]] | None = None,
    n: int | None = None,
) -> NDArray[np.int64]:
    """Rows of the groups in which label and attribute agree, equally many of each, shuffled.

    Parameters
    ----------
    task : Task
        Where the rows are taken from.
    splits : sequence of str, default=("train",)
        Which splits they may come from.
    random_state : int, Generator, RandomState or None, default=42
        Seeds the shuffle (the published seed is 42) and, with ``draw="random"``, the choice of rows.
    draw : {"first", "random"}, default="first"
        The first rows of each group in dataset order, as published, or rows drawn at random, to see how much
        a figure owes to the rows drawn.
    pairs : sequence of (label, attribute), optional
        Which groups agree. By default (0, 0) and (1, 1), for two labels and two attribute values.
    n : int, optional
        Rows per group. By default the size of the smallest of these groups.

    Returns
    -------
    ndarray of int64, shape (n * len(pairs),)
        Positions in the task.

    Raises
    ------
    ValueError
        A group is empty or smaller than `n`, a pair is unknown, or the pairs must be given and are not.

    Examples
    --------
    >>> from ssae_debias.data import synthetic_biographies
    >>> task = synthetic_biographies(200)
    >>> rows = ambiguous(task)
    >>> len(rows), bool((task.y[rows] == task.sensitive_features[rows]).all())
    (108, True)
    """
    if pairs is None:
        if (len(task.label_names), len(task.attribute_names)) != (2, 2):
            raise ValueError(
                f"{len(task.label_names)} labels and {len(task.attribute_names)} attribute values; "
                "say by pairs=[(label, attribute), …] which groups are ambiguous."
            )
        pairs = ((0, 0), (1, 1))
    return _equal_parts(task, splits, list(pairs), n, draw, as_python_random(random_state))


def balanced(
    task: Task,
    *,
    splits: Sequence[str],
    n_per_cell: int | None = None,
    random_state: RandomState = 42,
    draw: Draw = "first",
) -> NDArray[np.int64]:
    """Rows of all groups, equally many of each, shuffled.

    Parameters
    ----------
    task : Task
        Where the rows are taken from.
    splits : sequence of str
        Which splits they may come from.
    n_per_cell : int, optional
        Rows per group. By default the size of the smallest group.
    random_state, draw
        As for `ambiguous`.

    Returns
    -------
    ndarray of int64, shape (n_per_cell * n_labels * n_attributes,)
        Positions in the task.

    Raises
    ------
    ValueError
        A group is empty or smaller than `n_per_cell`.

    Examples
    --------
    >>> from ssae_debias.data import synthetic_biographies
    >>> task = synthetic_biographies(200)
    >>> len(balanced(task, splits=("dev", "test")))
    80
    """
    everything = [
        (label, a) for label in range(len(task.label_names)) for a in range(len(task.attribute_names))
    ]
    return _equal_parts(task, splits, everything, n_per_cell, draw, as_python_random(random_state))


def cells(task: Task, *, splits: Sequence[str]) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Every row of every group, in dataset order.

    Parameters
    ----------
    task : Task
        Where the rows are taken from.
    splits : sequence of str
        Which splits they may come from.

    Returns
    -------
    dict of (label, attribute) to ndarray of int64
        Positions in the task; a group without rows has an empty array.

    Examples
    --------
    >>> from ssae_debias.data import synthetic_biographies
    >>> {group: len(rows) for group, rows in cells(synthetic_biographies(200), splits=("test",)).items()}
    {(0, 0): 10, (0, 1): 10, (1, 0): 10, (1, 1): 10}
    """
    if isinstance(splits, str):
        raise TypeError(
            f"splits must be a sequence of split names, got one bare string; write ({splits!r},)."
        )
    rows = task.rows(*splits)
    y, attribute = task.y[rows], task.sensitive_features[rows]
    return {
        (label, a): rows[(y == label) & (attribute == a)]
        for label in range(len(task.label_names))
        for a in range(len(task.attribute_names))
    }


def at_most(task: Task, n: int, *, random_state: int | None = None) -> NDArray[np.int64]:
    """At most `n` rows of each group of each split, drawn at random: a smaller task of the same kind.

    Small groups stay whole, so that the worst group is as well known as before.

    Parameters
    ----------
    task : Task
    n : int
        1 or more.
    random_state : int, optional
        None takes other rows each time.

    Returns
    -------
    ndarray of int64
        Rows in dataset order, for `Task.select`.

    Examples
    --------
    >>> from ssae_debias.data import synthetic_biographies
    >>> task = synthetic_biographies(400)
    >>> smaller = task.select(at_most(task, 20, random_state=0))
    >>> int(smaller.cell_counts().max().max()) <= 20
    True
    """
    if n < 1:
        raise ValueError(f"n must be 1 or more; got {n}.")
    generator = np.random.default_rng(random_state)
    kept = []
    for split in np.unique(task.split):
        for group in np.unique(task.groups()):
            members = np.flatnonzero((task.split == split) & (task.groups() == group))
            kept.append(generator.permutation(members)[:n])
    return np.sort(np.concatenate(kept))


def held_out(
    task: Task, fold: int, *, n_folds: int = 5, splits: Sequence[str] = ("train",), random_state: int = 0
) -> Task:
    """The training texts as a task of their own, of which one fold is held out as split ``"dev"``.

    Settings are chosen on such folds, so that no evaluation text has a part in the choice.

    Parameters
    ----------
    task : Task
    fold : int
        Which fold is held out, from 0.
    n_folds : int, default=5
        Every group is dealt evenly over the folds.
    splits : sequence of str, default=("train",)
        What counts as training text; all other texts are left out.
    random_state : int, default=0
        Decides the folds. The same for all folds, so that each text is held out once.

    Returns
    -------
    Task
        In the same order for every fold, so that positions mean the same texts.

    Raises
    ------
    ValueError
        No such fold, or a group with fewer texts than folds.

    Examples
    --------
    >>> from ssae_debias.data import synthetic_biographies
    >>> [len(held_out(synthetic_biographies(200), fold).rows("dev")) for fold in range(5)]
    [26, 24, 24, 24, 22]
    """
    if not 0 <= fold < n_folds or n_folds < 2:
        raise ValueError(f"fold must be from 0 to n_folds - 1, of 2 folds or more; got {fold} of {n_folds}.")
    part = task.select(task.rows(*splits))
    generator = np.random.default_rng(random_state)
    place = np.empty(len(part), dtype=np.int64)
    for group, name in enumerate(task.group_names()):
        members = np.flatnonzero(part.groups() == group)
        if 0 < len(members) < n_folds:
            raise ValueError(f"{n_folds} folds need as many texts of each group; {name} has {len(members)}.")
        place[generator.permutation(members)] = np.arange(len(members)) % n_folds
    return replace(part, split=np.where(place == fold, "dev", "train"))


def _equal_parts(
    task: Task,
    splits: Sequence[str],
    groups: Sequence[tuple[int, int]],
    n: int | None,
    draw: Draw,
    rng: random.Random,
) -> NDArray[np.int64]:
    if draw not in ("first", "random"):
        raise ValueError(f"draw must be 'first' or 'random', got {draw!r}.")
    parts = cells(task, splits=splits)
    unknown = [group for group in groups if group not in parts]
    if unknown or not groups:
        raise ValueError(f"unknown groups {unknown}; the task has (label, attribute) pairs {list(parts)}.")
    sizes = {f"{task.label_names[y]}/{task.attribute_names[a]}": len(parts[y, a]) for y, a in groups}
    smallest = min(sizes.values())
    n = smallest if n is None else n
    if not 1 <= n <= smallest:
        raise ValueError(
            f"cannot take {n} rows of each group from {'+'.join(splits)}; it holds {sizes}. "
            "Ask for between 1 and the smallest, or use more splits."
        )
    rows: list[int] = []
    for group in groups:
        available = parts[group].tolist()
        rows += available[:n] if draw == "first" else sorted(rng.sample(available, n))
    rng.shuffle(rows)
    return np.array(rows, dtype=np.int64)
