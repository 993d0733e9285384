"""Reading activations: one forward pass for all sites, and no further than the last of them.

At every site a hook copies the tokens that count; once the last site has been seen it raises, and the blocks
above it are never computed. Hooks live for one batch and are removed even when the model fails. They are
attached after whatever hooks the model already carries, so the activations of an edited model are read as
edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ssae_debias.activations.batching import PaddedBatch, TokenizedTexts, batches_by_length, pad, tokenize
from ssae_debias.activations.model import TextModel
from ssae_debias.activations.sites import Site, resolve_site
from ssae_debias.data.texts import check_texts

POOLS = ("mean", "last", "cls")

# a CPU's cache holds a small batch (a fifth faster than 8192 on MiniLM); a GPU wants to be filled
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 2048, 32_768


@dataclass(frozen=True)
class TokenBatch:
    """Activations of the tokens that count, of one batch of texts.

    Attributes
    ----------
    text_index : ndarray of int64, shape (n,)
        Which text each token is from. A text's tokens stand together, in order; texts come by length.
    position : ndarray of int64, shape (n,)
        Place in the text's token sequence, special tokens counted, from 0.
    token_id : ndarray of int64, shape (n,)
    activations : dict of str to Tensor, each (n, d)
        By site, in the model's dtype and on its device.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> model = load_model("demo")
    >>> batch = next(read_tokens(model, ["A nurse."], "embed"))
    >>> len(batch), model.tokenizer.convert_ids_to_tokens(batch.token_id)
    (3, ['a', 'nurse', '.'])
    """

    text_index: NDArray[np.int64]
    position: NDArray[np.int64]
    token_id: NDArray[np.int64]
    activations: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.text_index)

    def select(self, kept: NDArray[np.bool_], renumber: NDArray[np.int64]) -> TokenBatch:
        """Some of the tokens, their texts renumbered.

        Parameters
        ----------
        kept : ndarray of bool, shape (n,)
        renumber : ndarray of int64, shape (n_texts,)
            New index of each text.

        Examples
        --------
        >>> batch = TokenBatch(np.array([0, 2]), np.array([1, 1]), np.array([7, 8]), {"embed": torch.eye(2)})
        >>> batch.select(batch.text_index == 2, np.array([-1, -1, 0])).text_index
        array([0])
        """
        rows = torch.from_numpy(kept.nonzero()[0])
        return TokenBatch(
            renumber[self.text_index[kept]],
            self.position[kept],
            self.token_id[kept],
            {site: x[rows.to(x.device)] for site, x in self.activations.items()},
        )


def read_tokens(
    model: TextModel,
    texts: Sequence[str],
    sites: str | Sequence[str],
    *,
    max_length: int = 128,
    batch_tokens: int | None = None,
    include_special: bool = False,
    verbose: int = 0,
) -> Iterator[TokenBatch]:
    """Read per-token activations, batch by batch.

    Parameters
    ----------
    model : TextModel
    texts : sequence of str
    sites : str or sequence of str
        One forward pass reads them all and stops after the last.
    max_length : int, default=128
        Tokens a text is cut at.
    batch_tokens : int, optional
        Padded tokens a batch: a matter of memory and speed, not of the result. Default: 2048 on a CPU, 32768
        elsewhere.
    include_special : bool, default=False
        Whether `[CLS]`, `[SEP]`, `<s>`, … count. Padding never does.
    verbose : int, default=0
        Above 0, a progress bar.

    Yields
    ------
    TokenBatch
        Longest texts first. A text without a token that counts is in no batch.

    Raises
    ------
    TypeError
        `texts` is a string or holds something else than strings.
    ValueError
        A site that the model lacks or never runs; activations that are NaN or infinite.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> (batch,) = read_tokens(load_model("demo"), ["A nurse.", "Yes"], ["embed", "resid.3"])
    >>> batch.text_index, batch.position, batch.activations["resid.3"].shape
    (array([0, 0, 0, 1]), array([1, 2, 3, 1]), torch.Size([4, 384]))
    """
    texts, found = check_texts(texts), resolve_sites(model, sites)
    tokenized = tokenize(model, texts, max_length=max_length, include_special=include_special)
    return read_tokenized(model, tokenized, found, batch_tokens=batch_tokens, verbose=verbose)


def read_tokenized(
    model: TextModel,
    tokenized: TokenizedTexts,
    sites: Sequence[Site],
    *,
    batch_tokens: int | None = None,
    verbose: int = 0,
) -> Iterator[TokenBatch]:
    """`read_tokens` on texts that are tokenised and sites that are found already.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> model = load_model("demo")
    >>> tokenized = tokenize(model, ["A nurse."], max_length=8, include_special=True)
    >>> [len(batch) for batch in read_tokenized(model, tokenized, resolve_sites(model, "embed"))]
    [5]
    """
    has_token = tokenized.lengths * (tokenized.counts > 0)
    for batch in _padded_batches(model, tokenized, has_token, batch_tokens, verbose):
        rows, positions = np.nonzero(batch.counted)
        flat = torch.from_numpy(rows * batch.counted.shape[1] + positions).to(model.device)
        activations = forward_to(model, sites, batch, partial(_counted, flat=flat))
        text_index = batch.texts[rows]
        for name, tensor in activations.items():
            _check_finite(name, tensor, text_index)
        yield TokenBatch(text_index, positions, batch.input_ids[rows, positions], activations)


def read_pooled(
    model: TextModel,
    texts: Sequence[str],
    sites: str | Sequence[str],
    *,
    pool: Literal["mean", "last", "cls"] = "mean",
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
    verbose: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Read one row per text.

    Parameters
    ----------
    model : TextModel
    texts : sequence of str
    sites : str or sequence of str
    pool : {"mean", "last", "cls"}, default="mean"
        Mean over the tokens that count, the last token that counts, or the `[CLS]` token.
    include_special : bool, default=False
        Whether special tokens count; sentence-transformers counts them. `pool="cls"` takes `[CLS]` either
        way.
    max_length, batch_tokens, verbose
        As in `read_tokens`.

    Returns
    -------
    dict of str to ndarray of float32, each (n_texts, d)
        By site, rows in the order of `texts`. A text without a token that counts is a row of zeros.

    Raises
    ------
    TypeError, ValueError
        As `read_tokens`; also an unknown `pool`, and `"cls"` for a tokenizer that puts no `[CLS]` first.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_pooled
    >>> read_pooled(load_model("demo"), ["A nurse.", "A surgeon."], "resid.3")["resid.3"].shape
    (2, 384)
    """
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}.")
    texts, found = check_texts(texts), resolve_sites(model, sites)
    tokenized = tokenize(
        model, texts, max_length=max_length, include_special=include_special or pool == "cls"
    )
    if pool == "cls":
        _check_cls(model, tokenized)
    pooled: dict[str, NDArray[np.float32]] = {}
    has_token = tokenized.lengths * (tokenized.counts > 0)
    for batch in _padded_batches(model, tokenized, has_token, batch_tokens, verbose):
        weights = torch.from_numpy(_pool_weights(batch.counted, pool)).to(model.device)
        rows = forward_to(model, found, batch, partial(_pooled, weights=weights))
        for name, tensor in rows.items():
            _check_finite(name, tensor, batch.texts)
            if name not in pooled:
                pooled[name] = np.zeros((len(texts), tensor.shape[1]), dtype=np.float32)
            pooled[name][batch.texts] = tensor.cpu().numpy()
    if not pooled:
        widths = site_widths(model, found)
        pooled = {name: np.zeros((len(texts), width), dtype=np.float32) for name, width in widths.items()}
    return {site.name: pooled[site.name] for site in found}


def site_widths(model: TextModel, sites: Sequence[Site]) -> dict[str, int]:
    """Width d of the activations at each site, found by reading one token.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> model = load_model("demo")
    >>> site_widths(model, resolve_sites(model, ["embed", "module:encoder.layer.0.intermediate"]))
    {'embed': 384, 'module:encoder.layer.0.intermediate': 1536}
    """
    one = np.ones((1, 1), dtype=np.int64)
    batch = PaddedBatch(np.zeros(1, np.int64), one * model.tokenizer.pad_token_id, one, one == 1)
    return {name: tensor.shape[-1] for name, tensor in forward_to(model, sites, batch, lambda x: x).items()}


def resolve_sites(model: TextModel, sites: str | Sequence[str]) -> list[Site]:
    """Find several sites, each once, in the order given.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> [site.name for site in resolve_sites(load_model("demo"), ["resid.1", "embed", "resid.1"])]
    ['resid.1', 'embed']
    """
    names = [sites] if isinstance(sites, str) else list(dict.fromkeys(sites))
    if not names:
        raise ValueError("No site was given; name at least one, such as 'resid.3'.")
    return [resolve_site(model.module, name) for name in names]


class _AllRead(Exception):
    """The last site was seen: the rest of the forward pass is not needed."""


def forward_to(
    model: TextModel, sites: Sequence[Site], batch: PaddedBatch, take: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Run a batch up to the last of the sites; `take` of each site's (b, length, d) tensor, by site.

    Raises
    ------
    ValueError
        A site is not reached by the forward pass, or its tensor is not (b, length, d).

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> model = load_model("demo")
    >>> batch = pad(tokenize(model, ["Yes"], max_length=8, include_special=True), np.array([0]), pad_id=0)
    >>> forward_to(model, resolve_sites(model, "resid.1"), batch, lambda x: x)["resid.1"].shape
    torch.Size([1, 3, 384])
    """
    inputs: dict[str, Any] = {
        "input_ids": torch.from_numpy(batch.input_ids).to(model.device),
        "attention_mask": torch.from_numpy(batch.attention_mask).to(model.device),
    }
    if _takes_use_cache(type(model.module).forward):
        inputs["use_cache"] = False
    found: dict[str, Tensor] = {}

    def reader(name: str) -> Callable[[Tensor], None]:
        def read(tensor: Tensor) -> None:
            # a module that runs twice in one pass counts once
            if name in found:
                return
            if tensor.shape[:2] != batch.input_ids.shape or tensor.ndim != 3:
                raise ValueError(
                    f"The site {name} gives a tensor of shape {tuple(tensor.shape)}, expected one vector a "
                    f"token: three dimensions, the first two {batch.input_ids.shape}. Name another module."
                )
            found[name] = take(tensor)
            if len(found) == len(sites):
                raise _AllRead

        return read

    with ExitStack() as hooks, torch.no_grad():
        for site in sites:
            hooks.enter_context(site.attach(reader(site.name)))
        try:
            model.module(**inputs)
        except _AllRead:
            return found
    missing = [site.name for site in sites if site.name not in found]
    raise ValueError(f"The forward pass of {model.name} never runs {', '.join(missing)}.")


@cache
def _takes_use_cache(forward: Callable[..., Any]) -> bool:
    return "use_cache" in signature(forward).parameters


def _counted(activations: Tensor, flat: Tensor) -> Tensor:
    return activations.flatten(0, 1).index_select(0, flat)


def _pooled(activations: Tensor, weights: Tensor) -> Tensor:
    return torch.bmm(weights, activations.float()).squeeze(1)


def _padded_batches(
    model: TextModel,
    tokenized: TokenizedTexts,
    lengths: NDArray[np.int64],
    batch_tokens: int | None,
    verbose: int,
) -> Iterator[PaddedBatch]:
    if batch_tokens is None:
        batch_tokens = CPU_BATCH_TOKENS if model.device.type == "cpu" else GPU_BATCH_TOKENS
    batches = batches_by_length(lengths, batch_tokens)
    with tqdm(total=sum(map(len, batches)), unit="text", desc="reading", disable=not verbose) as progress:
        for texts in batches:
            yield pad(tokenized, texts, model.tokenizer.pad_token_id)
            progress.update(len(texts))


def _pool_weights(counted: NDArray[np.bool_], pool: str) -> NDArray[np.float32]:
    """(b, 1, length): what to multiply the tokens by so that their sum is the pooled row."""
    if pool == "mean":
        weights = counted / counted.sum(axis=1, keepdims=True)
    else:
        at = (
            np.zeros(len(counted), int)
            if pool == "cls"
            else counted.shape[1] - 1 - counted[:, ::-1].argmax(axis=1)
        )
        weights = np.zeros(counted.shape)
        weights[np.arange(len(counted)), at] = 1
    return weights[:, None, :].astype(np.float32)


def _check_cls(model: TextModel, tokenized: TokenizedTexts) -> None:
    cls = model.tokenizer.cls_token_id
    if cls is None or (tokenized.token_id[tokenized.offsets[:-1]] != cls).any():
        raise ValueError(
            f"The tokenizer of {model.name} puts no [CLS] token first; pool by 'mean' or 'last'."
        )


def _check_finite(name: str, rows: Tensor, text_index: NDArray[np.int64]) -> None:
    # one number shows any NaN or infinity, without a mask of the whole tensor
    if torch.isfinite(rows.sum(dtype=torch.float32)):
        return
    bad = ~torch.isfinite(rows).all(dim=1).cpu().numpy()
    if bad.any():
        texts = np.unique(text_index[bad])
        raise ValueError(
            f"Activations at {name} are NaN or infinite in {len(texts)} text(s), first at text index "
            f"{texts[0]}. Look at the model's weights; in float16, load it in bfloat16 or float32 instead."
        )
