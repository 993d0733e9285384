"""A written export compared with the live edited model: the same texts, every output.

The folder is read as a stranger would read it, but without transformers' cache of module files: the class comes
straight out of the folder.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput, logging

from ssae_debias.activations import TextModel
from ssae_debias.edit.protocol import Edit
from ssae_debias.edit.splice import spliced

TOLERANCE = 1e-4
"""Largest difference of an output, relative to the largest output, that rounding in float32 can explain."""


def compare(
    model: TextModel, edits: Mapping[str, Edit], folder: Path, code: str | None, texts: Sequence[str]
) -> float:
    """Largest difference of any output between the live edited model and the one in `folder`.

    Parameters
    ----------
    model : TextModel
    edits : mapping of str to Edit
    folder : Path
    code : str or None
        Name of the folder's module, or None where it has none.
    texts : sequence of str

    Raises
    ------
    RuntimeError
        The difference is more than rounding. In half precision a latent's threshold may fall to either side of a
        rounding; there the difference is only returned.
    """
    inputs = dict(model.encode(texts, max_length=min(128, model.max_positions or 128)))
    inputs.pop("special_tokens_mask")
    with spliced(model, edits), torch.no_grad():
        live = outputs(model.module(**inputs))
    name = type(model.module).__name__
    with quiet():
        if code is None:
            loaded = type(model.module).from_pretrained(folder, dtype=model.dtype)
        else:
            with _module_in(folder, code) as module:
                loaded = getattr(module, f"Edited{name}").from_pretrained(folder, dtype=model.dtype)
    with torch.no_grad():
        found = outputs(loaded.to(model.device).eval()(**inputs))
    difference = max_difference(live, found)
    largest = max([1.0, *(float(tensor.abs().max()) for tensor in live.values())])
    if model.dtype in (torch.float32, torch.float64) and not difference <= TOLERANCE * largest:
        raise RuntimeError(
            f"The exported model differs from the live edited one by {difference:.2g} (outputs up to {largest:.2g}) "
            f'on {len(texts)} texts, so nothing was written. Export with fold="none" to leave the weights as they '
            "are; if that fails too, the live model is not what its class and config say."
        )
    return difference


def outputs(result: ModelOutput) -> dict[str, Tensor]:
    """The floating-point tensors that a model returned, by name; caches are left out.

    Examples
    --------
    >>> outputs(ModelOutput(logits=torch.ones(2), past_key_values=object()))
    {'logits': tensor([1., 1.])}
    """
    return {
        name: value
        for name, value in result.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }


def max_difference(live: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Largest absolute difference over the outputs of the live model; infinity where one is missing or NaN.

    Examples
    --------
    >>> max_difference({"logits": torch.zeros(2)}, {"logits": torch.tensor([0.0, -0.5])})
    0.5
    """
    largest = 0.0
    for name, a in live.items():
        b = found.get(name)
        if b is None or a.shape != b.shape:
            return float("inf")
        gap = (a.double().cpu() - b.double().cpu()).abs()
        largest = max(largest, float(torch.where(gap.isnan(), torch.inf, gap).max()) if gap.numel() else 0.0)
    return largest


@contextmanager
def quiet() -> Iterator[None]:
    """What transformers says about a skeleton or a local folder tells the caller nothing."""
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _module_in(folder: Path, code: str) -> Iterator[Any]:
    known = f"ssae_debias_export_{folder.name.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(known, folder / f"{code}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # nothing but the export shall lie in its folder
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.dont_write_bytecode = written
        del sys.modules[known]
