"""Tasks from a table: a DataFrame, a file, or Bias in Bios on the hub.

A table says which column holds the text, the label and the attribute; everything else about a task follows
from it. What a table leaves out (a split) is made by a seed; what it leaves open (an attribute that is
missing) is asked for by a policy; nothing is guessed.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.data.columns import (
    categories,
    check_column,
    coded,
    nearest,
    rows_with,
    split_names,
    stratified_split,
)
from ssae_debias.data.patterns import (
    ATTRIBUTE,
    LABEL,
    Patterns,
    ReadIn,
    check_groups,
    columns_from_patterns,
)
from ssae_debias.data.randomness import RandomState
from ssae_debias.data.task import Task
from ssae_debias.data.texts import check_texts
from ssae_debias.data.validation import MISSING, MissingPolicy, check_sensitive
from ssae_debias.files import DamagedFileError

PROFESSIONS = (
    "accountant", "architect", "attorney", "chiropractor", "comedian", "composer", "dentist", "dietitian",
    "dj", "filmmaker", "interior_designer", "journalist", "model", "nurse", "painter", "paralegal", "pastor",
    "personal_trainer", "photographer", "physician", "poet", "professor", "psychologist", "rapper",
    "software_engineer", "surgeon", "teacher", "yoga_teacher",
)  # fmt: skip
"""The 28 professions of Bias in Bios; a profession's position is its id in the hub's data set."""

_HOLES = ["", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "None", "null", "NULL"]

NO_ATTRIBUTE: tuple[str, ...] = ("all",)
"""The one attribute value of every row where a table has no column for it."""


def task_from_frame(
    frame: pd.DataFrame,
    *,
    text: str = "text",
    label: str,
    attribute: str | None = None,
    split: str | None = None,
    labels: Sequence[Any] | None = None,
    attributes: Sequence[Any] | None = None,
    missing: MissingPolicy = "error",
    random_state: RandomState = 42,
    name: str = "frame",
) -> Task:
    """Task from the named columns of a DataFrame.

    Parameters
    ----------
    frame : DataFrame
        One text a row; the rows' order is kept.
    text, label : str
        Columns of the texts and of the labels.
    attribute : str, optional
        Column of the attribute. Without one every row has the single attribute value ``"all"``: enough for
        flagging by counterfactual pairs, not for the evaluation sets.
    split : str, optional
        Column of the split: train, dev (also called validation, valid, val) or test. Without one the rows
        are split 60/20/20 within each (label, attribute) group.
    labels, attributes : sequence, optional
        The values to keep and their order: the first is 0. Rows with others are left out. By default all
        values, sorted.
    missing : {"error", "drop", "keep"}, default="error"
        What to do where the attribute is missing; see `check_sensitive`.
    random_state : int, Generator, RandomState or None, default=42
        Seeds the split where there is no column for it.
    name : str, default="frame"
        Name of the task.

    Returns
    -------
    Task

    Raises
    ------
    TypeError
        `frame` is no DataFrame, or a text is not a string.
    ValueError
        An unknown column (the message lists those there are and the nearest name), value or split; missing
        labels; fewer than two labels.

    Warns
    -----
    UserWarning
        Texts are empty, or stand in more than one split.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"text": ["He operates.", "She heals."], "job": ["surgeon", "nurse"],
    ...                       "gender": ["M", "F"], "part": ["train", "train"]})
    >>> task_from_frame(frame, label="job", attribute="gender", split="part",
    ...                 labels=("surgeon", "nurse"), attributes=("M", "F"))
    Task('frame', 2 texts (train 2, dev 0, test 0), y surgeon/nurse, attribute M/F)
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, got {type(frame).__name__}.")
    for column in (text, label, attribute, split):
        if column is not None:
            check_column(column, list(frame.columns))
    y, label_names = coded(categories(frame[label], label), labels, label)
    if attribute is None:
        if attributes is not None:
            raise ValueError(f"attributes={list(attributes)} needs a column: give attribute=.")
        a, attribute_names = np.zeros(len(frame), dtype=np.int64), NO_ATTRIBUTE
    else:
        chosen = np.flatnonzero(y >= 0)
        values, kept = check_sensitive(
            frame[attribute].iloc[chosen], missing=missing, name=f"column {attribute!r}"
        )
        if attributes is not None and missing == "keep" and (values == MISSING).any():
            attributes = [*attributes, MISSING]
        codes, attribute_names = coded(categories(pd.Series(values), attribute), attributes, attribute)
        a = np.full(len(frame), -1, dtype=np.int64)
        a[chosen[kept]] = codes
    if len(label_names) < 2:
        raise ValueError(f"column {label!r} has the single label {label_names}; a task needs at least two.")
    rows = np.flatnonzero((y >= 0) & (a >= 0))
    if len(rows) == 0:
        raise ValueError("no row has one of the labels and one of the attribute values asked for.")
    texts = check_texts(frame[text].iloc[rows], name=f"column {text!r}")
    y, a = y[rows], a[rows]
    if split is None:
        parts = stratified_split(y, a, random_state)
    else:
        parts = split_names(frame[split].iloc[rows], split)
    _warn_of_leaks(texts, parts)
    return Task(texts, y, a, parts, label_names, attribute_names, name)


def load_table(
    path: str | os.PathLike[str],
    *,
    text: str = "text",
    label: str | None = None,
    attribute: str | None = None,
    split: str | None = None,
    labels: Sequence[Any] | None = None,
    attributes: Sequence[Any] | None = None,
    missing: MissingPolicy = "error",
    random_state: RandomState = 42,
    where: Mapping[str, Sequence[Any]] | None = None,
    label_patterns: Patterns | None = None,
    attribute_patterns: Patterns | None = None,
    patterns_in: ReadIn = "first_sentence",
    delete_label_words: bool = True,
) -> Task:
    """Task from a local .parquet, .csv, .tsv or .jsonl file.

    Parameters
    ----------
    path : path-like
        The file. The task is named after it.
    text, label, attribute, split, labels, attributes, missing, random_state
        As for `task_from_frame`.
    where : mapping of str to sequence, optional
        Per column the values of the rows to keep.
    label_patterns, attribute_patterns : mapping of str to str or sequence of str, optional
        In place of the column `label` or `attribute`: per name the regular expressions of which any says it; see
        `read_patterns`. Rows that match none or several names are left out, as are those of names not in
        `labels` or `attributes`, which by default are all names in the order given.
    patterns_in : {"first_sentence", "text"}, default="first_sentence"
        What the patterns are searched in.
    delete_label_words : bool, default=True
        Take the words of `label_patterns` out of the texts, so that the label must be read from the rest.

    Returns
    -------
    Task

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFileError
        The file cannot be read as what its suffix says.
    TypeError, ValueError
        As for `task_from_frame` and `columns_from_patterns`; another suffix; the label, or the attribute, from a
        column and by patterns; or patterns that leave a group fewer than 20 texts.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "jobs.csv"
    >>> _ = path.write_text("text,job,gender\\nHe operates.,surgeon,M\\nShe heals.,nurse,F\\n")
    >>> load_table(path, label="job", attribute="gender", attributes=("M", "F")).name
    'jobs'
    """
    path = Path(path)
    if (label is None) == (label_patterns is None):
        raise ValueError(f"give label= (a column) or label_patterns=, one of the two; got {label=}.")
    if attribute is not None and attribute_patterns is not None:
        raise ValueError(f"give attribute= (a column) or attribute_patterns=, not both; got {attribute=}.")
    frame = read_frame(path, text)
    for column, values in (where or {}).items():
        frame = rows_with(frame, column, values)
    if label_patterns is not None or attribute_patterns is not None:
        if label_patterns is not None:
            label, labels = LABEL, list(label_patterns) if labels is None else labels
        if attribute_patterns is not None:
            attribute, attributes = ATTRIBUTE, list(attribute_patterns) if attributes is None else attributes
        frame = columns_from_patterns(
            frame,
            text=text,
            label_patterns=label_patterns,
            attribute_patterns=attribute_patterns,
            labels=labels if label == LABEL else None,
            attributes=attributes if attribute == ATTRIBUTE else None,
            where=patterns_in,
            delete_label_words=delete_label_words,
        )
    assert label is not None
    task = task_from_frame(
        frame,
        text=text,
        label=label,
        attribute=attribute,
        split=split,
        labels=labels,
        attributes=attributes,
        missing=missing,
        random_state=random_state,
        name=path.stem,
    )
    if label == LABEL or attribute == ATTRIBUTE:
        check_groups(task)
    return task


def load_bias_in_bios(
    professions: Sequence[str] = ("professor", "nurse"),
    *,
    path: str | os.PathLike[str] = "LabHC/bias_in_bios",
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Task:
    """Bias in Bios: biographies from the web, with the profession as label and gender as attribute.

    Parameters
    ----------
    professions : sequence of str, default=("professor", "nurse")
        Two or more of `PROFESSIONS`; the first is label 0. Professor and nurse are SHIFT's task.
    path : str or path-like, default="LabHC/bias_in_bios"
        The hub's data set, or a local directory laid out like it.
    revision : str, optional
        Commit, tag or branch on the hub; pin a commit for a run that shall be repeated.
    cache_dir : path-like, optional
        Where `datasets` keeps its copy.

    Returns
    -------
    Task
        Attribute 0 is male ("M"), 1 female ("F").

    Raises
    ------
    ImportError
        `datasets` is not installed.
    OSError
        `path` is neither a directory nor reachable on the hub.
    ValueError
        An unknown profession, or a data set without the columns hard_text, profession and gender.

    References
    ----------
    M. De-Arteaga et al., Bias in Bios: A Case Study of Semantic Representation Bias in a High-Stakes Setting,
    FAT* 2019.

    Examples
    --------
    >>> load_bias_in_bios(("surgeon", "nurs"))
    Traceback (most recent call last):
        ...
    ValueError: unknown profession 'nurs'; nearest is 'nurse'. There are accountant, architect, attorney, ...
    """
    for profession in professions:
        if profession not in PROFESSIONS:
            raise ValueError(
                f"unknown profession {profession!r};{nearest(profession, PROFESSIONS)} "
                f"There are {', '.join(PROFESSIONS)}."
            )
    if isinstance(professions, str) or len(set(professions)) < 2:
        raise ValueError(f"professions must be two or more different ones, got {professions!r}.")
    ids = [PROFESSIONS.index(profession) for profession in professions]
    columns = ["hard_text", "profession", "gender"]
    frames = []
    for split, part in _load_hub(path, revision, cache_dir).items():
        for column in columns:
            check_column(column, part.column_names)
        frame = part.select_columns(columns).to_pandas()
        frames.append(frame[frame["profession"].isin(ids)].assign(split=split))
    task = task_from_frame(
        pd.concat(frames, ignore_index=True),
        text="hard_text",
        label="profession",
        attribute="gender",
        split="split",
        labels=ids,
        attributes=(0, 1),
        name=f"bias_in_bios {'/'.join(professions)}",
    )
    return replace(task, label_names=tuple(professions), attribute_names=("M", "F"))


def _load_hub(
    path: str | os.PathLike[str], revision: str | None, cache_dir: str | os.PathLike[str] | None
) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            'load_bias_in_bios needs the package datasets: pip install "ssae-debias[hub]"'
        ) from error
    try:
        return datasets.load_dataset(
            os.fspath(path), revision=revision, cache_dir=os.fspath(cache_dir) if cache_dir else None
        )
    except (OSError, ValueError) as error:
        # offline, datasets raises a ValueError where its cache has no copy; else a ConnectionError, an OSError
        raise OSError(
            f"{os.fspath(path)!r} is neither a local directory with data files nor reachable on the hub "
            f"({type(error).__name__}: {str(error)[:300]}). Check the name and the network, or "
            "download the data set and give its directory as path."
        ) from error


def read_frame(path: Path, text: str = "text") -> pd.DataFrame:
    """Rows of a local .parquet, .csv, .tsv or .jsonl file, every column as it stands there.

    Parameters
    ----------
    path : Path
    text : str, default="text"
        The column of texts, which a delimited file keeps as strings ("NA" is a word there).

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        Another suffix.
    DamagedFileError
        The file cannot be read as what its suffix says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}.")
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".parquet": pd.read_parquet,
        ".jsonl": _read_lines,
        ".ndjson": _read_lines,
    }
    if suffix not in (*readers, ".csv", ".tsv"):
        raise ValueError(f"{path} ends in {suffix!r}; expected .parquet, .csv, .tsv or .jsonl.")
    try:
        if suffix in readers:
            return readers[suffix](path)
        return _read_delimited(path, "\t" if suffix == ".tsv" else ",", text)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"{path} cannot be read as {suffix[1:]}: {error}") from error


def _read_lines(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8") as file:
        return pd.DataFrame([json.loads(line) for line in file if line.strip()])


def _read_delimited(path: Path, separator: str, text: str) -> pd.DataFrame:
    # a text may be "None" or empty; only in the other columns is that a hole
    others = [column for column in pd.read_csv(path, sep=separator, nrows=0).columns if column != text]
    return pd.read_csv(
        path,
        sep=separator,
        dtype={text: str},
        keep_default_na=False,
        na_values=dict.fromkeys(others, _HOLES),
    )


def _warn_of_leaks(texts: list[str], split: NDArray[np.str_]) -> None:
    shared = int((pd.Series(split).groupby(texts).nunique() > 1).sum())
    if shared:
        warnings.warn(
            f"{shared} texts stand in more than one split; what is measured on them was trained on.",
            UserWarning,
            stacklevel=3,
        )
