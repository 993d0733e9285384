r"""How well SAEs reconstruct a corpus at one site, in sums over its texts.

The fraction of variance unexplained is the project's, over all tokens of the corpus at once:

.. math:: \mathrm{FVU} = \frac{\sum_d \mathrm{Var}(e_d)}{\sum_d \mathrm{Var}(x_d)}
   = \frac{\overline{\lVert e\rVert^2} - \lVert\bar e\rVert^2}
          {\overline{\lVert x\rVert^2} - \lVert\bar x\rVert^2}

Two other forms are in use and neither is this. A mean over tokens of ``‖e‖² / ‖x − x̄‖²`` is ruled by the tokens
nearest to the mean, and depends on the batches that x̄ is taken over. And SAELens, from which SAEBench has it, subtracts
from ``mean ‖x‖²`` the square of the mean of *squares* (over tokens and coordinates at once) where the squared length of
the mean activation belongs, so that its total is no variance: it changes with the unit in which activations are
measured, and may be negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.activations import TextModel, read_tokens
from ssae_debias.data import check_texts
from ssae_debias.metrics.intervals import Interval
from ssae_debias.metrics.text_bootstrap import TextBootstrap
from ssae_debias.sae import SparseAutoencoder

# bounds the dense codes of one step to 64 MB of float32, which a processor's cache is kinder to than more
_CODES_AT_ONCE = 2**24


@dataclass(frozen=True)
class Moments:
    """Sums of vectors over each text, about one fixed point so that no digits are lost.

    Attributes
    ----------
    total : ndarray of float64, shape (n_texts, d_model)
    squares : ndarray of float64, shape (n_texts,)
        Sums of squared lengths.
    """

    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def empty(cls, n_texts: int, width: int) -> Moments:
        """Nothing added yet."""
        return cls(np.zeros((n_texts, width)), np.zeros(n_texts))

    def add(self, text_index: NDArray[np.int64], vectors: Tensor) -> None:
        """Add vectors (n, d_model), each to its text's sums."""
        rows, inverse = np.unique(text_index, return_inverse=True)
        owner = torch.zeros(len(rows), len(inverse), dtype=torch.float64)
        owner[inverse, torch.arange(len(inverse))] = 1.0
        exact = vectors.double().cpu()
        self.total[rows] += (owner @ exact).numpy()
        self.squares[rows] += (owner @ exact.square().sum(1)).numpy()


@dataclass(frozen=True)
class CorpusReconstruction:
    """One SAE over a corpus.

    Attributes
    ----------
    n_tokens : ndarray of int64, shape (n_texts,)
        Tokens that count, of each text.
    activations, errors : Moments
        Of x (less a fixed point) and of ``x − x̂``.
    active : ndarray of int64, shape (n_texts,)
        Active latents, summed over each text's tokens.
    fired : ndarray of bool, shape (d_sae,)
        Which latents are active on any token of the corpus.
    """

    n_tokens: NDArray[np.int64]
    activations: Moments
    errors: Moments
    active: NDArray[np.int64]
    fired: NDArray[np.bool_]

    @property
    def dead_fraction(self) -> float:
        """Share of latents that are active on no token of the corpus; it falls as the corpus grows."""
        return float(1 - self.fired.mean())

    def fvu(self, draws: TextBootstrap) -> Interval:
        """Fraction of variance unexplained, with an interval over the given draws of the texts."""
        moments = (self.activations, self.errors)
        return draws.interval(
            unexplained, self.n_tokens, *(part for m in moments for part in (m.total, m.squares))
        )


def unexplained(
    n: NDArray[np.float64],
    x_total: NDArray[np.float64],
    x_squares: NDArray[np.float64],
    e_total: NDArray[np.float64],
    e_squares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """FVU from totals over r corpora: counts (r,), sums (r, d_model) and sums of squares (r,), of x and of e.

    Activations without variance give 0 if the error has none either, infinity otherwise.

    Examples
    --------
    >>> two = np.array([2.0])
    >>> unexplained(two, np.zeros((1, 1)), np.array([8.0]), np.zeros((1, 1)), np.array([2.0]))
    array([0.25])
    """
    total = x_squares / n - np.square(x_total / n[:, None]).sum(1)
    rest = e_squares / n - np.square(e_total / n[:, None]).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, rest / total, np.where(rest > 0, np.inf, 0.0))


def reconstruct_corpus(
    model: TextModel,
    saes: Mapping[str, SparseAutoencoder],
    site: str,
    texts: Sequence[str],
    *,
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
    verbose: int = 0,
) -> tuple[Tensor, dict[str, CorpusReconstruction]]:
    """Read a corpus once and reconstruct it by several SAEs.

    Tokens stream through; what stays is 8·n_texts·d_model bytes, once and once more for each SAE.

    Parameters
    ----------
    model, site, texts, include_special, max_length, batch_tokens, verbose
        As in `read_tokens`.
    saes : mapping of str to SparseAutoencoder
        By any name.

    Returns
    -------
    mean : Tensor of float64, shape (d_model,)
        The activations' mean over all tokens: what mean ablation puts in their place.
    found : dict of str to CorpusReconstruction

    Raises
    ------
    ValueError
        An SAE of another width than the site, or no text with a token that counts.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig
    >>> saes = {"random": SparseAutoencoder(384, SAEConfig(d_sae=16, k=4))}
    >>> mean, found = reconstruct_corpus(load_model("demo"), saes, "resid.3", ["A nurse.", "She is a surgeon."])
    >>> mean.shape, found["random"].n_tokens
    (torch.Size([384]), array([3, 5]))
    """
    texts = check_texts(texts)
    n_texts, shift = len(texts), None
    n_tokens = np.zeros(n_texts, dtype=np.int64)
    activations: Moments | None = None
    errors: dict[str, Moments] = {}
    active = {name: np.zeros(n_texts, dtype=np.int64) for name in saes}
    fired = {name: torch.zeros(sae.d_sae, dtype=torch.bool) for name, sae in saes.items()}
    for batch in read_tokens(
        model,
        texts,
        site,
        include_special=include_special,
        max_length=max_length,
        batch_tokens=batch_tokens,
        verbose=verbose,
    ):
        x, text_index = batch.activations[site], batch.text_index
        if shift is None:
            shift = x.double().mean(0)
            activations = Moments.empty(n_texts, x.shape[1])
            for name, sae in saes.items():
                if sae.d_in != x.shape[1]:
                    raise ValueError(f"The SAE {name!r} reads {sae.d_in} wide, {site} is {x.shape[1]} wide.")
                errors[name] = Moments.empty(n_texts, x.shape[1])
        assert activations is not None
        n_tokens += np.bincount(text_index, minlength=n_texts)
        activations.add(text_index, x.double() - shift)
        for name, sae in saes.items():
            rows = max(1, _CODES_AT_ONCE // sae.d_sae)
            for start in range(0, len(x), rows):
                part = slice(start, start + rows)
                given = x[part].to(sae.device, sae.dtype)
                with torch.no_grad():
                    z = sae.encode(given)
                    error = x[part].double() - sae.decode(z, given).to(x.device).double()
                on = (z > 0).cpu()
                fired[name] |= on.any(0)
                count = on.sum(1).numpy()
                active[name] += np.bincount(text_index[part], count, minlength=n_texts).astype(np.int64)
                errors[name].add(text_index[part], error)
    if shift is None or activations is None:
        raise ValueError("No text holds a token that counts: there is nothing to reconstruct.")
    mean = shift.cpu() + torch.from_numpy(activations.total.sum(0) / n_tokens.sum())
    return mean, {
        name: CorpusReconstruction(n_tokens, activations, errors[name], active[name], fired[name].numpy())
        for name in saes
    }
