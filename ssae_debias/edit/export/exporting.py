"""Export of an edited model: a folder that plain `transformers` loads, and that needs nothing of ours to run.

    config.json   model.safetensors            tokenizer…   README.md   manifest.json
    config.json   model.edited.safetensors     tokenizer…   README.md   manifest.json   modeling_edited.py

The first form is written where every edit folds into weights (`ssae_debias.edit.export.folding`), the second where
some must run as code (`ssae_debias.edit.export.module_file`). Before the folder stands, it is loaded again and
compared with the live edited model; if they differ nothing is written.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ssae_debias.activations import TextModel
from ssae_debias.edit.export.card import Facts, export_card
from ssae_debias.edit.export.comparing import compare, quiet
from ssae_debias.edit.export.folding import READERS, Fold, fold_edits
from ssae_debias.edit.export.module_file import (
    MODULE,
    VARIANT,
    auto_classes,
    buffers,
    config_entries,
    module_source,
    reaches_outside_base,
)
from ssae_debias.edit.export.pushing import KIND, push_export
from ssae_debias.edit.protocol import Edit
from ssae_debias.files import folder_aside, read_json, require_replaceable, write_json, write_manifest

CARD = "README.md"

EXAMPLES = (
    "The nurse said that she would call the surgeon back in the morning.",
    "He fixed the engine, and his daughter painted the boat.",
    "Yes.",
)
"""Texts on which an export is compared with the live model unless others are given; of different lengths."""


@dataclass(frozen=True)
class Exported:
    """Where an edited model was written, and how.

    Attributes
    ----------
    path : Path
    folded : dict of str to tuple of str
        By site, the names of the weights that now hold its edit.
    in_module : dict of str to str
        By site, the kinds of the edits that run as code of `modeling_edited.py`.
    auto_class : str
        Name of transformers' auto class that loads it, head and all.
    max_difference : float or None
        Largest difference of any output between the reloaded export and the live edited model; None if it was
        not compared.

    Examples
    --------
    >>> Exported(Path("edited"), {}, {"resid.3": "latents"}, "AutoModel").needs_trust_remote_code
    True
    """

    path: Path
    folded: dict[str, tuple[str, ...]]
    in_module: dict[str, str]
    auto_class: str
    max_difference: float | None = None
    facts: Facts = field(default_factory=Facts, repr=False)

    @property
    def needs_trust_remote_code(self) -> bool:
        """Whether loading needs `trust_remote_code=True`."""
        return bool(self.in_module)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Push the folder; its commit. See `push_export`."""
        return push_export(self.path, repo_id, **options)


def export_model(
    model: TextModel,
    edits: Mapping[str, Edit],
    path: str | os.PathLike[str],
    *,
    facts: Facts | None = None,
    fold: Fold = "writers",
    examples: Sequence[str] = EXAMPLES,
    max_shard_size: str | int = "5GB",
) -> Exported:
    """Write an edited model, with its tokenizer, as a folder that transformers loads.

    Parameters
    ----------
    model : TextModel
        Whatever head its module has is exported with it. It is read, never changed.
    edits : mapping of str to Edit
        By site, as for `spliced`.
    path : path-like
        A free path, or an earlier export, which is replaced once the new one is whole.
    facts : Facts, optional
        What the model card shall tell; without, it says what it knows: where and how the model is edited.
    fold : {"writers", "head", "none"}, default="writers"
        Which edits become weights; see `fold_edits`. The default folds only what leaves every model that can be
        loaded from the folder edited.
    examples : sequence of str
        Texts on which the written folder is compared with the live model; `()` skips that, and saves the memory
        of a second copy of the model.
    max_shard_size : str or int, default="5GB"
        Larger weights are split into files of this size.

    Returns
    -------
    Exported

    Raises
    ------
    FileExistsError
        Something stands at `path` that is no export.
    ValueError
        A site that the model lacks, a model class that transformers cannot load by itself, quantised or adapted
        weights, or an edit of an unknown kind.
    RuntimeError
        The reloaded folder does not compute what the live model does; nothing is written.
    OSError
        No space or no permission; what stood at `path` still does.

    Notes
    -----
    Folded edits hold in eval mode; where dropout stands between weight and site, training sees them before it.
    Weights of a half-precision model are rounded once more by folding, so outputs differ by that rounding.
    The tokenizer is saved as the `TextModel` has it: padding on the right, with a padding token. For generation in
    batches load it with ``padding_side="left"``.

    Examples
    --------
    >>> import tempfile
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.edit import Projection
    >>> edit = Projection.onto_complement_of(torch.eye(384)[:2], center=torch.zeros(384))
    >>> done = export_model(load_model("demo"), {"mlp.1": edit}, tempfile.mkdtemp() + "/edited")
    >>> done.folded["mlp.1"][0], done.needs_trust_remote_code, done.max_difference < 1e-5
    ('encoder.layer.1.output.dense.weight', False, True)
    """
    require_replaceable(path, KIND)
    module = _exportable(model)
    rewriting, folded, left = fold_edits(module, edits, fold)
    classes = auto_classes(module)
    auto_class = next(iter(classes))
    entries = config_entries(module, classes, left)
    if left and reaches_outside_base(entries):
        classes = {auto_class: classes[auto_class]}
        entries = config_entries(module, classes, left)
    facts = Facts(base_model=public_name(model)) if facts is None else facts
    done = Exported(
        Path(path), folded, {name: _kinds(edit) for name, edit in left.items()}, auto_class, facts=facts
    )
    with folder_aside(path) as folder:
        _write_weights(module, rewriting.state() | (buffers(module, left) if left else {}), rewriting.config,
                       folder, bool(left), max_shard_size)  # fmt: skip
        if left:
            write_json(folder / "config.json", {**read_json(folder / "config.json"), **entries})
            source = module_source(module, classes, left)
            (folder / f"{MODULE}.py").write_text(source, encoding="utf-8")
        _write_tokenizer(model.tokenizer, folder)
        if len(examples):
            done = replace(
                done, max_difference=compare(model, edits, folder, MODULE if left else None, examples)
            )
        card = export_card(
            facts,
            auto_class=auto_class,
            folded=folded,
            in_module=done.in_module,
            max_difference=done.max_difference,
            head_only=any(READERS.get(type(module).__name__, "-") in names[0] for names in folded.values()),
        )
        (folder / CARD).write_text(card, encoding="utf-8")
        for file in folder.iterdir():
            # safetensors makes files that only their owner can read
            file.chmod((folder / CARD).stat().st_mode & 0o777)
        write_manifest(
            folder,
            KIND,
            folded={site: list(names) for site, names in folded.items()},
            in_module=done.in_module,
            auto_class=auto_class,
            max_difference=done.max_difference,
        )
    return done


def public_name(model: TextModel) -> str:
    """The model's hub id; of a folder on this machine its last part alone, which is no address for anyone else.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> public_name(load_model("demo"))
    'sentence-transformers/all-MiniLM-L6-v2'
    """
    folder = Path(model.name).expanduser()
    return folder.resolve().name if folder.is_dir() else model.name


def _write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save it without the truncation and padding of its last call, which fast tokenizers keep and would save."""
    tokenizer = copy.deepcopy(tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    with quiet():
        tokenizer.save_pretrained(folder)


def _exportable(model: TextModel) -> PreTrainedModel:
    module = model.module
    if not isinstance(module, PreTrainedModel):
        raise ValueError(
            f"Only a transformers model can be exported, got {type(module).__name__}: give the model inside it."
        )
    if getattr(module, "hf_quantizer", None) is not None:
        raise ValueError(
            "A quantised model cannot be exported: edit and export the full weights, then quantise."
        )
    if getattr(module, "_hf_peft_config_loaded", False):
        raise ValueError(
            "The model has adapters: merge them into its weights (merge_and_unload), then export."
        )
    return module


def _kinds(edit: Edit) -> str:
    parts = getattr(edit, "parts", (edit,))
    return ", then ".join(part.kind for part in parts)


def _write_weights(
    module: PreTrainedModel,
    state: dict[str, Tensor],
    changes: Mapping[str, Any],
    folder: Path,
    with_code: bool,
    max_shard_size: str | int,
) -> None:
    """Save through a model without weights, so that neither the live model nor its config is touched."""
    config = copy.deepcopy(module.config)
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.device("meta"), quiet():
        skeleton = type(module)(config)
    nn.Module.to(skeleton, module.dtype)
    if skeleton.can_generate():
        skeleton.generation_config = copy.deepcopy(module.generation_config)
    with quiet():
        skeleton.save_pretrained(
            folder,
            state_dict=state,
            max_shard_size=max_shard_size,
            variant=VARIANT if with_code else None,
            # the names on disk are translated back by the model's type, and that of the code is a new one
            save_original_format=not with_code,
        )
