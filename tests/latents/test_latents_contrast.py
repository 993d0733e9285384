"""Log-odds with a Dirichlet prior: against the formula written out, and in what it must do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssae_debias.latents.contrast import log_odds

counts = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 500), min_size=2)


@given(counts, counts)
def test_it_is_the_published_formula(here: dict[str, int], there: dict[str, int]) -> None:
    prior = 10.0
    n, m = sum(here.values()), sum(there.values())
    scores = log_odds(here, there, prior=prior)
    for word, y in here.items():
        other = there.get(word, 0)
        alpha = prior * (y + other) / (n + m)
        delta = math.log((y + alpha) / (n + prior - y - alpha)) - math.log(
            (other + alpha) / max(m + prior - other - alpha, 0.5)
        )
        assert scores[word] == pytest.approx(
            delta / math.sqrt(1 / (y + alpha) + 1 / (other + alpha)), rel=1e-9
        )


def test_the_same_text_has_nothing_that_stands_out() -> None:
    text = {"the": 100, "nurse": 10}
    assert all(abs(score) < 1e-9 for score in log_odds(text, text).values())


def test_what_was_seen_often_outscores_what_was_seen_once() -> None:
    scores = log_odds({"she": 40, "zyx": 1, "the": 40}, {"she": 200, "the": 10_000, "of": 8000})
    assert scores["she"] > scores["zyx"] > scores["the"]
    assert scores["zyx"] < 3


def test_words_without_weight_have_no_score_and_one_word_alone_a_finite_one() -> None:
    assert log_odds({"she": 0.0}, {}) == {}
    assert math.isfinite(log_odds({"she": 5.0}, {})["she"])
    with pytest.raises(ValueError, match="prior must be positive, got 0"):
        log_odds({"she": 1.0}, {}, prior=0)
