"""A scikit-learn pipeline whose first step embeds its input and whose later steps decide."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ssae_debias.activations import TokenBatch
from ssae_debias.audit.classifiers.inputs import written_rows
from ssae_debias.edit import Edit

BATCH = 4096
MAX_DENSE = 2**29
"""Numbers in a sparse step's output, written out: 4 GiB of doubles."""
MAX_KEPT = 2**30
"""Bytes of activations that are kept, so that an embedder of texts runs once over each set of inputs."""
CERTAIN = -27.6
"""Log-probability of what is called impossible, 1e-12: a forest's 0 would have no finite log-odds."""


class PipelineClassifier:
    """A fitted pipeline: what its first `n_steps` return is the one site, what follows decides.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted; the first steps give an array of shape (n, d), the last step classifies.
    n_steps : int, default=1
        How many steps make the activations.

    Raises
    ------
    TypeError
        Not a pipeline, or its last step does not classify.
    ValueError
        Fewer than `n_steps` + 1 steps.
    sklearn.exceptions.NotFittedError
        It was not fitted.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> X = np.random.default_rng(0).normal(size=(60, 5))
    >>> pipeline = make_pipeline(PCA(3), LogisticRegression()).fit(X, X[:, 0] > 0)
    >>> found = PipelineClassifier(pipeline)
    >>> found.sites, found.classes, found.logits(X).shape
    (('pca',), ('False', 'True'), (60, 2))
    """

    def __init__(self, pipeline: Pipeline, *, n_steps: int = 1) -> None:
        if not isinstance(pipeline, Pipeline):
            raise TypeError(f"A fitted sklearn Pipeline is audited, got {type(pipeline).__name__}.")
        if n_steps < 1 or len(pipeline.steps) < n_steps + 1:
            raise ValueError(
                f"The pipeline has the steps {', '.join(name for name, _ in pipeline.steps)}: there must be {n_steps} "
                "that make the activations and at least one more that decides."
            )
        check_is_fitted(pipeline)
        if not hasattr(pipeline, "classes_"):
            raise TypeError(f"The pipeline's last step, {pipeline.steps[-1][1]!r}, is not a classifier.")
        self.pipeline = pipeline
        self._embed, self._decide = pipeline[:n_steps], pipeline[n_steps:]
        self._site = pipeline.steps[n_steps - 1][0]
        self._kept: OrderedDict[str, Any] = OrderedDict()

    @property
    def name(self) -> str:
        """The steps."""
        return " → ".join(
            step if isinstance(step, str) else type(step).__name__ for _, step in self.pipeline.steps
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """`classes_` of the last step."""
        return tuple(str(value) for value in self.pipeline.classes_.tolist())

    @property
    def sites(self) -> tuple[str, ...]:
        """Name of the step that makes the activations."""
        return (self._site,)

    @property
    def fingerprint(self) -> str:
        """Of the fitted pipeline's contents; raises what pickling raises where a step cannot be pickled."""
        return str(joblib.hash((self._site, self.pipeline.steps)))

    def checked(self, inputs: Any) -> Any:
        """A DataFrame or an array as given, texts as a list.

        Raises
        ------
        TypeError
            A single string, or nothing that has rows.
        """
        if isinstance(inputs, str | bytes) or not hasattr(inputs, "__len__"):
            raise TypeError(f"Inputs are a list, an array or a DataFrame, got {type(inputs).__name__}.")
        if isinstance(inputs, pd.DataFrame) or (isinstance(inputs, np.ndarray) and inputs.ndim > 1):
            return inputs
        return inputs.tolist() if isinstance(inputs, np.ndarray | pd.Series) else list(inputs)

    def activations(self, inputs: Any) -> NDArray[np.float32]:
        """What the first steps return, shape (n, d); computed once for each set of inputs.

        Raises
        ------
        ValueError
            It is not a finite array of two dimensions, or sparse and too large to be written out.
        """
        return np.array(self._embedded(inputs), dtype=np.float32)

    def logits(
        self, inputs: Any, edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> NDArray[np.float32]:
        """Log-probabilities, or the decision function where there are none; unedited exactly the pipeline's own."""
        if (edits or {}).get(self._site) is None:
            return self.decide(self._embedded(inputs))
        return self.decide(self._edited(self.activations(inputs), edits))

    def decisions(
        self, inputs: Any, edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits, and the activations that the later steps made them from; of width 0 where those are not linear."""
        rows = self._edited(self.activations(inputs), edits)
        # in a forest's place a linear layer would be another classifier, not the same one fitted again
        weights = np.asarray(getattr(self.pipeline.steps[-1][1], "coef_", 0.0))
        linear = weights.ndim == 2 and weights.shape[1] == rows.shape[1]
        return self.logits(inputs, edits), rows if linear else rows[:, :0]

    def decide(self, rows: Any) -> NDArray[np.float32]:
        """Scores for activations, shape (n, n_classes): the largest of a row is what the pipeline predicts."""
        rows = rows.copy()  # a later step may work in place
        if hasattr(self._decide, "predict_log_proba"):
            with np.errstate(divide="ignore"):
                scores = np.maximum(self._decide.predict_log_proba(rows), CERTAIN).astype(np.float32)
        elif hasattr(self._decide, "decision_function"):
            scores = np.asarray(self._decide.decision_function(rows), dtype=np.float32)
            scores = np.column_stack([-scores, scores]) if scores.ndim == 1 else scores
        else:
            scores = np.zeros((len(rows), len(self.classes)), dtype=np.float32)
        if scores.shape != (len(rows), len(self.classes)):
            raise ValueError(
                f"The pipeline's scores have shape {scores.shape}, expected ({len(rows)}, {len(self.classes)}): one for "
                "each label."
            )
        # a tuned threshold or votes may decide otherwise than the largest score: the decision itself counts
        predicted = np.searchsorted(self.pipeline.classes_, self._decide.predict(rows))
        other = np.flatnonzero(scores.argmax(axis=1) != predicted)
        scores[other, predicted[other]] = scores[other].max(axis=1) + 1e-3
        return scores

    def tokens(
        self, inputs: Any, sites: Sequence[str], edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> Iterator[TokenBatch]:
        """One vector an input."""
        rows = self._edited(self.activations(inputs), edits)
        for start in range(0, len(rows), BATCH):
            index = np.arange(start, min(start + BATCH, len(rows)))
            zeros = np.zeros(len(index), dtype=np.int64)
            yield TokenBatch(index, zeros, zeros, {self._site: torch.from_numpy(rows[index])})

    def written(self, inputs: Any, numbers: Sequence[int] | None = None) -> list[str]:
        """Texts as they are, rows of a table with their columns' names."""
        return written_rows(inputs, numbers)

    def _embedded(self, inputs: Any) -> Any:
        """What the first steps return, in its own type, dense."""
        key = str(joblib.hash(inputs))
        if key not in self._kept:
            rows = self._embed.transform(inputs)
            if hasattr(rows, "toarray"):
                rows = self._dense(rows)
            values = np.asarray(rows)
            if values.ndim != 2 or values.dtype.kind not in "fiub" or not np.isfinite(values).all():
                raise ValueError(
                    f"The step {self._site!r} must return a finite array of shape (n, d); it returned "
                    f"{values.dtype} of shape {values.shape}."
                )
            self._kept[key] = rows
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(np.asarray(rows).nbytes for rows in self._kept.values()) > MAX_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _dense(self, rows: Any) -> NDArray[Any]:
        if np.prod(rows.shape) > MAX_DENSE:
            raise ValueError(
                f"The step {self._site!r} returns a sparse array of shape {rows.shape}, too large to be written out: put "
                "a step after it that makes few columns of many, such as TruncatedSVD, and count it in with n_steps=2."
            )
        dense: NDArray[Any] = rows.toarray()
        return dense

    def _edited(self, rows: NDArray[np.float32], edits: Mapping[str, Edit] | None) -> NDArray[np.float32]:
        edit = (edits or {}).get(self._site)
        if edit is None:
            return rows
        with torch.no_grad():
            return edit(torch.from_numpy(rows)).numpy()
