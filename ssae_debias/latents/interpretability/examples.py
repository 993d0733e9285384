"""Examples of latents: windows of text, those to explain from and those to test on, of different texts.

Explained is from texts of even index, tested on texts of odd index, so that a phrase that a text repeats cannot be
learnt from the one and scored in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ssae_debias.activations import TokenBatch
from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.sae import SparseAutoencoder

ExplainFrom = Literal["strongest", "spread"]

RESERVE = 4
"""Times as many windows are drawn as are shown where the shown ones are to have all strengths among them."""


@dataclass(frozen=True, eq=False)
class Example:
    """A window of a text and what a latent does in it.

    Attributes
    ----------
    text : int
        Text index.
    tokens : tuple of str
        As the tokenizer names them.
    activations : ndarray of float32, shape (n_tokens,)
    """

    text: int
    tokens: tuple[str, ...]
    activations: NDArray[np.float32]

    @property
    def fires(self) -> NDArray[np.bool_]:
        """On which tokens the latent is active."""
        return self.activations > 0


@dataclass(frozen=True)
class LatentExamples:
    """What a latent is explained from and tested on.

    Attributes
    ----------
    latent : int
    explained : list of Example
        To explain from, strongest first.
    active, inactive : list of Example
        To test on: windows in which the latent fires, evenly over its strengths, and windows in which it does not.
    n_active, n_inactive : int
        Windows of either kind among the test texts, shown or not.
    """

    latent: int
    explained: list[Example]
    active: list[Example]
    inactive: list[Example]
    n_active: int
    n_inactive: int


@torch.no_grad()
def collect_examples(
    batches: Iterable[TokenBatch],
    sae: SparseAutoencoder,
    site: str,
    latents: Sequence[int] | NDArray[np.int64],
    tokenizer: object,
    *,
    n_explain: int = 20,
    n_test: int = 20,
    window: int = 32,
    explain_from: ExplainFrom = "strongest",
    random_state: RandomState = 0,
) -> dict[int, LatentExamples]:
    """Gather examples of latents in one reading; only these latents are computed.

    Kept in memory are ``n_explain + 5 · n_test`` windows a latent, with `explain_from` "spread" three n_explain more.

    Parameters
    ----------
    batches : iterable of TokenBatch
        A text's tokens stand in one batch.
    sae : SparseAutoencoder
    site : str
        Where it reads.
    latents : sequence of int
        Which; a hundred or more drawn at random, to speak of an SAE.
    tokenizer
        The model's, to write tokens out.
    n_explain : int, default 20
        Windows to explain from.
    n_test : int, default 20
        Windows with activity to test on, and as many without.
    window : int, default 32
        Tokens of a window (the usual context of these scores): each text is cut into windows, the last one shorter.
    explain_from : {"strongest", "spread"}, default "strongest"
        "strongest", the published way: the windows of highest activation, one a text. "spread": windows drawn from all
        strengths, as those to test on are. What a latent does most strongly may be a small part of what it does.
    random_state : int, Generator, RandomState or None, default 0
        Which windows are drawn.

    Returns
    -------
    dict of int to LatentExamples
        By latent. A rare latent has fewer examples than asked for, a dead one none.

    Raises
    ------
    ValueError
        No latent, one twice, sizes below 1, or an unknown `explain_from`.
    IndexError
        A latent that the SAE lacks.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_tokens
    >>> from ssae_debias.sae import SAEConfig
    >>> model, sae = load_model("demo"), SparseAutoencoder(384, SAEConfig(d_sae=16, k=4))
    >>> batches = read_tokens(model, ["A nurse met a surgeon."] * 4, "embed")
    >>> found = collect_examples(batches, sae, "embed", [3], model.tokenizer, window=4)[3]
    >>> [example.tokens for example in found.explained[:1]]
    [('a', 'nurse', 'met', 'a')]
    """
    chosen = [int(latent) for latent in latents]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"latents must be one or more numbers, each once; got {latents!r}.")
    if min(n_explain, n_test, window) < 1:
        raise ValueError(
            f"n_explain, n_test and window must be at least 1, got {n_explain}, {n_test}, {window}."
        )
    if explain_from not in get_args(ExplainFrom):
        raise ValueError(
            f"explain_from must be one of {', '.join(get_args(ExplainFrom))}, got {explain_from!r}."
        )
    rng = as_generator(random_state)
    kept = {latent: _Kept(n_explain, n_test, explain_from == "spread") for latent in chosen}
    for batch in batches:
        if not len(batch):
            continue
        x = batch.activations[site].to(sae.device, sae.dtype)
        f = sae.encode_selected(x, chosen).float().cpu().numpy()
        starts = _window_starts(batch.text_index, window)
        spans = list(zip(starts, np.append(starts[1:], len(batch)), strict=True))
        peaks = np.maximum.reduceat(f, starts, axis=0)
        texts = batch.text_index[starts]
        keys = rng.random(len(starts))
        for column, latent in enumerate(chosen):
            found = _Windows(batch, f[:, column], spans, texts, peaks[:, column], keys)
            kept[latent].look_at(found)
    write = _writer(tokenizer)
    return {latent: kept[latent].examples(latent, write) for latent in chosen}


@dataclass(frozen=True)
class _Windows:
    """A batch's windows, as one latent sees them."""

    batch: TokenBatch
    f: NDArray[np.float32]
    spans: list[tuple[int, int]]
    texts: NDArray[np.int64]
    peaks: NDArray[np.float32]
    keys: NDArray[np.float64]

    def raw(self, place: int) -> _Raw:
        rows = slice(*self.spans[place])
        return _Raw(int(self.texts[place]), self.batch.token_id[rows].copy(), self.f[rows].copy())


@dataclass(frozen=True)
class _Raw:
    text: int
    token_id: NDArray[np.int64]
    f: NDArray[np.float32]

    @property
    def peak(self) -> float:
        return float(self.f.max())


@dataclass
class _Kept:
    """The windows of one latent that are kept, each with what it is ranked by, the lowest first."""

    n_explain: int
    n_test: int
    spread: bool
    explained: list[tuple[float, _Raw]] = field(default_factory=list)
    active: list[tuple[float, _Raw]] = field(default_factory=list)
    inactive: list[tuple[float, _Raw]] = field(default_factory=list)
    n_active: int = 0
    n_inactive: int = 0

    def look_at(self, windows: _Windows) -> None:
        even, fires = windows.texts % 2 == 0, windows.peaks > 0
        to_explain = np.flatnonzero(even & fires)
        if self.spread:
            _keep_lowest(self.explained, windows, to_explain, windows.keys, self.n_explain * RESERVE)
        else:
            self._keep_strongest(windows, to_explain)
        test_active, test_inactive = np.flatnonzero(~even & fires), np.flatnonzero(~even & ~fires)
        self.n_active += len(test_active)
        self.n_inactive += len(test_inactive)
        # the windows of the smallest random keys are a uniform draw, whatever the number of windows
        _keep_lowest(self.active, windows, test_active, windows.keys, self.n_test * RESERVE)
        _keep_lowest(self.inactive, windows, test_inactive, windows.keys, self.n_test)

    def _keep_strongest(self, windows: _Windows, places: NDArray[np.int64]) -> None:
        order = places[np.argsort(-windows.peaks[places], kind="stable")]
        first_of_text = order[np.sort(np.unique(windows.texts[order], return_index=True)[1])]
        _keep_lowest(
            self.explained, windows, first_of_text, -windows.peaks.astype(np.float64), self.n_explain
        )

    def examples(self, latent: int, write: Callable[[_Raw], Example]) -> LatentExamples:
        explained = [raw for _, raw in self.explained]
        if self.spread:
            explained = _evenly(explained, self.n_explain)[::-1]
        return LatentExamples(
            latent,
            [write(raw) for raw in explained],
            [write(raw) for raw in _evenly([raw for _, raw in self.active], self.n_test)],
            [write(raw) for _, raw in self.inactive],
            self.n_active,
            self.n_inactive,
        )


def _evenly(windows: list[_Raw], n: int) -> list[_Raw]:
    """At most n of the windows, weakest first, evenly over their order by strength."""
    by_strength = sorted(windows, key=lambda raw: raw.peak)
    n = min(n, len(by_strength))
    return [by_strength[(2 * i + 1) * len(by_strength) // (2 * n)] for i in range(n)]


def _keep_lowest(
    kept: list[tuple[float, _Raw]],
    windows: _Windows,
    places: NDArray[np.int64],
    rank: NDArray[np.float64],
    n: int,
) -> None:
    if len(kept) == n:
        places = places[rank[places] < kept[-1][0]]
    if not len(places):
        return
    best = places[np.argsort(rank[places], kind="stable")[:n]]
    kept += [(float(rank[place]), windows.raw(place)) for place in best]
    kept.sort(key=lambda item: item[0])
    del kept[n:]


def _window_starts(text_index: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    begins = np.flatnonzero(np.diff(text_index, prepend=text_index[0] - 1))
    lengths = np.diff(np.append(begins, len(text_index)))
    return np.concatenate([np.arange(b, b + n, window) for b, n in zip(begins, lengths, strict=True)])


def _writer(tokenizer: object) -> Callable[[_Raw], Example]:
    def write(raw: _Raw) -> Example:
        words = tokenizer.convert_ids_to_tokens(raw.token_id.tolist())  # type: ignore[attr-defined]
        return Example(raw.text, tuple(words), raw.f)

    return write
