"""What SCR and TPP are computed from: texts of equal cells, SAEs, and both pooled over the same tokens.

One forward pass over a task's texts serves all SAEs of a seed: their latents and the activations are averaged
over the tokens as they stream by, and no forward pass follows for any number of zeroed latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ssae_debias.activations import (
    ActivationStore,
    TextModel,
    TokenBatch,
    load_model,
    read_tokens,
    resolve_sites,
    site_widths,
)
from ssae_debias.data import Task, balanced, cells, load_bias_in_bios, load_table, synthetic_corpus
from ssae_debias.latents import pool_latents
from ssae_debias.recipe.bench import load_task
from ssae_debias.recipe.scr.schema import SaeSpec, ScrRecipe
from ssae_debias.retrieval import sample_documents
from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae, reconstruction_metrics, train_sae

FIDELITY_TEXTS = 128
"""Test texts on which SAEs are reconstructed: some ten thousand tokens."""


@dataclass(frozen=True)
class Part:
    """Some texts of a task, pooled.

    Attributes
    ----------
    rows : ndarray of int64
        Which texts of the task.
    activations : ndarray of float64, shape (len(rows), d_model)
    latents : dict of str to ndarray of float32, each (len(rows), d_sae)
        By SAE.
    """

    rows: NDArray[np.int64]
    activations: NDArray[np.float64]
    latents: dict[str, NDArray[np.float32]]


class ScrBench:
    """Tasks, model and SAEs of a run.

    Parameters
    ----------
    recipe : ScrRecipe
    home : Path
        Where activations and SAE checkpoints are kept.
    verbose : int, default=0
    """

    def __init__(self, recipe: ScrRecipe, home: Path, *, verbose: int = 0) -> None:
        self.recipe, self.home, self.verbose = recipe, home, verbose
        self.tasks: dict[str, Task] = {
            name: _two_by_two(name, load_task(spec)) for name, spec in recipe.data.tasks().items()
        }
        self.classes: Task | None = self._class_task()
        self._saes: dict[int, dict[str, SparseAutoencoder]] = {}

    @cached_property
    def model(self) -> TextModel:
        """The language model, loaded on first use."""
        return load_model(self.recipe.model, device=self.recipe.device, dtype=self.recipe.dtype)

    def draw(self, task: Task, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Training and test rows of a seed: equally many of each (label, attribute) cell."""
        protocol = self.recipe.protocol

        def equal_cells(splits: tuple[str, ...], n: int) -> NDArray[np.int64]:
            sizes = [len(rows) for rows in cells(task, splits=splits).values()]
            per_cell = min(n // len(sizes), min(sizes))
            return balanced(
                task, splits=splits, n_per_cell=max(per_cell, 1), random_state=seed, draw="random"
            )

        return (
            equal_cells(protocol.train_splits, protocol.n_train),
            equal_cells(protocol.evaluation_splits, protocol.n_test),
        )

    def saes(self, seed: int) -> dict[str, SparseAutoencoder]:
        """The SAEs of a seed by name, on the model's device."""
        if seed not in self._saes:
            self._saes = {
                seed: {name: self._sae(name, spec, seed) for name, spec in self.recipe.saes.items()}
            }
        return self._saes[seed]

    def pooled(
        self, task: Task, rows: Sequence[NDArray[np.int64]], saes: Mapping[str, SparseAutoencoder]
    ) -> list[Part]:
        """Mean activations and mean latents of several sets of a task's texts, in one pass."""
        everything = np.concatenate(rows)
        tokens = _Tokens(self, [task.texts[row] for row in everything], list(saes))
        pooled = pool_latents(tokens, saes, len(everything))
        ends = np.cumsum([len(part) for part in rows])[:-1]
        activations = np.split(tokens.means(), ends)
        latents = {name: np.split(found.pooled, ends) for name, found in pooled.items()}
        return [
            Part(part, activations[i], {name: split[i] for name, split in latents.items()})
            for i, part in enumerate(rows)
        ]

    def fidelity(
        self, texts: Sequence[str], saes: Mapping[str, SparseAutoencoder]
    ) -> dict[str, dict[str, float]]:
        """`reconstruction_metrics` of each SAE on the tokens of some texts."""
        site = self.recipe.protocol.site
        x = torch.cat([batch.activations[site].float().cpu() for batch in self._read(texts)])
        return {name: reconstruction_metrics(sae, x) for name, sae in saes.items()}

    def _read(self, texts: Sequence[str]) -> Iterator[TokenBatch]:
        protocol = self.recipe.protocol
        return read_tokens(
            self.model,
            texts,
            protocol.site,
            max_length=protocol.max_length,
            include_special=protocol.include_special,
            verbose=self.verbose,
        )

    def _sae(self, name: str, spec: SaeSpec, seed: int) -> SparseAutoencoder:
        protocol = self.recipe.protocol
        if spec.path is not None:
            sae = load_sae(spec.path)
            width = site_widths(self.model, resolve_sites(self.model, protocol.site))[protocol.site]
            if sae.d_in != width:
                raise ValueError(
                    f"saes.{name} reads activations of width {sae.d_in}; {self.model.name} has {width} at "
                    f"{protocol.site}. Choose another protocol.site or SAE."
                )
            return sae.to(self.model.device).eval()
        store = ActivationStore.build(
            self.home / "activations",
            self.model,
            self._training_texts(spec),
            protocol.site,
            max_length=protocol.max_length,
            include_special=protocol.include_special,
            verbose=self.verbose,
        )
        config = SAEConfig(
            d_sae=spec.d_sae,
            k=spec.k,
            architecture=spec.architecture,
            tilt=spec.tilt,
            tilt_scale=spec.tilt_scale,
            n_tokens=spec.train_tokens,
        )
        return train_sae(
            store.at(protocol.site),
            config,
            checkpoint_dir=self.home / "saes",
            random_state=seed,
            device=self.model.device,
            verbose=self.verbose,
        ).eval()

    def _training_texts(self, spec: SaeSpec) -> list[str]:
        # not drawn anew with each seed: one store then serves them all
        seed = self.recipe.data.random_state
        if spec.corpus == "synthetic":
            return sample_documents(
                synthetic_corpus(random_state=seed), spec.n_texts, random_state=seed
            ).texts
        if spec.corpus is not None:
            return sample_documents(spec.corpus, spec.n_texts, random_state=seed).texts
        splits = self.recipe.protocol.train_splits
        own = [task.texts[row] for task in self.tasks.values() for row in task.rows(*splits)]
        return sample_documents(list(dict.fromkeys(own)), spec.n_texts, random_state=seed).texts

    def _class_task(self) -> Task | None:
        spec, seed = self.recipe.tpp, self.recipe.data.random_state
        if spec.source == "bias_in_bios":
            assert spec.classes is not None
            return load_bias_in_bios(spec.classes, **({} if spec.path is None else {"path": spec.path}))
        if spec.source != "table":
            return None
        assert spec.path is not None
        task = load_table(
            spec.path,
            text=spec.text,
            label=spec.label,
            split=spec.split,
            labels=spec.classes,
            random_state=seed,
        )
        if len(task.label_names) < 3:
            raise ValueError(
                f"TPP compares three or more classes; column {spec.label!r} of {spec.path} has "
                f"{', '.join(task.label_names)}."
            )
        return task


class _Tokens:
    """Tokens under every SAE's name, for `pool_latents`, with the activations averaged as they pass."""

    def __init__(self, bench: ScrBench, texts: Sequence[str], names: Sequence[str]) -> None:
        self.bench, self.texts, self.names = bench, texts, names
        self.sums: torch.Tensor | None = None
        self.counts = np.zeros(len(texts), dtype=np.int64)

    def __iter__(self) -> Iterator[TokenBatch]:
        for batch in self.bench._read(self.texts):
            x = batch.activations[self.bench.recipe.protocol.site]
            if self.sums is None:
                self.sums = torch.zeros(len(self.texts), x.shape[1], dtype=torch.float64)
            self.sums.index_add_(0, torch.from_numpy(batch.text_index), x.double().cpu())
            self.counts += np.bincount(batch.text_index, minlength=len(self.texts))
            yield replace(batch, activations=dict.fromkeys(self.names, x))

    def means(self) -> NDArray[np.float64]:
        """Mean activation of each text; a text without tokens is a row of zeros, as its latents are."""
        if self.sums is None:
            raise ValueError("none of the texts holds a token that counts.")
        means: NDArray[np.float64] = self.sums.numpy() / np.maximum(self.counts, 1)[:, None]
        return means


def _two_by_two(name: str, task: Task) -> Task:
    if len(task.label_names) != 2 or len(task.attribute_names) != 2:
        raise ValueError(
            f"SCR compares two labels and two attribute values; {name} has {', '.join(task.label_names)} and "
            f"{', '.join(task.attribute_names)}. Choose with data.pairs and data.attributes."
        )
    return task
