r"""How latents respond when only the attribute's words change.

Each text is read twice: as it is, and with its gendered (or other paired) words swapped. For text *i* with
side :math:`s_i = \pm 1` (which side's words it holds) the oriented response of a latent is

.. math:: r_i = s_i\, (z_i - z_i^{swap})

positive where the latent is more active with side 1's words. No label of any kind is needed, the two versions
agree in everything else, and the task cannot be blamed for what the swap did.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats


def counterfactual_response(z: ArrayLike, z_swapped: ArrayLike, side: ArrayLike) -> pd.DataFrame:
    """Test every latent for a response to the swap (paired t-test).

    Parameters
    ----------
    z, z_swapped : array of shape (n_texts, d_sae)
        Pooled latent activations of the texts and of their counterfactuals, row by row.
    side : array of shape (n_texts,)
        Above 0 where the text holds more of side 1's words, below 0 for side 0; texts with 0 have nothing to
        swap, or both sides alike, and are left out.

    Returns
    -------
    DataFrame with one row a latent
        `response` (mean oriented response, in units of pooled activation), `effect` (mean over standard
        deviation: Cohen's d for pairs), `p` (two-sided), `q` (false discovery rate, Benjamini and Hochberg),
        `share` (|response| over the mean activation of the two versions: 2 means that the swap turns the
        latent wholly on or off).

    Raises
    ------
    ValueError
        Shapes differ, or fewer than 3 texts have a side.

    Examples
    --------
    >>> import numpy as np
    >>> side = np.array([1, -1, 1, -1])
    >>> z = np.column_stack([side > 0, np.ones(4)]) * 1.0 + 0.01 * np.arange(8).reshape(4, 2)
    >>> swapped = np.column_stack([side < 0, np.ones(4)]) * 1.0
    >>> counterfactual_response(z, swapped, side).response.round(1).tolist()
    [1.0, -0.0]
    """
    before, after, sides = np.asarray(z), np.asarray(z_swapped), np.sign(np.asarray(side))
    if before.shape != after.shape or len(sides) != len(before):
        raise ValueError(
            f"z {before.shape}, z_swapped {after.shape} and side ({len(sides)},) must hold the same texts and latents."
        )
    kept = sides != 0
    n = int(kept.sum())
    if n < 3:
        raise ValueError(
            f"{n} of {len(sides)} texts hold words of the attribute's pairs; at least 3 are needed. Check that the "
            "word list is in the texts' language, or give sensitive_features and flag by association."
        )
    r = sides[kept, None] * (before[kept].astype(np.float64) - after[kept])
    response, deviation = r.mean(axis=0), r.std(axis=0, ddof=1)
    level = (before[kept].mean(axis=0, dtype=np.float64) + after[kept].mean(axis=0, dtype=np.float64)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = np.where(
            deviation > 0, response / deviation, np.where(response == 0, 0.0, np.sign(response) * np.inf)
        )
        share = np.where(level > 0, np.abs(response) / level, 0.0)
    p = np.where(response == 0, 1.0, 2 * stats.t.sf(np.abs(effect) * np.sqrt(n), n - 1))
    return pd.DataFrame(
        {
            "response": response,
            "effect": effect,
            "p": p,
            "q": stats.false_discovery_control(p) if len(p) else p,
            "share": share,
        }
    )
