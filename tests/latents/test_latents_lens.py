"""Latents as a lens: planted differences are found, chance is not, and the statistics are SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ssae_debias.latents import PooledLatents, lens, separating_latents


def pooled(z: np.ndarray) -> PooledLatents:
    ones = np.ones(z.shape[1])
    return PooledLatents(z.astype(np.float32), ones, ones, ones, len(z))


def sparse(n: int, d: int, seed: int = 0) -> np.ndarray:
    """As pooled latents are: mostly 0, the rest skewed."""
    random = np.random.default_rng(seed)
    return random.exponential(1.0, (n, d)) * (random.random((n, d)) < 0.3)


def test_a_planted_difference_is_found_in_its_group_and_nowhere_else() -> None:
    z, groups = sparse(600, 300), np.array(["nurse", "surgeon", "poet"] * 200)
    z[groups == "poet", 7] += 1.0
    z[groups != "nurse", 40] += 0.8
    found = separating_latents({"embed": pooled(sparse(600, 20, seed=1)), "resid.0": pooled(z)}, groups)
    assert list(found.columns) == ["site", "latent", "group", "effect", "q", "n"]
    assert set(zip(found.site, found.latent, found.group, strict=True)) == {
        ("resid.0", 7, "poet"), ("resid.0", 40, "poet"), ("resid.0", 40, "surgeon"),
    }  # fmt: skip
    assert (found.effect > 0.2).all()
    assert found.n.between(1, 200).all()


def test_two_groups_share_one_test_and_each_lists_its_own() -> None:
    z, groups = sparse(400, 50), np.array([1, 0] * 200)
    z[groups == 1, 3] += 1.0
    z[groups == 0, 9] += 0.6
    z[groups == 0, 8] += 1.2
    found = separating_latents({"embed": pooled(z)}, groups)
    assert list(zip(found.group, found.latent, strict=True)) == [(0, 8), (0, 9), (1, 3)]
    row = found.iloc[2]
    one, rest = z[groups == 1, 3], z[groups == 0, 3]
    d = (one.mean() - rest.mean()) / np.sqrt((one.var(ddof=1) + rest.var(ddof=1)) / 2)
    assert row.effect == pytest.approx(d, rel=1e-4)
    assert row.n == 200


def test_the_p_values_are_the_rank_sum_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "LATENTS_AT_ONCE", 4)
    z, groups = sparse(150, 11), np.array(["a", "b", "c"] * 50)
    z[:, 5] = 0.0  # silent: nothing to rank
    table = lens._compared("embed", z.astype(np.float32), groups, np.unique(groups))
    for row in table.itertuples():
        member = groups == row.group
        column = z[:, row.latent]
        expected = stats.mannwhitneyu(
            column[member], column[~member], use_continuity=False, method="asymptotic"
        ).pvalue
        assert row.p == pytest.approx(1.0 if row.latent == 5 else expected, rel=1e-6)


def test_chance_and_single_texts_separate_nothing() -> None:
    z, groups = sparse(300, 500, seed=3), np.array(["a", "b"] * 150)
    z[:, 0] = 0.0
    z[0, 0] = 1000.0  # a mean moved by one text
    z[2:10:2, 1] += 50.0
    assert separating_latents({"embed": pooled(z)}, groups, max_q=0.05).empty
    z[groups == "a", 2] += 2.0
    assert len(separating_latents({"embed": pooled(z)}, groups)) == 1
    assert separating_latents({"embed": pooled(z)}, groups, min_texts=151).empty


def test_the_largest_effects_of_each_site_and_group_are_kept() -> None:
    z, groups = sparse(400, 30), np.array(["a", "b"] * 200)
    for column in range(10):
        z[groups == "b", column] += 0.5 + 0.4 * column
    found = separating_latents({"late": pooled(z), "early": pooled(z[:, ::-1])}, groups, n=3)
    assert found.site.tolist() == ["late"] * 3 + ["early"] * 3
    assert found.latent.tolist() == [9, 8, 7, 20, 21, 22]
    assert found.effect.iloc[:3].is_monotonic_decreasing


def test_bad_groups_are_named() -> None:
    with pytest.raises(ValueError, match=r"two values or more .* got only \['a'\] in 4 texts"):
        separating_latents({"embed": pooled(sparse(4, 2))}, ["a"] * 4)
    with pytest.raises(ValueError, match=r"latents of embed are pooled over 4 texts, groups holds 3"):
        separating_latents({"embed": pooled(sparse(4, 2))}, ["a", "b", "a"])
