"""What is drawn of concept recall: concepts in groups that belong on one axis, and their means by frequency."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.report.evaluation.panels import sparsity_name
from ssae_debias.report.evaluation.seeds import equal_parts, over_seeds, sparsities

NEURONS, RANDOM = "neurons", "random latents"
MOST_LEVELS = 2
MOST_FREQUENCIES = 10


class Group(NamedTuple):
    """A panel: concepts of one kind at one sparsity level, its heading, and what its horizontal axis counts."""

    heading: str
    axis: str
    k: float | None
    part: pd.DataFrame


def groups(table: pd.DataFrame, value: str = "f1", most: int = MOST_LEVELS) -> list[Group]:
    """The panels of a table: words, planted words and labels of texts apart, for their frequencies are not alike.

    A word's frequency is that in the corpus that is measured on; a planted one's, where SAEs were trained; a label's is a
    share of texts. Where all concepts are of one kind, up to `most` sparsity levels stand side by side instead.

    Examples
    --------
    >>> table = pd.DataFrame({"concept": ["x", "y"], "kind": "sae", "planted": [False, True], "k": 8.0, "f1": 0.5})
    >>> [(group.heading, len(group.part)) for group in groups(table)]
    [('Words of the corpus, k = 8', 1), ('Planted words, k = 8', 1)]
    """
    planted = table["planted"].astype(bool) if "planted" in table else pd.Series(False, table.index)
    of_texts = table["level"] == "text" if "level" in table else pd.Series(False, table.index)
    kinds = {
        "Words of the corpus": ("Frequency of the concept", ~planted & ~of_texts),
        "Planted words": ("Frequency where SAEs were trained", planted & ~of_texts),
        "Labels of texts": ("Share of the texts", of_texts),
    }
    measured = table[value].notna()
    there = {name: (axis, table[chosen & measured]) for name, (axis, chosen) in kinds.items()}
    there = {name: (axis, part) for name, (axis, part) in there.items() if len(part)}
    return [
        Group(", ".join(filter(None, [name if len(there) > 1 else "", sparsity_name(k)])), axis, k, own)
        for name, (axis, part) in there.items()
        for k, own in _levels(part, most if len(there) == 1 else 1)
    ]


def _levels(table: pd.DataFrame, most: int) -> list[tuple[float | None, pd.DataFrame]]:
    """As `sparsities`; neurons, which have no sparsity, stand beside each level wherever they were measured."""
    neurons = table[table["kind"] == NEURONS]
    return [
        (k, part if (part["kind"] == NEURONS).any() else pd.concat([part, neurons]))
        for k, part in sparsities(table, most)
    ]


def concept_points(table: pd.DataFrame, kind: str = "sae") -> pd.DataFrame:
    """F1 of each concept and variant, averaged over seeds; references have no variant."""
    own = table[(table["kind"] == kind) & table["f1"].notna() & (table["frequency"] > 0)]
    own = own.assign(planted=own["planted"].astype(bool), variant=own["variant"] if kind == "sae" else kind)
    return own.groupby(["variant", "concept", "planted"], sort=False, as_index=False).agg(
        frequency=("frequency", "mean"), f1=("f1", "mean")
    )


def recall_lines(table: pd.DataFrame, kind: str = "sae") -> pd.DataFrame:
    """Mean F1 over the concepts of a range of frequencies, then mean and interval over seeds.

    The ranges are the same for every variant and kind: one for each frequency where there are few (planted words),
    else so that each holds about as many concepts.

    Examples
    --------
    >>> table = pd.DataFrame({"variant": "a", "seed": [0, 0, 1, 1], "kind": "sae", "concept": ["x", "y"] * 2,
    ...                       "frequency": [1e-4, 1e-2] * 2, "f1": [0.2, 0.8, 0.4, 1.0], "planted": True})
    >>> recall_lines(table)[["frequency", "mean", "n_concepts"]].round(4).values.tolist()
    [[0.0001, 0.3, 1.0], [0.01, 0.9, 1.0]]
    """
    measured = table[table["f1"].notna() & (table["frequency"] > 0)]
    own = measured[measured["kind"] == kind]
    if own.empty:
        return pd.DataFrame(columns=["variant", "frequency", "mean", "low", "high", "n_seeds", "n_concepts"])
    edges = _edges(measured)
    place = np.searchsorted(edges, own["frequency"].to_numpy(), side="right") - 1
    own = own.assign(
        variant=own["variant"] if kind == "sae" else kind, part=place.clip(0, max(len(edges) - 2, 0))
    )
    facts = own.groupby("part").agg(
        frequency=("frequency", lambda values: float(np.exp(np.log(values).mean()))),
        n_concepts=("concept", "nunique"),
    )
    # The ends of single concepts are intervals over texts, not over the concepts of a range.
    means = own.drop(columns=["f1_low", "f1_high"], errors="ignore")
    found = over_seeds(means, ["variant", "part"], "f1").join(facts, on="part")
    return found.sort_values("frequency", kind="stable").drop(columns="part")


def _edges(measured: pd.DataFrame) -> NDArray[np.float64]:
    each = measured.groupby("concept")["frequency"].mean().to_numpy(np.float64)
    distinct = np.unique(np.exp(np.round(np.log(each), 6)))
    if len(distinct) <= MOST_FREQUENCIES and (
        measured["planted"].astype(bool).all() or 2 * len(distinct) <= len(each)
    ):
        between = np.sqrt(distinct[:-1] * distinct[1:])
        return np.array([distinct[0] * 0.9, *between, distinct[-1] * 1.1])
    return equal_parts(each)


def found_points(table: pd.DataFrame) -> pd.DataFrame:
    """Share of concepts with a latent by range of frequencies, from `recall_by_frequency`.

    Examples
    --------
    >>> table = pd.DataFrame({"variant": "a", "k": 8.0, "seed": 0, "kind": "sae", "frequency_above": [0, 1e-5],
    ...                       "frequency_to": [1e-5, 1e-3], "n_concepts": [3, 4], "found": [0.0, 0.5]})
    >>> found_points(table)[["frequency", "mean", "n_concepts"]].values.tolist()
    [[5e-06, 0.0, 3.0], [0.0001, 0.5, 4.0]]
    """
    by = ["variant", "k", "kind", "frequency_above", "frequency_to"]
    own = table.assign(variant=table["variant"].where(table["kind"] == "sae", table["kind"]))
    counts = own.groupby(by, dropna=False)["n_concepts"].max().reset_index()
    found = over_seeds(own, by, "found").merge(counts, on=by)
    low, high = found["frequency_above"], found["frequency_to"]
    # A range that begins at 0 has no middle on a logarithmic axis.
    middle = np.sqrt(low * high).where(low > 0, high / 2)
    return found.assign(frequency=middle).sort_values("frequency", kind="stable")
