"""A Hugging Face model whose activations are edited while it runs.

This file is complete: it needs torch and transformers and nothing else, opens no file and no connection. It was
written beside the weights by ssae-debias, which is not needed to run it.

`config.json` lists under `activation_edits` where the model is edited and how: a module's path, and one or more
steps. When the model is made, each of these modules gets a forward hook that changes its activations, token by
token, before the next module sees them. With x one token's activation the steps are

- `latents`: some latents of a sparse autoencoder are set to new values, everything else is kept:
  f = relu(x E + b) where that is above a threshold, else 0;  x' = x + (f' − f) D
- `projection`: a subspace is removed around a fixed point:  x' = x − s (x − m) R W
- `affine`: x' = x + (x − m) C + t

Their arrays are buffers that lie in the weights' file under `activation_edits`: they are saved with the model and
never trained. They stay in float32, and what is added is computed in float32, whatever type the model has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils import ModelOutput


class Step(nn.Module):
    """One change of activations of shape (..., d_model); its arrays are buffers of float32.

    Without loaded weights they are zeros, and the step changes nothing.
    """

    def __init__(self, described: dict[str, Any]) -> None:
        super().__init__()
        self.described = described
        for name, shape in described["shapes"].items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float32))

    def added(self, x: Tensor) -> Tensor:
        """What the step adds to activations given in float32."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The changed activations, in the dtype of x."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return (x.to(wide) + self.added(x.float()).to(wide)).to(x.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Step:
        # model.half() must not round the arrays: a threshold decides, and would decide otherwise
        def keep_float32(tensor: Tensor) -> Tensor:
            moved: Tensor = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(keep_float32, recurse)
        return self


class Latents(Step):
    """Set latents of a sparse autoencoder to new values and keep the rest."""

    encoder: Tensor  # (d_model, m)
    bias: Tensor  # (m,)
    threshold: Tensor  # (m,)
    decoder: Tensor  # (m, d_model)
    value: Tensor  # (m,), unless the mode is "zero"

    def added(self, x: Tensor) -> Tensor:
        """(f' − f) D."""
        normalized, scale = self.normalized(x)
        before = normalized @ self.encoder + self.bias
        f = torch.where(before > self.threshold, before.relu(), 0.0) * scale
        if self.described["mode"] == "zero":
            change = -f
        elif self.described["mode"] == "mean":
            change = self.value - f
        else:
            change = torch.where(f > 0, self.value - f, 0.0)
        return change @ self.decoder

    def normalized(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """What the autoencoder reads of each token, and the unit of its latents there."""
        how = self.described["normalization"]
        if how == "constant_norm":
            scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
            return x / torch.where(scale > 0, scale, 1.0), scale
        if how == "layer_norm":
            scale = x.std(dim=-1, keepdim=True)
            return (x - x.mean(dim=-1, keepdim=True)) / (scale + 1e-5), scale
        return x, 1.0


class Projection(Step):
    """Remove a subspace around a fixed point."""

    read: Tensor  # (d_model, r)
    write: Tensor  # (r, d_model)
    center: Tensor  # (d_model,)

    def added(self, x: Tensor) -> Tensor:
        """−s (x − m) R W."""
        return -self.described["strength"] * (((x - self.center) @ self.read) @ self.write)


class Affine(Step):
    """Add a linear function of the activation."""

    change: Tensor  # (d_model, d_model)
    center: Tensor  # (d_model,)
    shift: Tensor  # (d_model,)

    def added(self, x: Tensor) -> Tensor:
        """(x − m) C + t."""
        return (x - self.center) @ self.change + self.shift


STEPS: dict[str, type[Step]] = {"latents": Latents, "projection": Projection, "affine": Affine}


class SiteEdit(nn.Module):
    """The steps at one module, in order, and the hook that applies them to what it returns or is given."""

    def __init__(self, site: dict[str, Any]) -> None:
        super().__init__()
        self.site = site
        self.steps = nn.ModuleList(STEPS[step["kind"]](step) for step in site["steps"])

    def forward(self, x: Tensor) -> Tensor:
        """The edited activations."""
        for step in self.steps:
            x = step(x)
        return x

    def attach(self, module: nn.Module) -> None:
        """Edit at this module from now on."""
        if self.site["side"] == "output":
            module.register_forward_hook(self.after)
        else:
            module.register_forward_pre_hook(self.before, with_kwargs=True)

    def after(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        """What the module returned, with its activations (the first tensor) edited."""
        if isinstance(output, Tensor):
            return self(output)
        if isinstance(output, ModelOutput):
            values = dict(output.items())
            first = next(iter(values))
            return type(output)(**{**values, first: self(values[first])})
        edited = (self(output[0]), *output[1:])
        if isinstance(output, list):
            return list(edited)
        return type(output)(*edited) if hasattr(output, "_fields") else edited

    def before(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What the module is given, with its activations edited."""
        if arguments:
            return (self(arguments[0]), *arguments[1:]), named
        return arguments, {**named, "hidden_states": self(named["hidden_states"])}


class EditedModel:
    """What is added to an architecture of transformers: the edits of `config.activation_edits`.

    They hang on the base model, so that a head may be put on it or left off as with any other model.
    """

    def __init__(self, config: Any, *arguments: Any, **named: Any) -> None:
        model: Any = self
        parent: Any = super()
        parent.__init__(config, *arguments, **named)
        base = model.base_model
        base.activation_edits = nn.ModuleList(SiteEdit(site) for site in config.activation_edits)
        for edit in base.activation_edits:
            root = base if edit.site["in_base_model"] else model
            edit.attach(root.get_submodule(edit.site["path"]))
        # loading in half precision casts all weights but these
        model._keep_in_fp32_modules_strict = {*(model._keep_in_fp32_modules_strict or ()), "activation_edits"}

    @classmethod
    def from_pretrained(cls, folder: Any, *arguments: Any, **named: Any) -> Any:
        """As in transformers. The weights' file has the name that the config says.

        In an export it is `model.edited.safetensors`: the architecture's own class, which knows of no edits, looks
        for `model.safetensors`, finds none and fails, where it would have loaded the unedited model.
        """
        own: Any = cls
        if named.get("variant") is None:
            config = named.get("config")
            if not isinstance(config, PreTrainedConfig):
                where = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
                found = {name: named[name] for name in where if name in named}
                config = own.config_class.from_pretrained(config or folder, **found)
            named["variant"] = getattr(config, "weights_variant", None)
        parent: Any = super()
        return parent.from_pretrained(folder, *arguments, **named)

    def save_pretrained(self, folder: Any, *arguments: Any, **named: Any) -> None:
        """As in transformers: into `model.safetensors` unless a variant is given, as its Trainer expects."""
        model: Any = self
        model.config.weights_variant = named.get("variant")
        parent: Any = super()
        parent.save_pretrained(folder, *arguments, **named)
