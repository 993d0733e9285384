r"""After the latents: undo what their edit did by accident, and erase what it left.

Ablating latents early in a model has two faults, both seen on real text. It moves activations in directions that
have nothing to do with the attribute, so that a classifier trained on unedited activations reads the edited ones
wrongly; and some of the attribute stays, in the SAE's error term and in carriers that have no latent of their
own, such as first names. Two linear edits of the pooled activation, learned without group labels, mend both:

1. **Realignment.** The unedited activation :math:`x` is predicted from the edited one :math:`\tilde x`,

   .. math:: \tilde x + (\tilde x - \mu)\, D + c \approx x,

   by ridge regression of :math:`x - \tilde x`, its strength chosen by generalised cross-validation. What the
   edit removed cannot be predicted and stays removed; what it merely moved is moved back. With few texts D
   shrinks to 0, which leaves the edit as it was.
2. **Erasure.** LEACE within each class of y removes what still tells the sides of the attribute's words apart:
   texts with "she" from texts with "he" among nurses, and among surgeons. The side is read from the text, so no
   group label is needed; what differs with the side besides the words themselves goes too.

Both act on every token of the site that is read; being affine, they do to a mean over tokens what they do to
each token.

References
----------
Belrose et al., "LEACE" (2023), theorem 4.3; centring within the classes of y is ours. The realignment is ours:
ridge regression with generalised cross-validation (Golub, Heath and Wahba 1979).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from ssae_debias.edit import Affine, Projection
from ssae_debias.latents.association import comparable
from ssae_debias.rivals import LEACEGivenY

STRENGTHS = np.logspace(-4, 2, 13)
"""Candidate ridge strengths, in units of the rows' number times their mean variance."""


def realignment(edited: NDArray[np.floating[Any]], unedited: NDArray[np.floating[Any]]) -> Affine:
    """The affine map from edited pooled activations back towards the unedited ones.

    Parameters
    ----------
    edited, unedited : ndarray of shape (n_texts, d_model)
        Pooled activations of the same texts, in the same order.

    Examples
    --------
    What the edit moved by accident is moved back; the column that it removed stays removed.

    >>> rows = np.random.default_rng(0).normal(size=(500, 3))
    >>> edited = rows * [1, 0, 0.5]
    >>> mended = realignment(edited, rows)(torch.as_tensor(edited, dtype=torch.float32)).numpy()
    >>> np.abs(mended - rows * [1, 0, 1]).max().round(1) < 0.2
    np.True_
    """
    x: NDArray[np.float64] = edited.astype(np.float64)
    center, target = x.mean(axis=0), unedited.astype(np.float64) - x
    scale = len(x) * max(float(x.var(axis=0).mean()), float(np.finfo(np.float32).tiny))
    ridge = RidgeCV(alphas=scale * STRENGTHS, fit_intercept=True).fit(x - center, target)
    return Affine(
        change=torch.as_tensor(ridge.coef_.T.copy(), dtype=torch.float32),
        center=torch.as_tensor(center, dtype=torch.float32),
        shift=torch.as_tensor(ridge.intercept_, dtype=torch.float32),
    )


def erasure(
    pooled: NDArray[np.floating[Any]],
    y: NDArray[Any],
    attribute: NDArray[Any],
    known: NDArray[np.bool_],
) -> Projection | None:
    """The oblique projection that erases an attribute within each class of y.

    Parameters
    ----------
    pooled : ndarray of shape (n_texts, d_model)
    y, attribute : ndarray of shape (n_texts,)
        The attribute itself, or the side of its words.
    known : ndarray of bool, shape (n_texts,)
        Texts whose attribute is known; the others are left out.

    Returns
    -------
    Projection or None
        None, with a warning, where no class of y holds two values of the attribute: then nothing can be told
        within classes, and erasing across them would take the task along.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> y, a = random.integers(2, size=(2, 900))
    >>> x = random.normal(size=(900, 2)) + 3 * np.column_stack([y, a])
    >>> erased = erasure(x, y, a, np.ones(900, dtype=bool))(torch.as_tensor(x)).numpy()
    >>> gap = lambda c: np.abs(erased[c == 1].mean(axis=0) - erased[c == 0].mean(axis=0)).max()
    >>> bool(gap(a) < 0.3), bool(gap(y) > 2.5)
    (True, True)
    """
    if not comparable(attribute[known], y[known]):
        warnings.warn(
            "No class of y holds two values of the attribute, so what the latents left of it is not erased: "
            "erasing across the classes would erase the task. Give texts in which attribute and label do not "
            "go together everywhere, or set erase=False.",
            stacklevel=3,
        )
        return None
    eraser = LEACEGivenY().fit(pooled[known], y[known], sensitive_features=attribute[known])
    return eraser.as_edit()
