r"""Removing a subspace from every token.

.. math:: x' = x - \alpha\, (x - \mu)\, B A

with B (d, r) the part that reads and A (r, d) the part that writes; A B = I makes it a projection. With
:math:`B = A^+` it is the orthogonal projection along the rows of A; with a whitening in B it is the oblique
one of LEACE, which moves the activations least for what it removes. It is linear, so it needs no threshold,
acts on tokens on which no latent is active, and folds into the weights that write to the site.

References
----------
"Select-and-project" (arXiv 2509.10809): :math:`I - \alpha A (A^T A)^{-1} A^T` on the directions of selected
latents. Belrose et al., "LEACE" (2023), theorem 4.3: the oblique form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """Remove a subspace from activations around a fixed point.

    Parameters
    ----------
    read : Tensor of shape (d_model, r)
        What is read from the centred activation.
    write : Tensor of shape (r, d_model)
        The directions that are subtracted.
    center : Tensor of shape (d_model,)
        The point that stays, normally the mean activation, so that the stream's mean is kept.
    strength : float, default=1.0
        1 removes the subspace, 0 changes nothing.

    Examples
    --------
    >>> import torch
    >>> edit = Projection.onto_complement_of(torch.tensor([[1.0, 1.0, 0.0]]), center=torch.zeros(3))
    >>> edit(torch.tensor([[3.0, 1.0, 7.0]])).round(decimals=3)
    tensor([[ 1., -1.,  7.]])
    """

    read: Tensor
    write: Tensor
    center: Tensor
    strength: float = 1.0

    kind: ClassVar[str] = "projection"

    @classmethod
    def onto_complement_of(
        cls, directions: Tensor | np.ndarray, *, center: Tensor | np.ndarray, strength: float = 1.0
    ) -> Projection:
        """The orthogonal projection that removes the span of some directions.

        Parameters
        ----------
        directions : array of shape (m, d_model)
            They may depend on each other: the span's rank is found by singular values (relative cut 1e-5).
        center : array of shape (d_model,)
            The point that stays.
        strength : float, default=1.0
            Share of the span's component that is removed.

        Raises
        ------
        ValueError
            Directions or center are not finite, or their shapes do not fit.
        """
        rows, point = _tensor(directions, torch.float64), _tensor(center, torch.float32)
        if rows.ndim != 2 or point.shape != rows.shape[1:]:
            raise ValueError(
                f"directions must be (m, d_model) and center (d_model,); got {tuple(rows.shape)} and "
                f"{tuple(point.shape)}."
            )
        if not (bool(rows.isfinite().all()) and bool(point.isfinite().all())):
            raise ValueError("directions and center must be finite.")
        _, values, basis = torch.linalg.svd(rows, full_matrices=False)
        kept = values > 1e-5 * values.max() if len(values) else torch.zeros(0, dtype=torch.bool)
        span = basis[kept].float()
        return cls(read=span.T.contiguous(), write=span, center=point, strength=float(strength))

    def __call__(self, x: Tensor) -> Tensor:
        """Edit activations of shape (..., d_model); the dtype of x is kept, what is removed is computed in float32."""
        wide = torch.promote_types(x.dtype, self.write.dtype)
        read = (x.to(self.read.dtype) - self.center) @ self.read
        return (x.to(wide) - self.strength * (read @ self.write).to(wide)).to(x.dtype)

    def to(self, device: torch.device | str) -> Projection:
        """The same edit with its tensors on `device`."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return replace(self, **moved)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that define the edit, by name."""
        return {"read": self.read, "write": self.write, "center": self.center}

    def settings(self) -> dict[str, Any]:
        """The edit's strength."""
        return {"strength": self.strength}


def _tensor(array: Tensor | np.ndarray, dtype: torch.dtype) -> Tensor:
    # a copy: the edit must not change with the array that it came from
    return torch.as_tensor(array).detach().to("cpu", dtype, copy=True)
