"""The language head: a model that predicts tokens, loaded with the head that it was trained with.

`load_model` gives the blocks alone, which is all that reading and editing need. Cross-entropy and perplexity need
the head as well. A folder whose weights hold no head must not be given a random one, as transformers would do with
a warning: its perplexity would look like a figure and mean nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from ssae_debias.activations import TextModel, load_model
from ssae_debias.activations.model import DTYPES

LanguageObjective: TypeAlias = Literal["causal", "masked"]

_CAUSAL, _MASKED = (
    frozenset(name for names in mapping.values() for name in ([names] if isinstance(names, str) else names))
    for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES)
)


def language_objective(model: TextModel) -> LanguageObjective | None:
    """What a model's head predicts: the next token, a masked one, or no token at all (None).

    It goes by the class of the module. Some classes serve both objectives (XLM); those count as masked.

    Examples
    --------
    >>> language_objective(load_model("demo")) is None
    True
    """
    return objective_of(type(model.module).__name__)


def load_language_model(
    model: str | os.PathLike[str],
    *,
    objective: LanguageObjective | None = None,
    tokenizer: Any = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    revision: str | None = None,
) -> TextModel:
    """Load a model with its language head.

    Parameters
    ----------
    model : str or path-like
        A folder or a hub id. (A live module that has its head goes through `load_model` as it is.)
    objective : {"causal", "masked"}, optional
        By default what the model's `config.json` names among its architectures.
    tokenizer, device, dtype, revision
        As in `load_model`.

    Returns
    -------
    TextModel

    Raises
    ------
    OSError
        The name is neither a model folder nor a model that the hub gives.
    ValueError
        The model has no language head, or not that one, or its weights hold none.

    Examples
    --------
    >>> from ssae_debias.activations import minilm_path
    >>> load_language_model(minilm_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: ... holds BertModel, which has no language head. ...
    """
    source = Path(model).expanduser() if Path(os.fspath(model)).expanduser().is_dir() else os.fspath(model)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise OSError(
            f"{model!r} is neither a model folder nor a model that could be reached on the hub: {reason}"
        ) from error
    named = list(getattr(config, "architectures", None) or [])
    found = objective or next(filter(None, map(objective_of, named)), None)
    if found not in ("causal", "masked"):
        raise ValueError(
            f"{model} holds {', '.join(named) or 'an unnamed architecture'}, which has no language head. Give the "
            'checkpoint that has one, say objective="causal" or "masked" if its config.json is wrong, or measure '
            "an encoder by a probe: fidelity(…, y=labels)."
        )
    kind = AutoModelForCausalLM if found == "causal" else AutoModelForMaskedLM
    as_type = DTYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    try:
        loaded: Any = kind.from_pretrained(source, revision=revision, dtype=as_type, output_loading_info=True)
    except ValueError as error:
        raise ValueError(f"{model} cannot be loaded as a {found} language model: {error}") from error
    module, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"The weights of {model} lack {len(missing)} tensors of a {found} language model, {missing[0]} first: "
            "its head would be random and its perplexity without meaning. Give the checkpoint with the head."
        )
    beside = source if tokenizer is None else tokenizer
    return load_model(module.to(device), tokenizer=beside)


def objective_of(class_name: str) -> LanguageObjective | None:
    """What the head of a transformers class predicts; None where it has none.

    Examples
    --------
    >>> objective_of("LlamaForCausalLM"), objective_of("BertModel") is None
    ('causal', True)
    """
    if class_name in _MASKED:
        return "masked"
    return "causal" if class_name in _CAUSAL else None
