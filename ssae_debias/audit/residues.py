"""What is mended after latents are ablated, learned anew for any set of ablated latents.

`SSAEDebiaser` learns its own for the latents that it flags. Here the same is learned for every kind of classifier,
after a person's decisions, and for random latents: a control that lacks what ours is given would flatter ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssae_debias.audit.classifiers import Classifier, pooled
from ssae_debias.edit import Edit
from ssae_debias.estimators.residue import erasure, realignment
from ssae_debias.latents.association import comparable


def residue_after(
    classifier: Classifier,
    inputs: Any,
    y: NDArray[np.int64],
    edits: Mapping[str, Edit],
    *,
    site: str,
    attribute: NDArray[Any] | None,
    known: NDArray[np.bool_],
    realign: bool = True,
    erase: bool = True,
    verbose: int = 0,
) -> dict[str, Edit]:
    """Realignment and erasure at a site, from the pooled activations under some latents' edits.

    Parameters
    ----------
    classifier : Classifier
    inputs : inputs of length n
        Fit rows.
    y : ndarray of int64, shape (n,)
    edits : mapping of str to Edit
        The latents' edits; without any, nothing was moved and nothing is realigned.
    site : str
        Where both act.
    attribute : ndarray of shape (n,) or None
        The attribute or the side of its words; without it nothing is erased.
    known : ndarray of bool, shape (n,)
        Rows whose attribute is known.
    realign, erase : bool, default=True
    verbose : int

    Returns
    -------
    dict of str to Edit
        `realignment` and `erasure`, in the order in which they act, as far as they were asked for and can be
        learned: nothing is erased where no label holds two values of the attribute, for the task would go too.

    Examples
    --------
    >>> from torch import nn
    >>> from ssae_debias.audit import ModuleClassifier
    >>> model = ModuleClassifier(nn.Sequential(nn.Identity(), nn.Linear(3, 2)), "0", classes=["no", "yes"])
    >>> random = np.random.default_rng(0)
    >>> y, a = random.integers(2, size=(2, 200))
    >>> x = random.normal(size=(200, 3)).astype("float32") + 3 * a[:, None]
    >>> known = np.ones(200, dtype=bool)
    >>> list(residue_after(model, x, y, {}, site="module:0", attribute=a, known=known))
    ['erasure']
    """
    moved = realign and bool(edits)
    told = erase and attribute is not None and known.any() and comparable(attribute[known], y[known])
    residue: dict[str, Edit] = {}
    if not (moved or told):
        return residue
    after = pooled(classifier, inputs, [site], edits, verbose=verbose)[site]
    if moved:
        affine = realignment(after, pooled(classifier, inputs, [site], verbose=verbose)[site])
        after = affine(torch.from_numpy(after)).numpy()
        residue["realignment"] = affine
    if told and attribute is not None:
        projection = erasure(after, y, attribute, known)
        if projection is not None:
            residue["erasure"] = projection
    return residue
