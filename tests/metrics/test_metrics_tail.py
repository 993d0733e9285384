"""Coverage of the tail, error by rank and equal L0, on dictionaries made by hand and on real activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_corpora import Corpus, dictionary_of, one_hot_corpus

from ssae_debias.activations import load_model, read_tokens
from ssae_debias.data.synthetic_corpus import synthetic_corpus
from ssae_debias.metrics.tail import at_equal_l0, measured_l0, reconstruction_by_rank, tail_coverage
from ssae_debias.sae import ArraySource, SAEConfig, SparseAutoencoder, train_sae
from ssae_debias.sae.evaluation import reconstruction_metrics


def test_types_with_a_latent_of_their_own_are_covered_and_no_others() -> None:
    corpus = one_hot_corpus(n_texts=300)
    saes = {"all": dictionary_of(torch.eye(20)), "common": dictionary_of(torch.eye(20)[:8])}
    coverage = tail_coverage(corpus.batches(50), saes, site="embed")
    types = coverage.types.set_index(["sae", "token_id"])
    counts = np.bincount(corpus.token_id, minlength=20)
    for token in range(20):
        assert types.loc[
            ("all", token), ["count", "covered", "latent", "f1", "precision", "recall"]
        ].tolist() == [
            counts[token],
            True,
            token,
            1,
            1,
            1,
        ]
        assert types.loc[("common", token), "covered"] == (token < 8)
    assert coverage.types[coverage.types["sae"] == "all"]["count"].is_monotonic_decreasing

    tail = coverage.tail(max_frequency=0.025).set_index("sae")
    assert tail.loc["all", "proportion"] == 1
    assert tail.loc["common", "proportion"] == 0
    assert tail.loc["common", "n_types"] == (counts <= 0.025 * 3000).sum()
    by_frequency = coverage.by_frequency(5)
    assert by_frequency.groupby("sae")["n_types"].sum().tolist() == [20, 20]
    common = by_frequency[by_frequency["sae"] == "common"].sort_values("frequency_from")
    assert common["proportion"].is_monotonic_increasing
    assert common["proportion"].iloc[-1] == 1
    assert ((common["low"] <= common["proportion"]) & (common["proportion"] <= common["high"])).all()

    cumulative = coverage.cumulative()
    for _, curve in cumulative.groupby("sae"):
        assert (curve["token_share"].iloc[-1], curve["covered_share"].iloc[-1]) == (1, 1)
        assert curve["covered_share"].is_monotonic_increasing
    half = {sae: np.interp(0.3, c["token_share"], c["covered_share"]) for sae, c in cumulative.groupby("sae")}
    assert half["all"] > half["common"]  # normalised: of what it covers, more lies in the tail
    with pytest.raises(ValueError, match="no counted token type has a frequency of 1e-06"):
        coverage.tail(1e-6)


def test_chance_covers_the_tail_where_nothing_is_held_out() -> None:
    """Random latents on random activations: nothing is there, and the best of many fits rare types anyway."""
    rng = np.random.default_rng(0)
    token_id = rng.integers(0, 300, 3000)
    corpus = Corpus(torch.from_numpy(rng.normal(size=(3000, 12))).float(), token_id, 10)
    sae = SparseAutoencoder(12, SAEConfig(d_sae=1500, k=4))
    with torch.no_grad():
        sae.threshold.fill_(2.6)
    coverage = tail_coverage(corpus.batches(50), {"sae": sae}, site="embed", min_f1=0.3, min_count=2)
    assert (coverage.types["selection_f1"] >= 0.3).mean() > 0.15
    assert coverage.types["covered"].mean() < 0.01
    # the criterion without agreement calls most types covered, with the same latents
    published = tail_coverage(
        corpus.batches(50), {"sae": sae}, site="embed", criterion="top_activation", min_count=2
    )
    assert published.types["covered"].mean() > 0.7


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([0.2, 0.5]))
def test_the_best_latent_is_that_of_brute_force(seed: int, min_f1: float) -> None:
    rng = np.random.default_rng(seed)
    token_id = rng.integers(0, 6, 200)
    x = torch.eye(6)[torch.from_numpy(token_id)] + torch.from_numpy(rng.normal(0, 0.5, (200, 6))).float()
    corpus = Corpus(x, token_id, 5)
    sae = SparseAutoencoder(6, SAEConfig(d_sae=20, k=2), random_state=seed)
    with torch.no_grad():
        sae.threshold.fill_(0.4)
    types = tail_coverage(corpus.batches(), {"a": sae}, site="embed", min_f1=min_f1).types.set_index(
        "token_id"
    )
    fires = (sae.encode(x) > 0).numpy()
    for kind in np.unique(token_id):
        scores = []
        for side in (0, 1):
            here = corpus.text_index % 2 == side
            truth, said = (token_id == kind)[here], fires[here]
            scores.append(2 * (said & truth[:, None]).sum(0) / np.maximum(said.sum(0) + truth.sum(), 1))
        best = int(np.argmax(scores[0]))
        assert types.loc[kind, "covered"] == (scores[0][best] >= min_f1 and scores[1][best] >= min_f1)
        if scores[0][best] >= min_f1:
            assert types.loc[kind, "latent"] == best
            assert types.loc[kind, "f1"] == pytest.approx(scores[1][best])


@pytest.mark.parametrize("form", ["thresholds", "relu", "topk"])
def test_equal_l0_is_equal(form: str) -> None:
    rng = np.random.default_rng(0)
    corpus = Corpus(torch.from_numpy(rng.normal(size=(600, 16))).float(), np.zeros(600, np.int64), 10)
    wide = SparseAutoencoder(16, SAEConfig(d_sae=64, k=4), top_k=8 if form == "topk" else None)
    narrow = SparseAutoencoder(16, SAEConfig(d_sae=64, k=4), random_state=1)
    with torch.no_grad():
        narrow.threshold.uniform_(1.5, 3.0)
        if form == "thresholds":
            wide.threshold.uniform_(0.1, 1.0)
    saes = {"wide": wide, "narrow": narrow}
    before = measured_l0(corpus.batches(), saes, site="embed")
    assert before["wide"] > 2 * before["narrow"]
    threshold = wide.threshold.clone()
    equal = at_equal_l0(corpus.batches(), saes, site="embed")
    after = measured_l0(corpus.batches(), equal, site="embed")
    assert after["wide"] == pytest.approx(before["narrow"], rel=0.03)
    assert after["narrow"] == pytest.approx(before["narrow"], rel=0.03)
    assert torch.equal(wide.threshold, threshold)
    if form == "thresholds":
        factors = equal["wide"].threshold / threshold
        assert float(factors.max() / factors.min()) == pytest.approx(1, rel=1e-4)
        torch.testing.assert_close(equal["narrow"].threshold, narrow.threshold, rtol=0.02, atol=0)
    else:
        assert float(equal["wide"].threshold.max() / equal["wide"].threshold.min()) == pytest.approx(1)
    looser = at_equal_l0(corpus.batches(), saes, site="embed", l0=10)
    for value in measured_l0(corpus.batches(), looser, site="embed").values():
        assert value == pytest.approx(10, rel=0.03)
    with pytest.raises(ValueError, match="cannot be reached"):
        at_equal_l0(corpus.batches(), saes, site="embed", l0=60)


def test_error_by_rank_is_that_of_each_token() -> None:
    corpus = one_hot_corpus(n_texts=80, noise=0.2)
    sae = dictionary_of(torch.eye(20)[:5])
    table = reconstruction_by_rank(corpus.read(9), {"sae": sae}, site="embed", n_bins=4)
    error = (corpus.x - sae(corpus.x)).square().sum(1).detach().numpy()
    counts = np.bincount(corpus.token_id, minlength=20)
    order = np.lexsort((np.arange(20), -counts))
    order = order[counts[order] > 0]
    variance = corpus.x.double().var(0, correction=0).sum().item()
    assert (table["rank_from"].iloc[0], table["rank_to"].iloc[-1]) == (1, len(order))
    assert table["n_tokens"].sum() == len(error)
    for row in table.itertuples():
        here = np.isin(corpus.token_id, order[row.rank_from - 1 : row.rank_to])
        assert row.n_tokens == here.sum()
        assert row.mean == pytest.approx(error[here].mean(), rel=1e-5)
        assert row.variance == pytest.approx(error[here].var(), rel=1e-4)
        assert row.maximum == pytest.approx(error[here].max(), rel=1e-5)
        assert row.relative == pytest.approx(error[here].mean() / variance, rel=1e-5)
    assert table["mean"].iloc[-1] > 2 * table["mean"].iloc[0]  # the tail has no latents


def test_relative_error_is_not_saebenchs_mean_of_ratios() -> None:
    """A token near the mean of its batch makes a mean of ratios anything; and how tokens are batched changes it."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(400, 8))).float()
    x[0] = x[1:].mean(0)
    corpus = Corpus(x, np.zeros(400, np.int64), 4)
    sae = dictionary_of(torch.eye(8)[:4], threshold=0.0)

    def saebench(texts_a_batch: int) -> float:
        ratios = []
        for batch in corpus.read(texts_a_batch):
            here = batch.activations["embed"]
            residual = (here - sae(here).detach()).square().sum(1)
            ratios.append(residual / (here - here.mean(0)).square().sum(1))
        return float(torch.cat(ratios).mean())

    ours = [
        reconstruction_by_rank(corpus.read(n), {"a": sae}, site="embed", n_bins=1)["relative"].item()
        for n in (5, 100)
    ]
    assert ours[0] == pytest.approx(ours[1], rel=1e-6)
    # the mean of squares here, about its own mean in `fvu`: they differ by the residual's mean alone
    fvu = reconstruction_metrics(sae, x)["fvu"]
    bias = float((x - sae(x).detach()).mean(0).square().sum() / x.var(0, correction=0).sum())
    assert ours[0] == pytest.approx(fvu + bias, rel=1e-4)
    assert saebench(100) > 1.5 * ours[0]
    assert abs(saebench(5) - saebench(100)) > 0.1


def test_what_makes_no_sense_is_refused() -> None:
    corpus, sae = one_hot_corpus(n_texts=10), dictionary_of(torch.eye(20))
    with pytest.raises(ValueError, match="criterion must be one of f1, top_activation"):
        tail_coverage(corpus.batches(), {"a": sae}, site="embed", criterion="paper")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_f1 must lie"):
        tail_coverage(corpus.batches(), {"a": sae}, site="embed", min_f1=0)
    with pytest.raises(ValueError, match="min_count=1000 times; the most frequent one does"):
        tail_coverage(corpus.batches(), {"a": sae}, site="embed", min_count=1000)
    with pytest.raises(ValueError, match="hold no token"):
        tail_coverage(lambda: [], {"a": sae}, site="embed")
    with pytest.raises(ValueError, match="hold no token"):
        reconstruction_by_rank([], {"a": sae}, site="embed")
    with pytest.raises(ValueError, match="l0 must be above 0"):
        at_equal_l0(corpus.batches(), {"a": sae}, site="embed", l0=-1)
    with pytest.raises(TypeError, match="must map names"):
        measured_l0(corpus.batches(), [sae], site="embed")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_trained_sae_covers_more_types_than_an_untrained_one_at_equal_l0(minilm_path: Path) -> None:
    model, texts = load_model("demo"), synthetic_corpus(100)
    every = list(read_tokens(model, texts, "embed"))
    x = torch.cat([batch.activations["embed"] for batch in every])
    sae = train_sae(ArraySource(x), SAEConfig(d_sae=512, k=8, epochs=8, batch_size=256), random_state=0)
    untrained = SparseAutoencoder(384, SAEConfig(d_sae=512, k=8))
    saes = at_equal_l0(lambda: every, {"trained": sae, "untrained": untrained}, site="embed", l0=6)
    tail = tail_coverage(lambda: every, saes, site="embed").tail(2e-3).set_index("sae")
    assert tail.loc["trained", "n_types"] > 30
    assert tail.loc["trained", "low"] > tail.loc["untrained", "high"]
