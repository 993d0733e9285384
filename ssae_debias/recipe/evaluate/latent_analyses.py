"""Concept recall, interpretability and diversity of the SAEs of a seed, at one L0, on the subdomain's test texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ssae_debias.latents.diversity import diversity_scores
from ssae_debias.latents.interpretability import (
    Explainer,
    Judge,
    LanguageModelExplainer,
    LanguageModelJudge,
    LexiconExplainer,
    collect_examples,
    interpretability_scores,
    lexicon_judge,
    local_generator,
)
from ssae_debias.metrics.concept_recall import Concept, concept_recall, recall_by_frequency
from ssae_debias.recipe.evaluate.concepts import find_concepts
from ssae_debias.recipe.evaluate.corpus_analyses import Saes, Tables, keyed
from ssae_debias.recipe.evaluate.training import EvaluateBench, Variant
from ssae_debias.sae import SparseAutoencoder

N_RANDOM = 5
"""Random latents a concept and SAE: the line that they give is a mean over dozens of concepts."""
N_RANGES = 8
"""Ranges of frequency on the plot of recall, equally wide in the logarithm."""


@dataclass(frozen=True)
class Interpreter:
    """An explainer and the judge that goes with it."""

    explainer: Explainer
    judge: Judge

    @classmethod
    def named(cls, name: str, *, device: str = "cpu") -> Interpreter:
        """`lexicon`, or the folder or hub id of a causal language model."""
        if name == "lexicon":
            return cls(LexiconExplainer(), lexicon_judge)
        return cls(
            LanguageModelExplainer(local_generator(name, device=device)),
            LanguageModelJudge(local_generator(name, max_new_tokens=5, device=device)),
        )


def measure_recall(
    bench: EvaluateBench, saes: Saes, seed: int, concepts: list[Concept] | None = None
) -> Tables:
    """The best latent for each concept, by SAE, with the site's neurons and random latents beside."""
    concepts = concepts or find_concepts(bench.recipe, bench.corpora, bench.model)
    if not concepts:
        raise ValueError(
            "No concept occurs often enough in the test texts to be measured: give concepts.words or patterns, a lower "
            "concepts.least, or more test texts."
        )
    named = {str(i): sae for i, sae in enumerate(saes.values())}
    variants = dict(zip(named, saes, strict=True))
    found = concept_recall(
        bench.test.token_batches,
        named,
        concepts,
        len(bench.corpora.test),
        site=bench.recipe.site,
        n_random=N_RANDOM,
        n_resamples=bench.recipe.n_resamples,
        random_state=seed,
    )
    planted = bench.corpora.planted
    found["planted"] = found["concept"].isin(planted)
    # how rare it was where SAEs were trained; among the test texts it was put often enough to be measured
    found["test_frequency"] = found["frequency"]
    found["frequency"] = [
        planted.get(c, f) for c, f in zip(found["concept"], found["frequency"], strict=True)
    ]
    edges = _edges(found["frequency"])
    by_kind = []
    for kind in (True, False):
        of_kind = found[found["planted"] == kind]
        if len(of_kind):
            by_kind.append(recall_by_frequency(of_kind, edges).assign(planted=kind))
    by_frequency = pd.concat(by_kind, ignore_index=True)
    # neurons are no SAE's: they stand under the first variant, once
    first = next(iter(named))
    tables = {"recall": found, "recall_by_frequency": by_frequency}
    return {
        name: keyed(table.replace({"dictionary": {"neurons": first}}), "dictionary", variants, seed)
        for name, table in tables.items()
    }


def measure_interpretability(bench: EvaluateBench, saes: Saes, seed: int, interpreter: Interpreter) -> Tables:
    """Scores of explanations of latents drawn from those that fire, and the diversity of the same latents."""
    spec, site = bench.recipe.interpretability, bench.recipe.site
    scores, diversity = [], []
    variants: dict[str, Variant] = {}
    for i, (variant, sae) in enumerate(saes.items()):
        variants[str(i)] = variant
        drawn = _firing(bench, sae, spec.n_latents, seed)
        examples = collect_examples(
            bench.test.token_batches(), sae, site, drawn, bench.model.tokenizer, random_state=seed
        )
        scored = interpretability_scores(
            examples, interpreter.explainer, interpreter.judge, random_state=seed
        )
        scores.append(scored.assign(sae=str(i)))
        diversity.append(
            diversity_scores(bench.test.token_batches, sae, site, latents=drawn).assign(sae=str(i))
        )
    found = {"interpretability": pd.concat(scores), "diversity": pd.concat(diversity)}
    return {name: keyed(table.reset_index(drop=True), "sae", variants, seed) for name, table in found.items()}


def _firing(bench: EvaluateBench, sae: SparseAutoencoder, n: int, seed: int) -> list[int]:
    """Latents that fire on ten test tokens or more, drawn at random."""
    counts = np.zeros(sae.d_sae, dtype=np.int64)
    for batch in bench.test.token_batches():
        x = batch.activations[bench.recipe.site]
        for start in range(0, len(x), 4096):
            z = sae.encode(x[start : start + 4096].to(sae.device, sae.dtype))
            counts += (z > 0).sum(0).cpu().numpy()
    firing = np.flatnonzero(counts >= 10)
    if not len(firing):
        raise ValueError("no latent fires on ten test tokens; train longer, or give more test texts.")
    return np.sort(np.random.default_rng(seed).permutation(firing)[:n]).tolist()


def _edges(frequency: pd.Series) -> list[float]:
    low, high = float(frequency.min()), float(frequency.max())
    edges = np.geomspace(low * 0.999, high * 1.001, N_RANGES + 1)
    return [float(edge) for edge in edges]
