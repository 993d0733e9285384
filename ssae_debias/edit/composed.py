"""Several edits at one site, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssae_debias.edit.protocol import Edit


@dataclass(frozen=True)
class Composed:
    """Edits applied in order, each to what the one before it left.

    Parameters
    ----------
    parts : tuple of Edit

    Examples
    --------
    >>> import torch
    >>> from ssae_debias.edit import Projection
    >>> first = Projection.onto_complement_of(torch.tensor([[1.0, 0.0]]), center=torch.zeros(2))
    >>> second = Projection.onto_complement_of(torch.tensor([[0.0, 1.0]]), center=torch.ones(2))
    >>> Composed((first, second))(torch.tensor([5.0, 5.0]))
    tensor([0., 1.])
    """

    parts: tuple[Edit, ...]

    kind: ClassVar[str] = "composed"

    def __call__(self, x: Tensor) -> Tensor:
        """Edit activations of shape (..., d_model)."""
        for part in self.parts:
            x = part(x)
        return x

    def to(self, device: torch.device | str) -> Composed:
        """The same edit with its tensors on `device`."""
        return Composed(tuple(part.to(device) for part in self.parts))

    def tensors(self) -> dict[str, Tensor]:
        """The arrays of all parts, each under its part's place: `0/read`, `1/change` and so on."""
        return {
            f"{place}/{name}": tensor
            for place, part in enumerate(self.parts)
            for name, tensor in part.tensors().items()
        }

    def settings(self) -> dict[str, Any]:
        """Kind and settings of each part."""
        return {"parts": [{"kind": part.kind, "settings": part.settings()} for part in self.parts]}


def compose(*edits: Edit | None) -> Edit | None:
    """One edit that does what several do in order; None among them does nothing.

    Returns
    -------
    Edit or None
        None if all are None, the edit itself if it is the only one, else `Composed`, never nested.

    Examples
    --------
    >>> compose(None, None) is None
    True
    """
    parts: list[Edit] = []
    for edit in edits:
        parts += edit.parts if isinstance(edit, Composed) else () if edit is None else (edit,)
    return Composed(tuple(parts)) if len(parts) > 1 else parts[0] if parts else None
