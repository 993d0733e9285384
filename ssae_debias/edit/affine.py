r"""An affine change of every token.

.. math:: x' = x + (x - \mu)\, D + c

It is written as what is *added*: with D = 0 and c = 0 nothing changes, so a map that is learned from few texts
and shrunk towards zero leaves alone whatever the texts say nothing about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """Add a linear function of the activation to it.

    Parameters
    ----------
    change : Tensor of shape (d_model, d_model)
        D: what is added for each unit of the centred activation, by row.
    center : Tensor of shape (d_model,)
        The point at which only `shift` is added.
    shift : Tensor of shape (d_model,)
        What is added to every token.

    Examples
    --------
    >>> import torch
    >>> edit = Affine(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.zeros(2), torch.tensor([0.0, 1.0]))
    >>> edit(torch.tensor([[3.0, 5.0]]))
    tensor([[ 3., 12.]])
    """

    change: Tensor
    center: Tensor
    shift: Tensor

    kind: ClassVar[str] = "affine"

    def __post_init__(self) -> None:
        d = self.change.shape[0]
        if self.change.shape != (d, d) or self.center.shape != (d,) or self.shift.shape != (d,):
            raise ValueError(
                "change must be (d_model, d_model), center and shift (d_model,); got "
                f"{tuple(self.change.shape)}, {tuple(self.center.shape)} and {tuple(self.shift.shape)}."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Edit activations of shape (..., d_model); the dtype of x is kept, what is added is computed in float32."""
        wide = torch.promote_types(x.dtype, self.change.dtype)
        added = (x.to(self.change.dtype) - self.center) @ self.change + self.shift
        return (x.to(wide) + added.to(wide)).to(x.dtype)

    def to(self, device: torch.device | str) -> Affine:
        """The same edit with its tensors on `device`."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return replace(self, **moved)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that define the edit, by name."""
        return {"change": self.change, "center": self.center, "shift": self.shift}

    def settings(self) -> dict[str, Any]:
        """Nothing: its arrays define it."""
        return {}
