r"""Edits that are affine maps, written as one matrix and one vector.

.. math:: x' = x M + c

A projection has :math:`M = I - s B A` and :math:`c = s \mu B A`, an `Affine` :math:`M = I + D` and
:math:`c = t - \mu D`; of two in a row :math:`M = M_1 M_2` and :math:`c = c_1 M_2 + c_2`. An edit of latents is
none: it depends on which of them are active.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssae_debias.edit.affine import Affine
from ssae_debias.edit.composed import Composed
from ssae_debias.edit.projection import Projection
from ssae_debias.edit.protocol import Edit


def affine_form(edit: Edit) -> tuple[Tensor, Tensor] | None:
    """M of shape (d_model, d_model) and c of shape (d_model,) of an edit, or None if it is no affine map.

    Both are float64 on the CPU, so that they are rounded once only: when they have been folded into a weight.

    Examples
    --------
    >>> edit = Projection.onto_complement_of(torch.tensor([[1.0, 0.0]]), center=torch.tensor([3.0, 4.0]))
    >>> matrix, shift = affine_form(edit)
    >>> matrix.abs().tolist(), shift.tolist()
    ([[0.0, 0.0], [0.0, 1.0]], [3.0, 0.0])
    """
    if isinstance(edit, Composed):
        matrix, shift = None, None
        for part in edit.parts:
            form = affine_form(part)
            if form is None:
                return None
            if matrix is None or shift is None:
                matrix, shift = form
            else:
                matrix, shift = matrix @ form[0], shift @ form[0] + form[1]
        return None if matrix is None or shift is None else (matrix, shift)
    if not isinstance(edit, Projection | Affine):
        return None
    tensors = {name: tensor.detach().to("cpu", torch.float64) for name, tensor in edit.tensors().items()}
    identity = torch.eye(len(tensors["center"]), dtype=torch.float64)
    if isinstance(edit, Affine):
        return identity + tensors["change"], tensors["shift"] - tensors["center"] @ tensors["change"]
    removed = edit.strength * tensors["read"] @ tensors["write"]
    return identity - removed, tensors["center"] @ removed


def is_projection(form: tuple[Tensor, Tensor]) -> bool:
    """Whether applying the map twice is applying it once.

    Examples
    --------
    >>> half = Projection.onto_complement_of(torch.eye(3)[:1], center=torch.zeros(3), strength=0.5)
    >>> form = affine_form(half)
    >>> form is not None and is_projection(form)
    False
    """
    matrix, shift = form
    # the arrays are float32: A B = I holds to their rounding
    scale = max(1.0, float(shift.abs().max()))
    return bool((matrix @ matrix - matrix).abs().max() < 1e-5 and (shift @ matrix).abs().max() < 1e-5 * scale)
