"""How faithfully an SAE reconstructs activations, and at what sparsity.

References
----------
Karvonen et al.: "SAEBench", 2025 (the core metrics). Its total variance is known to be wrong; the fraction of
variance unexplained here is ``Σ_d Var(e_d) / Σ_d Var(x_d)`` over the dimensions d.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.sources import ArraySource

TAIL_SHARE = 0.01


def fraction_of_variance_unexplained(x: Tensor, residual: Tensor) -> float:
    """``Σ_d Var(e_d) / Σ_d Var(x_d)`` for activations and their residuals, both (n, d).

    0 is perfect, 1 what the mean alone achieves. Activations without variance give 0 if the residual has none
    either, infinity otherwise.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(100, 4)
    >>> round(fraction_of_variance_unexplained(x, 0.5 * x + 3), 4)
    0.25
    """
    unexplained = float(residual.double().var(0, correction=0).sum())
    total = float(x.double().var(0, correction=0).sum())
    if total == 0:
        return 0.0 if unexplained == 0 else float("inf")
    return unexplained / total


def tail_error(squared_errors: Tensor) -> float:
    """Mean of the worst hundredth (at least one) of per-token squared errors.

    Examples
    --------
    >>> import torch
    >>> tail_error(torch.arange(200.0))
    198.5
    """
    worst = max(1, round(TAIL_SHARE * squared_errors.numel()))
    return float(squared_errors.topk(worst, sorted=False).values.mean())


@torch.no_grad()
def reconstruction_metrics(
    sae: SparseAutoencoder, x: Tensor | np.ndarray, *, batch_size: int = 4096
) -> dict[str, float]:
    """Reconstruct activations in batches and measure the error and the code.

    Parameters
    ----------
    sae : SparseAutoencoder
        Used in its inference form.
    x : Tensor or ndarray of shape (n, d_in)
        Activations in the model's own unit.
    batch_size : int, default 4096
        Bounds memory: a batch's codes are dense.

    Returns
    -------
    dict
        ``fvu``, ``explained_variance`` (1 − fvu), ``l0`` (active latents per token), ``dead_fraction`` (latents
        active on no token), ``mean_error``, ``max_error``, ``tail_error`` (squared error per token: mean, largest,
        mean of the worst 1 %), ``cosine`` (mean cosine of x and x̂), ``l2_ratio`` (mean ‖x̂‖ / ‖x‖, tokens of
        norm 0 left out).

    Raises
    ------
    ValueError
        Another width than the SAE's, or NaN or infinity in `x`.

    Examples
    --------
    >>> import torch
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(8, SAEConfig(d_sae=64, k=4))
    >>> sorted(reconstruction_metrics(sae, torch.randn(100, 8)))[:4]
    ['cosine', 'dead_fraction', 'explained_variance', 'fvu']
    """
    source = ArraySource(x)
    if source.d_in != sae.d_in:
        raise ValueError(f"activations are {source.d_in} wide, the SAE reads {sae.d_in}.")
    x_sum, x_squares, e_sum, e_squares = (torch.zeros(sae.d_in, dtype=torch.float64) for _ in range(4))
    fired = torch.zeros(sae.d_sae, dtype=torch.bool)
    active, errors, cosines, ratios = 0, [], [], []
    shift = None
    for batch in source.batches(batch_size, shuffle=False):
        given = batch.to(sae.device, sae.dtype)
        z = sae.encode(given)
        reconstruction = sae.decode(z, given).cpu().double()
        original = batch.cpu().double()
        residual = original - reconstruction
        # sums about the first row: differences of large squares would cost digits
        shift = original[0].clone() if shift is None else shift
        x_sum += (original - shift).sum(0)
        x_squares += (original - shift).square().sum(0)
        e_sum += residual.sum(0)
        e_squares += residual.square().sum(0)
        fired |= (z > 0).any(0).cpu()
        active += int((z > 0).sum())
        errors.append(residual.square().sum(1))
        cosines.append(torch.cosine_similarity(original, reconstruction, dim=1))
        norms = original.norm(dim=1)
        ratios.append((reconstruction.norm(dim=1) / norms)[norms > 0])
    n = source.n_tokens
    squared_errors = torch.cat(errors)
    total = float((x_squares / n - (x_sum / n).square()).sum())
    unexplained = float((e_squares / n - (e_sum / n).square()).sum())
    fvu = unexplained / total if total > 0 else (0.0 if unexplained <= 0 else float("inf"))
    return {
        "fvu": fvu,
        "explained_variance": 1 - fvu,
        "l0": active / n,
        "dead_fraction": float((~fired).double().mean()),
        "mean_error": float(squared_errors.mean()),
        "max_error": float(squared_errors.max()),
        "tail_error": tail_error(squared_errors),
        "cosine": float(torch.cat(cosines).mean()),
        "l2_ratio": float(torch.cat(ratios).mean()) if any(r.numel() for r in ratios) else 1.0,
    }
