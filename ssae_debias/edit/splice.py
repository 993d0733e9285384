"""Edits spliced into a live model, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ssae_debias.activations import TextModel, resolve_site
from ssae_debias.edit.protocol import Edit


@contextmanager
def spliced(model: TextModel | nn.Module, edits: Mapping[str, Edit]) -> Iterator[TextModel | nn.Module]:
    """Edit a model's activations at several sites while the block runs.

    Sites are edited in the order in which the forward pass meets them, so each sees the stream that earlier
    edits have already changed. All tokens are edited, special ones too: a concept that attention has parked
    on a separator token would otherwise leak. Weights stay untouched, and the hooks are removed when the
    block ends, also by an error.

    Parameters
    ----------
    model : TextModel or torch.nn.Module
        A model from `load_model`, or a plain Hugging Face model.
    edits : mapping of str to Edit
        What to do at each site, by site name.

    Yields
    ------
    TextModel or torch.nn.Module
        The same object, edited.

    Raises
    ------
    ValueError
        The model lacks a site (the message lists those it has), or an edit is for another width.

    Examples
    --------
    >>> import torch
    >>> from ssae_debias.activations import load_model, read_pooled
    >>> from ssae_debias.edit import Projection, spliced
    >>> model = load_model("demo")
    >>> nothing = Projection.onto_complement_of(torch.zeros(1, 384), center=torch.zeros(384))
    >>> with spliced(model, {"embed": nothing, "resid.2": nothing}):
    ...     pooled = read_pooled(model, ["She is a nurse."], ["resid.3"])["resid.3"]
    >>> pooled.shape
    (1, 384)
    """
    module = model.module if isinstance(model, TextModel) else model
    parameter = next(module.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    with ExitStack() as hooks:
        for name, edit in edits.items():
            site = resolve_site(module, name)
            hooks.enter_context(site.attach(_checked(name, edit.to(device))))
        yield model


def _checked(name: str, edit: Edit) -> Callable[[Tensor], Tensor]:
    widths = [tensor.shape[-1] for key, tensor in edit.tensors().items() if key in ("decoder", "write")]

    def apply(x: Tensor) -> Tensor:
        if widths and x.shape[-1] != widths[0]:
            raise ValueError(
                f"The edit for site {name!r} is for d_model = {widths[0]}; the model has {x.shape[-1]} there."
            )
        return edit(x)

    return apply
