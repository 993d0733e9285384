"""Several SAEs on the same tokens: what every analysis of a corpus takes.

An analysis reads a corpus as `TokenBatch`es, once or several times, and compares SAEs that stand at the same site
or at different ones of the same model. Activations pass through; what is kept does not grow with the corpus, unless
a docstring says by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.activations import TokenBatch
from ssae_debias.sae import SparseAutoencoder

BatchFactory = Callable[[], Iterable[TokenBatch]]
"""Reads the same corpus from its beginning at every call: `ActivationStore.token_batches`, or a `lambda` around
`read_tokens`. The tokens of a text stand in one batch."""

Sites = str | Mapping[str, str]
"""One site for all SAEs, or each SAE's."""

CHUNK_TOKENS = 512
"""Tokens encoded at once: the (tokens, d_sae) table stays in the processor's cache (see `pool_latents`)."""
PART_CELLS = 2**22
"""Cells of the tables of whole texts that are looked at together: 16 MB, so that small SAEs need few steps."""


def check_compared(
    saes: Mapping[str, SparseAutoencoder], site: Sites
) -> dict[str, tuple[str, SparseAutoencoder]]:
    """SAEs with their sites, by the names that tables will show.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder
        By any names, such as ``{"general": …, "specialised": …}``.
    site : str or mapping of str to str
        Where they read: one site for all, or a site for each name.

    Raises
    ------
    TypeError
        `saes` is no mapping of names to SAEs.
    ValueError
        It is empty, or an SAE has no site.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(4, SAEConfig(d_sae=8, k=2))
    >>> list(check_compared({"general": sae}, "resid.3").values())[0][0]
    'resid.3'
    """
    if not isinstance(saes, Mapping) or not all(isinstance(sae, SparseAutoencoder) for sae in saes.values()):
        raise TypeError(f"saes must map names to SparseAutoencoders, got {type(saes).__name__}.")
    if not saes:
        raise ValueError("saes holds no SAE; give at least one, as {'name': sae}.")
    if isinstance(site, str):
        return {name: (site, sae) for name, sae in saes.items()}
    if lacking := [name for name in saes if name not in site]:
        raise ValueError(
            f"site has no entry for {', '.join(lacking)}; give one site for all or one for each SAE."
        )
    return {name: (site[name], sae) for name, sae in saes.items()}


def chunked(
    x: Tensor, sae: SparseAutoencoder, chunk_tokens: int = CHUNK_TOKENS
) -> Iterator[tuple[slice, Tensor]]:
    """A batch's activations in an SAE's own type and on its device, chunk by chunk, with the rows they are.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(4, SAEConfig(d_sae=8, k=2))
    >>> [(rows.start, len(part)) for rows, part in chunked(torch.zeros(5, 4), sae, chunk_tokens=3)]
    [(0, 3), (3, 2)]
    """
    if x.shape[1] != sae.d_in:
        raise ValueError(
            f"activations are {x.shape[1]} wide, the SAE reads {sae.d_in}; is it of another site?"
        )
    for start in range(0, len(x), chunk_tokens):
        rows = slice(start, min(start + chunk_tokens, len(x)))
        yield rows, x[rows].to(sae.device, sae.dtype)


def part_tokens(n_units: int) -> int:
    """Tokens that are looked at together where each takes `n_units` cells.

    Examples
    --------
    >>> part_tokens(1024), part_tokens(65_536)
    (4096, 512)
    """
    return max(CHUNK_TOKENS, PART_CELLS // n_units)


def whole_text_parts(
    batch: TokenBatch, kept: NDArray[np.bool_], chunk_tokens: int = CHUNK_TOKENS
) -> Iterator[TokenBatch]:
    """A batch's tokens of some texts, in parts of about `chunk_tokens` that cut no text.

    Parameters
    ----------
    batch : TokenBatch
    kept : ndarray of bool, shape (n_texts,)
        By text index.

    Raises
    ------
    ValueError
        A text index beyond `kept`.

    Examples
    --------
    >>> batch = TokenBatch(np.array([0, 0, 1, 2]), np.arange(4), np.arange(4), {"embed": torch.eye(4)})
    >>> [part.token_id.tolist() for part in whole_text_parts(batch, np.array([True, False, True]), chunk_tokens=2)]
    [[0, 1], [3]]
    """
    if len(batch) and batch.text_index.max() >= len(kept):
        raise ValueError(
            f"batches hold a text of index {batch.text_index.max()}, but n_texts={len(kept)} was given."
        )
    rows = np.flatnonzero(kept[batch.text_index])
    if not len(rows):
        return
    starts = np.flatnonzero(np.diff(batch.text_index[rows], prepend=-1))
    ends = np.append(starts[1:], len(rows))
    first = 0
    for start, end in zip(starts, ends, strict=True):
        if end - first > chunk_tokens and start > first:
            yield _rows(batch, rows[first:start])
            first = int(start)
    yield _rows(batch, rows[first:])


def _rows(batch: TokenBatch, rows: NDArray[np.int64]) -> TokenBatch:
    index = torch.from_numpy(rows)
    return TokenBatch(
        batch.text_index[rows],
        batch.position[rows],
        batch.token_id[rows],
        {site: x[index.to(x.device)] for site, x in batch.activations.items()},
    )
