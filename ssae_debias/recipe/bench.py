"""The bench: one task, one model, and what every method of a run shares.

Pooled activations are computed once and kept on disk, keyed by all that they depend on, so that methods,
seeds and later runs read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssae_debias.activations import TextModel, load_model, read_pooled
from ssae_debias.activations.building import texts_sha256
from ssae_debias.data import (
    Task,
    WordPairs,
    ambiguous,
    as_word_pairs,
    balanced,
    cells,
    load_bias_in_bios,
    load_table,
    synthetic_biographies,
    synthetic_corpus,
)
from ssae_debias.edit import Edit, spliced
from ssae_debias.estimators import SSAEDebiaser
from ssae_debias.files import DamagedFileError, folder_aside, read_manifest, write_manifest
from ssae_debias.recipe.schema import DataSpec, Recipe


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
    """

    def __init__(self, recipe: Recipe, home: Path, *, verbose: int = 0) -> None:
        self.recipe = recipe
        self.home = home
        self.verbose = verbose
        self.task = load_task(recipe.data)
        if len(self.task.label_names) != 2 or len(self.task.attribute_names) != 2:
            raise ValueError(
                "A recipe's task has two labels and two attribute values; this one has "
                f"{', '.join(self.task.label_names)} and {', '.join(self.task.attribute_names)}. Choose with "
                "data.labels and data.attributes."
            )
        self._debiasers: dict[int, SSAEDebiaser] = {}

    @cached_property
    def model(self) -> TextModel:
        """The language model, loaded on first use."""
        return load_model(self.recipe.model, device=self.recipe.device, dtype=self.recipe.dtype)

    @cached_property
    def pairs(self) -> WordPairs:
        """The attribute's words."""
        return as_word_pairs(self.recipe.ssae.attribute)

    @cached_property
    def original(self) -> NDArray[np.float32]:
        """Unedited pooled activations of all texts of the task."""
        return self.pooled(self.task.texts)

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
            self._debiasers[seed] = debiaser.fit([self.task.texts[row] for row in rows], self.task.y[rows])
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
        """Pooled activations of texts under edits, from the cache where it holds them."""
        protocol, edits = self.recipe.protocol, edits or {}
        key = _key(
            [
                self.model.fingerprint,
                protocol.site,
                protocol.pool,
                protocol.include_special,
                protocol.max_length,
            ],
            texts,
            edits,
        )
        folder = self.home / "pooled" / key
        if folder.is_dir():
            try:
                read_manifest(folder, "pooled activations")
                return np.load(folder / "pooled.npy", allow_pickle=False)
            except (DamagedFileError, FileNotFoundError):
                pass  # what is damaged is computed again
        with spliced(self.model, edits):
            rows = read_pooled(
                self.model,
                texts,
                protocol.site,
                pool=protocol.pool,
                include_special=protocol.include_special,
                max_length=protocol.max_length,
                verbose=self.verbose,
            )[protocol.site]
        with folder_aside(folder) as aside:
            np.save(aside / "pooled.npy", rows)
            write_manifest(aside, "pooled activations")
        return rows


def load_task(spec: DataSpec) -> Task:
    """The task that a recipe's data section describes.

    Examples
    --------
    >>> load_task(DataSpec(n=400)).label_names
    ('surgeon', 'nurse')
    """
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
        label=spec.label,
        attribute=spec.attribute,
        split=spec.split,
        labels=spec.labels,
        attributes=spec.attributes,
        missing=spec.missing,
        random_state=spec.random_state,
    )


def _key(settings: list[Any], texts: Sequence[str], edits: Mapping[str, Edit]) -> str:
    digest = hashlib.sha256(json.dumps([*settings, texts_sha256(texts)]).encode())
    for site, edit in edits.items():
        digest.update(json.dumps([site, edit.kind, edit.settings()]).encode())
        for name, tensor in sorted(edit.tensors().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:24]
