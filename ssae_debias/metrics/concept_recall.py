r"""Concept recall: whether an SAE holds a latent for a concept, and down to which frequency.

A specialised SAE is trained so that rare concepts get latents. Shown directly: take concepts whose places in a corpus
are known (`Concept.of_words`, …; `plant` for a set frequency) and ask each SAE for the latent that finds each best. Of
16,000 latents some one will fit a concept of ten occurrences by chance, so the latent and its threshold are chosen by
F1 on one half of the texts and scored on the other, where nothing was chosen. Beside the SAEs stand

- the site's *neurons*, chosen alike, each above and below its mean: what the activations give away without any
  dictionary;
- *random latents* of each SAE, at the threshold that suits each best: what a latent achieves that was not chosen. (For
  what choosing among as many random directions achieves, pass an untrained `SparseAutoencoder` as one of the SAEs.)

The intervals are over test texts, by bootstrap; they hold latent and threshold fixed. Of a concept in fewer than ten
test texts or so (`n_test_texts`) they are too narrow: resamples of three texts know no fourth.

References
----------
Muhamed et al.: "Decoding Dark Matter: Specialized Sparse Autoencoders for Interpreting Rare Concepts", NAACL 2025
Findings (the claim, shown there by token frequency only). Gao et al.: "Scaling and evaluating sparse autoencoders",
2024, section 4.2, and Gurnee et al.: "Finding Neurons in a Haystack", 2023 (the best single unit for a known concept).
The protocol here, with its halves, baselines and intervals, is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.metrics.compared import BatchFactory, Sites, check_compared
from ssae_debias.metrics.concepts.by_frequency import recall_by_frequency
from ssae_debias.metrics.concepts.concept import Concept
from ssae_debias.metrics.concepts.halves import split_texts
from ssae_debias.metrics.concepts.levels import N_LEVELS, level_edges
from ssae_debias.metrics.concepts.planting import plant
from ssae_debias.metrics.concepts.selection import Finder, Selected, finders, select
from ssae_debias.metrics.concepts.testing import FIGURES, Score, measure
from ssae_debias.sae import SparseAutoencoder

__all__ = ["Concept", "concept_recall", "plant", "recall_by_frequency", "split_texts"]


def concept_recall(
    batches: BatchFactory,
    saes: Mapping[str, SparseAutoencoder],
    concepts: Sequence[Concept],
    n_texts: int,
    *,
    site: Sites,
    base: str | None = None,
    neurons: bool = True,
    n_random: int = 20,
    n_levels: int = N_LEVELS,
    n_resamples: int = 500,
    level: float = 0.95,
    random_state: RandomState = 0,
) -> pd.DataFrame:
    """Find each concept's best latent on one half of the texts and score it on the other.

    The corpus is read three times: for the units' ranges and for the counts on the selection half, and for the chosen
    units on the test half. Kept in memory are for each dictionary and concept at most ``n_units · n_levels`` counts
    (far fewer for rare concepts) and ``64 · n_levels · n_resamples`` bytes, 2 MB by default, and n_resamples bytes a text.

    Parameters
    ----------
    batches : callable
        Reads the corpus anew at each call, such as ``store.token_batches``. A text's tokens stand in one batch.
    saes : mapping of str to SparseAutoencoder
        By the names that the table shows.
    concepts : sequence of Concept
        Of different names.
    n_texts : int
        How many texts the batches' `text_index` refers to.
    site : str or mapping of str to str
        Where the SAEs read; one site for each name if they differ.
    base : str, optional
        A dictionary of the table ("neurons" or an SAE's name) that each other one is compared with: adds `gain`, the
        difference in F1, with its interval over the same resamples.
    neurons : bool, default True
        Whether the neurons take part.
    n_random : int, default 20
        Random latents drawn from those of each SAE that fire on the selection half. 0 leaves them out.
    n_levels : int, default 64
        Thresholds tried for each unit; see `ssae_debias.metrics.concepts.levels`.
    n_resamples : int, default 500
        Resamples of the test texts.
    level : float, default 0.95
        Of the intervals.
    random_state : int, Generator, RandomState or None, default 0
        Of the halves, the random latents and the resamples.

    Returns
    -------
    DataFrame
        A row for each concept and dictionary: `concept`, `level` ("token" or "text"), `dictionary`, `kind` ("sae",
        "neurons" or "random latents"), `site`, `d_sae` (units to choose from), `latent` (for neurons the coordinate,
        -1 for random latents), `sign` (-1 for a neuron below its mean), `threshold` (of its activation, for neurons of
        the distance from the mean), `frequency` (occurrences over tokens, or over texts), `n_selection` and `n_test`
        (occurrences), `n_test_texts` (texts with one), `selection_f1`, and on the test half `f1`, `precision`,
        `recall` and `precision_at_half_recall`, each with `_low` and `_high`. For random latents the figures are means
        and the ends are quantiles over the latents. A concept without an occurrence in one of the halves has NaN.

    Raises
    ------
    TypeError, ValueError
        No SAE, concept or text; two concepts of a name; fewer than two texts with a concept; an unknown `base`; a
        batch with a text beyond `n_texts`.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> model, texts = load_model("demo"), ["A nurse.", "A surgeon.", "The nurse left.", "He left."] * 4
    >>> nurses = Concept.of_words("nurse", ["nurse"], texts, model)
    >>> saes = {"untrained": SparseAutoencoder(384, SAEConfig(d_sae=64, k=4))}
    >>> found = concept_recall(
    ...     lambda: read_tokens(model, texts, "embed"), saes, [nurses], len(texts), site="embed", n_resamples=20
    ... )
    >>> found[["dictionary", "n_selection", "n_test"]].values.tolist()
    [['untrained', 4, 4], ['neurons', 4, 4], ['untrained', 4, 4]]
    """
    compared = check_compared(saes, site)
    _check_concepts(concepts, n_texts)
    if clash := {"neurons"} & set(saes):
        raise ValueError(f"no SAE may be called {clash.pop()!r}: the table calls the site's neurons so.")
    rng = as_generator(random_state)
    selection = split_texts(concepts, n_texts, random_state=rng)
    found = finders(batches, compared, selection, neurons=neurons)
    if base is not None and base not in [finder.name for finder in found]:
        raise ValueError(f"base must be one of {', '.join(finder.name for finder in found)}; got {base!r}.")
    random_units = {f.name: _live(f, n_random, rng) for f in found}
    selected, n_selection, before = select(
        batches, found, concepts, selection, n_levels=n_levels, random_units=random_units
    )
    choices = {pair: [each.best, *each.random] for pair, each in selected.items()}
    tested, n_test, after = measure(
        batches,
        found,
        concepts,
        ~selection,
        choices,
        n_levels=n_levels,
        n_resamples=n_resamples,
        random_state=rng,
    )
    rows = []
    for concept in concepts:
        counts = n_selection[concept.name], n_test[concept.name]
        common = {
            "concept": concept.name,
            "level": concept.level,
            "frequency": sum(counts) / max(before[concept.level] + after[concept.level], 1),
            "n_selection": counts[0],
            "n_test": counts[1],
            "n_test_texts": int((~selection[concept.texts]).sum()),
        }
        measured = min(counts) > 0
        for finder in found:
            pair = finder.name, concept.name
            row = {**common, **_chosen(finder, selected[pair], n_levels, measured)}
            row |= _figures(tested[pair][0], level, measured)
            if base is not None:
                row |= _gain(tested[pair][0], tested[base, concept.name][0], level, measured)
            rows.append(row)
        for finder in found:
            if finder.kind == "sae" and n_random:
                pair = finder.name, concept.name
                rows.append(common | _random(finder, selected[pair], tested[pair][1:], level, measured))
    return pd.DataFrame(rows)[_columns(base is not None)]


def _check_concepts(concepts: Sequence[Concept], n_texts: int) -> None:
    names = [concept.name for concept in concepts]
    if not names:
        raise ValueError("concepts holds no Concept; make one with Concept.of_words, for instance.")
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several concepts are called {', '.join(double)}; give each its own name.")
    for concept in concepts:
        if concept.texts[-1] >= n_texts:
            raise ValueError(
                f"{concept.name!r} is in text {concept.texts[-1]}, but n_texts={n_texts} was given."
            )
        if len(concept.texts) < 2:
            raise ValueError(
                f"{concept.name!r} occurs in one text only; one half selects a latent and the other tests it, so give "
                "a concept of two texts or more."
            )


def _live(finder: Finder, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if finder.kind == "neurons":
        return np.zeros(0, dtype=np.int64)
    return rng.permutation(np.flatnonzero(finder.largest.numpy() > 0))[:n]


def _chosen(finder: Finder, selected: Selected, n_levels: int, measured: bool) -> dict[str, Any]:
    unit, edge = selected.best.unit, float(level_edges(n_levels)[selected.best.level])
    neuron = finder.kind == "neurons"
    d = finder.units.n // 2 if neuron else finder.units.n
    return {
        "dictionary": finder.name,
        "kind": finder.kind,
        "site": finder.site,
        "d_sae": finder.units.n,
        "latent": unit % d if measured else -1,
        "sign": -1 if neuron and unit >= d else 1,
        "threshold": float(finder.largest[unit]) * edge if measured else np.nan,
        "selection_f1": selected.best.f1 if measured else np.nan,
    }


def _figures(tested: Score, level: float, measured: bool) -> dict[str, float]:
    row: dict[str, float] = {}
    for name in FIGURES:
        draws = tested.draws[name]
        low, high = _ends(draws[1:], level) if measured else (np.nan, np.nan)
        row |= {name: float(draws[0]) if measured else np.nan, f"{name}_low": low, f"{name}_high": high}
    return row


def _gain(tested: Score, base: Score, level: float, measured: bool) -> dict[str, float]:
    difference = tested.draws["f1"] - base.draws["f1"]
    low, high = _ends(difference[1:], level) if measured else (np.nan, np.nan)
    return {"gain": float(difference[0]) if measured else np.nan, "gain_low": low, "gain_high": high}


def _random(
    finder: Finder, selected: Selected, tested: Sequence[Score], level: float, measured: bool
) -> dict[str, Any]:
    measured = measured and bool(tested)
    row: dict[str, Any] = {
        "dictionary": finder.name,
        "kind": "random latents",
        "site": finder.site,
        "d_sae": finder.units.n,
        "latent": -1,
        "sign": 1,
        "threshold": np.nan,
        "selection_f1": float(np.mean([choice.f1 for choice in selected.random])) if measured else np.nan,
    }
    for name in FIGURES:
        values = np.array([each.draws[name][0] for each in tested])
        low, high = _ends(values, level) if measured else (np.nan, np.nan)
        row |= {name: float(values.mean()) if measured else np.nan, f"{name}_low": low, f"{name}_high": high}
    return row


def _ends(draws: NDArray[np.float64], level: float) -> tuple[float, float]:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _columns(with_gain: bool) -> list[str]:
    first = ["concept", "level", "dictionary", "kind", "site", "d_sae", "latent", "sign", "threshold"]
    counts = ["frequency", "n_selection", "n_test", "n_test_texts", "selection_f1"]
    figures = [column for name in FIGURES for column in (name, f"{name}_low", f"{name}_high")]
    return [*first, *counts, *figures, *(["gain", "gain_low", "gain_high"] if with_gain else [])]
