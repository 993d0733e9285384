"""A corpus' vectors on disk, a shard at a time.

A shard holds the vectors of `shard_size` documents in a row, as a flat FAISS index: it is searched as it is
where the search is exact, and is what an approximate index is trained on and built of otherwise. Vectors are
made in batches that depend on nothing but their place in the corpus, so that a shard comes out byte for byte
the same whenever it is made. A build that goes on reads the corpus from its start, for that is how it knows
that the corpus is still the same one; it embeds only the documents of the shards that are not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ssae_debias.retrieval.corpus import BATCH_SIZE
from ssae_debias.retrieval.indexed import IndexedCorpus, digests_of
from ssae_debias.retrieval.shard_folder import ShardFolder

Embed = Callable[[list[str]], NDArray[np.float32]]


def embed_corpus(
    folder: Path,
    corpus: IndexedCorpus,
    embed: Embed,
    d: int,
    *,
    shard_size: int,
    request: dict[str, Any] | None = None,
    verbose: int = 0,
) -> ShardFolder:
    """Embed a corpus into shards, or the part of it that `folder` lacks.

    Parameters
    ----------
    folder : pathlib.Path
        For one corpus and one encoder.
    corpus : IndexedCorpus
        It is read once, and knows its documents' digests afterwards.
    embed : callable
        Vectors of a list of texts, float32 ``(n, d)``; the same for the same list.
    d : int
        Length of a vector.
    shard_size : int
        Documents a shard. 8 d bytes for each are held while a shard is made.
    request : dict, optional
        What else the vectors depend on: the encoder and its settings.
    verbose : int, default 0
        Above 0, a progress bar.

    Returns
    -------
    ShardFolder
        Files ``00000.faiss``, … in the order of the corpus; ``n`` is the number of documents in each.

    Raises
    ------
    ValueError
        The corpus holds no documents, or `folder` the vectors of other documents or another request.
    OSError
        No space or no permission. The shards written so far stay, and a later build goes on from them.

    Examples
    --------
    >>> import tempfile
    >>> def embed(texts):
    ...     return np.float32([[len(text), 1] for text in texts])
    >>> corpus = IndexedCorpus(["a surgeon", "a nurse", "a ship"])
    >>> shards = embed_corpus(Path(tempfile.mkdtemp()), corpus, embed, 2, shard_size=2)
    >>> [shards[name]["n"] for name in shards.names()]
    [2, 1]
    """
    shards = ShardFolder(folder, "dense vectors", {"d": d, "shard_size": shard_size, **(request or {})})
    made = 0
    with tqdm(desc="dense: embed", unit=" documents", disable=not verbose) as progress:
        for number, parts in _cut(corpus, shard_size):
            name = shard_name(number)
            known = name in shards
            vectors = np.empty((0 if known else shard_size, d), dtype=np.float32)
            n, texts_sha256 = 0, hashlib.sha256()
            for texts in parts:
                texts_sha256.update(digests_of(texts).tobytes())
                if not known:
                    vectors[n : n + len(texts)] = embed(texts)
                n += len(texts)
                progress.update(len(texts))
            if not known:
                shards.write(name, _flat(vectors[:n]), n=n, texts_sha256=texts_sha256.hexdigest())
            elif shards[name]["texts_sha256"] != texts_sha256.hexdigest():
                raise _other_corpus(
                    folder, f"documents {number * shard_size} to {number * shard_size + n - 1}"
                )
            made = number + 1
    if len(shards) > made:
        raise _other_corpus(folder, f"the end (the corpus has {len(corpus)} documents, fewer than they)")
    return shards


def shard_name(number: int) -> str:
    """File of a shard.

    Examples
    --------
    >>> shard_name(12)
    '00012.faiss'
    """
    return f"{number:05d}.faiss"


def _cut(corpus: IndexedCorpus, shard_size: int) -> Iterator[tuple[int, Iterator[list[str]]]]:
    """Each shard's number and its texts in batches, all of which must be taken before the next shard."""
    if shard_size < 1:
        raise ValueError(f"shard_size must be at least 1, got {shard_size}.")
    batches = corpus.batches(BATCH_SIZE)
    rest: list[str] = []

    def parts() -> Iterator[list[str]]:
        nonlocal rest
        room = shard_size
        while room and (rest := rest or next(batches, [])):
            part, rest = rest[:room], rest[room:]
            room -= len(part)
            yield part

    number = 0
    while rest := rest or next(batches, []):
        yield number, parts()
        number += 1


def _flat(vectors: NDArray[np.float32]) -> Any:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _other_corpus(folder: Path, where: str) -> ValueError:
    return ValueError(
        f"{folder} holds the vectors of another corpus, which differs at {where}. Give another folder for "
        "this corpus, or remove that one."
    )
