r"""Scores of explanations: detection, fuzzing, and F1 over tokens.

Held-out windows in which the latent fires stand beside as many in which it does not. In *detection* the judge sees them
unmarked. In *fuzzing* it sees each active window twice, once with the tokens marked on which the latent fires and once
with as many others marked, drawn at random: the two differ in the marks alone. Each score is told as the accuracy
balanced over true and false (the published form; chance is ½) and as the F1 of "fits".

Three points differ from the delphi code, which grew out of the paper: no token is lost in marking (delphi's
``_highlight_tokens`` writes a bracket in place of the token that a drawn mark begins or ends with, and so shows which
marks are false); false marks never hold a token on which the latent fires (``_perturb_positions`` keeps the true
positions beside the shifted ones); and an answer that cannot be read counts as wrong, where delphi drops it and
scores the rest.

Where an explanation can predict tokens itself (`Lexicon.predict`), the F1 over tokens is told too, with the windows
weighed as they occur in the corpus: in a sample of which half is active, a rule that is right one time in ten looks
excellent.

References
----------
Paulo, Mallen, Juang, Belrose: "Automatically Interpreting Millions of Features in Large Language Models", 2024.
Muhamed et al.: "Decoding Dark Matter", NAACL 2025 Findings, figure 8 (F1 of predicted activation).
EleutherAI/delphi, ``scorers/classifier/fuzz.py`` and ``log/result_analysis.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.latents.interpretability.examples import Example, LatentExamples
from ssae_debias.latents.interpretability.judging import Judge, Shown, Task

Explainer = Callable[[Sequence[Example]], Any]
"""From a latent's strongest examples to an explanation: a text, or anything that the judge understands."""


def interpretability_scores(
    examples: Mapping[int, LatentExamples],
    explainer: Explainer,
    judge: Judge,
    *,
    random_state: RandomState = 0,
) -> pd.DataFrame:
    """Explain latents and score the explanations on other texts.

    Parameters
    ----------
    examples : mapping of int to LatentExamples
        From `collect_examples`.
    explainer : callable
        `LexiconExplainer()`, `LanguageModelExplainer(...)`, or any callable of this form.
    judge : callable
        That goes with it: `lexicon_judge`, `LanguageModelJudge(...)`, or any of this form.
    random_state : int, Generator, RandomState or None, default 0
        Which tokens are marked falsely.

    Returns
    -------
    DataFrame
        A row a latent: `latent`, `explanation` (as text), `n_active`, `n_inactive` (held-out windows used),
        `detection_accuracy`, `detection_f1`, `fuzzing_accuracy`, `fuzzing_f1`, `token_f1` (NaN where the explanation
        does not predict tokens), `unanswered` (answers that were NaN). NaN where there is nothing to score: no example
        to explain from, or none of either kind to test on.

    Raises
    ------
    ValueError
        A judge gave another number of answers than it was asked for, or an answer outside [0, 1].

    Examples
    --------
    >>> from ssae_debias.latents.interpretability import LexiconExplainer, lexicon_judge
    >>> fires = Example(0, ("a", "nurse"), np.array([0, 1], dtype=np.float32))
    >>> silent = Example(1, ("a", "ship"), np.zeros(2, dtype=np.float32))
    >>> known = {7: LatentExamples(7, [fires], [fires], [silent], 1, 9)}
    >>> interpretability_scores(known, LexiconExplainer(), lexicon_judge)[["explanation", "fuzzing_f1"]].values.tolist()
    [["'nurse'", 1.0]]
    """
    rng = as_generator(random_state)
    return pd.DataFrame([_scored(each, explainer, judge, rng) for each in examples.values()])


def _scored(
    known: LatentExamples, explainer: Explainer, judge: Judge, rng: np.random.Generator
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "latent": known.latent,
        "explanation": "",
        "n_active": len(known.active),
        "n_inactive": len(known.inactive),
    }
    names = ("detection_accuracy", "detection_f1", "fuzzing_accuracy", "fuzzing_f1", "token_f1")
    row |= dict.fromkeys(names, np.nan) | {"unanswered": 0}
    if not known.explained:
        return row
    explanation = explainer(known.explained)
    row["explanation"] = str(explanation)
    if known.active and known.inactive:
        shown = [Shown(e.tokens, (False,) * len(e.tokens)) for e in (*known.active, *known.inactive)]
        truth = np.repeat([True, False], [len(known.active), len(known.inactive)])
        answers = _asked(judge, explanation, shown, "detection")
        row["detection_accuracy"], row["detection_f1"] = _agreement(truth, answers)
        row["unanswered"] += int(np.isnan(answers).sum())
    pairs = [pair for example in known.active if (pair := fuzzed(example, rng))]
    if pairs:
        answers = _asked(judge, explanation, [each for pair in pairs for each in pair], "fuzzing")
        row["fuzzing_accuracy"], row["fuzzing_f1"] = _agreement(np.tile([True, False], len(pairs)), answers)
        row["unanswered"] += int(np.isnan(answers).sum())
    if hasattr(explanation, "predict") and known.active:
        row["token_f1"] = _token_f1(known, explanation.predict)
    return row


def fuzzed(example: Example, rng: np.random.Generator) -> tuple[Shown, Shown] | None:
    """A window marked rightly, and marked wrongly on as many tokens; None where the latent fires on all of it.

    Where fewer tokens are silent than active, as many of the active ones are marked, the strongest.

    Examples
    --------
    >>> example = Example(0, ("a", "nurse", "left"), np.array([0, 1, 0], dtype=np.float32))
    >>> right, wrong = fuzzed(example, np.random.default_rng(0))
    >>> right.marked_text, sum(wrong.marked), wrong.marked[1]
    ('a <<nurse>> left', 1, False)
    """
    silent = np.flatnonzero(~example.fires)
    n = min(int(example.fires.sum()), len(silent))
    if n == 0:
        return None
    strongest = np.argsort(-example.activations, kind="stable")[:n]
    pair = []
    for places in (strongest, rng.choice(silent, n, replace=False)):
        marked = np.zeros(len(example.tokens), dtype=bool)
        marked[places] = True
        pair.append(Shown(example.tokens, tuple(marked.tolist())))
    return pair[0], pair[1]


def _asked(judge: Judge, explanation: Any, shown: Sequence[Shown], task: Task) -> NDArray[np.float64]:
    answers = np.asarray(judge(explanation, shown, task), dtype=np.float64)
    if answers.shape != (len(shown),):
        raise ValueError(
            f"the judge was asked for {len(shown)} answers and gave an array of shape {answers.shape}."
        )
    known = answers[~np.isnan(answers)]
    if ((known < 0) | (known > 1)).any():
        raise ValueError(
            f"a judge answers with probabilities between 0 and 1, or NaN; got {known.min()} … {known.max()}."
        )
    return answers


def _agreement(truth: NDArray[np.bool_], answers: NDArray[np.float64]) -> tuple[float, float]:
    """Balanced accuracy and F1; what was not answered counts as answered wrongly."""
    said = np.where(np.isnan(answers), ~truth, answers > 0.5)
    hits = int((said & truth).sum())
    accuracy = ((said & truth).sum() / truth.sum() + (~said & ~truth).sum() / (~truth).sum()) / 2
    return float(accuracy), 2 * hits / max(int(said.sum() + truth.sum()), 1)


def _token_f1(known: LatentExamples, predict: Callable[[Sequence[str]], NDArray[np.bool_]]) -> float:
    both = fired = said_at = 0.0
    for windows, n in ((known.active, known.n_active), (known.inactive, known.n_inactive)):
        weight = n / max(len(windows), 1)
        for window in windows:
            said = np.asarray(predict(window.tokens), dtype=bool)
            both += weight * float((said & window.fires).sum())
            fired += weight * float(window.fires.sum())
            said_at += weight * float(said.sum())
    return 2 * both / (fired + said_at) if fired + said_at else np.nan
