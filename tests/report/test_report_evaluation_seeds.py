from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ssae_debias.metrics.intervals import seeds_interval
from ssae_debias.report.evaluation.numbers import MOST_ROWS, by_variant, plain
from ssae_debias.report.evaluation.plates import spread
from ssae_debias.report.evaluation.recall_points import found_points, groups, recall_lines
from ssae_debias.report.evaluation.seeds import densities, equal_parts, over_seeds, sparsities

NAN = float("nan")


def test_intervals_are_those_of_seeds_interval() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"variant": np.repeat(["a", "b"], 4), "seed": [0, 1, 2, 3] * 2, "f1": rng.random(8)})
    found = over_seeds(frame.drop(7), ["variant"], "f1")
    for row, values in zip(found.itertuples(), (frame["f1"][:4], frame["f1"][4:7]), strict=True):
        assert (row.mean, row.low, row.high) == pytest.approx(tuple(seeds_interval(values)))
        assert row.n_seeds == len(values)


def test_rows_of_one_seed_are_one_figure() -> None:
    frame = pd.DataFrame({"variant": "a", "seed": [0, 0, 1, 1], "f1": [0.1, 0.3, 0.5, 0.7]})
    assert over_seeds(frame, ["variant"], "f1")["mean"].tolist() == pytest.approx([0.4])
    assert over_seeds(frame, ["variant"], "f1")["n_seeds"].tolist() == [2]


def test_one_seed_has_its_own_interval_or_none() -> None:
    frame = pd.DataFrame({"variant": ["a"], "k": [NAN], "seed": [NAN], "f1": [0.5]})
    alone = over_seeds(frame, ["variant", "k"], "f1").iloc[0]
    assert (alone["mean"], alone["n_seeds"]) == (0.5, 1)
    assert math.isnan(alone["low"])
    told = over_seeds(frame.assign(f1_low=0.4, f1_high=0.7), ["variant", "k"], "f1").iloc[0]
    assert (told["low"], told["high"]) == (0.4, 0.7)


def test_what_is_not_finite_is_left_out() -> None:
    frame = pd.DataFrame({"variant": "a", "seed": [0, 1, 2], "p": [1.0, np.inf, NAN]})
    assert over_seeds(frame, ["variant"], "p")[["mean", "n_seeds"]].values.tolist() == [[1.0, 1.0]]
    assert over_seeds(frame.assign(p=NAN), ["variant"], "p").empty


def test_loaded_saes_stand_beside_every_level() -> None:
    frame = pd.DataFrame({"k": [8.0, 16.0, 32.0, 64.0, NAN], "variant": [*"aaaa", "loaded"]})
    levels = sparsities(frame, 3)
    assert [k for k, _ in levels] == [8.0, 16.0, 64.0]
    assert all("loaded" in set(part["variant"]) for _, part in levels)


def test_a_density_holds_one_however_bins_differ() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for seed, bins in ((0, 10), (1, 16)):
        counts, edges = np.histogram(rng.beta(2, 5, 4000), bins, (0, 1))
        parts.append(
            pd.DataFrame(
                {"variant": "a", "seed": seed, "low": edges[:-1], "high": edges[1:], "count": counts}
            )
        )
    frame = pd.concat(parts)
    found = densities(frame[frame["count"] > 0])
    assert (found["mean"] * (found["to"] - found["from"])).sum() == pytest.approx(1)
    assert (found["low"] <= found["mean"]).all()
    assert (found["mean"] <= found["high"]).all()


def test_a_density_per_doubling_leaves_zero_and_infinity_out_but_counts_them() -> None:
    frame = pd.DataFrame(
        {"variant": "a", "seed": 0, "low": [0.0, 1.0, 4.0], "high": [1.0, 4.0, np.inf], "count": [1, 2, 1]}
    )
    found = densities(frame, log=True)
    assert found[["from", "to", "mean"]].values.tolist() == [[1.0, 4.0, 0.25]]


def test_parts_of_like_size_hold_everything() -> None:
    values = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 5.0, 9.0])
    edges = equal_parts(values)
    assert edges[0] == 1
    assert edges[-1] > 9
    assert len(equal_parts(np.array([3.0, 3.0]))) == 2
    assert len(equal_parts(np.array([np.nan]))) == 0


def concepts(**columns) -> pd.DataFrame:
    frame = {
        "variant": "a", "seed": 0, "k": 8.0, "kind": "sae", "planted": False, "concept": list("uvwxyz"),
        "frequency": [1e-6, 1e-5, 1e-5, 1e-3, 1e-3, 1e-2], "f1": [0.0, 0.1, 0.2, 0.6, 0.7, 0.8],
    }  # fmt: skip
    return pd.DataFrame({**frame, **columns})


def test_recall_is_read_in_shared_ranges_with_a_band_over_seeds() -> None:
    table = pd.concat([concepts(), concepts(seed=1, f1=[0.2, 0.3, 0.4, 0.8, 0.9, 1.0])])
    found = recall_lines(table)
    assert found["mean"].tolist() == pytest.approx([0.2, 0.8])
    assert found["n_concepts"].tolist() == [3, 3]
    expected = seeds_interval([0.1, 0.3])
    assert found[["low", "high"]].iloc[0].tolist() == pytest.approx([expected.low, expected.high])
    assert recall_lines(table, "neurons").empty


def test_neurons_stand_beside_every_level() -> None:
    table = pd.concat([concepts(), concepts(k=64.0), concepts(kind="neurons")])
    found = groups(table)
    assert [group.heading for group in found] == ["k = 8", "k = 64"]
    for group in found:
        assert (group.part["kind"] == "neurons").sum() == 6


def test_concepts_whose_frequencies_are_not_alike_have_panels_of_their_own() -> None:
    table = pd.concat(
        [concepts(level="token"), concepts(level="token", planted=True), concepts(level="text", k=16.0)]
    )
    found = groups(table, most=1)
    assert [group.heading.split(",")[0] for group in found] == [
        "Words of the corpus",
        "Planted words",
        "Labels of texts",
    ]
    assert [len(group.part) for group in found] == [6, 6, 6]
    assert found[2].axis == "Share of the texts"


def test_planted_words_are_read_at_the_frequencies_at_which_they_were_planted() -> None:
    found = recall_lines(concepts(planted=True))
    assert found["frequency"].tolist() == pytest.approx([1e-6, 1e-5, 1e-3, 1e-2])
    assert found["mean"].tolist() == pytest.approx([0.0, 0.15, 0.65, 0.8])


def test_shares_of_found_concepts_go_over_seeds() -> None:
    rows = {
        "variant": "a", "k": 8.0, "seed": [0, 1], "kind": "sae", "frequency_above": 1e-5, "frequency_to": 1e-3,
        "n_concepts": 4, "found": [0.25, 0.75], "f1": 0.5,
    }  # fmt: skip
    found = found_points(pd.DataFrame(rows))
    assert found[["frequency", "mean", "n_seeds", "n_concepts"]].values.tolist() == [[1e-4, 0.5, 2, 4]]


def test_numbers_have_a_column_a_variant_and_thin_long_tables() -> None:
    found = pd.DataFrame({"variant": "a", "x": range(1000), "mean": 0.5, "low": NAN, "high": NAN})
    table = by_variant("many", found, {"x": ("x", plain)}, ["b", "a"])
    assert list(table.head) == ["x", "a"]
    assert len(table.rows) <= MOST_ROWS
    assert table.remark == "Every 9th of 1,000 rows."


def test_the_caption_says_how_many_seeds_and_what_stands_for_one() -> None:
    table = pd.DataFrame({"variant": ["a", "a", "a", "b"], "seed": [0, 1, 2, 0]})
    said = spread(table, "Bars", one_seed="intervals over texts").replace("\u202f", " ")
    assert (
        said
        == "Bars: 95 % intervals of the mean over seeds (3 seeds; b: 1). With one seed: intervals over texts."
    )
    assert "One seed each" in spread(table[table["seed"] == 0])
