r"""Replacing the activations of chosen tokens at a site, in a running model.

An *edit* keeps what the SAE does not explain and is applied to every token; a *replacement* is the harsher thing
that fidelity is measured with: the activation goes and something else stands in its place, such as the SAE's
reconstruction, zero, or the mean over a corpus. Which tokens are replaced is said by a mask. Padding never is, and
special tokens are left alone unless asked for: their activations are of another kind (those of a text's first token
are often a hundred times as large), most dictionaries were trained without them, and replacing one that no
dictionary knows costs more than all the rest and says nothing about the dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor

from ssae_debias.activations import TextModel, resolve_site
from ssae_debias.sae import SparseAutoencoder

Replacement: TypeAlias = Callable[[Tensor], Tensor]
"""From activations of shape (n, d_model) to what stands in their place, of the same shape."""

# 256 MB of codes in float32, whatever the number of latents
_CODES_AT_ONCE = 2**26


def reconstruction(sae: SparseAutoencoder) -> Replacement:
    """The SAE's reconstruction, as a replacement.

    It is computed in the SAE's own type, a few thousand tokens at a time, so that memory is bounded.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4))
    >>> x = torch.randn(5, 8)
    >>> torch.equal(reconstruction(sae)(x), sae(x).detach())
    True
    """
    rows = max(1, _CODES_AT_ONCE // sae.d_sae)

    @torch.no_grad()
    def reconstruct(x: Tensor) -> Tensor:
        parts = [sae(part.to(sae.device, sae.dtype)) for part in x.split(rows)] if len(x) else [x]
        return torch.cat(parts).to(x)

    return reconstruct


def constant(vector: Tensor) -> Replacement:
    """One vector of shape (d_model,) for every token: the mean of a corpus, for *mean ablation*.

    Examples
    --------
    >>> constant(torch.tensor([1.0, 2.0]))(torch.zeros(2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    return lambda x: vector.to(x).expand_as(x)


@contextmanager
def replaced(model: TextModel, site: str, replacement: Replacement | None, mask: Tensor) -> Iterator[None]:
    """Replace activations while the block runs; for one batch, since the mask is that batch's.

    Parameters
    ----------
    model : TextModel
        Weights stay untouched; the hook goes when the block ends, also by an error.
    site : str
        Where.
    replacement : callable or None
        What stands in the activations' place; None changes nothing.
    mask : Tensor of bool, shape (b, length)
        Which tokens of the batch.

    Raises
    ------
    ValueError
        The site holds something else than one vector for each token of the mask, or the replacement returns
        another shape than it was given.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_pooled
    >>> model = load_model("demo")
    >>> with replaced(model, "resid.5", torch.zeros_like, torch.ones(1, 5, dtype=torch.bool)):
    ...     float(abs(read_pooled(model, ["A nurse."], "resid.5")["resid.5"]).sum())
    0.0
    """

    def hook(x: Tensor) -> Tensor:
        assert replacement is not None
        if x.shape[:-1] != mask.shape:
            raise ValueError(
                f"The site {site} gives a tensor of shape {tuple(x.shape)}, expected one vector for each of "
                f"{tuple(mask.shape)} tokens. Name a module that works token by token."
            )
        old = x[mask]
        new = replacement(old)
        if new.shape != old.shape:
            raise ValueError(f"The replacement at {site} made {tuple(new.shape)} of {tuple(old.shape)}.")
        out = x.clone()
        out[mask] = new.to(x)
        return out

    hooked = nullcontext() if replacement is None else resolve_site(model.module, site).attach(hook)
    with hooked:
        yield
