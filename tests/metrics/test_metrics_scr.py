"""SCR: the published formula, token by token; what it says of dictionaries whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest

from ssae_debias.metrics import SCRDirection, SCRResult, fit_scr_probes, random_ranking, scr, scr_rankings
from ssae_debias.metrics.scr import scr_score

N, TOKENS, D = 60, 6, 12


def quadrants(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([0, 0, 1, 1], n), np.tile(np.repeat([0, 1], n), 2)


class World:
    """Texts of a few tokens, made of known latents: 0 and 1 say the attribute, 2 and 3 the label, the rest nothing."""

    def __init__(self, seed: int, n: int = N, *, label: float = 0.5, attribute: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.y, self.a = quadrants(n)
        self.decoder = np.linalg.qr(np.random.default_rng(9).normal(size=(D, D)))[0]
        f = rng.exponential(0.3, size=(4 * n, TOKENS, D))
        # a latent for each value: zeroing both takes the concept away and leaves the probe's threshold in place
        for value in (0, 1):
            f[:, :, value] += attribute * (self.a == value)[:, None] * rng.random((4 * n, TOKENS))
            f[:, :, 2 + value] += label * (self.y == value)[:, None] * rng.random((4 * n, TOKENS))
        self.tokens = f @ self.decoder + 0.05 * rng.normal(size=f.shape)
        self.codes = f
        self.x, self.f = self.tokens.mean(1), f.mean(1)


@pytest.fixture(scope="module")
def worlds() -> tuple[World, World]:
    return World(0), World(1)


def test_every_figure_is_that_of_an_edit_token_by_token(worlds) -> None:
    train, test = worlds
    probes = fit_scr_probes(train.x, train.y, train.a)
    rankings = scr_rankings(probes, train.f, train.y, train.a, train.decoder)
    found = scr(probes, test.x, test.f, test.y, test.a, test.decoder, rankings, n_latents=(1, 2, 5))
    for direction, kept, clean_probe in (
        (found.attribute, test.y, probes.label),
        (found.label, test.a, probes.attribute),
    ):
        biased = np.mean([probes.biased.predict(x[None])[0] == k for x, k in zip(test.x, kept, strict=True)])
        clean = np.mean(clean_probe.predict(test.x) == kept)
        assert (direction.biased, direction.clean) == pytest.approx((biased, clean))
        for n in (1, 2, 5):
            codes = test.codes.copy()
            error = test.tokens - codes @ test.decoder
            codes[:, :, rankings[direction.removed][:n]] = 0
            after = np.mean(probes.biased.predict((codes @ test.decoder + error).mean(1)) == kept)
            assert direction.ablated[n] == pytest.approx(after)
            assert direction.scores[n] == pytest.approx((after - biased) / (clean - biased))


def test_a_dictionary_that_separates_wins_everything_back(worlds) -> None:
    train, test = worlds
    probes = fit_scr_probes(train.x, train.y, train.a)
    rankings = scr_rankings(probes, train.f, train.y, train.a, train.decoder)
    assert set(rankings["attribute"][:2]) == {0, 1}
    assert set(rankings["label"][:2]) == {2, 3}
    found = scr(probes, test.x, test.f, test.y, test.a, test.decoder, rankings, n_latents=(2,))
    assert found.reported.removed == "attribute"  # the stronger concept took the biased probe over
    assert found.scores[2] > 0.7


def test_random_latents_and_an_entangled_dictionary_win_nothing_back(worlds) -> None:
    train, test = worlds
    probes = fit_scr_probes(train.x, train.y, train.a)
    random = np.random.default_rng(0)
    controls = [
        {key: 4 + random_ranking(train.f[:, 4:], 3, random) for key in ("attribute", "label")}
        for _ in range(5)
    ]
    for rankings in controls:
        found = scr(probes, test.x, test.f, test.y, test.a, test.decoder, rankings, n_latents=(2, 3))
        assert abs(found.attribute.scores[3]) < 0.25
    # one latent for both concepts, along their sum
    both = (train.decoder[1] - train.decoder[0] + train.decoder[3] - train.decoder[2])[None]
    code = lambda world: (world.x @ both.T / (both @ both.T)).clip(min=0)  # noqa: E731
    rankings = scr_rankings(probes, code(train), train.y, train.a, both)
    entangled = scr(probes, test.x, code(test), test.y, test.a, both, rankings, n_latents=(1,))
    assert entangled.attribute.scores[1] < 0.5


def test_the_biased_probe_sees_agreeing_quadrants_alone() -> None:
    world = World(0)
    agree = world.y == world.a
    moved = world.x.copy()
    moved[~agree] += 100.0
    before, after = (fit_scr_probes(x, world.y, world.a) for x in (world.x, moved))
    np.testing.assert_allclose(
        before.biased["logisticregression"].coef_, after.biased["logisticregression"].coef_
    )
    assert not np.allclose(before.label["logisticregression"].coef_, after.label["logisticregression"].coef_)


@pytest.mark.parametrize(
    ("biased_label", "biased_attribute", "reported"),
    [(0.6, 0.8, "attribute"), (0.8, 0.6, "label"), (0.7, 0.7, "attribute")],
)
def test_the_lower_direction_is_reported_and_a_tie_is_not_silent(
    biased_label: float, biased_attribute: float, reported: str
) -> None:
    found = SCRResult(
        attribute=SCRDirection("attribute", biased_label, 0.9, {2: 0.85}),
        label=SCRDirection("label", biased_attribute, 0.95, {2: 0.85}),
    )
    assert found.reported.removed == reported
    assert found.scores == getattr(found, reported).scores
    assert found.scores[2] > 0


def test_no_gap_no_score() -> None:
    assert scr_score(0.5, 0.9, 0.9005) == 0.0
    assert scr_score(0.95, 0.9, 0.85) == 0.0
    assert scr_score(0.8, 0.9, 0.95) == pytest.approx(-2.0)


def test_numbers_above_the_dictionary_are_left_out(worlds) -> None:
    train, test = worlds
    probes = fit_scr_probes(train.x, train.y, train.a)
    rankings = scr_rankings(probes, train.f, train.y, train.a, train.decoder)
    found = scr(probes, test.x, test.f, test.y, test.a, test.decoder, rankings)
    assert list(found.scores) == [2, 5, 10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [0, 1, 0]}, "one value for each of 8"),
        ({"y": [0, 0, 0, 0, 2, 2, 2, 2]}, "0 and 1 alone"),
        ({"a": [0] * 8}, "every quadrant"),
        ({"X": np.full((8, 2), np.nan)}, "NaN"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    y, a = quadrants(2)
    with pytest.raises(ValueError, match=message):
        fit_scr_probes(**({"X": np.eye(8)[:, :2], "y": y, "a": a} | change))
