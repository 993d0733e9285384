"""SCR and TPP of one task and seed: every SAE by its own ranking, and by random latents.

Probes are trained once, for they depend on the activations alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ssae_debias.data import Task
from ssae_debias.metrics import (
    fit_scr_probes,
    fit_tpp_probes,
    random_ranking,
    scr,
    scr_rankings,
    tpp,
    tpp_rankings,
)
from ssae_debias.recipe.scr.bench import Part
from ssae_debias.recipe.scr.results import Found
from ssae_debias.recipe.scr.schema import ScrRecipe
from ssae_debias.sae import SparseAutoencoder

CONTROL_DRAWS = 5
"""Random rankings that the control is averaged over: one draw of two latents says little."""

Key = TypeVar("Key", bound=Hashable)
Ranking = NDArray[np.int64]


def measure_scr(
    recipe: ScrRecipe,
    name: str,
    task: Task,
    train: Part,
    test: Part,
    saes: Mapping[str, SparseAutoencoder],
    seed: int,
) -> list[Found]:
    """SCR of every SAE, and of its control."""
    y, a = task.y[train.rows], task.sensitive_features[train.rows]
    y_test, a_test = task.y[test.rows], task.sensitive_features[test.rows]
    probes = fit_scr_probes(train.activations, y, a, C=recipe.protocol.C)
    found = []
    for place, (sae, decoder) in enumerate(_decoders(saes).items()):
        effects = scr_rankings(probes, train.latents[sae], y, a, decoder)
        for kind, rankings in _with_controls(effects, train.latents[sae], [seed, place]).items():
            draws = [
                scr(
                    probes,
                    test.activations,
                    test.latents[sae],
                    y_test,
                    a_test,
                    decoder,
                    ranking,
                    n_latents=recipe.protocol.n_latents,
                )
                for ranking in rankings
            ]
            found.append(Found(sae, kind, name, seed, draws))
    return found


def measure_tpp(
    recipe: ScrRecipe,
    name: str,
    task: Task,
    train: Part,
    test: Part,
    saes: Mapping[str, SparseAutoencoder],
    seed: int,
) -> list[Found]:
    """TPP of every SAE, and of its control."""
    members, members_test = (_members(task, part.rows, recipe.tpp.source) for part in (train, test))
    probes = fit_tpp_probes(train.activations, members, C=recipe.protocol.C)
    found = []
    for place, (sae, decoder) in enumerate(_decoders(saes).items()):
        effects = tpp_rankings(probes, train.latents[sae], members, decoder)
        for kind, rankings in _with_controls(effects, train.latents[sae], [seed, place]).items():
            draws = [
                tpp(
                    probes,
                    test.activations,
                    test.latents[sae],
                    members_test,
                    decoder,
                    ranking,
                    n_latents=recipe.protocol.n_latents,
                )
                for ranking in rankings
            ]
            found.append(Found(sae, kind, name, seed, draws))
    return found


def _with_controls(
    rankings: Mapping[Key, Ranking], latents: NDArray[np.float32], seed: Sequence[int]
) -> dict[Any, list[Mapping[Key, Ranking]]]:
    """The rankings by effect, and `CONTROL_DRAWS` as long of random live latents."""
    random = np.random.default_rng(seed)
    return {
        "effect": [rankings],
        "random": [
            {key: random_ranking(latents, len(ranking), random) for key, ranking in rankings.items()}
            for _ in range(CONTROL_DRAWS)
        ],
    }


def _members(task: Task, rows: NDArray[np.int64], source: str) -> dict[str, NDArray[np.bool_]]:
    members = {name: task.y[rows] == i for i, name in enumerate(task.label_names)}
    if source == "concepts":
        members |= {name: task.sensitive_features[rows] == i for i, name in enumerate(task.attribute_names)}
    return members


def _decoders(saes: Mapping[str, SparseAutoencoder]) -> dict[str, NDArray[np.float64]]:
    return {name: sae.W_dec.detach().double().cpu().numpy() for name, sae in saes.items()}
