r"""Units that may find a concept: an SAE's latents, or the site's neurons as a baseline.

A unit gives every token a number, 0 or above, and finds the concept where that is high. A neuron may mean something by
high values and by low ones, and lies anywhere; it makes two units,

.. math:: \max(0, x_i - \mu_i), \qquad \max(0, \mu_i - x_i)

with :math:`\mu` the mean over tokens. So neurons get as many chances as a dictionary of 2·d latents, and every
threshold on either side of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ssae_debias.metrics.compared import CHUNK_TOKENS, chunked
from ssae_debias.sae import SparseAutoencoder


class Units(Protocol):
    """What concept recall needs to know of a dictionary."""

    @property
    def n(self) -> int:
        """Number of units."""
        ...

    def values(self, x: Tensor) -> Tensor:
        """All units on activations (n_tokens, d), shape (n_tokens, n), 0 or above."""
        ...

    def selected(self, x: Tensor, units: Sequence[int]) -> Tensor:
        """Some units' columns of `values`."""
        ...


@dataclass(frozen=True)
class Latents:
    """The latents of an SAE, as they fire.

    Attributes
    ----------
    sae : SparseAutoencoder

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> latents, x = Latents(SparseAutoencoder(4, SAEConfig(d_sae=8, k=2))), torch.randn(3, 4)
    >>> torch.allclose(latents.selected(x, [5]), latents.values(x)[:, [5]], atol=1e-6)
    True
    """

    sae: SparseAutoencoder

    @property
    def n(self) -> int:
        """Number of latents."""
        return self.sae.d_sae

    @torch.no_grad()
    def values(self, x: Tensor) -> Tensor:
        """Codes of activations (n_tokens, d), in float32 on the CPU."""
        return torch.cat([self.sae.encode(part).float().cpu() for _, part in chunked(x, self.sae)])

    @torch.no_grad()
    def selected(self, x: Tensor, units: Sequence[int]) -> Tensor:
        """Some latents' columns, computed from their own weights alone where the SAE allows it."""
        parts = chunked(x, self.sae, CHUNK_TOKENS * 16)
        return torch.cat([self.sae.encode_selected(part, list(units)).float().cpu() for _, part in parts])


@dataclass(frozen=True)
class SignedNeurons:
    """The coordinates of a site's activations, each above its mean and below it.

    Attributes
    ----------
    mean : Tensor of shape (d,)

    Examples
    --------
    >>> neurons = SignedNeurons(torch.tensor([1.0, 0.0]))
    >>> neurons.values(torch.tensor([[3.0, -2.0]])).tolist(), neurons.selected(torch.zeros(1, 2), [2]).tolist()
    ([[2.0, 0.0, 0.0, 2.0]], [[1.0]])
    """

    mean: Tensor

    @property
    def n(self) -> int:
        """Twice the number of coordinates."""
        return 2 * len(self.mean)

    def values(self, x: Tensor) -> Tensor:
        """Units of activations (n_tokens, d): those above the mean first, then those below, (n_tokens, 2d)."""
        deviation = x.float().cpu() - self.mean
        return torch.cat([deviation.clamp(min=0), (-deviation).clamp(min=0)], dim=1)

    def selected(self, x: Tensor, units: Sequence[int]) -> Tensor:
        """Some units' columns."""
        chosen = torch.as_tensor(list(units), dtype=torch.long)
        sign = torch.where(chosen < len(self.mean), 1.0, -1.0)
        neuron = chosen % len(self.mean)
        return ((x.float().cpu()[:, neuron] - self.mean[neuron]) * sign).clamp(min=0)
