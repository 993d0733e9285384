"""Weights of a model, rewritten beside it: the model itself stays as it is.

What a dense layer writes, :math:`y = x W^T + b`, is changed by an affine map :math:`y M + c` when W becomes
:math:`M^T W` and b becomes :math:`b M + c`. What it reads is changed when W becomes :math:`W M^T` and b becomes
:math:`b + W c`. GPT-2's layers hold the transpose of W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

ROWS_AT_A_TIME = 16_384


class Rewriting:
    """Changes of a model's state dict and config, collected.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Is read, never changed.

    Attributes
    ----------
    changed : dict of str to Tensor
        New values by name in the state dict, in at least the precision in which they were computed.
    config : dict of str to object
        New values of the config.

    Examples
    --------
    >>> layer = nn.Linear(2, 1, bias=True)
    >>> model = nn.Sequential(layer)
    >>> new = Rewriting(model)
    >>> new.map_written(layer, torch.tensor([[2.0]]).double(), torch.tensor([1.0]).double())
    ('0.weight', '0.bias')
    >>> bool(torch.allclose(new.state()["0.bias"], 2 * layer.bias + 1))
    True
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.changed: dict[str, Tensor] = {}
        self.config: dict[str, Any] = {}
        self._names = {id(module): name for name, module in model.named_modules()}

    def state(self) -> dict[str, Tensor]:
        """The model's state dict with the changes, each in the dtype of what it replaces."""
        state = dict(self.model.state_dict())
        dtype = next(self.model.parameters()).dtype
        for name, tensor in self.changed.items():
            state[name] = tensor.to(state[name].dtype if name in state else dtype).contiguous()
        if self.config.get("tie_word_embeddings") is False:
            # tied names share their storage; untied, each must own its own
            seen: set[int] = set()
            for name, tensor in state.items():
                if tensor.data_ptr() in seen:
                    state[name] = tensor.clone()
                seen.add(tensor.data_ptr())
        return state

    def shares_weight(self, module: nn.Module) -> list[str]:
        """Names of other modules that hold this module's weight too."""
        weight, own = getattr(module, "weight", None), self._names[id(module)]
        return [
            name
            for name, other in self.model.named_modules(remove_duplicate=False)
            if name != own and weight is not None and other._parameters.get("weight") is weight
        ]

    def map_written(self, layer: nn.Module, matrix: Tensor, shift: Tensor | None) -> tuple[str, ...]:
        """Let what a dense layer writes be mapped by M and c; None folds M alone. Names of what changed."""
        weight, bias = self._parameters(layer)
        old = self._value(weight)
        self.changed[weight] = old @ matrix if isinstance(layer, Conv1D) else matrix.T @ old
        if shift is None:
            shift = torch.zeros(len(matrix), dtype=matrix.dtype)
        if not self._has(bias) and not shift.any():
            return (weight,)
        self.changed[bias] = shift + (self._value(bias) @ matrix if self._has(bias) else 0)
        return weight, bias

    def map_read(self, layer: nn.Module, matrix: Tensor, shift: Tensor) -> tuple[str, ...]:
        """Let what a dense layer with a bias reads be mapped by M and c. Names of what changed."""
        weight, bias = self._parameters(layer)
        old = self._value(weight)
        self.changed[bias] = self._value(bias) + old @ shift
        self.changed[weight] = old @ matrix.T
        return weight, bias

    def map_rows(self, embedding: nn.Embedding, edit: Callable[[Tensor], Tensor]) -> tuple[str, ...]:
        """Let each row that an embedding returns be edited; a head tied to it keeps the rows as they were."""
        weight, _ = self._parameters(embedding)
        if self.shares_weight(embedding) or getattr(self.model.config, "tie_word_embeddings", False):
            self.config["tie_word_embeddings"] = False
        # Gemma multiplies what it looks up
        scale = float(getattr(embedding, "scalar_embed_scale", 1.0))
        table = self.changed.get(weight, embedding.weight.detach())
        wide = torch.promote_types(table.dtype, torch.float32)
        rows = [edit(part.to("cpu", wide) * scale) / scale for part in table.split(ROWS_AT_A_TIME)]
        self.changed[weight] = torch.cat(rows)
        return (weight,)

    def add_biases(self, kind: type[nn.Module], parts: tuple[str, ...], flag: str) -> None:
        """Give all modules of a kind biases of zero in some parts, by the config's flag for it."""
        if getattr(self.model.config, flag):
            return
        self.config[flag] = True
        for name, module in self.model.named_modules():
            if type(module) is kind:
                for part in parts:
                    rows = module.get_parameter(f"{part}.weight").shape[0]
                    self.changed.setdefault(f"{name}.{part}.bias", torch.zeros(rows, dtype=torch.float64))

    def _parameters(self, module: nn.Module) -> tuple[str, str]:
        name = self._names[id(module)]
        return f"{name}.weight", f"{name}.bias"

    def _has(self, name: str) -> bool:
        return name in self.changed or name in self._state()

    def _value(self, name: str) -> Tensor:
        if name in self.changed:
            return self.changed[name]
        return self._state()[name].detach().to("cpu", torch.float64)

    def _state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.model.state_dict()
        return state
