"""How well the attribute is read at each site, before the edit and after it.

Probes see rows in which the attribute's values are equally frequent within each label: then reading the label tells
nothing, guessing is right once in as many times as there are values, and what is read is the attribute itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from tqdm.auto import tqdm

from ssae_debias.audit.classifiers import pooled, rows_of
from ssae_debias.audit.kept_logits import KeptLogits, kept_array
from ssae_debias.audit.measuring import estimate
from ssae_debias.edit import Edit
from ssae_debias.metrics import linear_probe, mlp_probe, wilson
from ssae_debias.report import Estimate
from ssae_debias.report.audit import SiteLeakage

MAX_PER_CELL = 400
"""Rows of each (label, attribute) cell that probes see: enough to read an attribute, and minutes less of MLPs."""
MIN_PER_CELL = 10
FOLDS = 5

PROBES: tuple[Literal["linear", "mlp"], ...] = ("linear", "mlp")


def readable_values(y: NDArray[Any], attribute: NDArray[Any], known: NDArray[np.bool_]) -> tuple[str, ...]:
    """Values of the attribute that can be told apart within a label: the most that some label holds 10 rows of.

    Parameters
    ----------
    y, attribute : ndarray of shape (n,)
    known : ndarray of bool, shape (n,)

    Returns
    -------
    tuple of str
        Sorted; two or more, or none.

    Examples
    --------
    >>> y, a = np.zeros(50), np.repeat(["F", "M", "X"], [25, 20, 5])
    >>> readable_values(y, a, np.ones(50, dtype=bool))
    ('F', 'M')
    """
    best: tuple[int, int, tuple[str, ...]] = (0, 0, ())
    for label in np.unique(y[known]):
        values, counts = np.unique(attribute[known & (y == label)], return_counts=True)
        held = tuple(values[counts >= MIN_PER_CELL].tolist())
        rows = known & np.isin(attribute, held)
        best = max(best, (len(held), int(rows.sum()), held))
    return best[2] if best[0] > 1 else ()


def leakage_rows(
    y: NDArray[Any], attribute: NDArray[Any], known: NDArray[np.bool_], random_state: int
) -> NDArray[np.int64]:
    """Rows balanced over the readable values within each label, at most 400 of each cell.

    Labels of which some readable value has fewer than 10 rows are left out.

    Parameters
    ----------
    y, attribute : ndarray of shape (n,)
    known : ndarray of bool, shape (n,)
    random_state : int

    Returns
    -------
    ndarray of int64
        Sorted; empty where no label holds two values often enough.

    Examples
    --------
    >>> y, a = np.repeat([0, 1], 60), np.tile([0, 0, 1], 40)
    >>> rows = leakage_rows(y, a, np.ones(120, dtype=bool), 0)
    >>> len(rows), a[rows].mean()
    (80, np.float64(0.5))
    """
    random, chosen = np.random.default_rng(random_state), []
    values = readable_values(y, attribute, known)
    for label in np.unique(y) if values else ():
        cells = [np.flatnonzero(known & (y == label) & (attribute == value)) for value in values]
        size = min(MAX_PER_CELL, *(len(cell) for cell in cells))
        if size >= MIN_PER_CELL:
            chosen += [random.permutation(cell)[:size] for cell in cells]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def leakage_by_site(
    kept: KeptLogits,
    inputs: Any,
    y: NDArray[np.int64],
    attribute: NDArray[Any],
    known: NDArray[np.bool_],
    *,
    sites: Sequence[str],
    edits: Mapping[str, Edit],
    random_state: int = 0,
    verbose: int = 0,
) -> list[SiteLeakage]:
    """Balanced accuracy of reading the attribute from the pooled activations of each site.

    Probes are trained and tested by five-fold cross-validation on `leakage_rows`, so plain accuracy is the balanced
    one; Wilson's intervals, which take the rows' decisions for independent although folds share training rows.

    Parameters
    ----------
    kept : KeptLogits
        Of the classifier; figures of an earlier run are read from its folder.
    inputs : inputs of length n
    y, attribute, known : ndarray of shape (n,)
    sites : sequence of str
    edits : mapping of str to Edit
    random_state : int
    verbose : int
        1 shows a bar over sites.

    Returns
    -------
    list of SiteLeakage
        In the order of `sites`; empty where `leakage_rows` is.

    Examples
    --------
    >>> from torch import nn
    >>> from ssae_debias.audit import ModuleClassifier
    >>> model = ModuleClassifier(nn.Sequential(nn.Identity(), nn.Linear(3, 2)), "0", classes=["no", "yes"])
    >>> random = np.random.default_rng(0)
    >>> y, a = random.integers(2, size=(2, 200))
    >>> x = random.normal(size=(200, 3)).astype("float32") + 3 * a[:, None]
    >>> found = leakage_by_site(
    ...     KeptLogits(model, None), x, y, a, np.ones(200, bool), sites=["module:0"], edits={}
    ... )
    >>> found[0].linear.mean > 0.9, found[0].edited_linear is None
    (True, True)
    """
    rows = leakage_rows(y, attribute, known, random_state)
    if not len(rows):
        return []
    chosen, values = rows_of(inputs, rows), attribute[rows]
    cells = np.array([f"{label}/{value}" for label, value in zip(y[rows], values, strict=True)])
    states: list[Mapping[str, Edit]] = [{}, edits] if edits else [{}]

    vectors: dict[int, dict[str, NDArray[np.float32]]] = {}

    def read(site: str, place: int) -> list[Estimate]:
        state = states[place]

        def figures() -> NDArray[np.float64]:
            if place not in vectors:  # all sites in one pass, and none where all figures are kept
                vectors[place] = pooled(kept.classifier, chosen, sites, state, verbose=verbose)
            x = vectors[place][site]
            return np.array([_read(x, values, cells, probe, random_state) for probe in PROBES])

        facts = kept.facts(chosen, state, site, values.tolist(), cells.tolist(), random_state)
        return [Estimate(*row) for row in kept_array(kept.home, "leakage", facts, figures).tolist()]

    found = []
    for site in tqdm(sites, desc="leakage", unit="site", disable=not verbose, leave=False):
        (linear, mlp), *after = [read(site, place) for place in range(len(states))]
        edited_linear, edited_mlp = after[0] if after else (None, None)
        found.append(SiteLeakage(site, linear, mlp, edited_linear, edited_mlp))
    return found


def _read(
    x: NDArray[np.float32],
    values: NDArray[Any],
    cells: NDArray[Any],
    probe: Literal["linear", "mlp"],
    random_state: int,
) -> tuple[float, float, float]:
    codes = np.unique(values, return_inverse=True)[1]
    make = linear_probe if probe == "linear" else mlp_probe
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=random_state).split(x, cells)
    read = cross_val_predict(make(random_state=random_state), x, codes, cv=list(folds))
    interval = estimate(wilson(int((read == codes).sum()), len(codes)))
    return interval.mean, interval.low, interval.high
