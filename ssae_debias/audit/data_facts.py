"""What the data say, whatever the classifier does: label against attribute, and the concepts that separate groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.audit.found import Found
from ssae_debias.audit.groups import Groups
from ssae_debias.audit.measuring import mean_of_proportions
from ssae_debias.data import cramers_v
from ssae_debias.latents import separating_latents
from ssae_debias.report import Estimate
from ssae_debias.report.audit import DataFacts

SHOWN = 6
"""Concepts of each group: what a person reads before scrolling on."""


def data_facts(
    y: NDArray[np.int64],
    groups: Groups,
    classes: tuple[str, ...],
    found: Found,
    fit_groups: Groups,
    fit_y: NDArray[np.int64],
    *,
    values: Sequence[str] = (),
) -> DataFacts:
    """Count cells, tell how well the label tells the attribute, and find what separates the groups.

    Parameters
    ----------
    y : ndarray of int64, shape (n,)
        Labels of all rows.
    groups : Groups
        Of all rows.
    classes : tuple of str
    found : Found
        Its pooled latents are those of fit rows.
    fit_groups : Groups
        Of the fit rows.
    fit_y : ndarray of int64
        Labels of the fit rows.
    values : sequence of str, optional
        Values of the attribute between which the label is to tell; default: all.

    Examples
    --------
    >>> from ssae_debias.audit.groups import find_groups
    >>> y, groups = np.array([0, 0, 1, 1]), find_groups("____", ["F", "F", "M", "F"], None)
    >>> told_by_label(y, groups).mean
    0.8333333333333333
    """
    known = groups.known
    counts = pd.crosstab(
        pd.Series(np.array(classes)[y[known]], name="label"),
        pd.Series(groups.values[known], name="attribute"),
    )
    return DataFacts(
        counts=counts,
        attribute_from_label=told_by_label(y, groups, values),
        concepts=_concepts(found, fit_groups, fit_y, classes),
    )


def told_by_label(y: NDArray[np.int64], groups: Groups, values: Sequence[str] = ()) -> Estimate | None:
    """Balanced accuracy with which the label alone tells the attribute.

    Each label is taken for the value that it is most typical of: the one with the largest share of its rows there. The
    interval holds that guess fixed; guessing anew in every resample would never fall below chance, and data in which
    label and attribute are independent would be said to hold them together.

    Parameters
    ----------
    y : ndarray of int64, shape (n,)
    groups : Groups
    values : sequence of str, optional
        Default: all that occur.

    Returns
    -------
    Estimate or None
        None where either is constant.

    Examples
    --------
    >>> from ssae_debias.audit.groups import find_groups
    >>> y = np.tile([0, 0, 1, 1], 50)
    >>> independent = told_by_label(y, find_groups(y, np.tile(["F", "M"], 100), None))
    >>> independent.mean, independent.low < 0.5
    (0.5, True)
    """
    names = tuple(values) or groups.names
    rows = groups.known & np.isin(groups.values, names)
    if len(names) < 2 or len(np.unique(y[rows])) < 2:
        return None
    labels, codes = np.unique(y[rows], return_inverse=True)
    table = np.zeros((len(labels), len(names)))
    np.add.at(table, (codes, np.searchsorted(names, groups.values[rows])), 1)
    sizes = table.sum(axis=0)
    guess = (table / np.maximum(sizes, 1)).argmax(axis=1)
    right = [table[guess == value, value].sum() for value in range(len(names))]
    return mean_of_proportions(np.array(right), sizes)


def association_strength(y: NDArray[np.int64], groups: Groups) -> float:
    """Cramér's V of label and attribute: 0 independent, 1 the same thing; 0 where nothing is known.

    Examples
    --------
    >>> from ssae_debias.audit.groups import find_groups
    >>> association_strength(np.array([0, 1, 1]), find_groups("___", ["F", "M", "M"], None))
    1.0
    """
    known = groups.known
    return float(cramers_v(y[known], groups.values[known])) if known.any() else 0.0


def _concepts(
    found: Found, groups: Groups, y: NDArray[np.int64], classes: tuple[str, ...]
) -> pd.DataFrame | None:
    if found.rows is not None:
        groups, y = groups.at(found.rows), y[found.rows]
    rows = groups.known if groups.known.any() else np.ones(len(y), dtype=bool)
    cells = groups.cells(np.array(classes)[y])[rows]
    if len(np.unique(cells)) < 2:
        return None
    # one site: the concepts of the others are nearly the same, and a list of repetitions says less
    site = list(found.saes)[-1]
    latents = replace(found.pooled[site], pooled=found.pooled[site].pooled[rows])
    concepts = separating_latents({site: latents}, cells, n=SHOWN)
    described = found.table.set_index(["site", "latent"])
    keys = list(zip(concepts["site"], concepts["latent"], strict=True))
    if "name" in described:
        concepts["name"] = [described["name"].get(key, "") for key in keys]
    concepts["top_texts"] = [found.examples.get(key, []) for key in keys]
    return concepts
