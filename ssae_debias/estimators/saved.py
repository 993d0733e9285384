"""Fitted debiasers on disk: parameters as JSON, weights as safetensors, a manifest with every file's sha256.

    manifest.json   debiaser.json   flagged.parquet   saes/0/ …   edits/   residue/

The language model itself is not copied: it is named, and its weights' fingerprint is compared when loading, so
that edits are never put into another model than the one they were made for.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from ssae_debias.activations import load_model
from ssae_debias.data import PairNote, WordPairs
from ssae_debias.edit import load_edits, save_edits
from ssae_debias.files import (
    DamagedFileError,
    folder_aside,
    read_json,
    read_manifest,
    require_replaceable,
    write_json,
    write_manifest,
)
from ssae_debias.latents import LatentDescription
from ssae_debias.sae import SparseAutoencoder

if TYPE_CHECKING:
    from ssae_debias.estimators.text_debiaser import SSAEDebiaser

KIND = "debiaser"
NEAREST = ("site", "latent", "cosine", "name")
_Debiaser = TypeVar("_Debiaser", bound="SSAEDebiaser")


def save_debiaser(debiaser: SSAEDebiaser, path: str | os.PathLike[str]) -> None:
    """Write a fitted debiaser; what stood at `path` is replaced once the new folder is whole.

    Raises
    ------
    OSError
        No space or no permission; the message names the path, and what stood there still does.
    """
    require_replaceable(path, KIND)
    with folder_aside(path) as folder:
        _plain_table(debiaser.flagged_).to_parquet(folder / "flagged.parquet")
        for number, site in enumerate(debiaser.sites_):
            debiaser.saes_[site].save_pretrained(folder / "saes" / str(number))
        save_edits(folder / "edits", debiaser.edits_)
        save_edits(folder / "residue", debiaser.residue_)
        write_json(
            folder / "debiaser.json",
            {
                "parameters": _plain_parameters(debiaser),
                "model": {"name": _model_name(debiaser), "fingerprint": debiaser.model_.fingerprint},
                "sites": list(debiaser.sites_),
                "output_site": debiaser.output_site_,
                "pairs": None if debiaser.pairs_ is None else _plain_pairs(debiaser.pairs_),
                "descriptions": [
                    {"site": site, "latent": latent, **dataclasses.asdict(found)}
                    for (site, latent), found in debiaser.descriptions_.items()
                ],
                "centers": {site: center.tolist() for site, center in debiaser.centers_.items()},
                "n_features_out": debiaser._n_features_out,
            },
        )
        write_manifest(folder, KIND)


def load_debiaser(
    cls: type[_Debiaser], path: str | os.PathLike[str], *, model: Any = None, tokenizer: Any = None
) -> _Debiaser:
    """Read what `save_debiaser` wrote.

    All but the retrieved documents and the namer comes back: `subdomain_` is None.

    Parameters
    ----------
    path : path-like
    model : str, path or transformers.PreTrainedModel, optional
        Where the language model is now; default: where it was.
    tokenizer : transformers tokenizer, optional
        For a loaded model whose tokenizer does not lie beside it.

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
    given = {name: value for name, value in (("model", model), ("tokenizer", tokenizer)) if value is not None}
    try:
        debiaser = cls(**{**saved["parameters"], **given})
        name = saved["model"]["name"]
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{folder / 'debiaser.json'} is not a saved debiaser: {error!r}.") from error
    debiaser.model_ = load_model(
        name if model is None else model, tokenizer=tokenizer, device=debiaser.device, dtype=debiaser.dtype
    )
    try:
        if debiaser.model_.fingerprint != saved["model"]["fingerprint"]:
            raise ValueError(
                f"The model {debiaser.model_.name} has other weights than the one that {folder} was fitted on "
                f"({saved['model']['name']}). Give that one as model=."
            )
        debiaser.sites_ = tuple(saved["sites"])
        debiaser.output_site_ = saved["output_site"]
        debiaser.pairs_ = None if saved["pairs"] is None else _pairs(saved["pairs"])
        if not isinstance(debiaser.attribute, str):
            debiaser.attribute = debiaser.pairs_
        debiaser.descriptions_ = {
            (found["site"], found["latent"]): LatentDescription(
                [(token, value) for token, value in found["top_tokens"]],
                [(text, [(t, v) for t, v in tokens]) for text, tokens in found["top_texts"]],
                [(token, share) for token, share in found.get("main_tokens", [])],
            )
            for found in saved["descriptions"]
        }
        debiaser.centers_ = {site: np.asarray(c, dtype=np.float32) for site, c in saved["centers"].items()}
        debiaser._n_features_out = saved["n_features_out"]
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{folder / 'debiaser.json'} is not a saved debiaser: {error!r}.") from error
    debiaser.saes_ = {
        site: SparseAutoencoder.from_pretrained(folder / "saes" / str(number))
        for number, site in enumerate(debiaser.sites_)
    }
    debiaser.flagged_ = _table(pd.read_parquet(folder / "flagged.parquet"))
    debiaser.subdomain_ = None
    debiaser.residue_ = load_edits(folder / "residue")
    debiaser.edits_ = load_edits(folder / "edits")
    return debiaser


def _plain_table(flagged: pd.DataFrame) -> pd.DataFrame:
    """Tuples of unlike parts, which a parquet file has no column for, as records."""
    return flagged.assign(
        nearest=[[dict(zip(NEAREST, near, strict=True)) for near in row] for row in flagged["nearest"]]
    )


def _table(saved: pd.DataFrame) -> pd.DataFrame:
    saved["top_tokens"] = [list(tokens) for tokens in saved["top_tokens"]]
    if "nearest" in saved:  # debiasers of before have neither names nor neighbours
        saved["nearest"] = [
            [tuple(near[part] for part in NEAREST) for near in row] for row in saved["nearest"]
        ]
    else:
        saved["name"], saved["nearest"] = "", [[] for _ in range(len(saved))]
    return saved


def _model_name(debiaser: SSAEDebiaser) -> str:
    """What `load_model` finds the model by: what was asked for, or where a loaded model came from."""
    asked = debiaser.model
    return str(asked) if isinstance(asked, str | os.PathLike) else debiaser.model_.name


def _plain_parameters(debiaser: SSAEDebiaser) -> dict[str, Any]:
    """The constructor's parameters as JSON; what is an object is told by what `fit` made of it."""
    parameters = debiaser.get_params(deep=False)
    parameters["model"] = _model_name(debiaser)
    parameters["sites"] = list(debiaser.sites_)
    parameters |= {"sae": "train", "corpus": None, "tokenizer": None, "namer": None}
    if parameters["attribute"] != "gender":
        parameters["attribute"] = None  # `pairs` holds it
    for name in ("cache_dir", "device"):
        parameters[name] = None if parameters[name] is None else str(parameters[name])
    seed = parameters["random_state"]
    parameters["random_state"] = int(seed) if isinstance(seed, int | np.integer) else None
    return parameters


def _plain_pairs(pairs: WordPairs) -> dict[str, Any]:
    return {
        "name": pairs.name,
        "pairs": [list(pair) for pair in pairs.pairs],
        "notes": [note._asdict() for note in pairs.notes],
    }


def _pairs(saved: dict[str, Any]) -> WordPairs:
    return WordPairs(
        tuple((first, second) for first, second in saved["pairs"]),
        saved["name"],
        tuple(PairNote(**note) for note in saved["notes"]),
    )
