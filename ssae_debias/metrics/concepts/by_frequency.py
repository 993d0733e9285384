"""Concept recall as a function of the concepts' frequency."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def recall_by_frequency(
    table: pd.DataFrame, edges: Sequence[float] = (0, 1e-5, 1e-4, 1e-3, 1e-2, 1), *, found_from: float = 0.5
) -> pd.DataFrame:
    """Concept recall as a function of frequency: how many concepts of each range have a latent.

    Parameters
    ----------
    table : DataFrame
        From `concept_recall`.
    edges : sequence of float, default (0, 1e-5, 1e-4, 1e-3, 1e-2, 1)
        Of the ranges; each holds its upper end.
    found_from : float, default 0.5
        F1 on the test half from which on a concept counts as having a latent. Our choice.

    Returns
    -------
    DataFrame
        `dictionary`, `kind`, `frequency_above`, `frequency_to`, `n_concepts`, `found` (share of the concepts), `f1`,
        `precision_at_half_recall` (means over the concepts). Ranges and concepts without figures are left out.

    Examples
    --------
    >>> table = pd.DataFrame({"dictionary": "a", "kind": "sae", "frequency": [1e-3, 2e-3, 5e-2], "f1": [0.9, 0.2, 1.0],
    ...                       "precision_at_half_recall": [1.0, 0.0, 1.0]})
    >>> recall_by_frequency(table)[["frequency_to", "n_concepts", "found"]].values.tolist()
    [[0.001, 1.0, 1.0], [0.01, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    measured = table[table["f1"].notna()]
    ranges = pd.cut(measured["frequency"], list(edges))
    grouped = measured.assign(range=ranges, found=measured["f1"] >= found_from).groupby(
        ["dictionary", "kind", "range"], observed=True, sort=False
    )
    result = grouped.agg(
        n_concepts=("f1", "size"),
        found=("found", "mean"),
        f1=("f1", "mean"),
        precision_at_half_recall=("precision_at_half_recall", "mean"),
    ).reset_index()
    result.insert(2, "frequency_above", [interval.left for interval in result["range"]])
    result.insert(3, "frequency_to", [interval.right for interval in result["range"]])
    return (
        result.drop(columns="range")
        .sort_values(["dictionary", "kind", "frequency_to"])
        .reset_index(drop=True)
    )
