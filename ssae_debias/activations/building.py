"""Filling a store: shard by shard, each whole or absent, each reproducible by itself.

A shard is a run of texts with at most `shard_tokens` tokens that count, so where a shard ends depends on
where it starts and on nothing else. Going on after a kill, or repairing one shard in the middle, is then the
same loop as building from nothing: walk through the texts, and compute what is not there.

Several ranks (`ssae_debias.ranks`) fill a store in rounds, each a shard; after every round rank 0 lists what was
written. The finished store is the one that a single process makes, byte for byte (on a CPU: with as
many threads).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from tqdm.auto import tqdm

from ssae_debias.activations.batching import TokenizedTexts, tokenize
from ssae_debias.activations.dividing import shard_ranges
from ssae_debias.activations.model import DTYPES, TextModel
from ssae_debias.activations.reading import read_tokenized, site_widths
from ssae_debias.activations.sites import Site
from ssae_debias.files import MANIFEST, DamagedFileError, read_json, sha256_of, write_json, write_tensors
from ssae_debias.ranks import ALONE, Ranks

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
    ranks: Ranks = ALONE,
    verbose: int = 0,
) -> dict[str, Any]:
    """Compute the shards of `request` that `folder` lacks, and return the finished manifest.

    `request` holds all that the result depends on: sites, `dtype`, `max_length`, `include_special`,
    `shard_tokens`, and the hashes of model and texts. Errors and warnings are those of
    `ActivationStore.build`.
    """
    ranks.require_same("extraction", request)
    manifest: dict[str, Any] = {}
    if ranks.first:
        manifest = _whole_part(folder, request)
        if not manifest["complete"]:
            # hidden files are what a killed write left: our own, and those in which safetensors writes
            for partial in folder.glob(".*"):
                partial.unlink()
    manifest = ranks.from_first(manifest)
    if manifest["complete"]:
        return manifest
    manifest |= {
        "model": model.name,
        "revision": model.revision,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "widths": site_widths(model, sites),
    }
    shards = {shard["texts"][0]: shard for shard in manifest["shards"]}
    start = 0
    hidden = not (verbose and ranks.first)
    with tqdm(total=len(texts), unit="text", desc="activations", disable=hidden) as progress:
        if ranks.size > 1:
            for done in _rounds(folder, model, texts, sites, manifest, batch_tokens, ranks):
                progress.update(done)
            start = len(texts)
        while start < len(texts):
            if start not in shards:
                tokenized = _next_texts(model, texts, start, request)
                tensors = _shard_tensors(model, tokenized, sites, manifest, start, batch_tokens)
                shards[start] = add_shard(folder, manifest, range(start, start + len(tokenized)), tensors)
            stop = shards[start]["texts"][1]
            progress.update(stop - start)
            start = stop
    manifest["complete"] = True
    if ranks.first:
        write_json(folder / MANIFEST, manifest)
    # when one rank returns, the store is there for all
    ranks.from_first(None)
    return manifest


def add_shard(
    folder: Path, manifest: dict[str, Any], texts: range, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """Write a shard and then the manifest that lists it: killed in between, the shard is written again.

    Parameters
    ----------
    folder : pathlib.Path
    manifest : dict
        Changed: the shard takes its place in `shards` and `files`.
    texts : range
        The texts whose tokens the shard holds.
    tensors : dict of str to Tensor
        `TOKEN_FACTS`, int64 (n,), and one (n, d) tensor a site.

    Returns
    -------
    dict
        What the manifest says of the shard.

    Examples
    --------
    >>> import tempfile
    >>> tensors = {fact: torch.arange(2) for fact in TOKEN_FACTS} | {"embed": torch.ones(2, 4)}
    >>> add_shard(Path(tempfile.mkdtemp()), {"shards": [], "files": {}}, range(0, 2), tensors)
    {'texts': [0, 2], 'n_tokens': 2}
    """
    shard, facts = _write_shard(folder, texts, tensors)
    _list_shard(manifest, shard, facts)
    write_json(folder / MANIFEST, manifest)
    return shard


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


def _rounds(
    folder: Path,
    model: TextModel,
    texts: Sequence[str],
    sites: Sequence[Site],
    manifest: dict[str, Any],
    batch_tokens: int | None,
    ranks: Ranks,
) -> Iterator[int]:
    """Fill what is missing, a shard a rank at a time; yields the number of texts that were dealt with."""
    request = manifest["request"]
    options = {"max_length": request["max_length"], "include_special": request["include_special"]}
    shards = shard_ranges(model, texts, request["shard_tokens"], ranks, **options)
    whole = {shard["texts"][0] for shard in manifest["shards"]}
    yield sum(len(shard) for shard in shards if shard.start in whole)
    missing = [shard for shard in shards if shard.start not in whole]
    for at in range(0, len(missing), ranks.size):
        in_turn = missing[at : at + ranks.size]
        written = None
        if ranks.rank < len(in_turn):
            own = in_turn[ranks.rank]
            tokenized = tokenize(model, texts[own.start : own.stop], **options)
            tensors = _shard_tensors(model, tokenized, sites, manifest, own.start, batch_tokens)
            written = _write_shard(folder, own, tensors)
        for rank, (shard, facts) in enumerate(ranks.told(written)[: len(in_turn)]):
            if ranks.first and not (folder / shard_name(shard["texts"][0])).is_file():
                raise FileNotFoundError(
                    f"rank 0 does not find in {folder} the shard that rank {rank} wrote: all ranks must build on "
                    "one disk."
                )
            _list_shard(manifest, shard, facts)
        if ranks.first:
            write_json(folder / MANIFEST, manifest)
        yield sum(map(len, in_turn))


def _write_shard(
    folder: Path, texts: range, tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a shard; what the manifest is to say of it and of its file."""
    file = folder / shard_name(texts.start)
    write_tensors(file, tensors)
    shard = {"texts": [texts.start, texts.stop], "n_tokens": len(tensors[TOKEN_FACTS[0]])}
    return shard, {"sha256": sha256_of(file), "bytes": file.stat().st_size}


def _list_shard(manifest: dict[str, Any], shard: dict[str, Any], facts: dict[str, Any]) -> None:
    first = shard["texts"][0]
    others = [other for other in manifest["shards"] if other["texts"][0] != first]
    manifest["files"] = dict(sorted({**manifest["files"], shard_name(first): facts}.items()))
    manifest["shards"] = sorted([*others, shard], key=lambda shard: shard["texts"][0])


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
