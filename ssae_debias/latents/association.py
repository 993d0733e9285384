r"""Association of latents with a variable *within* each class of another.

On confounded data a latent that carries the task also correlates with the attribute: nurses are mostly women,
so "hospital ward" looks female. Comparing women and men within each profession removes that. For a latent's
pooled activation *z*, label *y* and a binary attribute *a* this is the ordinary least squares model

.. math:: z_i = \alpha_{y_i} + \beta\, a_i + \varepsilon_i

whose :math:`\hat\beta` is the mean of the within-class differences :math:`\bar z_{y1} - \bar z_{y0}` weighted
by :math:`n_{y0} n_{y1} / n_y`. The effect size is :math:`\hat\beta / \hat\sigma_\varepsilon` (Cohen's d within
classes), the p-value that of the t-test of :math:`\beta = 0` (Frisch–Waugh–Lovell: centre z and a within each
class, then regress). An attribute of more than two values is tested one value against the rest; the strongest
stands in the table, its p-value times the number of values (Bonferroni).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def association(z: ArrayLike, variable: ArrayLike, within: ArrayLike | None = None) -> pd.DataFrame:
    """Test every latent for a difference between the values of a variable, within classes.

    Parameters
    ----------
    z : array of shape (n_texts, d_sae)
        Pooled latent activations.
    variable : array of shape (n_texts,)
        The attribute (or the label, to see what carries the task); any hashable values.
    within : array of shape (n_texts,), optional
        The classes to stay within: y for the attribute, the attribute for y. Default: one class.

    Returns
    -------
    DataFrame with one row a latent
        `effect` (within-class Cohen's d; positive: higher for `value`), `p` (two-sided), `q` (Benjamini and
        Hochberg's false discovery rate over all latents), `value` (the value that it goes with; for a binary
        variable the larger of the two in sort order).

    Raises
    ------
    ValueError
        Lengths differ, or no class holds two values of the variable: then nothing can be told within classes.

    References
    ----------
    Frisch and Waugh (1933); Lovell (1963). Benjamini and Hochberg (1995).

    Examples
    --------
    >>> import numpy as np
    >>> a, y = np.array([0, 1] * 8), np.array([0] * 8 + [1] * 8)
    >>> z = np.column_stack([a, y]) + np.random.default_rng(0).normal(0, 0.1, (16, 2))
    >>> (association(z, a, within=y).q < 0.01).tolist()  # the task's latent is not blamed
    [True, False]
    """
    rows = np.asarray(z)
    values, codes = np.unique(np.asarray(variable), return_inverse=True)
    classes = np.zeros(len(rows), dtype=np.int64)
    if within is not None:
        classes = np.unique(np.asarray(within), return_inverse=True)[1]
    if not len(rows) == len(codes) == len(classes):
        raise ValueError(
            f"z has {len(rows)} rows, variable {len(codes)} values, within {len(classes)}: they must agree."
        )
    if not comparable(codes, classes):
        raise ValueError(
            "No class holds two values of the variable, so nothing can be compared within classes. Flag by "
            "counterfactual pairs instead, which needs no labels."
        )
    tests = [values[1]] if len(values) == 2 else list(values)
    tables = [_one_against_rest(rows, np.asarray(variable) == value, classes) for value in tests]
    p = np.stack([table["p"] for table in tables])
    best = p.argmin(axis=0)
    column = np.arange(rows.shape[1])
    lowest = np.minimum(p[best, column] * len(tests), 1.0)
    return pd.DataFrame(
        {
            "effect": np.stack([table["effect"] for table in tables])[best, column],
            "p": lowest,
            "q": stats.false_discovery_control(lowest) if len(lowest) else lowest,
            "value": np.asarray(tests, dtype=object)[best],
        }
    )


def comparable(variable: ArrayLike, within: ArrayLike | None = None) -> bool:
    """Whether some class holds two values of the variable, so that they can be compared within classes.

    Examples
    --------
    >>> comparable(["F", "M", "F"], within=[0, 0, 1]), comparable(["F", "M"], within=[0, 1])
    (True, False)
    """
    values = np.asarray(variable)
    if within is None:
        return len(np.unique(values)) > 1
    classes = np.asarray(within)
    return any(len(np.unique(values[classes == c])) > 1 for c in np.unique(classes))


def _one_against_rest(
    rows: NDArray[np.float32], member: NDArray[np.bool_], classes: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    centred_member = member.astype(np.float64)
    n_classes = 0
    products = np.zeros(rows.shape[1])
    squares = np.zeros(rows.shape[1])
    for c in np.unique(classes):
        inside = classes == c
        centred_member[inside] -= centred_member[inside].mean()
        # centring in float64, one class at a time: sums of squares of raw float32 activations would cancel
        z = rows[inside].astype(np.float64)
        z -= z.mean(axis=0)
        products += centred_member[inside] @ z
        squares += np.einsum("ij,ij->j", z, z)
        n_classes += 1
    spread = centred_member @ centred_member
    slope = products / spread if spread > 0 else np.zeros_like(products)
    freedom = len(rows) - n_classes - 1
    residual = np.maximum(squares - slope**2 * spread, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.sqrt(residual / max(freedom, 1))
        effect = np.where(sigma > 0, slope / sigma, np.where(slope == 0, 0.0, np.sign(slope) * np.inf))
        t = effect * np.sqrt(spread)
    p = 2 * stats.t.sf(np.abs(t), max(freedom, 1))
    return {"effect": effect, "p": np.where(slope == 0, 1.0, p)}
