r"""SAEs brought to one sparsity, so that they can be compared.

Who may use more latents covers more: a comparison of coverage says something only at equal L0 (latents active per
token, on average). Each SAE gets one common factor s on all its thresholds,

.. math:: z_j = p_j\,[p_j > s\,\theta_j], \qquad s \text{ such that } L_0 = \text{target}

which keeps what the thresholds say of the latents relative to each other. Where they say nothing (a ReLU dictionary,
or TopK without thresholds: all θ are 0), a common threshold τ in the latents' own unit takes the factor's place, which
is BatchTopK's cut. Decoder rows of norm 1 make that unit the same for all latents. The choice is ours; the paper
compares SAEs of whatever L0 their penalties led to.

References
----------
Bussmann, Leask, Nanda: "BatchTopK Sparse Autoencoders", 2024, section 3 (one cut for all latents).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.metrics.compared import BatchFactory, Sites, check_compared, chunked
from ssae_debias.sae import SparseAutoencoder

STEPS_PER_DOUBLING = 128
"""Resolution of the factor: thresholds half a per cent apart."""
DOUBLINGS = 24
"""The factor lies between 2⁻²⁴ and 2²⁴."""


def at_equal_l0(
    batches: BatchFactory, saes: Mapping[str, SparseAutoencoder], *, site: Sites, l0: float | None = None
) -> dict[str, SparseAutoencoder]:
    """Copies of SAEs whose thresholds are scaled so that all have the same L0 on a corpus.

    Reads the corpus once, twice without `l0`; keeps a histogram of 6,144 counts for each SAE.

    Parameters
    ----------
    batches : callable
        Reads the corpus anew at each call.
    saes : mapping of str to SparseAutoencoder
        By any names.
    site : str or mapping of str to str
        Where they read.
    l0 : float, optional
        Active latents per token. Default: the smallest L0 among the SAEs as they are, so that none has to let in what
        it was trained to leave out.

    Returns
    -------
    dict of str to SparseAutoencoder
        In threshold form (``top_k`` is None). On the corpus, L0 differs from `l0` by what one step of the factor
        changes, half a per cent of a threshold.

    Raises
    ------
    ValueError
        `l0` is not positive, or larger than an SAE reaches with all its positive pre-activations; no tokens.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> model = load_model("demo")
    >>> saes = {"a": SparseAutoencoder(384, SAEConfig(d_sae=256, k=4))}
    >>> read = lambda: read_tokens(model, ["A nurse and a surgeon met."], "embed")
    >>> narrow = at_equal_l0(read, saes, site="embed", l0=5)
    >>> x = next(read()).activations["embed"]
    >>> float((narrow["a"].encode(x) > 0).sum(1).float().mean())
    5.0
    """
    compared = check_compared(saes, site)
    if l0 is None:
        l0 = min(measured_l0(batches, saes, site=site).values())
    if not l0 > 0:
        raise ValueError(f"l0 must be above 0, got {l0!r}; an SAE that never fires can set no standard.")
    counts = {
        name: torch.zeros(2 * DOUBLINGS * STEPS_PER_DOUBLING + 2, dtype=torch.int64) for name in compared
    }
    units = {name: _unit(sae) for name, (_, sae) in compared.items()}
    n_tokens = dict.fromkeys(compared, 0)
    with torch.no_grad():
        for batch in batches():
            for name, (where, sae) in compared.items():
                for _, x in chunked(batch.activations[where], sae):
                    p = sae.pre_activations(x)
                    counts[name] += torch.bincount(
                        _step((p / units[name])[p > 0]), minlength=len(counts[name])
                    )
                    n_tokens[name] += len(x)
    scaled = {}
    for name, (_, sae) in compared.items():
        if not n_tokens[name]:
            raise ValueError("the batches hold no token.")
        factor = _factor(counts[name].numpy(), l0 * n_tokens[name], n_tokens[name], name)
        scaled[name] = copy.deepcopy(sae)
        scaled[name].top_k = None
        with torch.no_grad():
            scaled[name].threshold.copy_(units[name] * factor)
    return scaled


def measured_l0(
    batches: BatchFactory, saes: Mapping[str, SparseAutoencoder], *, site: Sites
) -> dict[str, float]:
    """Active latents per token of each SAE, on average over a corpus.

    Parameters and errors are those of `at_equal_l0`.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> saes = {"a": SparseAutoencoder(384, SAEConfig(d_sae=64, k=4), top_k=4)}
    >>> measured_l0(lambda: read_tokens(load_model("demo"), ["A nurse."], "embed"), saes, site="embed")
    {'a': 4.0}
    """
    compared = check_compared(saes, site)
    active, n_tokens = dict.fromkeys(compared, 0), dict.fromkeys(compared, 0)
    with torch.no_grad():
        for batch in batches():
            for name, (where, sae) in compared.items():
                for _, x in chunked(batch.activations[where], sae):
                    active[name] += int((sae.encode(x) > 0).sum())
                    n_tokens[name] += len(x)
    return {name: active[name] / max(n_tokens[name], 1) for name in compared}


def _unit(sae: SparseAutoencoder) -> Tensor:
    """What each latent's threshold is a multiple of."""
    threshold = sae.threshold.detach()
    positive = threshold > 0
    if not positive.any():
        return torch.ones_like(threshold)
    # a latent without a threshold among others that have one: a dead one, most often
    return torch.where(positive, threshold, threshold[positive].median())


def _step(ratio: Tensor) -> Tensor:
    step = (ratio.float().log2() * STEPS_PER_DOUBLING).floor().long() + DOUBLINGS * STEPS_PER_DOUBLING
    return step.clamp(0, 2 * DOUBLINGS * STEPS_PER_DOUBLING + 1).cpu()


def _factor(counts: NDArray[np.int64], wanted: float, n_tokens: int, name: str) -> float:
    above = np.cumsum(counts[::-1])[
        ::-1
    ]  # active entries if the threshold lies at the lower end of each step
    if above[0] < wanted:
        raise ValueError(
            f"{name} has {above[0] / n_tokens:.3g} positive pre-activations a token, so l0={wanted / n_tokens:g} cannot "
            "be reached; ask for a smaller l0."
        )
    step = int(np.argmin(np.abs(above - wanted)))
    # a hair below the step's end, so that an entry right on it is let in
    return float(2.0 ** (step / STEPS_PER_DOUBLING - DOUBLINGS)) * (1 - 1e-6)
