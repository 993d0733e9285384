"""What a latent looks like to a person: the tokens and texts on which it is strongest.

Only the latents asked for are encoded, so describing a few dozen costs a small part of what finding them did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ssae_debias.activations import TokenBatch
from ssae_debias.sae import SparseAutoencoder

MAIN_SHARE, MAIN_LIFT = 0.2, 3.0
"""Part of a latent's whole activation, and times its part of all tokens, that make a token one of the main ones."""


@dataclass
class LatentDescription:
    """Strongest tokens and texts of one latent.

    Attributes
    ----------
    top_tokens : list of (str, float)
        Token and its mean activation over its occurrences, by total activation.
    top_texts : list of (int, list of (str, float))
        Text index, and its tokens with their activations; one entry a text, strongest first.
    main_tokens : list of (str, float)
        Tokens that hold a fifth of the latent's whole activation or more, and three times their part of all tokens,
        with their share; largest first. What a latent does mostly: its strongest texts show what it does most strongly,
        which may be rare.
    """

    top_tokens: list[tuple[str, float]] = field(default_factory=list)
    top_texts: list[tuple[int, list[tuple[str, float]]]] = field(default_factory=list)
    main_tokens: list[tuple[str, float]] = field(default_factory=list)


def describe_latents(
    batches: Iterable[TokenBatch],
    saes: Mapping[str, SparseAutoencoder],
    latents: Mapping[str, Sequence[int]],
    tokenizer: object,
    *,
    n_tokens: int = 8,
    n_texts: int = 5,
) -> dict[tuple[str, int], LatentDescription]:
    """Find the tokens and texts on which latents are strongest.

    Parameters
    ----------
    batches : iterable of TokenBatch
        From `read_tokens` or a store. The tokens of a text stand in one batch.
    saes : mapping of str to SparseAutoencoder
    latents : mapping of str to sequence of int
        Which latents to describe, by site.
    tokenizer
        The model's, to write tokens out.
    n_tokens, n_texts : int
        How many of each.

    Returns
    -------
    dict of (site, latent) to LatentDescription

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig, SparseAutoencoder
    >>> model, sae = load_model("demo"), SparseAutoencoder(384, SAEConfig(d_sae=16, k=4))
    >>> batches = read_tokens(model, ["She was a surgeon."], ["embed"])
    >>> found = describe_latents(batches, {"embed": sae}, {"embed": [0]}, model.tokenizer)
    >>> list(found)
    [('embed', 0)]
    """
    vocabulary = len(tokenizer)  # type: ignore[arg-type]
    totals = {site: torch.zeros(vocabulary, len(chosen)) for site, chosen in latents.items()}
    counts = torch.zeros(vocabulary)
    best: dict[tuple[str, int], list[_Excerpt]] = {
        (s, int(j)): [] for s, chosen in latents.items() for j in chosen
    }
    for batch in batches:
        token_id = torch.from_numpy(batch.token_id)
        counts += torch.bincount(token_id, minlength=vocabulary)
        texts, starts = np.unique(batch.text_index, return_index=True)
        order = np.argsort(starts)
        texts, starts = texts[order], np.append(starts[order], len(batch.text_index))
        for site, chosen in latents.items():
            if not len(chosen):
                continue
            with torch.no_grad():
                sae = saes[site]
                f = (
                    sae.encode_selected(batch.activations[site].to(sae.W_enc.dtype), list(chosen))
                    .float()
                    .cpu()
                )
            totals[site].index_add_(0, token_id, f)
            peaks = np.maximum.reduceat(f.numpy(), starts[:-1], axis=0)
            for column, latent in enumerate(chosen):
                _keep_best(
                    best[site, int(latent)], peaks[:, column], texts, starts, batch, f[:, column], n_texts
                )
    return {
        (site, int(latent)): LatentDescription(
            top_tokens=_top_tokens(totals[site][:, column], counts, tokenizer, n_tokens),
            top_texts=[excerpt.written(tokenizer) for excerpt in best[site, int(latent)]],
            main_tokens=_main_tokens(totals[site][:, column], counts, tokenizer),
        )
        for site, chosen in latents.items()
        for column, latent in enumerate(chosen)
    }


@dataclass(frozen=True)
class _Excerpt:
    peak: float
    text: int
    token_id: NDArray[np.int64]
    activation: NDArray[np.float32]

    def written(self, tokenizer: object) -> tuple[int, list[tuple[str, float]]]:
        words = tokenizer.convert_ids_to_tokens(self.token_id.tolist())  # type: ignore[attr-defined]
        pairs = zip(words, self.activation, strict=True)
        return self.text, [(_readable(word), float(value)) for word, value in pairs]


def _keep_best(
    kept: list[_Excerpt],
    peaks: NDArray[np.float32],
    texts: NDArray[np.int64],
    starts: NDArray[np.int64],
    batch: TokenBatch,
    f: torch.Tensor,
    n: int,
) -> None:
    floor = kept[-1].peak if len(kept) == n else 0.0
    for place in np.argsort(-peaks, kind="stable")[:n]:
        if peaks[place] <= floor:
            break
        span = slice(starts[place], starts[place + 1])
        kept.append(
            _Excerpt(float(peaks[place]), int(texts[place]), batch.token_id[span], f[span].numpy().copy())
        )
    kept.sort(key=lambda excerpt: -excerpt.peak)
    del kept[n:]


def _top_tokens(
    total: torch.Tensor, counts: torch.Tensor, tokenizer: object, n: int
) -> list[tuple[str, float]]:
    values, ids = total.topk(min(n, len(total)))
    words = tokenizer.convert_ids_to_tokens(ids.tolist())  # type: ignore[attr-defined]
    return [
        (_readable(word), float(value / counts[i]))
        for word, value, i in zip(words, values, ids, strict=True)
        if value > 0
    ]


def _main_tokens(total: torch.Tensor, counts: torch.Tensor, tokenizer: object) -> list[tuple[str, float]]:
    shares = total / total.sum().clamp(min=1e-12)
    usual = counts / counts.sum().clamp(min=1)
    ids = ((shares >= MAIN_SHARE) & (shares >= MAIN_LIFT * usual)).nonzero().squeeze(1)
    ids = ids[shares[ids].argsort(descending=True, stable=True)]
    words = tokenizer.convert_ids_to_tokens(ids.tolist())  # type: ignore[attr-defined]
    return [(_readable(word), float(shares[i])) for word, i in zip(words, ids, strict=True)]


def _readable(token: str) -> str:
    # word-start marks of byte-level BPE and SentencePiece; WordPiece's ## says the opposite and is kept
    return token.replace("Ġ", " ").replace("▁", " ")
