"""Concept bottleneck probing: vectors and scores against their formulas, on a real model, and as a row."""

from __future__ import annotations

import numpy as np
import pytest

from ssae_debias.activations import load_model, read_tokens
from ssae_debias.recipe import METHODS, Recipe
from ssae_debias.recipe.bench import Bench
from ssae_debias.recipe.methods.concepts import concept_scores, concept_vectors
from ssae_debias.recipe.results import score

KEYWORDS = ("surgeon", "orthopedic surgery", "scalpel", "nurse", "nursing", "triage")


@pytest.mark.parametrize("model", ["demo", "stories"])
def test_a_concept_is_its_last_token_less_the_mean_of_all(model: str, request) -> None:
    path = request.getfixturevalue("minilm_path" if model == "demo" else "stories_path")
    loaded = load_model(path)
    site = "resid.2"
    last = np.zeros((len(KEYWORDS), loaded.d_model))
    for row, word in enumerate(KEYWORDS):
        (batch,) = read_tokens(loaded, [f" {word}"], site)  # special tokens are left out
        assert batch.token_id[-1] not in loaded.tokenizer.all_special_ids
        last[row] = batch.activations[site][-1].numpy()
    found = concept_vectors(loaded, KEYWORDS, site)
    np.testing.assert_allclose(found, last - last.mean(0), atol=1e-4)
    assert np.abs(found).max() > 0.1


def test_scores_are_cosines() -> None:
    random = np.random.default_rng(0)
    vectors, pooled = (random.normal(size=(n, 7)).astype("float32") for n in (4, 5))
    found = concept_scores(vectors, pooled)
    for i in range(5):
        for k in range(4):
            cosine = pooled[i] @ vectors[k] / (np.linalg.norm(pooled[i]) * np.linalg.norm(vectors[k]))
            assert found[i, k] == pytest.approx(cosine, abs=1e-5)
    np.testing.assert_allclose(concept_scores(3 * vectors, 9 * pooled), found, atol=1e-6)


@pytest.mark.slow
def test_the_row_is_scored_on_as_many_columns_as_keywords(tmp_path, minilm_path) -> None:
    recipe = Recipe.model_validate(
        {
            "title": "t",
            "data": {"n": 200},
            "protocol": {"site": "resid.1"},
            "shift": {"keywords": KEYWORDS},
            "methods": ["cbp"],
        }
    )
    bench = Bench(recipe, tmp_path)
    outcome, sets = METHODS["cbp"].run(bench, 0), bench.sets(0)
    assert outcome.activations.shape == (len(bench.task), len(KEYWORDS))
    assert outcome.probe.n_features_in_ == len(KEYWORDS)
    scored = score(bench, sets, outcome, 0)
    assert scored.task_accuracy > 0.6
    assert set(scored.leakage) == {"linear", "mlp"}
    # another site, another seed: other rows, the same scores
    np.testing.assert_array_equal(METHODS["cbp"].run(bench, 1).activations, outcome.activations)
