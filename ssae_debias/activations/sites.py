"""Sites: the places in a model where activations are read or edited.

A transformer is a stream of vectors, one a token, that every block reads and adds to. `embed` is that stream
as it enters block 0 and `resid.i` as it leaves block i; `attn.i` and `mlp.i` are what block i's attention and
MLP add to it, taken just before the addition. In a pre-norm decoder, then,

    resid.i = resid.(i−1) + attn.i + mlp.i        (resid.(−1) is embed)

and in a post-norm encoder (BERT) each addition is followed by a LayerNorm. `module:encoder.layer.3.output`
names any other module by its path. A site is an ordinary module of an ordinary Hugging Face model, and
everything done there is a forward hook: no model is wrapped or rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.utils import ModelOutput

MODULE_PREFIX = "module:"
EXPORTED = "edited-"
"""What `ssae_debias.edit.export` puts before the architecture's name in an exported model's config."""

Side: TypeAlias = Literal["output", "input"]


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its stream.

    Attributes
    ----------
    embed : tuple of str
        Module paths in the base model; the first that exists returns the stream that enters block 0.
    blocks : str
        Path of the list of blocks.
    attn, mlp : str
        Paths inside a block of the modules that return what is added to the stream.

    Examples
    --------
    >>> FAMILIES["gpt2"].blocks
    'h'
    """

    embed: tuple[str, ...]
    blocks: str
    attn: str
    mlp: str


_BERT = Family(
    embed=("embeddings_project", "embeddings"),  # ELECTRA projects narrow embeddings to the stream's width
    blocks="encoder.layer",
    attn="attention.output.dense",
    mlp="output.dense",
)
_LLAMA = Family(embed=("embed_tokens",), blocks="layers", attn="self_attn", mlp="mlp")
# Gemma 2 and 3 normalise what attention and MLP computed before they add it
_GEMMA2 = Family(
    embed=("embed_tokens",),
    blocks="layers",
    attn="post_attention_layernorm",
    mlp="post_feedforward_layernorm",
)

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "mpnet": Family(
        embed=("embeddings",), blocks="encoder.layer", attn="attention.attn.o", mlp="output.dense"
    ),
    "distilbert": Family(
        embed=("embeddings",), blocks="transformer.layer", attn="attention.out_lin", mlp="ffn"
    ),
    "gpt_neox": Family(embed=("embed_in",), blocks="layers", attn="attention", mlp="mlp"),
    "gpt2": Family(embed=("drop",), blocks="h", attn="attn", mlp="mlp"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
}
"""Supported architectures by `config.model_type`."""


@dataclass(frozen=True)
class Site:
    """A named place where activations pass.

    Attributes
    ----------
    name : str
        `embed`, `resid.i`, `attn.i`, `mlp.i` or `module:path`.
    module : torch.nn.Module
        The module whose tensor it is.
    order : int
        Place in the forward order: sites sorted by it are met in that order. It assumes that modules were
        registered in the order they are called, which holds for all standard sites of the supported families.
    side : {"output", "input"}
        Whether the activations are what the module returns or what it is given. "input" occurs only where no
        module returns the stream: Gemma's `embed` before transformers 5, which scales it outside any module.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, resolve_site
    >>> resolve_site(load_model("demo").module, "resid.3").module.__class__.__name__
    'BertLayer'
    """

    name: str
    module: nn.Module
    order: int
    side: Side = "output"

    def attach(self, function: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `function` with the activations at each forward pass; what it returns replaces them.

        Functions attached at one site act in the order of attaching, each on what the one before left.

        Parameters
        ----------
        function : callable
            From a tensor, usually (batch, tokens, d_model), to its replacement of the same shape, or None.

        Returns
        -------
        torch.utils.hooks.RemovableHandle
            Call `.remove()`, or use it in a `with` statement.

        Examples
        --------
        >>> import torch
        >>> from ssae_debias.activations import load_model, resolve_site
        >>> model = load_model("demo")
        >>> inputs = model.encode(["A nurse."], max_length=8).data
        >>> _ = inputs.pop("special_tokens_mask")
        >>> with resolve_site(model.module, "resid.5").attach(torch.zeros_like):
        ...     model.module(**inputs).last_hidden_state.abs().sum().item()
        0.0
        """
        if self.side == "output":

            def after(_module: nn.Module, _arguments: Any, output: Any) -> Any:
                new = function(site_tensor(output))
                return None if new is None else with_site_tensor(output, new)

            return self.module.register_forward_hook(after)

        def before(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if arguments:
                new = function(arguments[0])
                return None if new is None else ((new, *arguments[1:]), named)
            new = function(named["hidden_states"])
            return None if new is None else (arguments, {**named, "hidden_states": new})

        return self.module.register_forward_pre_hook(before, with_kwargs=True)


def site_tensor(output: Any) -> Tensor:
    """The activations in what a module returned: the tensor itself, or the first item of a tuple.

    Raises
    ------
    TypeError
        The module returns something else.

    Examples
    --------
    >>> import torch
    >>> site_tensor((torch.ones(2), None))
    tensor([1., 1.])
    """
    tensor = output[0] if isinstance(output, (tuple, list, ModelOutput)) and len(output) else output
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"A site's module must return a tensor, or a tuple that starts with one; this one returned "
            f"{type(output).__name__}. Name a module inside or after it."
        )
    return tensor


def with_site_tensor(output: Any, new: Tensor) -> Any:
    """What the module returned, with its activations replaced by `new` and everything else kept.

    Examples
    --------
    >>> import torch
    >>> with_site_tensor((torch.ones(2), "weights"), torch.zeros(2))
    (tensor([0., 0.]), 'weights')
    """
    site_tensor(output)
    if isinstance(output, Tensor):
        return new
    if isinstance(output, ModelOutput):
        values = dict(output.items())
        values[next(iter(values))] = new
        return type(output)(**values)
    if isinstance(output, list):
        return [new, *output[1:]]
    replaced = (new, *output[1:])
    return type(output)(*replaced) if hasattr(output, "_fields") else replaced


def available_sites(module: nn.Module) -> tuple[str, ...]:
    """Names of the standard sites of a model, in forward order.

    Parameters
    ----------
    module : torch.nn.Module
        A Hugging Face model, with or without a task head.

    Raises
    ------
    ValueError
        The architecture is not one of `FAMILIES`; `module:path` still works there.

    Examples
    --------
    >>> from ssae_debias.activations import available_sites, load_model
    >>> available_sites(load_model("demo").module)[:4]
    ('embed', 'attn.0', 'mlp.0', 'resid.0')
    """
    blocks = _base_model(module).get_submodule(_family(module).blocks)
    assert isinstance(blocks, nn.ModuleList)
    return ("embed", *(f"{kind}.{i}" for i in range(len(blocks)) for kind in ("attn", "mlp", "resid")))


def resolve_site(module: nn.Module, name: str) -> Site:
    """Find a site in a model by name.

    Parameters
    ----------
    module : torch.nn.Module
        A Hugging Face model, with or without a task head (`…ForSequenceClassification`, `…ForCausalLM`).
    name : str
        `embed`, `resid.i`, `attn.i` or `mlp.i` (blocks count from 0), or `module:` and a path as in
        `module.named_modules()`.

    Returns
    -------
    Site

    Raises
    ------
    TypeError
        `name` is not a string.
    ValueError
        The model has no such site (the message lists those it has), or its architecture is not supported.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, resolve_site
    >>> model = load_model("demo").module
    >>> resolve_site(model, "embed").order < resolve_site(model, "module:encoder.layer.0.intermediate").order
    True
    >>> resolve_site(model, "resid.6")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: This model has no site 'resid.6'. It has embed, and attn.i, mlp.i, resid.i for i = 0..5; ...
    """
    if not isinstance(name, str):
        raise TypeError(f"A site is named by a string such as 'resid.3', got {type(name).__name__}.")
    side: Side = "output"
    if name.startswith(MODULE_PREFIX):
        target = _module_at(module, name.removeprefix(MODULE_PREFIX))
    else:
        target, side = _standard_site(module, name)
    # a module is given its input just before the first of its parts returns
    met = target if side == "output" else next(_call_order(target))
    order = next(place for place, part in enumerate(_call_order(module)) if part is met)
    return Site(name, target, order, side)


def _standard_site(module: nn.Module, name: str) -> tuple[nn.Module, Side]:
    names = available_sites(module)
    if name not in names:
        blocks = (len(names) - 1) // 3
        raise ValueError(
            f"This model has no site {name!r}. It has embed, and attn.i, mlp.i, resid.i for "
            f"i = 0..{blocks - 1}; any other module is named {MODULE_PREFIX}path."
        )
    base, family = _base_model(module), _family(module)
    if name == "embed":
        embed = base.get_submodule(next(path for path in family.embed if _has(base, path)))
        if base.config.model_type in ("gemma", "gemma2") and not hasattr(embed, "embed_scale"):
            return base.get_submodule(f"{family.blocks}.0"), "input"
        return embed, "output"
    kind, block = name.split(".")
    inside = {"resid": "", "attn": f".{family.attn}", "mlp": f".{family.mlp}"}[kind]
    return base.get_submodule(f"{family.blocks}.{block}{inside}"), "output"


def _module_at(module: nn.Module, path: str) -> nn.Module:
    if path and _has(module, path):
        return module.get_submodule(path)
    known = [name for name, _ in module.named_modules() if name]
    near = get_close_matches(path, known, n=1)
    # blocks repeat: one line a kind says as much as one a block
    kinds = dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".i", name) for name in known)
    raise ValueError(
        f"This model has no module {path!r}."
        + (f" Did you mean {MODULE_PREFIX}{near[0]}?" if near else "")
        + f" It has {', '.join(kinds)}."
    )


def _family(module: nn.Module) -> Family:
    model_type = getattr(getattr(_base_model(module), "config", None), "model_type", type(module).__name__)
    model_type = model_type.removeprefix(
        EXPORTED
    )  # an exported model has the layout of the one it was made from
    if model_type not in FAMILIES:
        raise ValueError(
            f"The standard sites of the architecture {model_type!r} are not known. Supported: "
            f"{', '.join(sorted(FAMILIES))}. For any other, name sites as {MODULE_PREFIX}path, with a path "
            "of model.named_modules()."
        )
    return FAMILIES[model_type]


def _base_model(module: nn.Module) -> Any:
    return getattr(module, "base_model", module)


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def _call_order(module: nn.Module) -> Iterator[nn.Module]:
    """Modules in the order in which they return: what is inside a module returns before the module does."""
    for child in module.children():
        yield from _call_order(child)
    yield module
