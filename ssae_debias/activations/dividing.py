"""Where a store's shards begin, found by several processes together.

A shard ends where its tokens are enough, so that the second begins where the first ends, and so on: one process
that fills shards in order need not know more. Ranks that fill them at the same time must know all of them first.
Each counts the tokens of its part of the texts, all counts are put together, and every rank cuts the same shards.
The price is that texts are tokenised twice, each time by all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ssae_debias.activations.batching import TOKENIZE_CHUNK, tokenize
from ssae_debias.activations.model import TextModel
from ssae_debias.ranks import Ranks


def shard_ranges(
    model: TextModel,
    texts: Sequence[str],
    shard_tokens: int,
    ranks: Ranks,
    *,
    max_length: int,
    include_special: bool,
) -> list[range]:
    """The texts of every shard: as many as `shard_tokens` tokens allow, at least one.

    Raises
    ------
    ValueError
        No text has a token that counts.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.ranks import ALONE
    >>> texts = ["A nurse.", "A surgeon.", "", "She is here."]
    >>> shard_ranges(load_model("demo"), texts, 6, ALONE, max_length=8, include_special=False)
    [range(0, 3), range(3, 4)]
    """
    first, stop = (len(texts) * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1))
    counts = np.zeros(stop - first, dtype=np.int64)
    for start in range(first, stop, TOKENIZE_CHUNK):
        chunk = texts[start : min(start + TOKENIZE_CHUNK, stop)]
        found = tokenize(model, chunk, max_length=max_length, include_special=include_special)
        counts[start - first : start - first + len(chunk)] = found.counts
    ends = torch.cat(ranks.gathered(torch.from_numpy(counts))).cumsum(0).numpy()
    if not len(ends) or ends[-1] == 0:
        raise ValueError("No text has a token that counts: there is nothing to store.")
    shards, start = [], 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + shard_tokens, side="right")))
        shards.append(range(start, stop))
        start = stop
    return shards
