"""The bench: one task, one model, and what every method of a run shares.

Pooled activations are computed once and kept on disk, keyed by all that they depend on, so that methods,
seeds and later runs read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssae_debias.activations import TextModel, load_model
from ssae_debias.data import (
    Task,
    WordPairs,
    ambiguous,
    as_word_pairs,
    at_most,
    balanced,
    cells,
    held_out,
    load_bias_in_bios,
    load_table,
    synthetic_biographies,
    synthetic_corpus,
)
from ssae_debias.edit import Edit
from ssae_debias.estimators import SSAEDebiaser
from ssae_debias.estimators.fitting import sides_of
from ssae_debias.estimators.pooled_cache import pooled_under_edits
from ssae_debias.recipe.overruling import Overruling
from ssae_debias.recipe.schema import DataSpec, Recipe
from ssae_debias.recipe.shift import Shift


@dataclass(frozen=True)
class Sets:
    """Rows of one seed's sets.

    Attributes
    ----------
    train : ndarray of int64
        The whole skewed training part.
    ambiguous, balanced : ndarray of int64
        Training rows: groups in which label and attribute agree; all groups alike.
    balanced_evaluation : ndarray of int64
        Where task and attribute accuracy are read.
    cells : dict of str to ndarray of int64
        All evaluation rows of each group, by name.
    """

    train: NDArray[np.int64]
    ambiguous: NDArray[np.int64]
    balanced: NDArray[np.int64]
    balanced_evaluation: NDArray[np.int64]
    cells: dict[str, NDArray[np.int64]]


class Bench:
    """Task, model and shared activations of a run.

    Parameters
    ----------
    recipe : Recipe
    home : Path
        Where stores, SAEs and pooled activations are kept.
    verbose : int, default=0
    task, model : optional
        In place of those that the recipe names.
    overruling : Overruling, optional
        A person's decisions, applied to each seed's debiaser where they are about its SAEs.
    """

    def __init__(
        self,
        recipe: Recipe,
        home: Path,
        *,
        verbose: int = 0,
        task: Task | None = None,
        model: TextModel | None = None,
        overruling: Overruling | None = None,
    ) -> None:
        self.recipe = recipe
        self.home = home
        self.verbose = verbose
        self.task = load_task(recipe.data) if task is None else task
        self._model = model
        self.overruling = overruling
        if len(self.task.label_names) != 2 or len(self.task.attribute_names) != 2:
            raise ValueError(
                "A recipe's task has two labels and two attribute values; this one has "
                f"{', '.join(self.task.label_names)} and {', '.join(self.task.attribute_names)}. Choose with "
                "data.labels and data.attributes."
            )
        self.leakage: dict[tuple[str, int], dict[str, float]] = {}  # by activations' sha256 and seed
        self._debiasers: dict[int, SSAEDebiaser] = {}
        self._folds: dict[int, Bench] = {}

    @cached_property
    def model(self) -> TextModel:
        """The language model, loaded on first use."""
        if self._model is not None:
            return self._model
        return load_model(self.recipe.model, device=self.recipe.device, dtype=self.recipe.dtype)

    @cached_property
    def pairs(self) -> WordPairs:
        """The attribute's words."""
        return as_word_pairs(self.recipe.ssae.attribute)

    @cached_property
    def original(self) -> NDArray[np.float32]:
        """Unedited pooled activations of all texts of the task."""
        return self.pooled(self.task.texts)

    @cached_property
    def swapped(self) -> NDArray[np.float32]:
        """Unedited pooled activations of all texts with the attribute's words swapped."""
        return self.pooled([self.pairs.swap(text) for text in self.task.texts])

    @cached_property
    def neutralized(self) -> NDArray[np.float32]:
        """Unedited pooled activations of all texts with the attribute's words replaced or deleted."""
        return self.pooled([self.pairs.neutralize(text) for text in self.task.texts])

    @cached_property
    def side(self) -> NDArray[np.int64]:
        """Whose words each text holds more of: −1 side 0, 1 side 1, 0 neither."""
        return sides_of(self.task.texts, self.pairs)

    @cached_property
    def shift(self) -> Shift:
        """What the rows of SHIFT share: SAEs at many sites, attribution, decisions."""
        return Shift(self)

    def for_seed(self, seed: int) -> Bench:
        """The bench of a seed: this one, or, for validation, one on the training texts that evaluates on a fold."""
        protocol = self.recipe.protocol
        if protocol.validation_folds is None:
            return self
        fold = seed % protocol.validation_folds
        if fold not in self._folds:
            splits = {"train_splits": ("train",), "evaluation_splits": ("dev",), "validation_folds": None}
            recipe = self.recipe.model_copy(update={"protocol": protocol.model_copy(update=splits)})
            task = held_out(self.task, fold, n_folds=protocol.validation_folds, splits=protocol.train_splits)
            self._folds[fold] = Bench(
                recipe,
                self.home,
                verbose=self.verbose,
                task=task,
                model=self.model,
                overruling=self.overruling,
            )
        return self._folds[fold]

    def sets(self, seed: int) -> Sets:
        """The rows that a seed trains and evaluates on."""
        protocol, task = self.recipe.protocol, self.task
        draw = protocol.draw
        train, evaluation = protocol.train_splits, protocol.evaluation_splits
        return Sets(
            train=task.rows(*train),
            ambiguous=ambiguous(task, splits=train, random_state=seed, draw=draw),
            balanced=balanced(task, splits=train, random_state=seed, draw=draw),
            balanced_evaluation=balanced(task, splits=evaluation, random_state=seed, draw=draw),
            cells={
                f"{task.label_names[y]}/{task.attribute_names[a]}": rows
                for (y, a), rows in cells(task, splits=evaluation).items()
            },
        )

    def debiaser(self, seed: int) -> SSAEDebiaser:
        """The method, fitted on the training texts and their labels, without the attribute."""
        if seed not in self._debiasers:
            recipe, rows = self.recipe, self.task.rows(*self.recipe.protocol.train_splits)
            debiaser = SSAEDebiaser(
                self.model.module,
                tokenizer=self.model.tokenizer,
                **{**recipe.ssae.model_dump(), "corpus": self._corpus()},
                output_site=recipe.protocol.site,
                pool=recipe.protocol.pool,
                include_special=recipe.protocol.include_special,
                max_length=recipe.protocol.max_length,
                cache_dir=self.home,
                device=recipe.device,
                dtype=recipe.dtype,
                random_state=seed,
                verbose=self.verbose,
            )
            texts, y = [self.task.texts[row] for row in rows], self.task.y[rows]
            debiaser.fit(texts, y)
            if self.overruling is not None:
                self.overruling.apply(debiaser, texts, y, seed)
            self._debiasers[seed] = debiaser
        return self._debiasers[seed]

    def _corpus(self) -> str | list[str] | None:
        corpus = self.recipe.ssae.corpus
        return (
            synthetic_corpus(random_state=self.recipe.data.random_state) if corpus == "synthetic" else corpus
        )

    def fitted(self, seed: int) -> SSAEDebiaser | None:
        """The debiaser of a seed if some method has needed it."""
        return self._debiasers.get(seed)

    def pooled(self, texts: Sequence[str], edits: Mapping[str, Edit] | None = None) -> NDArray[np.float32]:
        """Pooled activations of texts under edits, from the cache where it has them.

        Of one text for each of the task's, training texts and the rest are kept apart: the first are what
        `SSAEDebiaser.fit` reads too.
        """
        protocol = self.recipe.protocol
        whole = len(texts) == len(self.task)
        train = self.task.rows(*protocol.train_splits) if whole else np.arange(0)
        rest = np.setdiff1d(np.arange(len(texts)), train)
        found: NDArray[np.float32] | None = None
        for rows in (train, rest):
            if not len(rows):
                continue
            part = pooled_under_edits(
                self.model,
                [texts[row] for row in rows],
                edits or {},
                site=protocol.site,
                pool=protocol.pool,
                include_special=protocol.include_special,
                max_length=protocol.max_length,
                home=self.home,
                verbose=self.verbose,
            )
            if found is None:
                found = np.empty((len(texts), part.shape[1]), dtype=np.float32)
            found[rows] = part
        assert found is not None
        return found


def load_task(spec: DataSpec) -> Task:
    """The task that a recipe's data section describes.

    Examples
    --------
    >>> load_task(DataSpec(n=400)).label_names
    ('surgeon', 'nurse')
    """
    task = _whole_task(spec)
    if spec.max_per_group is None:
        return task
    return task.select(at_most(task, spec.max_per_group, random_state=spec.random_state))


def _whole_task(spec: DataSpec) -> Task:
    if spec.source == "synthetic":
        return synthetic_biographies(
            spec.n, professions=spec.professions, correlation=spec.correlation, random_state=spec.random_state
        )
    if spec.source == "bias_in_bios":
        return load_bias_in_bios(spec.professions, **({} if spec.path is None else {"path": spec.path}))
    assert spec.path is not None
    return load_table(
        spec.path,
        text=spec.text,
        label=None if spec.label_patterns is not None else spec.label,
        attribute=None if spec.attribute_patterns is not None else spec.attribute,
        split=spec.split,
        labels=spec.labels,
        attributes=spec.attributes,
        missing=spec.missing,
        random_state=spec.random_state,
        where=spec.where,
        label_patterns=spec.label_patterns,
        attribute_patterns=spec.attribute_patterns,
        patterns_in=spec.patterns_in,
        delete_label_words=spec.delete_label_words,
    )
