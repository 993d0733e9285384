"""A model that reads text: a Hugging Face module, its tokenizer, and what identifies the two.

Nothing is wrapped: `TextModel.module` is the plain PyTorch module, in eval mode, and stays usable as such.
The fingerprint (config, weights and tokenizer, hashed) is what tells stored activations of one model from
another's, wherever the model's folder lies and whatever it is called.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, BatchEncoding
from transformers.utils import logging

from ssae_debias.activations.bundled import MINILM_NAME, minilm_path
from ssae_debias.activations.sites import EXPORTED, available_sites
from ssae_debias.data.texts import check_texts

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# their position ids start after the padding index, so that many rows of the table are never used
_POSITIONS_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "mpnet"})

# where a config was loaded from and by what: no fact of the model
_NOT_THE_MODEL = frozenset(
    {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "_attn_implementation"}
    | {"use_cache", "output_hidden_states", "output_attentions", "return_dict", "_commit_hash"}
)


@dataclass(eq=False)
class TextModel:
    """A module with its tokenizer; made by `load_model`.

    Attributes
    ----------
    module : transformers.PreTrainedModel
        In eval mode.
    tokenizer : transformers tokenizer
        With a padding token, padding on the right.
    name : str
        The hub id, the folder, or the class of a live model.
    revision : str or None
        The hub's commit, where known.

    Examples
    --------
    >>> model = load_model("demo")
    >>> model.d_model, str(model.device), model.dtype, model.sites[-1]
    (384, 'cpu', torch.float32, 'resid.5')
    """

    module: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    name: str
    revision: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' floating-point type."""
        return next(weight.dtype for weight in self.module.parameters() if weight.is_floating_point())

    @property
    def d_model(self) -> int:
        """Width of the stream at the standard sites."""
        return int(self.module.config.hidden_size)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the standard sites in forward order.

        Raises
        ------
        ValueError
            The architecture's sites are not known; `module:path` still works.
        """
        return available_sites(self.module)

    @property
    def max_positions(self) -> int | None:
        """Longest input in tokens, or None where the config sets no limit."""
        config = self.module.config
        positions = getattr(config, "max_position_embeddings", None)
        if positions is not None and config.model_type.removeprefix(EXPORTED) in _POSITIONS_AFTER_PADDING:
            return int(positions) - int(config.pad_token_id) - 1
        return positions

    @property
    def fingerprint(self) -> str:
        """Sha256 over config, every tensor of the state dict, and the tokenizer.

        Computed at each access (about a second a gigabyte), so that weights changed in place show.
        """
        digest = hashlib.sha256()
        config = {k: v for k, v in self.module.config.to_dict().items() if k not in _NOT_THE_MODEL}
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        for key, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            if tensor.numel():
                digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        digest.update(_tokenizer_facts(self.tokenizer))
        return digest.hexdigest()

    def encode(self, texts: Sequence[str], max_length: int = 128) -> BatchEncoding:
        """Tokenise and pad texts into tensors on the model's device.

        Parameters
        ----------
        texts : sequence of str
        max_length : int, default=128
            Longer texts are cut; special tokens are counted in.

        Returns
        -------
        transformers.BatchEncoding
            `input_ids`, `attention_mask` and `special_tokens_mask` (1 at special tokens and at padding), each
            int64 (n_texts, length).

        Raises
        ------
        ValueError
            `max_length` exceeds the model's positions.

        Examples
        --------
        >>> load_model("demo").encode(["A nurse.", "Yes"])["special_tokens_mask"].tolist()
        [[1, 0, 0, 0, 1], [1, 0, 1, 1, 1]]
        """
        self.check_max_length(max_length)
        return self.tokenizer(
            check_texts(texts),
            truncation=True,
            max_length=max_length,
            padding=True,
            padding_side="right",
            return_token_type_ids=False,
            return_special_tokens_mask=True,
            return_tensors="pt",
        ).to(self.device)

    def check_max_length(self, max_length: int) -> None:
        """Raise ValueError unless inputs of `max_length` tokens fit the model."""
        if not isinstance(max_length, int) or max_length < 1:
            raise ValueError(f"max_length must be an integer of at least 1, got {max_length!r}.")
        limit = self.max_positions
        if limit is not None and max_length > limit:
            raise ValueError(
                f"max_length={max_length} exceeds the {limit} positions of {self.name}; lower it."
            )


def load_model(
    model: str | os.PathLike[str] | nn.Module | TextModel,
    *,
    tokenizer: Any = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    revision: str | None = None,
) -> TextModel:
    """Load a model and its tokenizer, ready to be read.

    Parameters
    ----------
    model : str, path-like, transformers.PreTrainedModel or TextModel
        `"demo"` is the bundled MiniLM; otherwise a folder, a hub id, or a live model. A live model stays
        where it is and as it is, but is switched to eval mode. A TextModel is returned unchanged.
    tokenizer : tokenizer, str or path-like, optional
        By default the one beside the weights. It is copied, never changed.
    device : str or torch.device, default="cpu"
        For models loaded here.
    dtype : {"float32", "bfloat16", "float16"} or torch.dtype, default="float32"
        For models loaded here; float32, since activations are compared and hashed.
    revision : str, optional
        Branch, tag or commit on the hub.

    Returns
    -------
    TextModel

    Raises
    ------
    TypeError
        `model` is none of these.
    ValueError
        A live model comes without a tokenizer, or with another `device` or `dtype` than its own.
    OSError
        The name is neither a model folder nor a model that the hub gives.

    Examples
    --------
    >>> load_model("demo").name
    'sentence-transformers/all-MiniLM-L6-v2'
    """
    if isinstance(model, TextModel):
        return model
    if isinstance(model, nn.Module):
        return _from_live(model, tokenizer, device, dtype)
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"model must be a name, a folder or a transformers model, got {type(model).__name__}. "
            'A model that needs no network: "demo".'
        )
    name = os.fspath(model)
    source: str | Path = minilm_path() if name == "demo" else Path(name).expanduser()
    if not Path(source).is_dir():
        source = name
    torch_dtype = _torch_dtype(dtype)
    try:
        with _without_progress_bar() if isinstance(source, Path) else nullcontext():
            module = AutoModel.from_pretrained(source, revision=revision, dtype=torch_dtype)
        loaded = _load_tokenizer(source if tokenizer is None else tokenizer, revision)
    except (OSError, ValueError) as error:
        raise OSError(_why_not_loaded(name, source, error)) from error
    return TextModel(
        module=module.to(device).eval(),
        tokenizer=loaded,
        name=MINILM_NAME if name == "demo" else name,
        revision=getattr(module.config, "_commit_hash", None) or revision,
    )


def _from_live(module: nn.Module, tokenizer: Any, device: Any, dtype: Any) -> TextModel:
    name = getattr(module, "name_or_path", "")
    if tokenizer is None and not name:
        raise ValueError(
            "A live model that was not loaded from somewhere needs its tokenizer: pass tokenizer=…."
        )
    model = TextModel(
        module=module.eval(),
        tokenizer=_load_tokenizer(name if tokenizer is None else tokenizer, None),
        name=name or type(module).__name__,
        revision=getattr(module.config, "_commit_hash", None),
    )
    # the defaults mean "as it is" here; anything else would be a request that is not carried out
    asked, own = torch.device(device), model.device
    # "cuda" names whichever card the model is on
    there = own.type == asked.type and asked.index in (None, own.index)
    if asked != torch.device("cpu") and not there:
        raise ValueError(
            f"The live model's device is {own}, not {asked}: move it yourself with model.to({device!r})."
        )
    if _torch_dtype(dtype) not in (torch.float32, model.dtype):
        raise ValueError(
            f"The live model's dtype is {model.dtype}, not {dtype}: move it yourself with model.to(dtype)."
        )
    return model


def _load_tokenizer(tokenizer: Any, revision: str | None) -> Any:
    if isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer, revision=revision)
    else:
        tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        # padding is masked out everywhere: any id that the embedding knows will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Reading local weights takes a blink; a bar is of use only for a download."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _torch_dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found not in DTYPES.values():
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    assert isinstance(found, torch.dtype)
    return found


def _why_not_loaded(name: str, source: str | Path, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0]
    if isinstance(source, Path):
        return f"The folder {source} holds no model that transformers can load: {reason}"
    return (
        f"{name!r} is neither a folder here nor a model that could be reached on the Hugging Face hub: "
        f'{reason} The model "demo" needs no network.'
    )


def _tokenizer_facts(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()
    facts = json.loads(backend.to_str())
    # the last call's settings, not the tokenizer's
    return json.dumps({k: v for k, v in facts.items() if k not in ("truncation", "padding")}).encode()
