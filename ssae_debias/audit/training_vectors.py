r"""What an SAE of an audit is trained on: vectors of a site, and what their counterfactuals move.

Of one vector for a whole input the attribute is a small part: sparse latents are spent on what varies more, and none
answers to the attribute alone. Where counterfactuals :math:`x'_i` are known, the dictionary can be given a reason to
hold such a latent. Beside :math:`x_i` and :math:`x'_i` it is trained on both moved apart,

.. math:: x_i + \lambda\,(x_i - x'_i), \qquad x'_i - \lambda\,(x_i - x'_i),

so that along the attribute's direction :math:`1 + 2\lambda` times as much is to be explained. Evidence, flags and edits
are of the vectors as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.audit.classifiers import Classifier

MAX_FLOATS = 2**27
"""Numbers of a site's activations that are held at once to train its SAE: half a GiB."""
MAX_WIDTH = 16_384


def training_vectors(
    classifier: Classifier,
    inputs: Any,
    site: str,
    wanted: int,
    *,
    counterfactual: Any = None,
    apart: float = 0.0,
    random_state: int = 0,
    verbose: int = 0,
) -> tuple[Tensor, NDArray[np.float32]]:
    r"""Vectors of a site drawn at random, about as many as training sees and memory holds; and the mean of all.

    Parameters
    ----------
    classifier : Classifier
    inputs : inputs of length n
    site : str
    wanted : int
        How many vectors training sees.
    counterfactual : inputs of length n, optional
        Read only where `apart` is above 0.
    apart : float, default=0
        :math:`\lambda` above; 0 trains on the inputs' own vectors alone.
    random_state : int
    verbose : int

    Returns
    -------
    vectors : Tensor of shape (m, d)
        A counterfactual that moves nothing adds none.
    center : ndarray of float32, shape (d,)
        Mean of the inputs' own vectors.

    Raises
    ------
    ValueError
        No rows; vectors of more than 16 384 numbers; `apart` below 0 or without counterfactuals, or counterfactuals
        that give another number of vectors.

    Examples
    --------
    >>> from torch import nn
    >>> from ssae_debias.audit import ModuleClassifier
    >>> model = ModuleClassifier(nn.Sequential(nn.Identity(), nn.Linear(1, 2)), "0", classes=["no", "yes"])
    >>> x, other = np.zeros((2, 1), dtype="float32"), np.array([[1.0], [0.0]], dtype="float32")
    >>> training_vectors(model, x, "module:0", 100, counterfactual=other, apart=2.0)[0][:, 0].tolist()
    [0.0, 0.0, 1.0, -2.0, 3.0]
    """
    if apart < 0 or (apart and counterfactual is None):
        raise ValueError(
            f"apart={apart:g} trains SAEs on counterfactuals moved apart: give counterfactuals (or word pairs, for texts) and "
            "a number of 0 or more; 0 needs none."
        )
    if not apart:
        return _drawn(classifier, inputs, site, wanted, MAX_FLOATS, random_state, verbose)
    # four times as many vectors follow from those that are drawn
    share = max(wanted // 4, 1), MAX_FLOATS // 4, random_state, verbose
    own, center = _drawn(classifier, inputs, site, *share)
    other, _ = _drawn(classifier, counterfactual, site, *share)
    if own.shape != other.shape:
        raise ValueError(
            f"At {site} the inputs give {len(own)} vectors and the counterfactuals {len(other)}, so none is another's "
            "counterfactual: set apart=0."
        )
    change = own - other
    moved = change.abs().sum(dim=1) > 0
    own_moved, other, change = own[moved], other[moved], apart * change[moved]
    return torch.cat([own, other, own_moved + change, other - change]), center


def _drawn(
    classifier: Classifier, inputs: Any, site: str, wanted: int, floats: int, seed: int, verbose: int
) -> tuple[Tensor, NDArray[np.float32]]:
    random, kept, share = np.random.default_rng(seed), [], 1.0
    total, count = np.zeros(0), 0
    for batch in classifier.tokens(inputs, [site], verbose=verbose):
        x = batch.activations[site].float().cpu()
        if not count:
            if x.shape[1] > MAX_WIDTH:
                raise ValueError(
                    f"Site {site} returns vectors of {x.shape[1]} numbers; SAEs are trained on at most {MAX_WIDTH}. Name "
                    "a narrower site, or put a step such as TruncatedSVD before it."
                )
            each = len(x) / len(np.unique(batch.text_index))
            most = min(max(wanted, 1), floats // x.shape[1])
            share = min(1.0, most / (each * len(inputs)))
            total = np.zeros(x.shape[1])
        total += x.double().sum(dim=0).numpy()
        count += len(x)
        # one by one at random: a stride could meet the same pixel of every image
        kept.append(x if share == 1 else x[torch.from_numpy(random.random(len(x)) < share)])
    if not count:
        raise ValueError("There are no rows that latents could be found on.")
    return torch.cat(kept), (total / count).astype(np.float32)
