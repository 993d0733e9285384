r"""Concept bottleneck probing: the classifier sees a text only as its nearness to words of the task.

The vector of a concept is the activation at its keyword's last token minus the mean over all keywords,
:math:`c_k = x_k - \bar x`; a text's concept scores are the cosines of its pooled activation with each,
:math:`s_k = \cos(c_k, \bar h)`; the probe is fitted on these scores.

References
----------
Marks et al., "Sparse Feature Circuits" (2025), section 4: the baseline after Yan et al. (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ssae_debias.activations import TextModel, read_pooled
from ssae_debias.recipe.methods.method import Method, Outcome, retrained

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


def concept_vectors(model: TextModel, keywords: Sequence[str], site: str) -> NDArray[np.float32]:
    """A vector for each keyword, shape (n_keywords, d_model); their mean is 0.

    Each keyword is read alone, with a space before it, as words stand in a text.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> concept_vectors(load_model("demo"), ["nurse", "surgeon", "ward"], "resid.3").shape
    (3, 384)
    """
    words = [f" {word.strip()}" for word in keywords]
    last = read_pooled(model, words, site, pool="last", include_special=False)[site]
    return last - last.mean(axis=0)


def concept_scores(vectors: NDArray[np.float32], pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of each text with each concept, shape (n_texts, n_keywords); 0 where a vector is 0.

    Examples
    --------
    >>> concept_scores(np.eye(2, dtype="float32"), np.array([[0.0, 3.0], [0.0, 0.0]], dtype="float32")).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    return _unit(pooled) @ _unit(vectors).T


def cbp(bench: Bench, seed: int) -> Outcome:
    """A probe on the concept scores of the ambiguous set."""
    recipe = bench.recipe
    vectors = concept_vectors(bench.model, recipe.shift.keywords, recipe.protocol.site)
    return retrained(bench, seed, concept_scores(vectors, bench.original))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


CONCEPTS = {"cbp": Method(cbp, needs_group_labels=False)}
