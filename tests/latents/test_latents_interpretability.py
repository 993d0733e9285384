"""Explanations and their scores: latents whose meaning is known, judges whose answers are known, real models."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.activations import TokenBatch, load_model, read_tokens
from ssae_debias.data.synthetic_corpus import synthetic_corpus
from ssae_debias.latents.interpretability import (
    Example,
    LanguageModelExplainer,
    LanguageModelJudge,
    LatentExamples,
    LexiconExplainer,
    Rule,
    Shown,
    collect_examples,
    interpretability_scores,
    lexicon_judge,
    local_generator,
)
from ssae_debias.latents.interpretability.scoring import fuzzed
from ssae_debias.sae import SAEConfig, SparseAutoencoder

WORDS = ["the", "nurse", "years", "of", "care", "ship", "a", "left", "sea", "day"]


class Words:
    """A tokenizer of ten words."""

    @staticmethod
    def convert_ids_to_tokens(ids: Sequence[int]) -> list[str]:
        return [WORDS[i] for i in ids]


def corpus(n_texts: int = 200, length: int = 12, seed: int = 0) -> tuple[np.ndarray, torch.Tensor]:
    """Random word salad; activations say the word (0–9) and the word before (10–19)."""
    ids = np.random.default_rng(seed).integers(0, 10, (n_texts, length))
    before = np.roll(ids, 1, axis=1)
    x = torch.cat([torch.eye(10)[torch.from_numpy(ids)], torch.eye(10)[torch.from_numpy(before)]], dim=2)
    x[:, 0, 10:] = 0
    return ids, x


def reading(ids: np.ndarray, x: torch.Tensor, size: int = 16) -> Iterator[TokenBatch]:
    n, length = ids.shape
    for start in range(0, n, size):
        here = ids[start : start + size]
        texts = np.repeat(np.arange(start, start + len(here)), length)
        places = np.tile(np.arange(length), len(here))
        yield TokenBatch(texts, places, here.ravel(), {"embed": x[start : start + size].flatten(0, 1)})


def known_latents() -> SparseAutoencoder:
    """`nurse`; `of` after `years`; `ship` or `sea`; all words alike; nothing."""
    sae = SparseAutoencoder(20, SAEConfig(d_sae=5, k=1))
    rows = torch.zeros(5, 20)
    rows[0, 1] = 2
    rows[1, 3], rows[1, 12] = 1, 1
    rows[2, 5], rows[2, 8] = 2, 1.5
    rows[3, :10] = 1
    with torch.no_grad():
        sae.W_enc.copy_(rows.t())
        sae.threshold.copy_(torch.tensor([0.5, 1.5, 0.5, 0.5, 0.5]))
    return sae


def found(**kwargs: int) -> dict[int, LatentExamples]:
    ids, x = corpus()
    return collect_examples(reading(ids, x), known_latents(), "embed", range(5), Words, window=6, **kwargs)


def test_latents_of_words_and_phrases_are_explained_and_scored_so() -> None:
    table = interpretability_scores(found(), LexiconExplainer(), lexicon_judge).set_index("latent")
    assert table.loc[0, "explanation"] == "'nurse'"
    assert table.loc[1, "explanation"] == "'of' after 'years'"
    assert set(table.loc[2, "explanation"].split("; ")) == {"'ship'", "'sea'"}
    for score in ("detection_accuracy", "detection_f1", "fuzzing_accuracy", "fuzzing_f1", "token_f1"):
        assert table.loc[0, score] == table.loc[2, score] == 1
        assert table.loc[1, score] >= 0.9  # a window may begin between the two words
    assert table.loc[4, "explanation"] == ""
    assert np.isnan(table.loc[4, "detection_accuracy"])
    # a latent that is never silent can be scored by its tokens alone
    assert np.isnan(table.loc[3, "detection_accuracy"])
    assert np.isnan(table.loc[3, "fuzzing_accuracy"])


def test_explained_and_tested_are_different_texts_and_strengths_are_spread() -> None:
    examples = found(n_explain=7, n_test=9)[2]
    assert (len(examples.explained), len(examples.active), len(examples.inactive)) == (7, 9, 9)
    assert {e.text % 2 for e in examples.explained} == {0}
    assert {e.text % 2 for e in (*examples.active, *examples.inactive)} == {1}
    assert len({e.text for e in examples.explained}) == 7
    peaks = [float(e.activations.max()) for e in examples.explained]
    assert peaks == sorted(peaks, reverse=True)
    assert {round(float(e.activations.max()), 3) for e in examples.active} == {1.5, 2.0}
    assert all(not e.fires.any() for e in examples.inactive)
    _, x = corpus()
    windows = (known_latents().encode(x.flatten(0, 1))[:, 2] > 0).reshape(200, 2, 6).any(2)[1::2]
    assert (examples.n_active, examples.n_inactive) == (int(windows.sum()), int((~windows).sum()))


@pytest.mark.parametrize("size", [1, 200])
def test_the_strongest_windows_do_not_depend_on_batches(size: int) -> None:
    ids, x = corpus()
    x = x * torch.rand(200, 12, 1, generator=torch.Generator().manual_seed(0)) + 0.0
    one, other = (
        collect_examples(reading(ids, x, n), known_latents(), "embed", [0], Words, window=5)[0]
        for n in (16, size)
    )
    assert [(e.text, e.tokens) for e in one.explained] == [(e.text, e.tokens) for e in other.explained]
    assert one.n_active == other.n_active


def delphi_marks(tokens: Sequence[str], positions: Sequence[tuple[int, int]]) -> str:
    """What delphi's ``_highlight_tokens`` writes for drawn positions."""
    output, (starts, ends) = "", zip(*positions, strict=True)
    for i, token in enumerate(tokens):
        output += "<" if i in starts else ">" if i in ends else token
    return output


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=20), st.integers(0, 99))
def test_true_and_false_marks_differ_in_the_marks_alone(fires: list[bool], seed: int) -> None:
    tokens = tuple(f"w{i}" for i in range(len(fires)))
    example = Example(
        0, tokens, np.array(fires, dtype=np.float32) * np.arange(1, len(fires) + 1, dtype=np.float32)
    )
    pair = fuzzed(example, np.random.default_rng(seed))
    if all(fires) or not any(fires):
        assert pair is None
        return
    right, wrong = pair
    for shown in pair:
        assert shown.marked_text.replace("<<", "").replace(">>", "") == " ".join(tokens)
        assert shown.text == " ".join(tokens)
    assert sum(right.marked) == sum(wrong.marked)
    assert all(fires[i] for i in range(len(fires)) if right.marked[i])
    assert not any(fires[i] for i in range(len(fires)) if wrong.marked[i])
    # a judge that looks for missing tokens tells delphi's false marks from its true ones, and nothing from ours
    assert "w0" not in delphi_marks(tokens, [(0, 1)])


def example_of(text: str, fires: str, number: int = 0) -> Example:
    tokens = tuple(text.split())
    return Example(number, tokens, np.array([t == fires for t in tokens], dtype=np.float32))


def test_answers_that_cannot_be_read_count_as_wrong() -> None:
    known = {
        0: LatentExamples(
            0,
            [example_of("a nurse", "nurse")],
            [example_of("a nurse left", "nurse", 1)] * 4,
            [example_of("a ship left", "nurse", 3)] * 4,
            4,
            4,
        )
    }

    def half_silent(_: str, shown: Sequence[Shown], task: str) -> list[float]:
        return [1.0, float("nan")] * (len(shown) // 2) if task == "detection" else [0.5] * len(shown)

    row = interpretability_scores(known, lambda examples: "x", half_silent).iloc[0]
    # right: the two actives that were answered; delphi would score those and the two false ones of the rest
    assert (row["detection_accuracy"], row["detection_f1"]) == (0.25, pytest.approx(4 / (2 + 4 + 4 - 0)))
    assert row["unanswered"] == 4
    assert row["fuzzing_accuracy"] == 0.5
    assert np.isnan(row["token_f1"])
    with pytest.raises(ValueError, match="asked for 8 answers"):
        interpretability_scores(known, lambda examples: "x", lambda e, s, t: [1.0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        interpretability_scores(known, lambda examples: "x", lambda e, s, t: [2.0] * len(s))


def test_token_f1_weighs_windows_as_the_corpus_does() -> None:
    """A rule that is right in every active window and wrong in every silent one, which are a hundred times as many."""
    active, silent = example_of("of care", "of"), Example(1, ("of", "ships"), np.zeros(2, dtype=np.float32))
    known = {0: LatentExamples(0, [active], [active] * 5, [silent] * 5, 10, 1000)}
    row = interpretability_scores(known, LexiconExplainer(), lexicon_judge).iloc[0]
    assert row["explanation"] == "'of'"
    assert row["token_f1"] == pytest.approx(2 * 10 / (10 + 10 + 1000))


def test_a_judge_without_a_clue_is_at_chance() -> None:
    rng = random.Random(0)
    table = interpretability_scores(
        found(n_test=100), lambda examples: "", lambda e, shown, t: [rng.random() for _ in shown]
    )
    assert table["detection_accuracy"].dropna().between(0.35, 0.65).all()
    assert table["fuzzing_accuracy"].dropna().between(0.35, 0.65).all()


def test_rules_need_a_neighbour_only_where_it_matters() -> None:
    explain = LexiconExplainer()
    always = [
        example_of(text, "care", i) for i, text in enumerate(["care of a", "the care left", "a day care"] * 2)
    ]
    assert explain(always).rules == (Rule("care"),)
    before = [
        Example(i, ("of", "the", "of", "care", "of", "a"), np.array([0, 0, 1, 0, 0, 0], dtype=np.float32))
        for i in range(5)
    ]
    assert explain(before).rules[0] in (Rule("of", before="care"), Rule("of", after="the"))
    assert str(explain([])) == "nothing in particular"
    assert not explain([]).predict(("a", "b")).any()


def test_texts_are_written_with_and_without_blanks_before_words() -> None:
    assert Shown(("▁She", "▁walk", "ed", "."), (False, True, True, False)).marked_text == "She <<walked>>."
    assert Shown(("Ġa", "Ġb"), (True, False)).marked_text == "<<a>> b"
    assert Shown(("a", "##b", "c"), (False, True, True)).marked_text == "a<<b c>>"


def test_language_models_are_asked_and_read() -> None:
    asked: list[str] = []

    def generate(prompts: Sequence[str]) -> list[str]:
        asked.extend(prompts)
        return [
            "  The word nurse.\n\nText"
            if "fires on:" in p
            else "Yes"
            if "nurse" in p.split("Text:")[1]
            else "No, not."
            for p in prompts
        ]

    examples = {0: found(n_test=10)[0]}
    table = interpretability_scores(examples, LanguageModelExplainer(generate), LanguageModelJudge(generate))
    assert table["explanation"][0] == "The word nurse."
    assert (table["detection_accuracy"][0], table["unanswered"][0]) == (1.0, 0)
    assert table["fuzzing_accuracy"][0] == 0.5  # it looks at the text and not at the marks
    assert "<<nurse>>" in asked[0]
    assert sum("Are the words in << >>" in prompt for prompt in asked) == 2 * 10
    assert not any("<<" in prompt.split("Text:")[1] for prompt in asked if "Does the text" in prompt)


@pytest.mark.slow
def test_a_local_model_answers_in_its_own_words(stories_path: Path) -> None:
    generate = local_generator(str(stories_path), max_new_tokens=3, batch_size=2)
    prompts = ["Once upon a time", "One day", "Lily and Tim " * 150]
    answers = generate(prompts)
    assert len(answers) == 3
    assert all(answers)
    assert not answers[0].startswith("Once")
    assert generate(prompts[:1]) == answers[:1]  # the padding of a batch changes nothing
    table = interpretability_scores(
        {0: found(n_test=2)[0]}, LanguageModelExplainer(generate, n_examples=2), LanguageModelJudge(generate)
    )
    # stories260K tells stories and answers no question
    assert table["unanswered"][0] > 0
    assert table["detection_accuracy"][0] <= 0.6


def test_what_makes_no_sense_is_refused() -> None:
    ids, x = corpus(10)
    for latents, match in (([], "one or more"), ([1, 1], "each once")):
        with pytest.raises(ValueError, match=match):
            collect_examples(reading(ids, x), known_latents(), "embed", latents, Words)
    with pytest.raises(ValueError, match="at least 1"):
        collect_examples(reading(ids, x), known_latents(), "embed", [0], Words, window=0)
    with pytest.raises(IndexError, match="must lie in"):
        collect_examples(reading(ids, x), known_latents(), "embed", [5], Words)


@pytest.mark.parametrize("explain_from", ["strongest", "spread"])
def test_explanations_of_real_latents_fit_their_own_and_not_others(
    minilm_path: Path, explain_from: str
) -> None:
    model, texts = load_model("demo"), synthetic_corpus(120)
    every = list(read_tokens(model, texts, "embed"))
    sae = SparseAutoencoder(384, SAEConfig(d_sae=512, k=8), top_k=8)
    examples = collect_examples(
        every,
        sae,
        "embed",
        range(60),
        model.tokenizer,
        window=16,
        explain_from=explain_from,  # type: ignore[arg-type]
    )
    examples = {latent: each for latent, each in examples.items() if each.explained and each.active}
    assert len(examples) > 40
    own = interpretability_scores(examples, LexiconExplainer(), lexicon_judge)
    others = [LexiconExplainer()(each.explained) for each in examples.values()]
    shifted = iter(others[1:] + others[:1])
    foreign = interpretability_scores(examples, lambda _: next(shifted), lexicon_judge)
    assert foreign["fuzzing_accuracy"].mean() == pytest.approx(0.5, abs=0.03)
    assert own["fuzzing_accuracy"].mean() > 0.55
    for score in ("detection_accuracy", "token_f1"):
        assert own[score].mean() > foreign[score].mean() + 0.05
