"""Fitted debiasers on disk: parameters as JSON, weights as safetensors, a manifest with every file's sha256.

    manifest.json   debiaser.json   flagged.parquet   saes/0/ …   edits/

The language model itself is not copied: it is named, and its weights' fingerprint is compared when loading, so
that edits are never put into another model than the one they were made for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from ssae_debias.activations import load_model
from ssae_debias.data import WordPairs
from ssae_debias.edit import load_edits, save_edits
from ssae_debias.files import (
    DamagedFileError,
    folder_aside,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
)
from ssae_debias.sae import SparseAutoencoder

if TYPE_CHECKING:
    from ssae_debias.estimators.text_debiaser import SSAEDebiaser

KIND = "debiaser"
_Debiaser = TypeVar("_Debiaser", bound="SSAEDebiaser")


def save_debiaser(debiaser: SSAEDebiaser, path: str | os.PathLike[str]) -> None:
    """Write a fitted debiaser; what stood at `path` is replaced once the new folder is whole.

    Raises
    ------
    OSError
        No space or no permission; the message names the path, and what stood there still does.
    """
    with folder_aside(path) as folder:
        debiaser.flagged_.to_parquet(folder / "flagged.parquet")
        for number, site in enumerate(debiaser.sites_):
            debiaser.saes_[site].save_pretrained(folder / "saes" / str(number))
        save_edits(folder / "edits", debiaser.edits_)
        write_json(
            folder / "debiaser.json",
            {
                "parameters": _plain_parameters(debiaser),
                "model": {"name": _model_name(debiaser), "fingerprint": debiaser.model_.fingerprint},
                "sites": list(debiaser.sites_),
                "output_site": debiaser.output_site_,
                "pairs": None if debiaser.pairs_ is None else [list(pair) for pair in debiaser.pairs_.pairs],
                "centers": {site: center.tolist() for site, center in debiaser.centers_.items()},
                "n_features_out": debiaser._n_features_out,
            },
        )
        write_manifest(folder, KIND)


def load_debiaser(cls: type[_Debiaser], path: str | os.PathLike[str], *, model: Any = None) -> _Debiaser:
    """Read what `save_debiaser` wrote.

    Parameters
    ----------
    path : path-like
    model : str, path or transformers.PreTrainedModel, optional
        Where the language model is now; default: where it was.

    Raises
    ------
    FileNotFoundError
        No saved debiaser stands there.
    DamagedFileError
        A file is missing, truncated, altered or foreign.
    ValueError
        The language model's weights are not those that the edits were made for.
    """
    folder = Path(path)
    read_manifest(folder, KIND)
    saved = read_json(folder / "debiaser.json")
    try:
        debiaser = cls(**{**saved["parameters"], **({} if model is None else {"model": model})})
        debiaser.model_ = load_model(
            saved["model"]["name"] if model is None else model, device=debiaser.device, dtype=debiaser.dtype
        )
        if debiaser.model_.fingerprint != saved["model"]["fingerprint"]:
            raise ValueError(
                f"The model {debiaser.model_.name} has other weights than the one that {folder} was fitted on "
                f"({saved['model']['name']}). Give that one as model=."
            )
        debiaser.sites_ = tuple(saved["sites"])
        debiaser.output_site_ = saved["output_site"]
        pairs = saved["pairs"]
        debiaser.pairs_ = None if pairs is None else WordPairs(tuple((a, b) for a, b in pairs), "saved")
        debiaser.centers_ = {site: np.asarray(c, dtype=np.float32) for site, c in saved["centers"].items()}
        debiaser._n_features_out = saved["n_features_out"]
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{folder / 'debiaser.json'} is not a saved debiaser: {error!r}.") from error
    debiaser.saes_ = {
        site: SparseAutoencoder.from_pretrained(folder / "saes" / str(number))
        for number, site in enumerate(debiaser.sites_)
    }
    debiaser.flagged_ = pd.read_parquet(folder / "flagged.parquet")
    debiaser.subdomain_ = None
    debiaser.descriptions_ = {}
    debiaser.edits_ = load_edits(folder / "edits")
    return debiaser


def _model_name(debiaser: SSAEDebiaser) -> str:
    """What `load_model` finds the model by: what was asked for, or where a loaded model came from."""
    asked = debiaser.model
    return str(asked) if isinstance(asked, str | os.PathLike) else debiaser.model_.name


def _plain_parameters(debiaser: SSAEDebiaser) -> dict[str, Any]:
    """The constructor's parameters as JSON; what is an object is told by what `fit` made of it."""
    parameters = debiaser.get_params(deep=False)
    parameters["model"] = _model_name(debiaser)
    parameters["sites"] = list(debiaser.sites_)
    parameters |= {"sae": "train", "corpus": None, "tokenizer": None}
    if debiaser.pairs_ is not None:
        parameters["attribute"] = [list(pair) for pair in debiaser.pairs_.pairs]
    for name in ("cache_dir",):
        parameters[name] = None if parameters[name] is None else str(parameters[name])
    if not isinstance(parameters["random_state"], int | type(None)):
        parameters["random_state"] = None
    return parameters
