"""On one half of the texts: which unit finds each concept best, and from which value on.

Two readings. The first notes every unit's largest value (and the neurons' means), the second counts examples by
level. Both see the selection half alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.metrics.compared import BatchFactory, part_tokens, whole_text_parts
from ssae_debias.metrics.concepts.concept import Concept
from ssae_debias.metrics.concepts.levels import Choice, LevelCounts, best_choice
from ssae_debias.metrics.concepts.units import Latents, SignedNeurons, Units
from ssae_debias.sae import SparseAutoencoder

Kind = Literal["sae", "neurons"]


@dataclass(frozen=True)
class Finder:
    """A dictionary that is asked for concepts.

    Attributes
    ----------
    name : str
    kind : {"sae", "neurons"}
    site : str
    units : Units
    largest : Tensor of shape (n_units,)
        Largest value of each unit on the selection half; 0 for a unit that never fires there.
    """

    name: str
    kind: Kind
    site: str
    units: Units
    largest: Tensor


def finders(
    batches: BatchFactory,
    saes: Mapping[str, tuple[str, SparseAutoencoder]],
    selection: NDArray[np.bool_],
    *,
    neurons: bool = True,
) -> list[Finder]:
    """Every SAE, and the neurons of every site, with the range of their units: the first reading.

    Parameters
    ----------
    batches : callable
    saes : mapping of str to (site, SparseAutoencoder)
    selection : ndarray of bool, shape (n_texts,)
        The texts of the half.
    neurons : bool, default True

    Raises
    ------
    ValueError
        A site without tokens in the half.
    """
    latents = {name: Latents(sae) for name, (_, sae) in saes.items()}
    largest = {name: torch.zeros(units.n) for name, units in latents.items()}
    sites = list(dict.fromkeys(site for site, _ in saes.values())) if neurons else []
    sums: dict[str, Tensor] = {}
    low: dict[str, Tensor] = {}
    high: dict[str, Tensor] = {}
    n_tokens = 0
    for batch in batches():
        for part in whole_text_parts(batch, selection):
            n_tokens += len(part)
            for name, units in latents.items():
                values = units.values(part.activations[saes[name][0]])
                torch.maximum(largest[name], values.amax(0), out=largest[name])
            for site in sites:
                x = part.activations[site].float().cpu()
                sums[site] = sums.get(site, torch.zeros(x.shape[1], dtype=torch.float64)) + x.double().sum(0)
                low[site] = torch.minimum(low.get(site, x[0]), x.amin(0))
                high[site] = torch.maximum(high.get(site, x[0]), x.amax(0))
    if not n_tokens:
        raise ValueError("no batch holds a token of the texts on which units are selected; check n_texts.")
    found = [Finder(name, "sae", saes[name][0], units, largest[name]) for name, units in latents.items()]
    for site in sites:
        mean = (sums[site] / n_tokens).float()
        reach = torch.cat([high[site] - mean, mean - low[site]]).clamp(min=0)
        name = "neurons" if len(sites) == 1 else f"neurons of {site}"
        found.append(Finder(name, "neurons", site, SignedNeurons(mean), reach))
    return found


@dataclass
class Selected:
    """What the selection half says of one finder and one concept.

    Attributes
    ----------
    best : Choice
    random : list of Choice
        Random units of the finder, each at the threshold that is best for it.
    """

    best: Choice
    random: list[Choice]


def select(
    batches: BatchFactory,
    finders: Sequence[Finder],
    concepts: Sequence[Concept],
    selection: NDArray[np.bool_],
    *,
    n_levels: int,
    random_units: Mapping[str, NDArray[np.int64]],
) -> tuple[dict[tuple[str, str], Selected], dict[str, int], dict[str, int]]:
    """Choose units and thresholds: the second reading.

    Parameters
    ----------
    batches, finders, concepts, selection
    n_levels : int
    random_units : mapping of str to ndarray of int
        Units that stand for chance, by finder.

    Returns
    -------
    dict of (finder, concept) to Selected
    dict of str to int
        Occurrences in the half, by concept.
    dict of str to int
        Tokens and texts in the half, by level.
    """
    levels = {concept.level for concept in concepts}
    every = {(f.name, level): LevelCounts(f.units.n, n_levels) for f in finders for level in levels}
    pieces = {(f.name, c.name): LevelCounts(f.units.n, n_levels) for f in finders for c in concepts}
    whole = {(f.name, c.name): LevelCounts(f.units.n, n_levels) for f in finders for c in concepts}
    n_found = dict.fromkeys((c.name for c in concepts), 0)
    n_examples = {"token": 0, "text": 0}
    at_once = part_tokens(max(finder.units.n for finder in finders))
    for batch in batches():
        for part in whole_text_parts(batch, selection, at_once):
            n_examples["token"] += len(part)
            n_examples["text"] += len(np.unique(part.text_index))
            held = [(c, *c.tokens(part)) for c in concepts]
            for c, _, numbers in held:
                n_found[c.name] += len(np.unique(numbers))
            for finder in finders:
                values = finder.units.values(part.activations[finder.site])
                if "token" in levels:
                    every[finder.name, "token"].add(values, finder.largest)
                if "text" in levels:
                    every[finder.name, "text"].add(over_groups(values, part.text_index), finder.largest)
                for c, rows, numbers in held:
                    if len(rows):
                        if c.level == "token":
                            pieces[finder.name, c.name].add(values[torch.from_numpy(rows)], finder.largest)
                        occurrences = over_groups(values[torch.from_numpy(rows)], numbers)
                        whole[finder.name, c.name].add(occurrences, finder.largest)
    chosen = {}
    for finder in finders:
        reaching = {level: every[finder.name, level].reaching() for level in levels}
        for c in concepts:
            found = whole.pop((finder.name, c.name)).reaching()
            predicted = reaching[c.level]
            if c.level == "token":  # an occurrence of several tokens is one example
                predicted = predicted - pieces.pop((finder.name, c.name)).reaching() + found
            n = n_found[c.name]
            random = (
                [best_choice(found, predicted, n, np.array([u])) for u in random_units[finder.name]]
                if n
                else []
            )
            best = best_choice(found, predicted, n) if n else Choice(0, 0, 0.0)
            chosen[finder.name, c.name] = Selected(best, random)
    return chosen, n_found, n_examples


def over_groups(values: Tensor, groups: NDArray[np.int64]) -> Tensor:
    """Largest value of each unit over the rows of each group, shape (n_groups, n_units), groups ascending.

    Examples
    --------
    >>> over_groups(torch.tensor([[1.0], [5.0], [2.0]]), np.array([4, 3, 4])).tolist()
    [[5.0], [2.0]]
    """
    names, place = np.unique(groups, return_inverse=True)
    if len(names) == len(groups):
        return values[torch.from_numpy(np.argsort(place))]
    index = torch.from_numpy(place)[:, None].expand_as(values)
    return values.new_zeros(len(names), values.shape[1]).scatter_reduce(0, index, values, "amax")
