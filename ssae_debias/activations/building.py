"""Filling a store: shard by shard, each whole or absent, each reproducible by itself.

A shard is a run of texts with at most `shard_tokens` tokens that count, so where a shard ends depends on
where it starts and on nothing else. Going on after a kill, or repairing one shard in the middle, is then the
same loop as building from nothing: walk through the texts, and compute what is not there.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from tqdm.auto import tqdm

from ssae_debias.activations.batching import TokenizedTexts, tokenize
from ssae_debias.activations.model import DTYPES, TextModel
from ssae_debias.activations.reading import read_tokenized, site_widths
from ssae_debias.activations.sites import Site
from ssae_debias.files import MANIFEST, DamagedFileError, read_json, sha256_of, write_json, write_tensors

KIND = "activation store"
TOKEN_FACTS = ("text_index", "position", "token_id")

# texts tokenised at a time while a shard is filled; what is left over is tokenised again for the next
_TEXTS_AHEAD = 256


def build_shards(
    folder: Path,
    request: dict[str, Any],
    model: TextModel,
    texts: Sequence[str],
    sites: Sequence[Site],
    *,
    batch_tokens: int | None,
    verbose: int = 0,
) -> dict[str, Any]:
    """Compute the shards of `request` that `folder` lacks, and return the finished manifest.

    `request` holds all that the result depends on: sites, `dtype`, `max_length`, `include_special`,
    `shard_tokens`, and the hashes of model and texts. Errors and warnings are those of
    `ActivationStore.build`.
    """
    manifest = _whole_part(folder, request)
    if manifest["complete"]:
        return manifest
    for partial in folder.glob(".*.partial"):
        partial.unlink()
    manifest |= {
        "model": model.name,
        "revision": model.revision,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "widths": site_widths(model, sites),
    }
    shards = {shard["texts"][0]: shard for shard in manifest["shards"]}
    start = 0
    with tqdm(total=len(texts), unit="text", desc="activations", disable=not verbose) as progress:
        while start < len(texts):
            if start not in shards:
                tokenized = _next_texts(model, texts, start, request)
                tensors = _shard_tensors(model, tokenized, sites, manifest, start, batch_tokens)
                name = shard_name(start)
                manifest["files"][name] = _write_shard(folder / name, tensors)
                shards[start] = {
                    "texts": [start, start + len(tokenized)],
                    "n_tokens": int(tokenized.counted.sum()),
                }
                manifest["files"] = dict(sorted(manifest["files"].items()))
                manifest["shards"] = [shards[first] for first in sorted(shards)]
                write_json(folder / MANIFEST, manifest)
            stop = shards[start]["texts"][1]
            progress.update(stop - start)
            start = stop
    manifest["complete"] = True
    write_json(folder / MANIFEST, manifest)
    return manifest


def request_key(request: dict[str, Any]) -> str:
    """Name of a request's folder: 16 hex digits of its sha256.

    Examples
    --------
    >>> request_key({"dtype": "float32"}) == request_key({"dtype": "float16"})
    False
    """
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def shard_name(first_text: int) -> str:
    """File of the shard that starts at a text.

    Examples
    --------
    >>> shard_name(912)
    'shard-00000912.safetensors'
    """
    return f"shard-{first_text:08d}.safetensors"


def texts_sha256(texts: Sequence[str]) -> str:
    """Sha256 of texts and of where each ends.

    Examples
    --------
    >>> texts_sha256(["ab", "c"]) == texts_sha256(["a", "bc"])
    False
    """
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def refuse_hooks(module: nn.Module) -> None:
    """Raise ValueError if a model carries forward hooks: its weights do not tell what it computes.

    Examples
    --------
    >>> refuse_hooks(nn.Linear(2, 2))
    """
    hooked = [name or "the model itself" for name, part in module.named_modules() if _hooks(part)]
    if hooked:
        raise ValueError(
            f"The model carries {len(hooked)} module(s) with forward hooks, the first at {hooked[0]}: "
            "it is being edited, and a store could not tell its activations from the unedited model's. "
            "Leave the edit first, or use read_tokens or read_pooled."
        )


def _hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _whole_part(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The folder's manifest without the shards that are missing or damaged."""
    fresh: dict[str, Any] = {"kind": KIND, "request": request, "complete": False, "shards": [], "files": {}}
    if not (folder / MANIFEST).is_file():
        return fresh
    try:
        manifest = read_json(folder / MANIFEST)
        if (manifest["kind"], manifest["request"]) != (KIND, request):
            raise DamagedFileError("it is of another kind or request")
        listed = {shard_name(shard["texts"][0]): shard for shard in manifest["shards"]}
        expected = {name: manifest["files"][name]["sha256"] for name in listed}
    except (DamagedFileError, KeyError, TypeError) as error:
        warnings.warn(
            f"{folder / MANIFEST} is damaged ({error!r}): its shards are computed again.", stacklevel=4
        )
        return fresh
    damaged = [
        name for name in listed if not (folder / name).is_file() or sha256_of(folder / name) != expected[name]
    ]
    if not damaged:
        return manifest
    warnings.warn(
        f"{len(damaged)} shard(s) in {folder} are missing or damaged and are computed again: "
        f"{', '.join(damaged)}.",
        stacklevel=4,
    )
    whole = [name for name in listed if name not in damaged]
    return {
        **manifest,
        "complete": False,
        "shards": [listed[name] for name in whole],
        "files": {name: manifest["files"][name] for name in whole},
    }


def _next_texts(
    model: TextModel, texts: Sequence[str], start: int, request: dict[str, Any]
) -> TokenizedTexts:
    """The texts of the shard that starts at `start`: as many as its tokens allow, at least one."""
    limit = request["shard_tokens"]
    options = {"max_length": request["max_length"], "include_special": request["include_special"]}
    found = tokenize(model, texts[start : start + _TEXTS_AHEAD], **options)
    while (ends := found.counts.cumsum())[-1] <= limit:
        if start + len(found) == len(texts):
            if start == 0 and ends[-1] == 0:
                raise ValueError("No text has a token that counts: there is nothing to store.")
            return found
        after = start + len(found)
        found = found.followed_by(tokenize(model, texts[after : after + _TEXTS_AHEAD], **options))
    return found.first(max(1, int(np.searchsorted(ends, limit, side="right"))))


def _shard_tensors(
    model: TextModel,
    tokenized: TokenizedTexts,
    sites: Sequence[Site],
    manifest: dict[str, Any],
    start: int,
    batch_tokens: int | None,
) -> dict[str, Tensor]:
    """The shard's content in the texts' order: token facts, and one (n, d) tensor a site."""
    text_index, position, token_id = tokenized.counted_tokens()
    dtype = DTYPES[manifest["request"]["dtype"]]
    tensors = {
        site.name: torch.empty((len(text_index), manifest["widths"][site.name]), dtype=dtype)
        for site in sites
    }
    # batches come by length, so each token has to find its row
    row_of = tokenized.counted.cumsum() - 1
    for batch in read_tokenized(model, tokenized, sites, batch_tokens=batch_tokens):
        rows = torch.from_numpy(row_of[tokenized.offsets[batch.text_index] + batch.position])
        for name, activations in batch.activations.items():
            stored = activations.to("cpu", dtype)
            if dtype == torch.float16 and not stored.isfinite().all():
                raise ValueError(
                    f"Activations at {name} exceed what float16 holds (65504): store them as bfloat16 or "
                    "float32."
                )
            tensors[name].index_copy_(0, rows, stored)
    facts = (text_index + start, position, token_id)
    return {
        **{name: torch.from_numpy(fact) for name, fact in zip(TOKEN_FACTS, facts, strict=True)},
        **tensors,
    }


def _write_shard(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    write_tensors(path, tensors)
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}
