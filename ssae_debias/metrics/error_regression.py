r"""How much of an SAE's error a linear map of the activation predicts.

The error term of a dictionary that lacks some concepts is their part of the activation, and a linear map can read
it off the activation; what the *encoder* adds by its own mistakes (a latent that fires where it should not, or
too weakly) is not linear in the activation. So the error splits into

.. math:: e(x) = \underbrace{Bx + c}_{\text{linearly predictable}} + \underbrace{n(x)}_{\text{nonlinear}}

with B and c fitted by least squares. The share predicted is

.. math:: R^2 = 1 - \frac{\sum \lVert e - \hat e\rVert^2}{\sum \lVert e - \bar e\rVert^2}

over all tokens, each predicted by a map that was fitted on *other texts* (cross-validation over texts: tokens of
one text resemble each other). The squared length ``‖e‖²``, a number for each token, is predicted in the same way.

Only second moments are ever needed: one pass adds up, for each part of the texts, ``XᵀX`` and ``XᵀE``, and all maps
are solved from sums of these. A ridge keeps the map finite where activations lie in a subspace.

References
----------
Engels, Riggs and Tegmark: "Decomposing the Dark Matter of Sparse Autoencoders", TMLR 2025 (arXiv 2410.14670),
sections 3 and 4: about half of the error and over nine tenths of its squared norm, in Gemma 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.activations import TextModel, read_tokens
from ssae_debias.data import check_texts
from ssae_debias.metrics.replacing import reconstruction
from ssae_debias.sae import SparseAutoencoder


@dataclass(frozen=True)
class ErrorRegression:
    """Linear maps from the activation to the error term, one for each part of the texts, fitted on the others.

    Attributes
    ----------
    part : ndarray of int64, shape (n_texts,)
        Which part each text is in.
    slope : Tensor of float64, shape (n_parts, d_model, d_model + 1)
        The last column predicts ``‖e‖²``.
    intercept : Tensor of float64, shape (n_parts, d_model + 1)
    n_tokens : ndarray of int64, shape (n_texts,)
    residual, spread : ndarray of float64, shape (n_texts,)
        ``Σ‖e − ê‖²`` and ``Σ‖e − ē‖²`` over each text's tokens.
    norm_residual, norm_spread : ndarray of float64, shape (n_texts,)
        The same of ``‖e‖²``.
    """

    part: NDArray[np.int64]
    slope: Tensor
    intercept: Tensor
    n_tokens: NDArray[np.int64]
    residual: NDArray[np.float64]
    spread: NDArray[np.float64]
    norm_residual: NDArray[np.float64]
    norm_spread: NDArray[np.float64]

    def predict(self, x: Tensor, part: int) -> Tensor:
        """The error that the map fitted without texts of `part` expects of activations (n, d_model)."""
        slope, intercept = (tensor[part].to(x.device) for tensor in (self.slope, self.intercept))
        return (x.double() @ slope + intercept)[:, :-1]

    @property
    def r2(self) -> float:
        """Share of the error's variance that is predicted; below 0 where the mean predicts better."""
        return _share(self.residual, self.spread)

    @property
    def norm_r2(self) -> float:
        """The same of the error's squared length."""
        return _share(self.norm_residual, self.norm_spread)


def predict_error(
    model: TextModel,
    sae: SparseAutoencoder,
    site: str,
    texts: Sequence[str],
    *,
    n_parts: int = 5,
    ridge: float = 1e-3,
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
    random_state: int | None = 0,
    verbose: int = 0,
) -> ErrorRegression:
    """Fit the maps and measure them on texts that they were not fitted on.

    The model is read twice, up to the site. Memory: 16·n_parts·d_model² bytes.

    Parameters
    ----------
    model, site, texts, include_special, max_length, batch_tokens, verbose
        As in `read_tokens`. There should be several times as many tokens as the site is wide, and no two texts alike:
        in a causal model texts that begin alike have the same activations there, which no cross-validation sees.
    sae : SparseAutoencoder
    n_parts : int, default 5
        Parts of the texts, drawn at random.
    ridge : float, default 1e-3
        Added to the diagonal of the activations' covariance, times the median of its diagonal: small, and the same
        in any unit of measurement. Ours to choose.
    random_state : int or None, default 0
        Seed of the parts.

    Returns
    -------
    ErrorRegression

    Raises
    ------
    ValueError
        Fewer texts with tokens than parts.

    Examples
    --------
    A dictionary without latents leaves everything but a constant in the error, which is then linear in x:

    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(384, SAEConfig(d_sae=4, k=2))
    >>> with torch.no_grad():
    ...     _ = sae.W_dec.zero_()
    >>> texts = [f"{who} {what}." for who in ("A nurse", "She", "Tom") for what in ("sang", "left", "is here")]
    >>> found = predict_error(load_model("demo"), sae, "embed", texts, n_parts=3, ridge=1e-6)
    >>> found.slope.shape
    torch.Size([3, 384, 385])
    """
    texts = check_texts(texts)
    if not isinstance(n_parts, int) or n_parts < 2 or ridge < 0:
        raise ValueError(f"n_parts must be at least 2 and ridge not negative; got {n_parts!r} and {ridge!r}.")
    part = np.random.default_rng(random_state).permutation(np.arange(len(texts)) % n_parts)
    reading: dict[str, Any] = {
        "include_special": include_special,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "verbose": verbose,
    }
    reconstruct = reconstruction(sae)
    n_tokens = np.zeros(len(texts), dtype=np.int64)
    moments, shift = None, None
    for batch in read_tokens(model, texts, site, **reading):
        x, target = _pair(batch.activations[site], reconstruct)
        if shift is None or moments is None:
            shift = x.mean(0), target.mean(0)
            moments = _Moments(n_parts, x.shape[1], x.device)
        n_tokens += np.bincount(batch.text_index, minlength=len(texts))
        moments.add(part[batch.text_index], x - shift[0], target - shift[1])
    filled = np.bincount(part, n_tokens, minlength=n_parts) > 0
    if shift is None or moments is None or not filled.all():
        raise ValueError(
            f"{int((n_tokens > 0).sum())} text(s) with tokens do not fill {n_parts} parts. Give more."
        )
    slope, intercept = moments.solve(shift, ridge)
    mean = shift[1] + moments.target_mean
    sums = np.zeros((4, len(texts)))
    for batch in read_tokens(model, texts, site, **reading):
        x, target = _pair(batch.activations[site], reconstruct)
        rows = part[batch.text_index]
        expected = torch.empty_like(target)
        for one in np.unique(rows):
            chosen = torch.from_numpy(rows == one).to(x.device)
            expected[chosen] = x[chosen] @ slope[one] + intercept[one]
        missed, spread = (target - expected).square(), (target - mean).square()
        values = (missed[:, :-1].sum(1), spread[:, :-1].sum(1), missed[:, -1], spread[:, -1])
        for row, value in zip(sums, values, strict=True):
            row += np.bincount(batch.text_index, value.cpu().numpy(), minlength=len(texts))
    return ErrorRegression(part, slope.cpu(), intercept.cpu(), n_tokens, *sums)


def _pair(x: Tensor, reconstruct: Any) -> tuple[Tensor, Tensor]:
    """Activations, and what is predicted from them: the error and its squared length."""
    exact = x.double()
    error = exact - reconstruct(x).double()
    return exact, torch.cat([error, error.square().sum(1, keepdim=True)], 1)


class _Moments:
    """Sums of products over each part of the texts; a leading 1 in x stands for the intercept."""

    def __init__(self, n_parts: int, width: int, device: torch.device) -> None:
        self._xx = torch.zeros(n_parts, width + 1, width + 1, dtype=torch.float64, device=device)
        self._xy = torch.zeros(n_parts, width + 1, width + 1, dtype=torch.float64, device=device)

    def add(self, part: NDArray[np.int64], x: Tensor, y: Tensor) -> None:
        """Add centred rows."""
        x = torch.cat([torch.ones_like(x[:, :1]), x], 1)
        for one in np.unique(part):
            chosen = torch.from_numpy(part == one).to(x.device)
            self._xx[one] += x[chosen].T @ x[chosen]
            self._xy[one] += x[chosen].T @ y[chosen]

    @property
    def target_mean(self) -> Tensor:
        """Mean of y over all parts."""
        return self._xy[:, 0].sum(0) / self._xx[:, 0, 0].sum()

    def solve(self, shift: tuple[Tensor, Tensor], ridge: float) -> tuple[Tensor, Tensor]:
        """For each part the map from all the others, in uncentred terms."""
        slopes, intercepts = [], []
        for one in range(len(self._xx)):
            xx, xy = self._xx.sum(0) - self._xx[one], self._xy.sum(0) - self._xy[one]
            n = xx[0, 0]
            x_mean, y_mean = xx[0, 1:] / n, xy[0] / n
            covariance = xx[1:, 1:] / n - torch.outer(x_mean, x_mean)
            cross = xy[1:] / n - torch.outer(x_mean, y_mean)
            scale = covariance.diagonal().median().clamp(min=torch.finfo(torch.float64).tiny)
            eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
            slope = torch.linalg.lstsq(covariance + ridge * scale * eye, cross).solution
            slopes.append(slope)
            intercepts.append(shift[1] + y_mean - (shift[0] + x_mean) @ slope)
        return torch.stack(slopes), torch.stack(intercepts)


def _share(residual: NDArray[np.float64], spread: NDArray[np.float64]) -> float:
    total = spread.sum()
    return float(1 - residual.sum() / total) if total > 0 else float("nan")
