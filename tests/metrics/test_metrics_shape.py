"""Entropy, maximum, counts and decoder directions: against what each says of a code known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_corpora import Corpus, dictionary_of

from ssae_debias.metrics.shape import (
    activation_shape,
    count_log_ratio,
    counts_by_rank,
    decoder_cosines,
    decoder_map,
)
from ssae_debias.sae import SAEConfig, SparseAutoencoder


def corpus_of(x: torch.Tensor, length: int = 1) -> Corpus:
    return Corpus(x, np.zeros(len(x), np.int64), length)


def test_entropy_and_maximum_of_codes_known_by_hand() -> None:
    x = torch.tensor([[4.0, 0, 0, 0], [1, 1, 1, 1], [3, 1, 0, 0], [0, 0, 0, 0]])
    shape = activation_shape(corpus_of(x).read(2), {"a": dictionary_of(torch.eye(4))}, site="embed")["a"]
    quarter = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert shape.entropy.mean == pytest.approx((0 + 2 + quarter) / 3)
    assert shape.maximum.mean == pytest.approx((4 + 1 + 3 + 0) / 4)
    assert (shape.n_tokens, shape.n_silent, shape.l0) == (4, 1, 7 / 4)
    assert shape.counts.tolist() == [3, 2, 1, 1]
    assert (shape.entropy.counts.sum(), shape.maximum.counts.sum(), shape.maximum.counts[0]) == (3, 4, 1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 40))
def test_figures_are_those_of_the_codes_however_they_come(seed: int, texts_a_batch: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(60, 6) * 3
    sae = SparseAutoencoder(6, SAEConfig(d_sae=32, k=4), random_state=seed)
    shape = activation_shape(corpus_of(x, 2).read(texts_a_batch), {"a": sae}, site="embed")["a"]
    z = sae.encode(x).detach().double()
    p = z / z.sum(1, keepdim=True)
    entropy = torch.special.entr(p).sum(1) / np.log(2)
    assert shape.entropy.mean == pytest.approx(float(entropy.mean()), rel=1e-6)
    assert shape.entropy.std == pytest.approx(float(entropy.std(correction=0)), rel=1e-4)
    assert shape.maximum.mean == pytest.approx(float(z.max(1).values.mean()), rel=1e-6)
    np.testing.assert_array_equal(shape.counts, (z > 0).sum(0).numpy())
    for histogram, values in ((shape.entropy, entropy), (shape.maximum, z.max(1).values)):
        assert histogram.to_frame()["share"].sum() == pytest.approx(1)
        median = float(np.median(values.numpy()))
        near = max(0.1 * median, 3 * float(histogram.edges[1]))
        low, high = np.quantile(values.numpy(), [0.45, 0.55])
        assert low - near <= histogram.quantile(0.5) <= high + near


def test_a_dictionary_that_says_a_token_by_one_latent_has_the_lower_entropy() -> None:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(8, 8), dim=1)
    x = directions[torch.randint(8, (200,))] * 5
    own, foreign = dictionary_of(directions, 4.0), dictionary_of(torch.eye(8), 0.0)
    shapes = activation_shape(corpus_of(x).read(50), {"own": own, "foreign": foreign}, site="embed")
    assert shapes["own"].entropy.mean < 0.1 < 1 < shapes["foreign"].entropy.mean
    assert shapes["own"].maximum.mean > shapes["foreign"].maximum.mean
    ranks = counts_by_rank(shapes)
    assert ranks.groupby("sae")["count"].apply(lambda c: c.is_monotonic_decreasing).all()


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30), st.integers(2, 50))
def test_log_ratios_know_no_overall_activity(counts: list[int], factor: int) -> None:
    own = np.array(counts)
    assert np.abs(count_log_ratio(own, own)).max() == 0
    assert np.isfinite(count_log_ratio(own, np.zeros(len(own), int))).all()
    more = count_log_ratio(own * factor + (factor - 1) / 2, own)  # the pseudo-count scaled along
    assert np.abs(more).max() < 1e-9
    np.testing.assert_allclose(count_log_ratio(own[::-1], own, by="rank"), 0, atol=1e-12)


def test_log_ratios_refuse_other_widths() -> None:
    with pytest.raises(ValueError, match="of one length"):
        count_log_ratio([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="by must be"):
        count_log_ratio([1, 2], [1, 2], by="name")  # type: ignore[arg-type]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([1, 7, 64, 500]))
def test_cosines_are_those_of_the_whole_table(seed: int, rows_at_once: int) -> None:
    torch.manual_seed(seed)
    rows = torch.randn(50, 4) * torch.rand(50, 1)
    rows[13] = 0
    rows[40] = rows[3] * 2
    found = decoder_cosines(dictionary_of(rows), n_bins=20, rows_at_once=rows_at_once)
    unit = torch.nn.functional.normalize(rows.double(), dim=1).numpy()
    table = unit @ unit.T
    np.fill_diagonal(table, -np.inf)
    table[:, 13] = -np.inf
    live = np.arange(50) != 13
    np.testing.assert_allclose(found.largest[live], table.max(1)[live], atol=1e-5)
    assert np.isnan(found.largest[13])
    assert found.nearest[13] == -1
    assert (found.nearest[3], found.nearest[40]) == (40, 3)
    assert found.counts.sum() == 49 * 48 // 2
    pairs = np.clip(table[live][:, live][np.triu_indices(49, 1)], -1, 1)
    assert np.abs(found.counts - np.histogram(pairs, found.edges)[0]).sum() <= 2  # at the edges, by rounding


def test_a_row_whose_others_all_point_away_has_a_negative_largest_cosine() -> None:
    found = decoder_cosines(dictionary_of(torch.tensor([[1.0, 0.0], [-1.0, 0.1], [-1.0, -0.1]])))
    assert found.largest[0] < -0.9
    with pytest.raises(ValueError, match="of 2 there are 1"):
        decoder_cosines(dictionary_of(torch.tensor([[1.0, 0.0], [0.0, 0.0]])))


def test_a_map_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(ImportError, match=r'pip install "ssae-debias\[umap\]"'):
        decoder_map({"a": dictionary_of(torch.eye(30))})
    with pytest.raises(ValueError, match="of one width"):
        decoder_map({"a": dictionary_of(torch.eye(3)), "b": dictionary_of(torch.eye(4))})


@pytest.mark.slow
def test_a_map_puts_like_directions_together() -> None:
    pytest.importorskip("umap", reason='needs umap-learn: pip install "ssae-debias[umap]"')
    torch.manual_seed(0)
    centres = torch.eye(3, 16).repeat_interleave(30, 0)
    sae = dictionary_of(centres + 0.05 * torch.randn(90, 16))
    table = decoder_map({"a": sae, "b": sae}, n_neighbors=10)
    places = table[["x", "y"]].to_numpy()
    group = np.tile(np.repeat([0, 1, 2], 30), 2)
    centre = np.array([places[group == g].mean(0) for g in range(3)])
    nearest = ((places[:, None] - centre) ** 2).sum(-1).argmin(1)
    assert (nearest == group).mean() > 0.95
    assert table.groupby("sae").size().to_dict() == {"a": 90, "b": 90}
