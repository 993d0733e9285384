"""Claims against tables whose answer is known, and tables kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ssae_debias.recipe import EvaluateRecipe
from ssae_debias.recipe.evaluate.claims import check_claims, judge, loss_at_equal_l0
from ssae_debias.recipe.evaluate.kept_tables import KeptTables, fingerprint
from ssae_debias.recipe.evaluate.table import format_claims, format_variants

VARIANTS = {
    "gsae": ("gsae", 0.0),
    "dense": ("dense", 0.0),
    "dense, tilt 3": ("dense", 3.0),
    "seeds": ("seeds", 0.0),
}


def rows(figures: dict[str, float], noise: float = 0.001, **more: Any) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"variant": name, "strategy": VARIANTS[name][0], "tilt": VARIANTS[name][1], "k": 8, "seed": seed,
             "figure": figure + noise * random.normal(), **more}
            for name, figure in figures.items()
            for seed in (0, 1, 2)
        ]
    )  # fmt: skip


def verdicts(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    return {claim.statement: claim.verdict for claim in check_claims(tables, general=False)}


def test_the_verdict_is_students_interval_over_seeds() -> None:
    for values in ([-1.0, -1.2, -0.9], [-0.1, 0.3, 0.2], [0.5, 0.52, 0.51], [0.1, -0.1, 0.0]):
        t = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        expected = "holds" if t.high < 0 else "does not hold" if t.low > 0 else "unclear"
        assert judge(dict(enumerate(values)), "lower") == expected
        assert judge({i: -v for i, v in enumerate(values)}, "higher") == expected


def test_no_worse_than_a_margin_is_judged_against_the_margin() -> None:
    assert judge({0: 0.01, 1: 0.011, 2: 0.009}, "lower") == "does not hold"
    assert judge({0: 0.01, 1: 0.011, 2: 0.009}, "lower", least=-0.05) == "holds"
    assert judge({0: 0.10, 1: 0.101, 2: 0.099}, "lower", least=-0.05) == "does not hold"


def test_losses_are_compared_at_equal_l0_and_only_where_both_reach() -> None:
    # both on the line loss = 3 - log2(L0), at different L0: at equal L0 they do not differ
    curve = [("a", k, 2.0**i, 3.0 - i) for i, k in ((2, 4), (3, 8), (4, 16))]
    curve += [("b", k, 2.0 ** (i + 0.5), 2.5 - i) for i, k in ((2, 4), (3, 8), (4, 16))]
    frame = pd.DataFrame(curve, columns=["variant", "k", "l0", "cross_entropy"]).assign(
        seed=1, corpus="subdomain"
    )
    assert loss_at_equal_l0(frame, "a", "b")[1] == pytest.approx(0.0, abs=1e-9)
    apart = frame.assign(l0=np.where(frame["variant"] == "b", frame["l0"] * 100, frame["l0"]))
    assert loss_at_equal_l0(apart, "a", "b") == {}


def test_claims_on_fidelity_read_the_right_sign() -> None:
    loss = rows({"gsae": 1.0, "dense": 0.8, "dense, tilt 3": 0.801, "seeds": 1.5})
    fidelity = pd.concat(
        [loss.assign(k=k, l0=float(k), cross_entropy=loss["figure"] - k / 100) for k in (8, 16)]
    ).assign(corpus="subdomain", clean_cross_entropy=0.3)
    found = verdicts({"fidelity": fidelity})
    assert (
        found["An SSAE on text retrieved by dense is more faithful on the subdomain than the GSAE."]
        == "holds"
    )
    assert found["Training on the seeds alone generalises worse than on text retrieved by dense."] == "holds"
    assert (
        found[
            "dense, tilt 3: tilted risk is competitive with the mean (no more than 2% of the excess loss lost)."
        ]
        == "holds"
    )
    swapped = fidelity.replace(
        {"variant": {"gsae": "dense", "dense": "gsae"}, "strategy": {"gsae": "dense", "dense": "gsae"}}
    )
    swapped.loc[swapped["tilt"] == 3, "strategy"] = "dense"
    assert (
        verdicts({"fidelity": swapped})[
            "An SSAE on text retrieved by dense is more faithful on the subdomain than the GSAE."
        ]
        == "does not hold"
    )


def test_claims_on_tail_error_and_recall_read_the_right_sign() -> None:
    tail = rows({"gsae": 0.2, "dense": 0.3, "dense, tilt 3": 0.4}).rename(columns={"figure": "proportion"})
    error = pd.concat(
        rows({"gsae": 1.0, "dense": 1.0, "dense, tilt 3": 0.5 if first > 2 else 2.0}).assign(
            rank_from=first, n_tokens=10
        )
        for first in (1, 2, 3, 4)
    )
    error["relative_variance"] = error["relative_maximum"] = error["figure"]
    recall = pd.concat(
        rows({"gsae": 0.9 if often else 0.2, "dense": 0.8 if often else 0.5}).assign(
            concept=f"word {place}",
            frequency=0.1 if often else 0.001,
            kind="sae",
            level="token",
            planted=False,
        )
        for place, often in enumerate((True, True, False, False))
    ).rename(columns={"figure": "f1"})
    found = verdicts({"tail": tail, "rank_error": error, "recall": recall})
    assert (
        found["An SSAE on text retrieved by dense has latents for more of the tail than the GSAE."] == "holds"
    )
    assert (
        found["dense, tilt 3: tilted risk gives more of the tail's tokens a latent than the mean does."]
        == "holds"
    )
    # the frequent ranks, where the tilt does worse, are not the tail
    assert (
        found["dense, tilt 3: the error on tail tokens has a lower variance than under the mean."] == "holds"
    )
    assert (
        found["An SSAE on text retrieved by dense detects rare words of the subdomain better than the GSAE."]
        == "holds"
    )


def test_one_seed_settles_nothing_and_no_table_claims_nothing() -> None:
    tail = rows({"gsae": 0.2, "dense": 0.9}).rename(columns={"figure": "proportion"})
    claims = check_claims({"tail": tail[tail["seed"] == 0]}, general=False)
    assert [claim.verdict for claim in claims] == ["unclear"]
    assert "one seed" in claims[0].figures
    assert check_claims({}, general=False) == []
    printed = format_claims(claims)
    assert "UNCLEAR" in printed
    assert "figures 2, 11" in printed
    table = format_variants({"tail": tail}, 8)
    assert "tail covered" in table
    assert "0.900 ±" in table


def test_tables_are_measured_once_for_a_recipe_and_its_texts(tmp_path: Path) -> None:
    calls = []

    def measure() -> dict[str, pd.DataFrame]:
        calls.append(1)
        return {
            "tail": pd.DataFrame(
                {"variant": ["a, <b>"], "k": [np.nan], "x": [1 / 3], "planted": [True], "n": [7]}
            )
        }

    recipe = EvaluateRecipe(kind="evaluate", title="t")
    kept = KeptTables(tmp_path, recipe, fingerprint(["one", "two"]))
    first, again = kept.get("tail", 0, measure)["tail"], kept.get("tail", 0, measure)["tail"]
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first, again)
    assert first["variant"][0] == "a, <b>"
    assert np.isnan(first["k"][0])
    assert abs(first["x"][0] - 1 / 3) < 1e-14
    assert bool(first["planted"][0]) is True
    assert first["n"][0] == 7
    kept.get("tail", 1, measure)
    renamed = recipe.model_copy(update={"title": "another", "seeds": (0, 1)})
    KeptTables(tmp_path, renamed, fingerprint(["one", "two"])).get("tail", 0, measure)
    assert len(calls) == 2  # neither title nor further seeds change what one seed gives
    KeptTables(tmp_path, recipe.model_copy(update={"site": "resid.1"}), fingerprint(["one", "two"])).get(
        "tail", 0, measure
    )
    KeptTables(tmp_path, recipe, fingerprint(["onetwo"])).get("tail", 0, measure)
    assert len(calls) == 4
