"""The module file of an export: the code, config entries and arrays of the edits that fold into no weight.

transformers runs a file of code that lies beside the weights if it is asked to (`trust_remote_code=True`). The
config's `auto_map` says which class of the file stands for which auto class, and its `model_type` is one that
transformers does not know: with a known one it would, unasked, take its own class and load the unedited model.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import transformers
from torch import Tensor
from transformers import AutoConfig

from ssae_debias.activations import resolve_site
from ssae_debias.activations.sites import EXPORTED
from ssae_debias.edit.composed import Composed
from ssae_debias.edit.export.remote_code import STEPS
from ssae_debias.edit.protocol import Edit

MODULE = "modeling_edited"
VARIANT = "edited"
BUFFERS = "activation_edits"

_IMPORTS = "from transformers import PreTrainedConfig\n"
# the auto classes that a task's model is loaded by; a base model gets new heads for fine-tuning
_AUTO = (
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice",
    "AutoModelForNextSentencePrediction",
    "AutoModelForPreTraining",
)
_NEW_HEADS = _AUTO[1:4]


def auto_classes(model: Any) -> dict[str, str]:
    """Which auto class loads which architecture class: the model's own, its base model, and new heads.

    Raises
    ------
    ValueError
        The model's class is not one that transformers loads by an auto class.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> found = auto_classes(load_model("demo").module)
    >>> found["AutoModel"], found["AutoModelForSequenceClassification"]
    ('BertModel', 'BertForSequenceClassification')
    """
    config, own = type(model.config), type(model)
    known: dict[str, type] = {}
    for auto in _AUTO:
        mapping = getattr(transformers, auto)._model_mapping
        if config in mapping:
            found = mapping[config]
            known[auto] = found[0] if isinstance(found, tuple) else found
    mine = [auto for auto, found in known.items() if found is own]
    if not mine:
        raise ValueError(
            f"A {own.__module__}.{own.__name__} cannot be exported: it is not a class of transformers that an auto class "
            "loads. An edited model that was exported before is exported again from its original, with the edits of "
            "both. For another class, export the model inside it."
        )
    # of several auto classes with one class, such as pretraining and masked LM, the task's comes first
    chosen = dict.fromkeys((*mine[:1], "AutoModel", *_NEW_HEADS))
    return {auto: known[auto].__name__ for auto in chosen if auto in known}


def module_source(model: Any, classes: Mapping[str, str], site_names: Mapping[str, Any]) -> str:
    """The text of `modeling_edited.py`: the code that all exports share, then this architecture's classes.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    classes : mapping of str to str
        As `auto_classes` gives them.
    site_names : iterable of str
        Sites at which the code edits, for the comment above the classes.
    """
    shared = files("ssae_debias.edit.export").joinpath("remote_code.py").read_text(encoding="utf-8")
    config = type(model.config).__name__
    names = sorted({config, *classes.values(), "PreTrainedConfig"})
    assert _IMPORTS in shared
    imports = f"from transformers import {', '.join(names)}\n"
    if len(imports) > 100:
        imports = "from transformers import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"
    parts = [
        shared.replace(_IMPORTS, imports).rstrip("\n"),
        f"# The architecture: {config.removesuffix('Config')}, edited at {', '.join(site_names)}.",
        f'class Edited{config}({config}):\n    """Its config, with the edits; a type of its own, so that no other '
        f'class loads it."""\n\n    model_type = "{EXPORTED}{model.config.model_type}"',
    ]
    parts += [
        f'class Edited{name}(EditedModel, {name}):\n    """`{name}`, edited."""\n\n'
        f"    config_class = Edited{config}"
        for name in dict.fromkeys(classes.values())
    ]
    return "\n\n\n".join(parts) + "\n"


def config_entries(model: Any, classes: Mapping[str, str], edits: Mapping[str, Edit]) -> dict[str, Any]:
    """What is added to `config.json`."""
    config = type(model.config).__name__
    base_paths = {id(module): path for path, module in model.base_model.named_modules()}
    paths = {id(module): path for path, module in model.named_modules()}
    sites = []
    for name, edit in edits.items():
        site = resolve_site(model, name)
        in_base = id(site.module) in base_paths
        sites.append(
            {
                "site": name,
                "path": base_paths[id(site.module)] if in_base else paths[id(site.module)],
                "in_base_model": in_base,
                "side": site.side,
                "steps": [_step(part) for part in _parts(edit)],
            }
        )
    return {
        "model_type": EXPORTED + model.config.model_type,
        "architectures": [f"Edited{type(model).__name__}"],
        "auto_map": {
            AutoConfig.__name__: f"{MODULE}.Edited{config}",
            **{auto: f"{MODULE}.Edited{name}" for auto, name in classes.items()},
        },
        "activation_edits": sites,
        "weights_variant": VARIANT,
    }


def reaches_outside_base(entries: Mapping[str, Any]) -> bool:
    """Whether an edit sits in the head, so that the base model alone cannot be loaded edited."""
    return not all(site["in_base_model"] for site in entries["activation_edits"])


def buffers(model: Any, edits: Mapping[str, Edit]) -> dict[str, Tensor]:
    """The edits' arrays in float32, by their names in the state dict of the edited class."""
    inner = model.base_model is not model
    prefix = f"{model.base_model_prefix}.{BUFFERS}" if inner else BUFFERS
    return {
        f"{prefix}.{place}.steps.{number}.{name}": tensor.detach().float().cpu().clone().contiguous()
        for place, edit in enumerate(edits.values())
        for number, part in enumerate(_parts(edit))
        for name, tensor in part.tensors().items()
    }


def _parts(edit: Edit) -> tuple[Edit, ...]:
    return tuple(p for part in edit.parts for p in _parts(part)) if isinstance(edit, Composed) else (edit,)


def _step(edit: Edit) -> dict[str, Any]:
    if edit.kind not in STEPS:
        raise ValueError(
            f"An edit of the kind {edit.kind!r} cannot be exported; those that can: {', '.join(STEPS)}, composed."
        )
    shapes = {name: list(tensor.shape) for name, tensor in edit.tensors().items()}
    return {"kind": edit.kind, **edit.settings(), "shapes": shapes}
