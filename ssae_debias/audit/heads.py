"""The last linear layer, fitted again on edited activations.

A classifier that learned to decide by the attribute gives little weight to what is left when the attribute is gone. Its
last layer is cheap to fit again: its inputs are read once, and a logistic regression takes the layer's place. Rows are
drawn and weighted so that every cell of label and side of the attribute's words counts alike; no attribute label is
needed where there are words. This is DFR (Kirichenko et al., "Last Layer Re-Training is Sufficient for Robustness to
Spurious Correlations", 2023) with words for groups, after an edit or without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

MAX_PER_CELL = 350
"""Rows of each cell that a head is fitted on: a few hundred texts settle a layer of a few hundred weights."""
ALIKE = 0.02
"""How far a layer's outputs may be from the logits, relative to the largest: bfloat16 rounds to 0.4 %."""
FEW = 10
"""A smaller cell counts as if it had this many rows: two texts are not to outweigh two hundred."""


@dataclass(frozen=True)
class Head:
    """A linear layer that decides.

    Attributes
    ----------
    weight : ndarray of float32, shape (n_classes, d)
    bias : ndarray of float32, shape (n_classes,)

    Examples
    --------
    >>> Head(np.eye(2, dtype="float32"), np.zeros(2, dtype="float32")).logits(np.array([[1.0, 3.0]]))
    array([[1., 3.]], dtype=float32)
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Logits of inputs of shape (n, d)."""
        return (x @ self.weight.T + self.bias).astype(np.float32)

    @contextmanager
    def applied(self, layer: nn.Linear) -> Iterator[None]:
        """Stand in for a layer's weights while the block lasts; a layer of one logit gets their difference."""
        weight, bias = torch.from_numpy(self.weight), torch.from_numpy(self.bias)
        if layer.out_features == 1:
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        if layer.bias is None or layer.weight.shape != weight.shape:
            raise ValueError(
                f"The head has weights {tuple(weight.shape)} and a bias; the layer has {tuple(layer.weight.shape)} and "
                f"{'no' if layer.bias is None else 'a'} bias."
            )
        before = layer.weight.detach().clone(), layer.bias.detach().clone()
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        try:
            yield
        finally:
            with torch.no_grad():
                layer.weight.copy_(before[0])
                layer.bias.copy_(before[1])


def refit_head(
    x: NDArray[np.floating[Any]],
    y: NDArray[np.int64],
    cells: NDArray[Any],
    n_classes: int,
    *,
    C: float = 0.1,
) -> Head:
    """Fit a linear head in which every cell counts alike.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Inputs of the last layer.
    y : ndarray of int64, shape (n,)
    cells : ndarray of shape (n,)
        Which rows count together: label and side.
    n_classes : int
        Classes without a row get a logit that never wins.
    C : float, default=0.1
        Inverse penalty on standardised columns, as of every linear probe here.

    Raises
    ------
    ValueError
        Fewer than two labels.

    Examples
    --------
    >>> x, y = np.array([[0.0], [1.0], [0.1], [0.9]]), np.array([0, 1, 0, 1])
    >>> refit_head(x, y, y, 2).logits(x).argmax(axis=1).tolist()
    [0, 1, 0, 1]
    """
    scaler = StandardScaler().fit(x)
    _, place, counts = np.unique(cells, return_inverse=True, return_counts=True)
    weights = 1 / np.maximum(counts, FEW)[place]
    probe = LogisticRegression(C=C, max_iter=2000)
    probe.fit(scaler.transform(x), y, sample_weight=weights * len(y) / weights.sum())
    coef, intercept = probe.coef_, probe.intercept_
    if len(probe.classes_) == 2:  # one row says both
        coef, intercept = np.vstack([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    coef = coef / scaler.scale_
    intercept = intercept - coef @ scaler.mean_
    weight, bias = np.zeros((n_classes, x.shape[1])), np.full(n_classes, -1e4)
    weight[probe.classes_], bias[probe.classes_] = coef, intercept
    return Head(weight.astype(np.float32), bias.astype(np.float32))


def head_rows(cells: NDArray[Any], random_state: int) -> NDArray[np.int64]:
    """Rows to fit a head on: at most 350 of each cell, at random.

    Examples
    --------
    >>> len(head_rows(np.repeat(["a", "b"], [500, 20]), 0))
    370
    """
    random = np.random.default_rng(random_state)
    drawn = [random.permutation(np.flatnonzero(cells == cell))[:MAX_PER_CELL] for cell in np.unique(cells)]
    return np.sort(np.concatenate(drawn))


def last_linear(module: nn.Module, n_classes: int) -> nn.Linear | None:
    """The last linear layer whose outputs are as many as the classes (or one, for two); None where there is none.

    Examples
    --------
    >>> last_linear(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5)), 2).in_features
    3
    """
    sizes = (n_classes, 1) if n_classes == 2 else (n_classes,)
    layers = [part for part in module.modules() if isinstance(part, nn.Linear) and part.out_features in sizes]
    return layers[-1] if layers else None


@contextmanager
def head_inputs_of(layer: nn.Linear | None, seen: list[torch.Tensor]) -> Iterator[None]:
    """Collect what a layer is given at each forward pass, where that is one vector an input.

    Examples
    --------
    >>> layer, seen = nn.Linear(3, 2), []
    >>> with head_inputs_of(layer, seen):
    ...     _ = layer(torch.ones(4, 3))
    >>> seen[0].shape
    torch.Size([4, 3])
    """
    if layer is None:
        yield
        return

    def note(_module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and given[0].ndim == 2:
            seen.append(given[0].detach().float().cpu())

    handle = layer.register_forward_pre_hook(note)
    try:
        yield
    finally:
        handle.remove()


def in_order(
    seen: list[torch.Tensor], order: NDArray[np.int64], layer: nn.Linear | None, logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Collected vectors in the order of the inputs.

    Parameters
    ----------
    seen : list of Tensor of shape (b, d)
        What the layer was given, batch by batch.
    order : ndarray of int64, shape (n,)
        Which input each of them belongs to.
    layer : nn.Linear or None
    logits : ndarray of shape (n, n_classes)
        What the classifier decided of these inputs.

    Returns
    -------
    ndarray of float32, shape (n, d)
        d is 0 where not every input gave one vector, or where the layer is not the one that decides: its outputs are
        not the logits, up to a number for each input (a softmax's logarithm is taken, a sigmoid is not).

    Examples
    --------
    >>> layer, x = nn.Linear(3, 2), torch.ones(4, 3)
    >>> logits = layer(x).detach().numpy()
    >>> in_order([x], np.arange(4), layer, logits).shape, in_order([x], np.arange(4), layer, logits**2).shape
    ((4, 3), (4, 0))
    """
    rows = torch.cat(seen) if seen else torch.zeros(0, 0)
    nothing = np.zeros((len(order), 0), dtype=np.float32)
    if layer is None or len(rows) != len(order) or not len(rows):
        return nothing
    with torch.no_grad():
        bias = 0 if layer.bias is None else layer.bias.float().cpu()
        own = (rows @ layer.weight.float().cpu().T + bias).numpy()
    own = np.column_stack([np.zeros_like(own), own]) if own.shape[1] == 1 else own
    theirs = logits[order] - logits[order].mean(axis=1, keepdims=True)
    own = own - own.mean(axis=1, keepdims=True)
    if not np.allclose(own, theirs, atol=ALIKE * max(1.0, float(np.abs(theirs).max()))):
        return nothing
    found = np.empty(rows.shape, dtype=np.float32)
    found[order] = rows.numpy()
    return found
