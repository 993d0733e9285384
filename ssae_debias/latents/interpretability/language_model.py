"""Asking a language model: for an explanation of examples, and whether an explanation is true of a text.

The model is a callable from prompts to answers. `local_generator` makes one of a causal model in a folder on this
machine (or of a hub id, where there is a hub) through transformers; a service's client, wrapped in three lines, is
another.

References
----------
Paulo, Mallen, Juang, Belrose: "Automatically Interpreting Millions of Features in Large Language Models", 2024 (the
marks, and one example a question: several in one prompt leak what is common to them). The prompts are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ssae_debias.latents.interpretability.examples import Example
from ssae_debias.latents.interpretability.judging import Shown, Task

Generate = Callable[[Sequence[str]], Sequence[str]]
"""From prompts to the text that a language model goes on with, one each."""

_QUESTIONS = {
    "detection": "Does the text hold what is described? Answer yes or no.",
    "fuzzing": "Are the words in << >> what is described? Answer yes or no.",
}
_ANSWER = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


class LanguageModelExplainer:
    """Explain a latent by a language model, from examples with the firing tokens in << >>.

    Parameters
    ----------
    generate : callable
        From a list of prompts to a list of answers.
    n_examples : int, default 15
        Shown of the strongest ones.
    longest : int, default 300
        Characters of an explanation that are kept, of its first line.

    Examples
    --------
    >>> import numpy as np
    >>> explain = LanguageModelExplainer(lambda prompts: [" words for nurses\\nText:" for _ in prompts])
    >>> explain([Example(0, ("a", "nurse"), np.array([0, 1], dtype=np.float32))])
    'words for nurses'
    """

    def __init__(self, generate: Generate, *, n_examples: int = 15, longest: int = 300) -> None:
        self.generate = generate
        self.n_examples = n_examples
        self.longest = longest

    def __call__(self, examples: Sequence[Example]) -> str:
        """Explain a latent from its strongest examples."""
        (answer,) = self.generate([explaining_prompt(examples[: self.n_examples])])
        lines = [line.strip() for line in str(answer).strip().splitlines() if line.strip()]
        return (lines[0] if lines else "")[: self.longest]


class LanguageModelJudge:
    """Judge by a language model, one question an example.

    Parameters
    ----------
    generate : callable
        From a list of prompts to a list of answers. An answer is read at its first "yes" or "no"; one with neither is
        none.

    Examples
    --------
    >>> judge = LanguageModelJudge(lambda prompts: ["Yes." if "<<nurse>>" in prompt else "hm" for prompt in prompts])
    >>> judge("nurses", [Shown(("a", "nurse"), (False, True)), Shown(("a", "nurse"), (True, False))], "fuzzing")
    [1.0, nan]
    """

    def __init__(self, generate: Generate) -> None:
        self.generate = generate

    def __call__(self, explanation: object, shown: Sequence[Shown], task: Task) -> list[float]:
        """Probability that the explanation is true of each example: 1, 0, or NaN."""
        answers = self.generate([judging_prompt(str(explanation), each, task) for each in shown])
        found = [_ANSWER.search(str(answer)) for answer in answers]
        return [float(match[1].lower() == "yes") if match else float("nan") for match in found]


def explaining_prompt(examples: Sequence[Example]) -> str:
    """What the explainer asks.

    Examples
    --------
    >>> import numpy as np
    >>> print(explaining_prompt([Example(0, ("a", "nurse"), np.array([0, 1], dtype=np.float32))]).splitlines()[2])
    - a <<nurse>>
    """
    lines = [f"- {Shown(e.tokens, tuple(e.fires.tolist())).marked_text}" for e in examples]
    head = "A unit of a neural network fires on the words in << >>. Say in one sentence what these have in common."
    return "\n".join([head, "", *lines, "", "The unit fires on:"])


def judging_prompt(explanation: str, shown: Shown, task: Task) -> str:
    """What the judge asks about one example.

    Examples
    --------
    >>> judging_prompt("nurses", Shown(("a", "nurse"), (False, True)), "fuzzing").splitlines()[1]
    'Text: a <<nurse>>'
    """
    text = shown.text if task == "detection" else shown.marked_text
    return f"Description: {explanation}\nText: {text}\n{_QUESTIONS[task]}\nAnswer:"


def local_generator(
    model: str, *, max_new_tokens: int = 40, batch_size: int = 8, device: str = "cpu"
) -> Generate:
    """A callable that asks a causal language model through transformers, greedily.

    Parameters
    ----------
    model : str
        A folder in Hugging Face's format, or a hub id.
    max_new_tokens : int, default 40
        A sentence. A judge needs 5.
    batch_size : int, default 8
        Prompts at once.
    device : str, default "cpu"

    Returns
    -------
    callable
        Where the tokenizer has a chat template, each prompt is put as a user's message.

    Raises
    ------
    OSError
        There is no such folder or hub id.

    Examples
    --------
    >>> generate = local_generator("models/some-instruct-model")  # doctest: +SKIP
    >>> explainer, judge = LanguageModelExplainer(generate), LanguageModelJudge(generate)  # doctest: +SKIP
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left", truncation_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    module: Any = AutoModelForCausalLM.from_pretrained(model)
    module.to(device).eval()
    longest = int(getattr(module.config, "max_position_embeddings", 0) or 4096) - max_new_tokens

    def generate(prompts: Sequence[str]) -> list[str]:
        written = [_as_chat(tokenizer, prompt) for prompt in prompts]
        answers: list[str] = []
        for start in range(0, len(written), batch_size):
            inputs = tokenizer(
                written[start : start + batch_size],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=longest,
                return_token_type_ids=False,
            ).to(device)
            with torch.no_grad():
                out = module.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    pad_token_id=tokenizer.pad_token_id,
                )
            answers += tokenizer.batch_decode(
                out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
        return answers

    return generate


def _as_chat(tokenizer: object, prompt: str) -> str:
    if not getattr(tokenizer, "chat_template", None):
        return prompt
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))  # type: ignore[attr-defined]
