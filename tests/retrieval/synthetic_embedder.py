"""Vectors without a model: clustered like embeddings of real text, and a function of each text alone."""

from __future__ import annotations

import numpy as np

from ssae_debias.retrieval.indexed import digests_of
from ssae_debias.retrieval.vector_index import unit_rows

D, CLUSTERS, DIRECTIONS = 32, 60, 8
_GENERATOR = np.random.default_rng(0)
CENTRES = _GENERATOR.normal(size=(CLUSTERS, D))
# within a cluster, as with real embeddings, there are fewer directions than dimensions
SPREAD = 0.5 * _GENERATOR.normal(size=(DIRECTIONS, D))


def embed(texts: list[str]) -> np.ndarray:
    digests = digests_of(texts)
    # an integer hash (splitmix64's) of digest and direction, made a number in [−1, 1)
    bits = (digests[:, None] + np.arange(1, DIRECTIONS + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = bits ^ (bits >> np.uint64(27))
    within = (bits.astype(np.float64) / 2**63 - 1)[:, :, None] * SPREAD
    # summed over an axis, not multiplied: BLAS may round a text's vector by what else is in the batch
    return unit_rows(CENTRES[(digests % np.uint64(CLUSTERS)).astype(int)] + within.sum(axis=1))


def documents(n: int) -> list[str]:
    return [f"document {i}" for i in range(n)]
