"""Circuits of the subdomain's classifier: a probe of two labels, and the latents that its decision runs through."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssae_debias.activations import read_pooled
from ssae_debias.latents import ProbeDecision
from ssae_debias.latents.circuit import find_circuit
from ssae_debias.metrics.probes import linear_probe
from ssae_debias.recipe.evaluate.training import EvaluateBench, Variant


def measure_circuits(bench: EvaluateBench, seed: int) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Circuits by variant, for the first two labels of the subdomain, and what kept any from being found.

    The probe is trained on one half of the labelled test texts, as they are, and the circuit is found on others.
    """
    recipe, test = bench.recipe, bench.corpora.test
    if test.labels is None:
        return {}, ["No circuit: the subdomain's texts have no labels for a classifier to tell."]
    names = sorted({label for label in test.labels if label is not None})
    if len(names) != 2:
        return {}, [f"No circuit: a classifier of two labels is asked for, and there are {len(names)}."]
    rows = np.flatnonzero([label is not None for label in test.labels])
    rows = np.random.default_rng(seed).permutation(rows)
    y = (test.labels == names[1]).astype(np.int64)
    train, others = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    # as many of either label as there are, up to a half: a rare label shall not be missing by chance
    judged = np.concatenate([others[y[others] == label][: recipe.circuit.n_texts // 2] for label in (0, 1)])
    sites = list(recipe.circuit.sites or (recipe.site,))
    if min(len(set(y[train])), len(set(y[judged]))) < 2:
        return {}, ["No circuit: one of the labels is too rare among the test texts."]
    texts = [test.texts[row] for row in train]
    options: dict[str, Any] = {"include_special": recipe.include_special, "max_length": recipe.max_length}
    pooled = read_pooled(bench.model, texts, [sites[-1]], **options)[sites[-1]]
    probe = linear_probe().fit(pooled, y[train])
    decision = ProbeDecision.from_pipeline(probe, sites[-1], include_special=recipe.include_special)
    found: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for strategy in recipe.circuit.variants:
        variant = Variant(strategy, 0.0, recipe.compared_k)
        try:
            circuit = find_circuit(
                bench.model,
                bench.site_saes(variant, seed, sites),
                [test.texts[row] for row in judged],
                y[judged],
                decision,
                node_threshold=recipe.circuit.node_threshold,
                edge_threshold=recipe.circuit.edge_threshold,
                max_length=recipe.max_length,
                verbose=bench.verbose,
            )
        except ValueError as error:  # no node reaches the threshold: a finding, not a reason to lose the run
            notes.append(f"No circuit for {variant.name}: {error}")
            continue
        found[variant.name] = circuit.to_dict() | {"labels": names, "site": sites[-1], "seed": seed}
    return found, notes
