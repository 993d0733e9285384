r"""What a model predicts while its activations at one site are replaced, against what it predicts undisturbed.

Three kinds of model, three kinds of prediction; the figures are the same:

- *causal*: the next token. Every real token but a text's first is predicted from those before it, an end-of-text
  token too: transformers' own loss, with padding left out.
- *masked*: each token from all others (`ssae_debias.metrics.pseudo_likelihood`).
- *probe*: a label of the text, by a linear probe (`ssae_debias.metrics.probe_predictions`), for encoders without a
  head.

With p the distribution that the undisturbed model predicts and q that of the model with replaced activations, each
prediction gives the *loss* ``−log q(right)`` and the *divergence* ``KL(p ‖ q) = Σ p (log p − log q)``, both in nats,
and two counts: whether q's likeliest answer is the right one, and whether it is p's. They are summed over each text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ssae_debias.activations import TextModel
from ssae_debias.activations.batching import PaddedBatch, batches_by_length, pad, tokenize
from ssae_debias.data import check_texts
from ssae_debias.metrics.replacing import Replacement, replaced

Objective: TypeAlias = Literal["causal", "masked", "probe"]

CLEAN = "clean"
"""The name of the undisturbed model among the variants."""

# logits of one batch, so that a vocabulary of 250,000 does not fill the memory: 256 MB in float32 on a CPU
CPU_LOGITS, GPU_LOGITS = 2**26, 2**29


@dataclass(frozen=True)
class Predictions:
    """Sums over each text, by variant; `"clean"` is the undisturbed model.

    Attributes
    ----------
    objective : {"causal", "masked", "probe"}
    count : ndarray of int64, shape (n_texts,)
        Predictions made in each text.
    loss, kl : dict of str to ndarray of float64, shape (n_texts,)
        Cross-entropy with the right answers, and divergence from the clean predictions; nats.
    correct, agree : dict of str to ndarray of int64, shape (n_texts,)
        How often the likeliest answer is the right one, and the clean one.
    """

    objective: Objective
    count: NDArray[np.int64]
    loss: dict[str, NDArray[np.float64]]
    kl: dict[str, NDArray[np.float64]]
    correct: dict[str, NDArray[np.int64]]
    agree: dict[str, NDArray[np.int64]]

    @property
    def names(self) -> tuple[str, ...]:
        """The variants, the clean one first."""
        return tuple(self.loss)

    def cross_entropy(self, name: str = CLEAN) -> float:
        """Mean loss a prediction, in nats.

        Examples
        --------
        >>> found = Predictions("causal", np.array([1, 3]), {"clean": np.array([1.0, 2.0])}, {}, {}, {})
        >>> found.cross_entropy()
        0.75
        """
        return float(self.loss[name].sum() / self.count.sum())

    def followed_by(self, other: Predictions) -> Predictions:
        """These texts and then the others; of the same variants."""
        if self.names != other.names or self.objective != other.objective:
            raise ValueError(
                f"Only predictions of the same kind stack; got {self.objective} {self.names} and "
                f"{other.objective} {other.names}."
            )
        stacked: dict[str, Any] = {
            field: {
                name: np.concatenate([values, getattr(other, field)[name]])
                for name, values in getattr(self, field).items()
            }
            for field in ("loss", "kl", "correct", "agree")
        }
        return Predictions(self.objective, np.concatenate([self.count, other.count]), **stacked)


class Tally:
    """Adds predictions up, text by text.

    Parameters
    ----------
    objective : {"causal", "masked", "probe"}
    n_texts : int
    names : sequence of str
        The variants; `"clean"` is added first for each batch.

    Examples
    --------
    >>> tally = Tally("causal", 2, [CLEAN])
    >>> tally.add(CLEAN, np.array([1, 1]), torch.tensor([[0.5, 0.5], [0.2, 0.8]]).log(), torch.tensor([0, 1]))
    >>> tally.finish().correct
    {'clean': array([0, 2])}
    """

    def __init__(self, objective: Objective, n_texts: int, names: Sequence[str]) -> None:
        self.objective, self.n_texts = objective, n_texts
        self._count = np.zeros(n_texts, dtype=np.int64)
        self._sums = {name: np.zeros((4, n_texts)) for name in names}
        self._clean: Tensor | None = None

    def add(self, name: str, text_index: NDArray[np.int64], log_p: Tensor, target: Tensor) -> None:
        """Add log-probabilities (n, n_answers) of some predictions, whose right answers are `target` (n,)."""
        if name == CLEAN:
            self._clean = log_p
            self._count += np.bincount(text_index, minlength=self.n_texts)
        assert self._clean is not None
        clean = self._clean
        loss = -log_p.gather(1, target[:, None])[:, 0]
        kl = torch.zeros_like(loss) if name == CLEAN else (clean.exp() * (clean - log_p)).sum(1)
        best = log_p.argmax(1)
        values = torch.stack([loss, kl, best.eq(target).to(loss), best.eq(clean.argmax(1)).to(loss)])
        for row, value in zip(self._sums[name], values.double().cpu().numpy(), strict=True):
            row += np.bincount(text_index, value, minlength=self.n_texts)

    def finish(self) -> Predictions:
        """The sums.

        Raises
        ------
        ValueError
            No text holds anything to predict.
        """
        if not self._count.sum():
            raise ValueError("The texts hold nothing to predict: none has enough tokens. Give longer texts.")
        parts = [{name: sums[i] for name, sums in self._sums.items()} for i in range(4)]
        counts = [{name: row.astype(np.int64) for name, row in part.items()} for part in parts[2:]]
        return Predictions(self.objective, self._count, parts[0], parts[1], counts[0], counts[1])


def causal_predictions(
    model: TextModel,
    texts: Sequence[str],
    site: str,
    replacements: Mapping[str, Replacement],
    *,
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
    verbose: int = 0,
) -> Predictions:
    """Predict every next token, undisturbed and with each replacement.

    Parameters
    ----------
    model : TextModel
        With a causal head (`load_language_model`, or a live `…ForCausalLM`). Edits spliced into it beforehand stay
        in force in all variants, the clean one too.
    texts : sequence of str
    site : str
        Where activations are replaced.
    replacements : mapping of str to callable
        What stands in their place, by variant; not `"clean"`.
    include_special : bool, default False
        Whether special tokens (`<s>`, …) are replaced too. See `ssae_debias.metrics.replacing`.
    max_length : int, default 128
        Tokens a text is cut at.
    batch_tokens : int, optional
        Padded tokens a batch; by default bounded by the memory that their logits take.
    verbose : int, default 0
        Above 0, a progress bar.

    Returns
    -------
    Predictions
        A text of n tokens makes n − 1 predictions.

    Raises
    ------
    ValueError
        The model returns no logits over tokens; a variant is called "clean"; no text has two tokens.
    """
    texts, names = check_texts(texts), variant_names(replacements)
    tokenized = tokenize(model, texts, max_length=max_length, include_special=include_special)
    tally = Tally("causal", len(texts), names)
    batches = batches_by_length(
        tokenized.lengths * (tokenized.lengths > 1), logits_budget(model, batch_tokens)
    )
    for rows in tqdm(batches, desc="predicting", disable=not verbose):
        batch = pad(tokenized, rows, model.tokenizer.pad_token_id)
        ids, counted = (torch.from_numpy(part).to(model.device) for part in (batch.input_ids, batch.counted))
        predicted = torch.from_numpy(batch.attention_mask[:, 1:] == 1).to(model.device)
        text_index = np.repeat(batch.texts, batch.attention_mask[:, 1:].sum(1))
        for name in names:
            with torch.no_grad(), replaced(model, site, replacements.get(name), counted):
                logits = token_logits(model, batch)
            log_p = logits[:, :-1][predicted].float().log_softmax(-1)
            tally.add(name, text_index, log_p, ids[:, 1:][predicted])
    return tally.finish()


def token_logits(model: TextModel, batch: PaddedBatch) -> Tensor:
    """Logits over the vocabulary, shape (b, length, n_tokens).

    Raises
    ------
    ValueError
        The model has no language head.
    """
    inputs: dict[str, Any] = {
        "input_ids": torch.from_numpy(batch.input_ids).to(model.device),
        "attention_mask": torch.from_numpy(batch.attention_mask).to(model.device),
    }
    if _takes_use_cache(type(model.module).forward):
        inputs["use_cache"] = False
    logits = getattr(model.module(**inputs), "logits", None)
    if logits is None or logits.ndim != 3:
        raise ValueError(
            f"{model.name} ({type(model.module).__name__}) returns no logits over tokens: it has no language head. "
            "Load it by load_language_model, or give labels to measure it by a probe (y=…)."
        )
    return logits


def logits_budget(model: TextModel, batch_tokens: int | None) -> int:
    """Padded tokens a batch: as asked, or as many as their logits leave room for."""
    if batch_tokens is not None:
        return batch_tokens
    cpu = model.device.type == "cpu"
    vocabulary = int(getattr(model.module.config, "vocab_size", 0) or len(model.tokenizer))
    return max(1, min(2048 if cpu else 32_768, (CPU_LOGITS if cpu else GPU_LOGITS) // vocabulary))


def variant_names(replacements: Mapping[str, Replacement]) -> tuple[str, ...]:
    """The variants with the clean one first; an error where one is called so."""
    if CLEAN in replacements:
        raise ValueError(
            f"{CLEAN!r} is the name of the undisturbed model; call the replacement something else."
        )
    return (CLEAN, *replacements)


@cache
def _takes_use_cache(forward: Any) -> bool:
    return "use_cache" in signature(forward).parameters
