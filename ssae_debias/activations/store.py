"""Activations on disk: computed once, checked, and read many times.

A store is a folder of *shards*, each a safetensors file with the tokens of a run of texts: their text index,
position and id, and their activations at every site. Texts stand in their own order. `manifest.json` says
what was asked for (model fingerprint, sites, dtype, sha256 of the texts, …), and lists each shard with its
sha256; it is rewritten after every shard. Hence: the same request finds its store and runs no model; a killed
build goes on after the last whole shard; a shard that was damaged is found, and it alone is computed again.

Each shard is computed by itself, so it comes out byte for byte the same whenever it is computed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from ssae_debias.activations.building import (
    KIND,
    TOKEN_FACTS,
    build_shards,
    refuse_hooks,
    shard_name,
    texts_sha256,
)
from ssae_debias.activations.model import DTYPES, TextModel
from ssae_debias.activations.prefetching import prefetched
from ssae_debias.activations.reading import TokenBatch, resolve_sites
from ssae_debias.activations.shuffling import shuffled_batches
from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.data.texts import check_texts
from ssae_debias.files import MANIFEST, DamagedFileError, read_manifest, request_key
from ssae_debias.ranks import ALONE, Ranks


@dataclass(eq=False)
class ActivationStore:
    """Per-token activations of a list of texts at some sites, on disk.

    Made by `build` or `open`.

    Attributes
    ----------
    directory : pathlib.Path
        The folder with the shards and `manifest.json`.
    manifest : dict
        The request, where it came from, and the shards.

    Examples
    --------
    >>> import tempfile
    >>> from ssae_debias.activations import ActivationStore, load_model
    >>> folder, texts = tempfile.mkdtemp(), ["A nurse.", "A surgeon."]
    >>> store = ActivationStore.build(folder, load_model("demo"), texts, ["resid.0", "resid.3"])
    >>> store.sites, store.n_tokens, store.d_model
    (('resid.0', 'resid.3'), 6, 384)
    >>> store.read("resid.3", slice(0, 2)).shape
    torch.Size([2, 384])
    >>> text_index, position, token_id = store.tokens()
    >>> text_index
    array([0, 0, 0, 1, 1, 1])
    """

    directory: Path
    manifest: dict[str, Any]
    _open_shard: tuple[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def build(
        cls,
        directory: str | os.PathLike[str],
        model: TextModel,
        texts: Sequence[str],
        sites: str | Sequence[str],
        *,
        max_length: int = 128,
        include_special: bool = False,
        dtype: str = "float32",
        shard_tokens: int = 65536,
        batch_tokens: int | None = None,
        ranks: Ranks = ALONE,
        verbose: int = 0,
    ) -> ActivationStore:
        """Find the store of this very request, or make what is missing of it.

        Parameters
        ----------
        directory : path-like
            Home of any number of stores: each request has its subfolder, named by the request's hash. One
            process, or one group of ranks, at a time builds in it.
        model : TextModel
        texts : sequence of str
        sites : str or sequence of str
            Kept in forward order.
        max_length : int, default=128
        include_special : bool, default=False
        dtype : {"float32", "float16", "bfloat16"}, default="float32"
            How activations are stored; half the space in half precision.
        shard_tokens : int, default=65536
            Tokens a shard, at most (a longer text is a shard of its own): what is held in memory, and lost
            when the process is killed. At d = 384 in float32, 100 MB a site.
        batch_tokens : int, optional
            Padded tokens a forward pass. No part of the request.
        ranks : Ranks, default: alone
            Who builds together: each calls this with the same arguments, computes its shards, and gets the same
            store. The directory lies on a disk that all share.
        verbose : int, default=0

        Returns
        -------
        ActivationStore

        Raises
        ------
        TypeError, ValueError
            As `read_tokens`; also: no text has a token that counts; activations that `dtype` cannot hold; a
            model that carries hooks, since an edited model has the fingerprint of the unedited one.
        OSError
            No space or no permission. The shards written so far stay, and a later build goes on from them.

        Warns
        -----
        UserWarning
            A damaged shard or manifest was found and is computed again.
        """
        texts = check_texts(texts)
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        if not isinstance(shard_tokens, int) or shard_tokens < 1:
            raise ValueError(f"shard_tokens must be an integer of at least 1, got {shard_tokens!r}.")
        model.check_max_length(max_length)
        refuse_hooks(model.module)
        found = sorted(resolve_sites(model, sites), key=lambda site: site.order)
        request = {
            "layout": 1,
            "fingerprint": model.fingerprint,
            "sites": [site.name for site in found],
            "dtype": dtype,
            "max_length": max_length,
            "include_special": include_special,
            "shard_tokens": shard_tokens,
            "n_texts": len(texts),
            "texts_sha256": texts_sha256(texts),
        }
        folder = Path(directory) / request_key(request)
        manifest = build_shards(
            folder, request, model, texts, found, batch_tokens=batch_tokens, ranks=ranks, verbose=verbose
        )
        return cls(folder, manifest)

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> ActivationStore:
        """Open a finished store and check every shard against its sha256.

        Parameters
        ----------
        directory : path-like
            A store's folder, or a home with exactly one store in it.

        Raises
        ------
        FileNotFoundError
            There is no store.
        ValueError
            The home holds several: open one of the folders that the message lists.
        DamagedFileError
            A shard is missing or altered, or the build was not finished; `build` repairs both.

        Examples
        --------
        >>> import tempfile
        >>> from ssae_debias.activations import ActivationStore, load_model
        >>> folder = tempfile.mkdtemp()
        >>> _ = ActivationStore.build(folder, load_model("demo"), ["A nurse."], "embed")
        >>> ActivationStore.open(folder).n_tokens
        3
        """
        folder = Path(directory)
        if not (folder / MANIFEST).is_file():
            stores = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
            if len(stores) > 1:
                raise ValueError(
                    f"{folder} holds {len(stores)} stores; open one: {', '.join(map(str, stores))}."
                )
            if not stores:
                raise FileNotFoundError(f"{folder} holds no {KIND}; make one with ActivationStore.build.")
            folder = stores[0]
        manifest = read_manifest(folder, KIND)
        if not manifest.get("complete"):
            raise DamagedFileError(
                f"The {KIND} in {folder} was not finished; ActivationStore.build goes on with it."
            )
        return cls(folder, manifest)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the stored sites in forward order."""
        return tuple(self.manifest["request"]["sites"])

    @property
    def n_tokens(self) -> int:
        """Number of rows at every site."""
        return self._starts[-1]

    @property
    def n_texts(self) -> int:
        """Number of texts, those without a token included."""
        return int(self.manifest["request"]["n_texts"])

    @property
    def d_model(self) -> int:
        """Width of the first site; `width` tells any site's."""
        return self.width(self.sites[0])

    def width(self, site: str) -> int:
        """Width d of one site's rows.

        Raises
        ------
        ValueError
            The store does not hold the site.
        """
        self._check_site(site)
        return int(self.manifest["widths"][site])

    def read(self, site: str, rows: slice = slice(None)) -> Tensor:
        """Rows of one site, in the texts' order.

        Parameters
        ----------
        site : str
        rows : slice, default=all
            With step 1. The whole site is read into memory if it is not given.

        Returns
        -------
        Tensor of float32, (n, d)
            On the CPU.
        """
        self._check_site(site)
        start, stop, step = rows.indices(self.n_tokens)
        if step != 1:
            raise ValueError(f"rows must be a slice of step 1, got step {step}; slice the result.")
        out = torch.empty((max(stop - start, 0), self.width(site)))
        done = 0
        for shard, (first, last) in enumerate(pairwise(self._starts)):
            low, high = max(start, first), min(stop, last)
            if low < high:
                out[done : done + high - low] = self._tensor(shard, site)[low - first : high - first]
                done += high - low
        return out

    def tokens(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Text index, position in the text and token id of every row: three int64 (n_tokens,)."""
        facts = [self._facts(shard) for shard in range(len(self._files))]
        text_index, position, token_id = (np.concatenate(column) for column in zip(*facts, strict=True))
        return text_index, position, token_id

    def token_batches(self) -> Iterator[TokenBatch]:
        """All tokens with their activations at every site, a shard at a time, in the texts' order.

        A text's tokens stand in one batch.

        Yields
        ------
        TokenBatch
            With float32 activations on the CPU.
        """
        for shard, first in enumerate(self._starts[:-1]):
            rows = slice(int(first), int(self._starts[shard + 1]))
            text_index, position, token_id = self._facts(shard)
            activations = {site: self.read(site, rows) for site in self.sites}
            yield TokenBatch(text_index, position, token_id, activations)

    def batches(
        self,
        site: str,
        batch_size: int,
        *,
        shuffle: bool = True,
        random_state: RandomState = None,
        buffer_tokens: int = 131_072,
    ) -> Iterator[Tensor]:
        """Every row of a site once, in batches; the next ones are read while the caller works on one.

        Parameters
        ----------
        site : str
        batch_size : int
            The last batch may hold fewer rows. Three batches are in memory: the caller's and two ahead.
        shuffle : bool, default=True
            Shards in random order, and their rows through a buffer; otherwise the texts' order.
        random_state : int, numpy Generator, numpy RandomState or None
            Of the shuffle. From a generator one number is drawn at once, and no more while batches are read.
        buffer_tokens : int, default=131072
            Rows held in memory while shuffling: at d = 384 in float32, 200 MB. Sites no longer than that are
            shuffled perfectly.

        Yields
        ------
        Tensor of float32, (b, d)

        Examples
        --------
        >>> import tempfile
        >>> from ssae_debias.activations import ActivationStore, load_model
        >>> store = ActivationStore.build(tempfile.mkdtemp(), load_model("demo"), ["A nurse."], "embed")
        >>> [batch.shape[0] for batch in store.batches("embed", 2, random_state=0)]
        [2, 1]
        """
        self._check_site(site)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if not shuffle:
            starts = range(0, self.n_tokens, batch_size)
            return prefetched(self.read(site, slice(start, start + batch_size)) for start in starts)
        rng = as_generator(random_state)
        if rng is random_state:
            # another thread will draw from it: how far it has come must not show in the caller's generator
            rng = np.random.default_rng(int(rng.integers(2**63)))
        order = rng.permutation(len(self._files)).tolist()
        chunks = (self._tensor(shard, site)[:] for shard in order)
        buffer_rows = max(batch_size, min(buffer_tokens, self.n_tokens))
        return prefetched(shuffled_batches(chunks, batch_size, buffer_rows=buffer_rows, random_state=rng))

    def at(self, site: str) -> SiteActivations:
        """One site as a source of training batches.

        Examples
        --------
        >>> import tempfile
        >>> from ssae_debias.activations import ActivationStore, load_model
        >>> store = ActivationStore.build(tempfile.mkdtemp(), load_model("demo"), ["A nurse."], "embed")
        >>> source = store.at("embed")
        >>> source.n_tokens, source.d_in, next(source.batches(3, random_state=0)).shape
        (3, 384, torch.Size([3, 384]))
        """
        return SiteActivations(self, site, self.n_tokens, self.width(site))

    @cached_property
    def _files(self) -> list[str]:
        return [shard_name(shard["texts"][0]) for shard in self.manifest["shards"]]

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((shard["n_tokens"] for shard in self.manifest["shards"]), initial=0))

    def _check_site(self, site: str) -> None:
        if site not in self.sites:
            raise ValueError(f"The store holds no site {site!r}; it holds {', '.join(self.sites)}.")

    def _facts(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        text_index, position, token_id = (self._tensor(shard, fact)[:].numpy() for fact in TOKEN_FACTS)
        return text_index, position, token_id

    def _tensor(self, shard: int, name: str) -> Any:
        """A tensor of a shard, to be sliced: the file is mapped, and a slice is a view of it."""
        file, newest = self._files[shard], self._open_shard
        if newest is None or newest[0] != file:
            # one at a time: whatever was read of a mapped file counts as the process's memory until it is closed
            self._open_shard = newest = (file, safe_open(self.directory / file, framework="pt"))
        return newest[1].get_slice(name)


@dataclass(frozen=True)
class SiteActivations:
    """One site of a store: what an SAE is trained on. Made by `ActivationStore.at`, which has an example.

    Attributes
    ----------
    store : ActivationStore
    site : str
    n_tokens : int
        Number of rows.
    d_in : int
        Width of the rows.
    """

    store: ActivationStore
    site: str
    n_tokens: int
    d_in: int

    @property
    def fingerprint(self) -> str:
        """What these activations are: the store's request and the site."""
        return f"{request_key(self.store.manifest['request'])}/{self.site}"

    def batches(
        self, batch_size: int, *, shuffle: bool = True, random_state: RandomState = None
    ) -> Iterator[Tensor]:
        """Every row once, in batches: see `ActivationStore.batches`."""
        return self.store.batches(self.site, batch_size, shuffle=shuffle, random_state=random_state)
