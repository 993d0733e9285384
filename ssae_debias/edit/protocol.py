"""What every edit is: a function on activations that a model can be spliced with and that can be saved."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Edit(Protocol):
    """A change of the activations at one site.

    Calling it with a tensor of shape (..., d_model) returns one of the same shape, dtype and device. It sees
    one token at a time: what it does to a token depends on that token's activation alone.
    """

    kind: ClassVar[str]

    def __call__(self, x: Tensor) -> Tensor:
        """Edit activations of shape (..., d_model)."""
        ...

    def to(self, device: torch.device | str) -> Edit:
        """The same edit with its tensors on `device`."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that define it, by name."""
        ...

    def settings(self) -> dict[str, Any]:
        """The JSON-serialisable values that define it besides its arrays."""
        ...
