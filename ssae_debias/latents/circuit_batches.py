"""Batches of texts with their right answers, and the sort of each token, for what is asked of a whole circuit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ssae_debias.activations import TextModel
from ssae_debias.data import check_texts
from ssae_debias.latents.attribution import Decision

ORDINARY, PADDING = -1, -2


@dataclass(frozen=True)
class DecisionBatch:
    """Some texts, ready for a decision.

    Attributes
    ----------
    rows : ndarray of int64, shape (b,)
        Which texts.
    inputs : dict of str to Tensor
        For the model.
    counted : Tensor of bool, shape (b, length)
        Tokens that the decision counts.
    sort : Tensor of int64, shape (b, length)
        `ORDINARY`, `PADDING`, or a special token's own id.
    sign : Tensor, shape (b,)
        1 where the right answer is label 1, −1 where it is label 0.
    """

    rows: NDArray[np.int64]
    inputs: dict[str, Tensor]
    counted: Tensor
    sort: Tensor
    sign: Tensor

    def margins(self, model: TextModel, decision: Decision) -> Tensor:
        """How far each text's decision is on the right side, shape (b,): ``(2y − 1)·logit``."""
        return self.sign * decision.logits(model, self.inputs, self.counted)


def decision_batches(
    model: TextModel,
    texts: Sequence[str],
    y: ArrayLike,
    decision: Decision,
    *,
    max_length: int,
    batch_size: int,
) -> Iterator[DecisionBatch]:
    """Cut texts into batches of like length.

    Raises
    ------
    ValueError
        `y` does not hold one 0 or 1 for each text.
    """
    texts, labels = check_texts(texts), np.asarray(y, dtype=np.float64)
    if labels.shape != (len(texts),) or set(np.unique(labels)) - {0.0, 1.0}:
        raise ValueError(
            f"y must hold {len(texts)} labels 0 or 1, one a text; got {np.unique(np.asarray(y))[:5]}."
        )
    order = np.argsort([-len(text) for text in texts], kind="stable")
    for start in range(0, len(texts), batch_size):
        rows = order[start : start + batch_size]
        encoded = model.encode([texts[i] for i in rows], max_length)
        ids, real = encoded["input_ids"], encoded["attention_mask"].bool()
        special = encoded["special_tokens_mask"].bool()
        counted = real if getattr(decision, "include_special", False) else real & ~special
        sort = torch.where(special, ids, ORDINARY)
        yield DecisionBatch(
            rows,
            {"input_ids": ids, "attention_mask": encoded["attention_mask"]},
            counted,
            torch.where(real, sort, PADDING),
            torch.as_tensor(2 * labels[rows] - 1, dtype=torch.float32, device=ids.device),
        )
