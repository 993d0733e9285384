r"""Which edits can be written into the model's weights, so that no code of the edit is left to run.

An edit changes what one module returns. It folds *exactly* (up to the rounding of the weights' dtype) where that
module ends in a weight:

- **A table of rows** (a token embedding): the rows themselves are edited, by any edit, since each acts on one
  token alone. That is the site `embed` of Llama, Mistral, Qwen, Gemma and GPT-NeoX; BERT sums three tables and
  normalises, GPT-2 sums two.
- **A dense layer** (the sites `attn.i` and `mlp.i`, but for Gemma 2 and 3, which normalise after it): affine edits
  fold into its weight and bias. A layer without bias takes an edit with c = 0, or a bias if the architecture's
  config can say so.
- **The stream of a parallel decoder** (GPT-NeoX with `use_parallel_residual`): one and the same projection at
  `embed` and `resid.0` … `resid.i`. With :math:`P(x) = xM + c` and :math:`P(P(x)) = P(x)`,
  :math:`P(P(x) + a + m) = P(x) + aM + mM`, so the embedding takes P and all that is written to the stream takes M.
  In a sequential decoder (Llama, GPT-2) the same edits do *not* fold: the MLP reads the stream between the
  two additions, where the edit has not acted yet.
- **A dense head that alone reads the last block**, on request: an affine edit at the last `resid` folds into what
  the pooler or classifier reads. Its logits are then the edited ones; the hidden states that the model also
  returns are not.

Everywhere else a residual path or a nonlinearity stands between the site and any weight, and the edit stays code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ssae_debias.activations import Site, available_sites, resolve_site
from ssae_debias.edit.export.linear import affine_form, is_projection
from ssae_debias.edit.export.rewriting import Rewriting
from ssae_debias.edit.protocol import Edit

Fold = Literal["writers", "head", "none"]

# the dense layer that ends a module, by the module's class
WRITERS = {
    "LlamaAttention": "o_proj", "LlamaMLP": "down_proj",
    "MistralAttention": "o_proj", "MistralMLP": "down_proj",
    "Qwen2Attention": "o_proj", "Qwen2MLP": "down_proj",
    "Qwen3Attention": "o_proj", "Qwen3MLP": "down_proj",
    "GemmaAttention": "o_proj", "GemmaMLP": "down_proj",
    "GPTNeoXAttention": "dense", "GPTNeoXMLP": "dense_4h_to_h",
    "GPT2Attention": "c_proj", "GPT2MLP": "c_proj",
    "FFN": "lin2",
}  # fmt: skip

_ATTENTION = ("attention_bias", ("q_proj", "k_proj", "v_proj", "o_proj"))
# the config's flag that gives a module's layers biases, and which layers it gives one
BIASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "LlamaAttention": _ATTENTION,
    "Qwen3Attention": _ATTENTION,
    "GemmaAttention": _ATTENTION,
    "LlamaMLP": ("mlp_bias", ("gate_proj", "up_proj", "down_proj")),
    "GPTNeoXAttention": ("attention_bias", ("query_key_value", "dense")),
}

# embeddings that return their rows, some times a number
TABLES = (
    "Embedding", "GemmaTextScaledWordEmbedding", "Gemma2TextScaledWordEmbedding", "Gemma3TextScaledWordEmbedding",
)  # fmt: skip

# the dense layer that alone reads the last block's output, by the model's class
READERS = {
    "BertForSequenceClassification": "bert.pooler.dense",
    "RobertaForSequenceClassification": "classifier.dense",
    "XLMRobertaForSequenceClassification": "classifier.dense",
    "ElectraForSequenceClassification": "classifier.dense",
    "MPNetForSequenceClassification": "classifier.dense",
    "DistilBertForSequenceClassification": "pre_classifier",
    "BertForTokenClassification": "classifier",
    "RobertaForTokenClassification": "classifier",
    "DistilBertForTokenClassification": "classifier",
}


def fold_edits(
    model: Any, edits: Mapping[str, Edit], fold: Fold = "writers"
) -> tuple[Rewriting, dict[str, tuple[str, ...]], dict[str, Edit]]:
    """Write into weights what can be written there exactly.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Is read, never changed.
    edits : mapping of str to Edit
        By site, in the order in which `spliced` would attach them.
    fold : {"writers", "head", "none"}, default="writers"
        `writers`: into the weights that write to a site, so that whatever is loaded from them is edited. `head`:
        also into a head that reads the last block; the base model under it then is not. `none`: nothing.

    Returns
    -------
    rewriting : Rewriting
        The new weights and config values.
    folded : dict of str to tuple of str
        By site, the names of the weights that now hold its edit.
    left : dict of str to Edit
        Edits that do not fold, in their order.

    Raises
    ------
    ValueError
        An unknown `fold`, or a site that the model lacks.

    Examples
    --------
    >>> import torch
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.edit import Projection
    >>> edit = Projection.onto_complement_of(torch.eye(384)[:1], center=torch.zeros(384))
    >>> _, folded, left = fold_edits(load_model("demo").module, {"mlp.2": edit, "resid.3": edit})
    >>> folded, list(left)
    ({'mlp.2': ('encoder.layer.2.output.dense.weight', 'encoder.layer.2.output.dense.bias')}, ['resid.3'])
    """
    if fold not in get_args(Fold):
        raise ValueError(f"fold must be one of {', '.join(get_args(Fold))}; got {fold!r}.")
    rewriting = Rewriting(model)
    left = dict(edits)
    folded: dict[str, tuple[str, ...]] = {}
    if fold == "none":
        return rewriting, folded, left
    sites = {name: resolve_site(model, name) for name in edits}
    for name in _in_the_stream(model, edits):
        del left[name]
    stream = [name for name in edits if name not in left]
    for together in _at_one_module(sites, left):
        # of several edits at one module the first acts first: code runs after all weights, so all fold or none
        plans = [_writer(rewriting, sites[name], left[name]) for name in together]
        if all(plan is not None for plan in plans):
            for name in together:
                folded[name] = _fold_writer(rewriting, sites[name], left.pop(name))
    if stream:
        if any(name.startswith(("attn.", "mlp.", "module:")) for name in left):
            # code at a writer would run after the weights that the stream's edits changed there
            left = {name: edit for name, edit in edits.items() if name not in folded}
        else:
            folded |= _fold_stream(rewriting, sites, edits, stream)
    if fold == "head":
        folded |= _fold_reader(rewriting, sites, left)
    return rewriting, {name: folded[name] for name in edits if name in folded}, left


def _at_one_module(sites: Mapping[str, Site], left: Mapping[str, Edit]) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for name in left:
        groups.setdefault(id(sites[name].module), []).append(name)
    return list(groups.values())


def _writer(rewriting: Rewriting, site: Site, edit: Edit) -> nn.Module | None:
    """The table or dense layer that the edit folds into, or None."""
    kind = type(site.module).__name__
    if site.side == "input":
        return None
    if kind in TABLES and isinstance(site.module, nn.Embedding):
        return site.module if site.module.max_norm is None else None
    form = affine_form(edit)
    layer = site.module.get_submodule(WRITERS[kind]) if kind in WRITERS else site.module
    # a subclass may compute anything: quantised and adapted layers are some
    if form is None or type(layer) not in (nn.Linear, Conv1D) or rewriting.shares_weight(layer):
        return None
    has_room = layer.bias is not None or kind in BIASES or not form[1].any()
    return layer if has_room else None


def _fold_writer(rewriting: Rewriting, site: Site, edit: Edit) -> tuple[str, ...]:
    layer = _writer(rewriting, site, edit)
    assert layer is not None
    if isinstance(layer, nn.Embedding):
        return rewriting.map_rows(layer, edit.to("cpu"))
    form = affine_form(edit)
    assert form is not None
    if layer.bias is None and form[1].any():
        flag, parts = BIASES[type(site.module).__name__]
        rewriting.add_biases(type(site.module), parts, flag)
    return rewriting.map_written(layer, *form)


def _in_the_stream(model: Any, edits: Mapping[str, Edit]) -> list[str]:
    """`embed`, `resid.0`, … as far as each has the same projection, of a decoder whose blocks are parallel."""
    if model.config.model_type != "gpt_neox" or not model.config.use_parallel_residual:
        return []
    names = [name for name in available_sites(model) if name == "embed" or name.startswith("resid.")]
    first = affine_form(edits["embed"]) if "embed" in edits else None
    if first is None or not is_projection(first):
        return []
    stream = []
    for name in names:
        if name not in edits or not _same(first, affine_form(edits[name])):
            break
        stream.append(name)
    return stream if len(stream) > 1 else []


def _same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor] | None) -> bool:
    return other is not None and all(bool((a == b).all()) for a, b in zip(one, other, strict=True))


def _fold_stream(
    rewriting: Rewriting, sites: Mapping[str, Site], edits: Mapping[str, Edit], stream: list[str]
) -> dict[str, tuple[str, ...]]:
    form = affine_form(edits["embed"])
    assert form is not None
    folded = {"embed": _fold_writer(rewriting, sites["embed"], edits["embed"])}
    for name in stream[1:]:
        block = sites[name].module
        written: tuple[str, ...] = ()
        for part in (block.attention, block.mlp):
            assert isinstance(part, nn.Module)
            layer = part.get_submodule(WRITERS[type(part).__name__])
            written += rewriting.map_written(layer, form[0], None)
        folded[name] = written
    return folded


def _fold_reader(
    rewriting: Rewriting, sites: Mapping[str, Site], left: dict[str, Edit]
) -> dict[str, tuple[str, ...]]:
    model = rewriting.model
    path = READERS.get(type(model).__name__)
    if path is None:
        return {}
    last = resolve_site(model, available_sites(model)[-1]).module
    there = [name for name in left if sites[name].module is last]
    form = affine_form(left[there[0]]) if len(there) == 1 else None
    layer = model.get_submodule(path)
    if form is None or type(layer) is not nn.Linear or layer.bias is None:
        return {}
    del left[there[0]]
    return {there[0]: rewriting.map_read(layer, *form)}
