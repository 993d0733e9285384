"""A Hugging Face model with a classification head."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm
from transformers import AutoModelForSequenceClassification

from ssae_debias.activations import TextModel, TokenBatch, load_model, read_tokens
from ssae_debias.audit.heads import head_inputs_of, in_order, last_linear
from ssae_debias.data import check_texts
from ssae_debias.edit import Edit, spliced


class TextClassifier:
    """A text classifier: a Hugging Face model with the head that decides.

    Parameters
    ----------
    model : str, path or transformers.PreTrainedModel
        A folder, a hub id or a live model, of the kind that ``AutoModelForSequenceClassification`` loads.
    tokenizer : tokenizer, optional
        For a live model whose tokenizer does not lie beside it.
    device, dtype : str, default="cpu", "float32"
        For a model that is loaded here.
    max_length : int, default=128
        Tokens that a text is cut at; as the classifier is used.
    batch_size : int, default=32

    Raises
    ------
    TypeError
        The model has no classification head.
    ValueError
        Its head was not trained (a base model was given), or it is a regression or decides on several labels at
        once.
    OSError
        It is neither a folder nor reachable.

    Examples
    --------
    >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
    >>> from ssae_debias.activations import minilm_path
    >>> model = AutoModelForSequenceClassification.from_pretrained(minilm_path())  # its head is random here
    >>> classifier = TextClassifier(model, tokenizer=AutoTokenizer.from_pretrained(minilm_path()))
    >>> classifier.logits(["A nurse.", "A surgeon."]).shape, classifier.sites[:2]
    ((2, 2), ('embed', 'resid.0'))
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any = None,
        device: str = "cpu",
        dtype: str = "float32",
        max_length: int = 128,
        batch_size: int = 32,
    ) -> None:
        if isinstance(model, str | os.PathLike):
            module, name = _loaded(model, dtype, device), os.fspath(model)
            self.model: TextModel = load_model(
                module, tokenizer=tokenizer or name, device=device, dtype=dtype
            )
        else:
            self.model = load_model(model, tokenizer=tokenizer, device=device, dtype=dtype)
        config = self.model.module.config
        if not type(self.model.module).__name__.endswith("ForSequenceClassification"):
            raise TypeError(
                f"{type(self.model.module).__name__} has no classification head: load the model with "
                "AutoModelForSequenceClassification. (A model that a probe reads is audited as a scikit-learn "
                "pipeline.)"
            )
        if config.num_labels < 2 or config.problem_type in ("regression", "multi_label_classification"):
            raise ValueError(
                f"{self.name} decides {config.num_labels} label(s), problem_type={config.problem_type!r}; an audit "
                "takes a classifier that chooses one of two or more labels."
            )
        self.max_length = max_length
        self.batch_size = batch_size
        self.model.check_max_length(max_length)

    @property
    def name(self) -> str:
        """The folder's last part, or the hub id."""
        name = self.model.name
        return Path(name).name if Path(name).is_dir() else name

    @property
    def classes(self) -> tuple[str, ...]:
        """The config's label names."""
        names = self.model.module.config.id2label
        return tuple(str(names[i]) for i in range(len(names)))

    @property
    def sites(self) -> tuple[str, ...]:
        """`embed` and the residual stream after each block."""
        return tuple(site for site in self.model.sites if site == "embed" or site.startswith("resid."))

    @property
    def fingerprint(self) -> str:
        """Of the model's weights and tokenizer, and of the length that texts are cut at."""
        return f"{self.model.fingerprint}-{self.max_length}"

    def checked(self, inputs: Sequence[str]) -> list[str]:
        """A list of strings."""
        return check_texts(inputs)

    @property
    def head(self) -> nn.Linear | None:
        """The last linear layer."""
        return last_linear(self.model.module, len(self.classes))

    def logits(
        self, inputs: Sequence[str], edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> NDArray[np.float32]:
        """Logits of the head, shape (n, n_classes)."""
        return self.decisions(inputs, edits, verbose=verbose)[0]

    def decisions(
        self, inputs: Sequence[str], edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and what the last layer made them from, (n, n_classes) and (n, d).

        d is 0 where the last layer is given more than one vector an input (decoders) or there is none.
        """
        found = np.empty((len(inputs), len(self.classes)), dtype=np.float32)
        order = np.argsort([-len(text) for text in inputs], kind="stable")
        starts = range(0, len(order), self.batch_size)
        seen: list[torch.Tensor] = []
        with spliced(self.model, edits or {}), head_inputs_of(self.head, seen), torch.inference_mode():
            for start in tqdm(starts, desc="decisions", disable=not verbose, leave=False):
                rows = order[start : start + self.batch_size]
                encoded = self.model.encode([inputs[row] for row in rows], self.max_length)
                given = {name: encoded[name] for name in ("input_ids", "attention_mask")}
                found[rows] = self.model.module(**given).logits.float().cpu().numpy()
        return found, in_order(seen, order, self.head, found)

    def tokens(
        self,
        inputs: Sequence[str],
        sites: Sequence[str],
        edits: Mapping[str, Edit] | None = None,
        *,
        verbose: int = 0,
    ) -> Iterator[TokenBatch]:
        """Every token, special ones too: edits act on them all."""
        with spliced(self.model, edits or {}):
            yield from read_tokens(
                self.model, inputs, sites, max_length=self.max_length, include_special=True, verbose=verbose
            )

    def written(self, inputs: Sequence[str], numbers: Sequence[int] | None = None) -> list[str]:
        """The texts."""
        return list(inputs)


def _loaded(model: str | os.PathLike[str], dtype: str, device: str) -> Any:
    name = os.fspath(model)
    try:
        module, found = AutoModelForSequenceClassification.from_pretrained(
            name, dtype=getattr(torch, dtype), output_loading_info=True
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise OSError(
            f"{name!r} is not a folder here with a classifier that transformers can load, nor one that could be "
            f"reached on the Hugging Face hub: {reason}"
        ) from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(
            f"{name} is a model without a trained classification head: it lacks {', '.join(missing[:4])}. Give the "
            "folder that your fine-tuned classifier was saved to. (A model that a probe reads is audited as a "
            "scikit-learn pipeline.)"
        )
    return module.to(device).eval()
