r"""What can be attributed at a site: latents of an SAE, or the site's neurons.

Neurons are latents of the identity dictionary: the coordinates of a site's activations, :math:`f = x`,
:math:`d_j = e_j`, :math:`b = 0`, without an error term. What can be asked of latents can then be asked of them, to
see what a learned dictionary is worth.
Setting neurons to their means is removing their span around the mean activation, a `Projection`:

.. math:: x' = x - \sum_{j \in chosen} (x_j - \mu_j)\, e_j
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Dictionary(Protocol):
    """What attribution needs of a dictionary: a `SparseAutoencoder` has it, and `Neurons`."""

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        ...

    @property
    def W_dec(self) -> Tensor:
        """What each latent writes, shape (d_sae, d_model)."""
        ...

    def baseline(self, x: Tensor) -> Tensor:
        """What is written when no latent is active, shape (d_model,) or one for each token of x."""
        ...

    def encode(self, x: Tensor) -> Tensor:
        """Latents of activations of shape (..., d_model), shape (..., d_sae)."""
        ...


class Neurons:
    """The identity dictionary of a site.

    Parameters
    ----------
    d_model : int
        Width of the site.

    References
    ----------
    Marks et al., "Sparse Feature Circuits" (2025), section 4: the neuron skyline.

    Examples
    --------
    >>> neurons = Neurons(3)
    >>> neurons.d_sae, neurons.encode(torch.tensor([[1.0, -2.0, 0.0]])).tolist()
    (3, [[1.0, -2.0, 0.0]])
    """

    def __init__(self, d_model: int) -> None:
        self.d_sae = d_model
        self.W_dec = torch.eye(d_model)

    def baseline(self, x: Tensor) -> Tensor:
        """Zeros, shape (d_model,)."""
        return torch.zeros(self.d_sae)

    def encode(self, x: Tensor) -> Tensor:
        """The activations themselves; unlike an SAE's latents they may be negative."""
        return x

    def rows(self, neurons: Sequence[int] | np.ndarray) -> Tensor:
        """Unit vectors of some neurons, shape (m, d_model): the span that mean ablation removes."""
        return self.W_dec[torch.as_tensor(neurons, dtype=torch.long)]
