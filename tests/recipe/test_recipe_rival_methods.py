"""Rows that rival the debiaser, on synthetic biographies and MiniLM: each against its definition."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssae_debias.activations import load_model, read_pooled, read_tokens
from ssae_debias.data import WordPairs
from ssae_debias.latents import association, pool_latents
from ssae_debias.recipe import METHODS, Recipe
from ssae_debias.recipe.bench import Bench
from ssae_debias.recipe.methods.labels import LABELS
from ssae_debias.recipe.methods.method import Outcome
from ssae_debias.recipe.methods.words import WORDS
from ssae_debias.rivals import DFR, INLP, LEACE, AveragedPairs, CorrelationRemover, LEACEGivenY

SITE, LENGTH, C = "resid.1", 32, 0.1
SMALL = {
    "title": "small",
    "data": {"n": 400},
    "protocol": {"site": SITE, "max_length": LENGTH},
    "ssae": {"sites": ["embed"], "d_sae": 256, "k": 8, "train_tokens": 10_000},
    "rivals": {"selected_latents": 5},
    "seeds": [0],
}
SOME = 60
BY_LATENTS = "select_and_project"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def bench(home: Path, minilm_path: Path) -> Bench:
    return Bench(Recipe.model_validate(SMALL), home)


def fresh_probe(x: np.ndarray, y: np.ndarray) -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000)).fit(x, y)


def worst_group(bench: Bench, outcome: Outcome) -> float:
    cells = bench.sets(0).cells.values()
    return min(np.mean(outcome.probe.predict(outcome.activations[c]) == bench.task.y[c]) for c in cells)


def same(one: Outcome, other: Outcome) -> bool:
    x, z = one.activations, other.activations
    return np.allclose(x, z, atol=1e-5) and np.array_equal(one.probe.predict(x), other.probe.predict(z))


def pooled(texts: list[str]) -> np.ndarray:
    return read_pooled(load_model("demo"), texts, SITE, max_length=LENGTH, include_special=True)[SITE]


# where the activations of a row come from


def test_swap_rows_are_made_of_texts_and_their_swaps(bench: Bench) -> None:
    some, gender = bench.task.texts[:SOME], WordPairs.gender()
    x, s = bench.original, bench.swapped
    np.testing.assert_allclose(x[:SOME], pooled(some), atol=1e-5)
    np.testing.assert_allclose(s[:SOME], pooled([gender.swap(text) for text in some]), atol=1e-5)
    assert np.abs(x - s).max() > 0.01
    rows = bench.sets(0).ambiguous
    y = bench.task.y[rows]

    mean = (x + s) / 2
    assert same(METHODS["swap_mean"].run(bench, 0), Outcome(fresh_probe(x[rows], y), mean))
    assert same(METHODS["swap_mean_retrain"].run(bench, 0), Outcome(fresh_probe(mean[rows], y), mean))

    both = fresh_probe(np.concatenate([x[rows], s[rows]]), np.concatenate([y, y]))
    augmented = METHODS["swap_augmentation"].run(bench, 0)
    assert same(augmented, Outcome(both, x))
    # a decision that was trained on both turns less often with the words
    flips = [np.mean(p.predict(x) != p.predict(s)) for p in (augmented.probe, fresh_probe(x[rows], y))]
    assert flips[0] < flips[1]


def test_swap_projection_leaves_nothing_along_the_main_differences_of_training_texts(bench: Bench) -> None:
    train = bench.sets(0).train
    difference = (bench.original - bench.swapped)[train].astype(np.float64)
    main = np.linalg.svd(difference, full_matrices=False)[2][:3]
    for name in ("swap_projection", "swap_projection_retrain"):
        edited = METHODS[name].run(bench, 0).activations
        along = edited @ main.T
        np.testing.assert_allclose(along, np.broadcast_to(along[0], along.shape), atol=1e-4)
        assert np.linalg.matrix_rank((edited - bench.original).astype(np.float64), tol=1e-2) == 3


def test_after_words_given_y_no_class_covaries_with_the_side_of_its_words(bench: Bench) -> None:
    gender, train, y = WordPairs.gender(), bench.sets(0).train, bench.task.y
    counts = np.array([gender.sides(text) for text in bench.task.texts])
    side = np.sign(counts[:, 1] - counts[:, 0])
    used = train[side[train] != 0]
    assert set(side[used]) == {-1, 1}

    def covariance(x: np.ndarray) -> float:
        total = np.zeros(x.shape[1])
        for label in (0, 1):
            rows = used[y[used] == label]
            total += (side[rows] - side[rows].mean()) @ x[rows].astype(np.float64)
        return float(np.abs(total).max() / len(used))

    for name in ("words_given_y", "words_given_y_retrain"):
        assert covariance(METHODS[name].run(bench, 0).activations) < 1e-4 < 0.01 < covariance(bench.original)


def test_words_that_no_text_holds_are_named(home: Path, minilm_path: Path) -> None:
    recipe = Recipe.model_validate({**SMALL, "ssae": {**SMALL["ssae"], "attribute": [["zebra", "giraffe"]]}})
    with pytest.raises(ValueError, match="0 and 0 do"):
        METHODS["words_given_y"].run(Bench(recipe, home), 0)


def test_averaged_pairs_are_read_alike_and_cached_apart_from_the_unedited(bench: Bench) -> None:
    x, before = bench.original.copy(), bench.model.fingerprint
    averaged = METHODS["average_pairs"].run(bench, 0).activations
    assert bench.model.fingerprint == before
    # the first and the second run, and the unedited model's cache beside it
    np.testing.assert_array_equal(METHODS["average_pairs_retrain"].run(bench, 0).activations, averaged)
    np.testing.assert_array_equal(bench.pooled(bench.task.texts), x)
    classes = AveragedPairs.of(bench.pairs, bench.model.tokenizer).classes
    tokens = {token for sides in classes for side in sides for token in side}
    read = bench.model.tokenizer(list(bench.task.texts), truncation=True, max_length=LENGTH)["input_ids"]
    holds = [bool(tokens & set(ids)) for ids in read]
    assert 0 < sum(holds) < len(holds)
    np.testing.assert_array_equal(np.abs(averaged - x).max(axis=1) > 1e-4, holds)


def test_label_rows_are_the_rivals_fitted_on_the_skewed_part(bench: Bench) -> None:
    x, task, sets = bench.original, bench.task, bench.sets(0)
    fitting = x[sets.train], task.y[sets.train]
    groups = {"sensitive_features": task.sensitive_features[sets.train]}
    y = task.y[sets.ambiguous]

    def erased(eraser: object) -> np.ndarray:
        return eraser.fit(*fitting, **groups).transform(x)

    original = fresh_probe(x[sets.ambiguous], y)
    for name, eraser in (("leace", LEACE()), ("leace_given_y", LEACEGivenY())):
        z = erased(eraser)
        assert same(METHODS[name].run(bench, 0), Outcome(fresh_probe(z[sets.ambiguous], y), z))
        assert same(METHODS[f"{name}_kept"].run(bench, 0), Outcome(original, z))
    for name, eraser in (
        ("inlp", INLP(within_y=True, random_state=0)),
        ("correlation_remover", CorrelationRemover()),
    ):
        z = erased(eraser)
        assert same(METHODS[name].run(bench, 0), Outcome(fresh_probe(z[sets.ambiguous], y), z))
    dfr = DFR(C=C, random_state=0).fit(*fitting, **groups)
    assert same(METHODS["dfr"].run(bench, 0), Outcome(dfr, x))


@pytest.mark.parametrize(
    "name",
    ["swap_mean_retrain", "average_pairs_retrain", "words_given_y_retrain", "leace_given_y", "inlp", "dfr"],
)
def test_rows_that_should_help_do(bench: Bench, name: str) -> None:
    original = worst_group(bench, METHODS["original"].run(bench, 0))
    assert worst_group(bench, METHODS[name].run(bench, 0)) > original + 0.1


# what a row is told


@pytest.fixture(scope="module")
def blind(bench: Bench) -> Bench:
    """The bench with the attribute shuffled among the texts."""
    blind = Bench(bench.recipe, bench.home, model=bench.model)
    shuffled = np.random.default_rng(0).permutation(bench.task.sensitive_features)
    blind.task = dataclasses.replace(bench.task, sensitive_features=shuffled)
    blind.sets = bench.sets  # which rows are drawn is the protocol's matter
    return blind


@pytest.mark.parametrize("name", sorted({*WORDS, *LABELS} - {BY_LATENTS}))
def test_only_rows_that_say_so_read_the_groups_of_training_texts(
    bench: Bench, blind: Bench, name: str
) -> None:
    alike = same(METHODS[name].run(bench, 0), METHODS[name].run(blind, 0))
    assert alike != METHODS[name].needs_group_labels


# select and project


@pytest.mark.parametrize("sites", [["embed"], ["embed", SITE]])
def test_select_and_project_takes_out_the_encoder_directions_most_tied_to_the_attribute(
    home: Path, minilm_path: Path, monkeypatch: pytest.MonkeyPatch, sites: list[str]
) -> None:
    from ssae_debias.recipe.methods import labels

    found = {}

    def remember(bench: Bench, seed: int) -> object:
        found["sae"], table = labelled(bench, seed)
        return found["sae"], table

    labelled = labels._labelled_latents
    monkeypatch.setattr(labels, "_labelled_latents", remember)
    # what follows the latents' edit has no part in it, and would be fitted for nothing
    latents_only = {**SMALL["ssae"], "sites": sites, "realign": False, "erase": False}
    recipe = Recipe.model_validate({**SMALL, "ssae": latents_only})
    bench = Bench(recipe, home)
    edited = METHODS[BY_LATENTS].run(bench, 0).activations
    sae, task, train = found["sae"], bench.task, bench.sets(0).train
    if SITE in sites:
        assert torch.equal(sae.W_enc, bench.debiaser(0).saes_[SITE].W_enc)
    else:
        assert SITE not in bench.debiaser(0).saes_
        assert sae.history_[-1]["fvu"] < 0.5  # trained, and not a random dictionary

    texts = [task.texts[row] for row in train]
    tokens = read_tokens(bench.model, texts, SITE, max_length=LENGTH, include_special=True)
    z = pool_latents(tokens, {SITE: sae}, len(train))[SITE].pooled
    effect = association(z, task.sensitive_features[train], within=task.y[train])["effect"].abs().to_numpy()
    chosen = np.argsort(-effect)[:5]
    A = sae.W_enc.detach().numpy().T[chosen].astype(np.float64).T  # (d, 5), as in the paper
    removed = A @ np.linalg.inv(A.T @ A) @ A.T
    x, middle = bench.original.astype(np.float64), bench.original[train].mean(axis=0)
    np.testing.assert_allclose(edited, x - (x - middle) @ removed, atol=1e-4)

    off = recipe.model_copy(update={"rivals": recipe.rivals.model_copy(update={"selected_strength": 0.0})})
    still = Bench(off, home)
    still._debiasers = bench._debiasers
    np.testing.assert_array_equal(METHODS[BY_LATENTS].run(still, 0).activations, bench.original)
