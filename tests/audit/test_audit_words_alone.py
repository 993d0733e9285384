"""Word pairs and not one attribute label to learn from: words say what is erased, and labels judge."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from ssae_debias.audit import AuditReport, LatentSettings, audit, leaks
from ssae_debias.data import WordPairs
from ssae_debias.metrics import linear_probe
from ssae_debias.rivals import LEACEGivenY

QUICK = LatentSettings(d_sae=24, k=3, train_tokens=4_000, min_effect=0.5)
NOTHING_FLAGGED = replace(QUICK, min_effect=50)
WORDS = {"surgeon": ("theatre", "scalpel", "bone"), "nurse": ("ward", "shift", "care")}
CARRIERS = {"M": ("rugby", "captain"), "F": ("netball", "ballet")}
"""Words that go with gender and stand in no list of pairs."""


class Texts(NamedTuple):
    texts: list[str]
    y: NDArray[np.str_]
    gender: NDArray[np.str_]
    part: NDArray[np.str_]


@cache
def texts(n: int = 800) -> Texts:
    random = np.random.default_rng(0)
    y, gender = random.choice(["nurse", "surgeon"], n), random.choice(["F", "M"], n)
    written = []
    for profession, value in zip(y, gender, strict=True):
        others = [each for each in WORDS if each != profession]
        said = [random.choice(WORDS[profession if random.random() < 0.8 else others[0]]) for _ in range(4)]
        said += ["he" if value == "M" else "she"] * (random.random() < 0.9)
        said += [random.choice(CARRIERS[value])] * (random.random() < 0.7)
        written.append(" ".join(random.permutation(said)))
    return Texts(written, y, gender, np.where(np.arange(n) < n // 2, "fit", "evaluation"))


@cache
def leaning() -> Pipeline:
    """Trained on male surgeons and female nurses alone."""
    data = texts()
    rows = np.flatnonzero((data.y == "surgeon") == (data.gender == "M"))
    counted = CountVectorizer(binary=True)
    return make_pipeline(counted, LogisticRegression()).fit([data.texts[row] for row in rows], data.y[rows])


def audited(settings: LatentSettings = NOTHING_FLAGGED, **given: Any) -> AuditReport:
    data = texts()
    gender = data.gender.astype(object)
    gender[data.part == "fit"] = None
    options = {"sensitive_features": gender, "part": data.part, "rivals": False, "verbose": 0}
    return audit(leaning(), data.texts, data.y, settings=settings, **(options | given))


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "mlp_probe", linear_probe)


def by_hand() -> NDArray[np.float64]:
    """Decisions of the pipeline after LEACE within labels by the side of the words, learned on the fit rows."""
    data, pipeline = texts(), leaning()
    x = pipeline[0].transform(data.texts).toarray().astype("float32")
    side = np.array([("she" in text.split()) - 1 * ("he" in text.split()) for text in data.texts])
    rows = (data.part == "fit") & (side != 0)
    eraser = LEACEGivenY().fit(x[rows], data.y[rows], sensitive_features=side[rows])
    decided: NDArray[np.float64] = pipeline[1].predict(eraser.transform(x[data.part == "evaluation"]))
    return decided


def test_the_words_say_what_is_erased_and_the_worst_group_rises() -> None:
    report = audited(replace(NOTHING_FLAGGED, refit=False))
    assert list(report.found.residue) == ["erasure"]
    assert report.found.n_ablated == 0
    start, edited = report.original, report.edited
    assert edited.worst_group_accuracy.low > start.worst_group_accuracy.high
    assert edited.flips["rate"].high < start.flips["rate"].low / 2
    assert edited.accuracy.mean > start.accuracy.mean
    data = texts()
    right = by_hand() == data.y[data.part == "evaluation"]
    assert edited.accuracy.mean == pytest.approx(right.mean(), abs=0.006)


def test_the_page_says_that_words_told_what_is_erased() -> None:
    report = audited()
    assert not any(variant.needs_group_labels for variant in report.content.variants)
    said = " ".join(report.content.summary)
    sides = np.array([WordPairs.gender().sides(text) for text in texts().texts[:400]])
    assert "no latents were flagged" in said
    assert "more he-words from texts with more she-words" in said
    told = (sides[:, 0] != sides[:, 1]).sum()
    assert f"the words of {told} rows say which is which, and no attribute label was used" in said
    assert "That is the whole edit: no latent has a part in it." in said
    assert any("by erasure alone" in sentence for sentence in report.content.unknown)


def test_labels_of_fit_rows_say_it_where_they_are_given() -> None:
    report = audited(sensitive_features=texts().gender)
    assert report.edited.needs_group_labels
    said = " ".join(report.content.summary)
    assert "tells the attribute's values apart (F, M)" in said
    assert "400 rows whose attribute is given say which is which" in said
    assert "no attribute label was used" not in said


def test_one_labelled_side_among_the_fit_rows_tells_nothing_apart() -> None:
    gender = texts().gender.astype(object)
    gender[:400][gender[:400] == "M"] = None
    report = audited(sensitive_features=gender)
    assert list(report.found.residue) == ["erasure"]
    assert not report.edited.needs_group_labels


def test_words_are_no_evidence_unless_the_rule_asks_for_it() -> None:
    by_swap, by_words = (audited(replace(QUICK, flag=flag)) for flag in ("auto", "association"))
    assert by_swap.found.n_ablated > 0
    assert by_swap.found.table.query("decision == 'ablate'")["reason"].str.startswith("responds").all()
    assert by_words.found.table.query("decision == 'ablate'")["reason"].str.startswith("differs").all()
    assert by_words.found.n_ablated > 0
    assert not by_words.edited.needs_group_labels
    assert list(by_swap.found.residue) == ["realignment", "erasure"]
    assert not by_swap.edited.needs_group_labels
    said = " ".join(by_swap.content.summary)
    assert "moved back" in said
    assert "whole edit" not in said


def test_it_is_erased_after_a_persons_decisions_too() -> None:
    first = audited()
    latent = int(first.found.table.sort_values("frequency")["latent"].iloc[-1])
    site = str(first.found.table["site"].iloc[0])
    decided = audited(decisions={(site, latent): "ablate"})
    assert decided.found.n_ablated == 1
    assert list(decided.found.residue) == ["realignment", "erasure"]
    assert not decided.edited.needs_group_labels
    assert decided.edited.worst_group_accuracy.mean > first.original.worst_group_accuracy.mean


def test_nothing_is_erased_where_it_is_not_asked_for() -> None:
    report = audited(replace(NOTHING_FLAGGED, erase=False))
    assert report.found.edits() == {}
    assert report.edited.accuracy == report.original.accuracy
