r"""The parts of pooled activations, and how well the attribute is read from each.

    x = reconstruction + error            what the dictionary says, and what it does not
    x = flagged part + the rest           what the flagged latents write, and all else

A mean over tokens may be taken part by part, so a text's pooled activation is the sum of its pooled parts. An edit of
flagged latents removes the flagged part alone: an attribute that a probe reads from the error term, or from the rest,
survives it.

A part whose leakage is high need not be one that the model uses, and the parts' leakages do not add up: the same
attribute may stand in several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ssae_debias.activations import TextModel, TokenBatch, read_tokens
from ssae_debias.data import check_texts
from ssae_debias.latents import pool_latents
from ssae_debias.metrics.compared import BatchFactory
from ssae_debias.metrics.leakage import leakage
from ssae_debias.sae import SparseAutoencoder

ACTIVATION, RECONSTRUCTION, ERROR, FLAGGED, REST = (
    "activation",
    "reconstruction",
    "error term",
    "flagged latents",
    "rest",
)


def pooled_parts(
    model: TextModel,
    saes: Mapping[str, SparseAutoencoder],
    texts: Sequence[str],
    *,
    flagged: Mapping[str, Sequence[int] | NDArray[np.int64]] | None = None,
    include_special: bool = False,
    max_length: int = 128,
    batch_tokens: int | None = None,
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Split the mean activation of each text into parts, at several sites.

    Parameters
    ----------
    model, texts, include_special, max_length, batch_tokens
        As in `read_pooled`.
    saes : mapping of str to SparseAutoencoder
        By site.
    flagged : mapping of str to sequence of int, optional
        Latents that are to be ablated, by site; with it the parts "flagged latents" and "rest" are given too.

    Returns
    -------
    dict of str to dict of str to ndarray of float32, shape (n_texts, d_model)
        By site and part: "activation", "reconstruction", "error term", and with `flagged` "flagged latents", "rest".

    Raises
    ------
    ValueError
        A flagged latent that the SAE lacks, or flags for a site without an SAE.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(384, SAEConfig(d_sae=16, k=4))
    >>> parts = pooled_parts(load_model("demo"), {"embed": sae}, ["A nurse."], flagged={"embed": [3]})["embed"]
    >>> list(parts)
    ['activation', 'reconstruction', 'error term', 'flagged latents', 'rest']
    >>> bool(np.allclose(parts["reconstruction"] + parts["error term"], parts["activation"], atol=1e-6))
    True
    """
    texts = check_texts(texts)
    return parts_of_tokens(
        lambda: read_tokens(
            model,
            texts,
            list(saes),
            include_special=include_special,
            max_length=max_length,
            batch_tokens=batch_tokens,
        ),
        saes,
        len(texts),
        flagged=flagged,
    )


def parts_of_tokens(
    batches: BatchFactory,
    saes: Mapping[str, SparseAutoencoder],
    n_texts: int,
    *,
    flagged: Mapping[str, Sequence[int] | NDArray[np.int64]] | None = None,
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """`pooled_parts` of tokens that were read already, such as an `ActivationStore`'s.

    Parameters
    ----------
    batches : callable
        Reads the corpus anew at each call, such as ``store.token_batches``; once, and once more for SAEs that normalise.
    saes, flagged
        As in `pooled_parts`.
    n_texts : int
        How many texts the batches' `text_index` refers to. A text without tokens has parts of zeros.

    Returns
    -------
    dict of str to dict of str to ndarray of float32, shape (n_texts, d_model)

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig
    >>> sae, model = SparseAutoencoder(384, SAEConfig(d_sae=16, k=4)), load_model("demo")
    >>> parts = parts_of_tokens(lambda: read_tokens(model, ["A nurse."], "embed"), {"embed": sae}, 1)
    >>> parts["embed"]["error term"].shape
    (1, 384)
    """
    if unknown := sorted(set(flagged or {}) - set(saes)):
        raise ValueError(f"There are flags for {', '.join(unknown)}, but SAEs only for {', '.join(saes)}.")
    means = _Means(batches, list(saes), n_texts)
    latents = pool_latents(means, saes, n_texts)
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    for site, sae in saes.items():
        x, f = means.of(site), torch.from_numpy(latents[site].pooled).to(sae.W_dec)
        with torch.no_grad():
            if sae.normalization == "none":
                decoded = sae.decode(f).float().cpu().numpy()  # the mean's decoding is the decodings' mean
            else:
                decoded = (f @ sae.W_dec).float().cpu().numpy()
                for batch in batches():
                    base = sae.baseline(batch.activations[site].to(sae.W_dec)).double().cpu().numpy()
                    n = np.bincount(batch.text_index, minlength=n_texts).clip(1)
                    # a text's tokens stand in one batch
                    np.add.at(
                        decoded, batch.text_index, (base / n[batch.text_index, None]).astype(np.float32)
                    )
        found[site] = {ACTIVATION: x, RECONSTRUCTION: decoded, ERROR: x - decoded}
        if flagged is not None:
            mask = torch.zeros(sae.d_sae, dtype=sae.dtype, device=sae.device)
            chosen = np.asarray(flagged.get(site, []), dtype=np.int64)
            if len(chosen) and not (chosen.min() >= 0 and chosen.max() < sae.d_sae):
                raise ValueError(f"Latents at {site} lie in 0 … {sae.d_sae - 1}; got {chosen.tolist()}.")
            mask[torch.from_numpy(chosen).to(sae.device)] = 1
            with torch.no_grad():
                written = (f * mask @ sae.W_dec).float().cpu().numpy()
            found[site] |= {FLAGGED: written, REST: x - written}
    return found


class _Means:
    """Passes batches on and keeps each text's mean activation."""

    def __init__(self, batches: BatchFactory, sites: Sequence[str], n_texts: int) -> None:
        self.batches, self.sites = batches, sites
        self.count = np.zeros(n_texts, dtype=np.int64)
        self.sums: dict[str, torch.Tensor] = {}

    def __iter__(self) -> Iterator[TokenBatch]:
        n = len(self.count)
        for batch in self.batches():
            rows = torch.from_numpy(batch.text_index)
            for site in self.sites:
                x = batch.activations[site].double().cpu()
                self.sums.setdefault(site, torch.zeros(n, x.shape[1], dtype=torch.float64)).index_add_(
                    0, rows, x
                )
            self.count += np.bincount(batch.text_index, minlength=n)
            yield batch

    def of(self, site: str) -> NDArray[np.float32]:
        if site not in self.sums:
            raise ValueError("none of the texts holds a token that counts.")
        mean: NDArray[np.float32] = (self.sums[site].numpy() / np.maximum(self.count, 1)[:, None]).astype(
            np.float32
        )
        return mean


def leakage_of_parts(
    train: Mapping[str, ArrayLike],
    a_train: ArrayLike,
    test: Mapping[str, ArrayLike],
    a_test: ArrayLike,
    *,
    probes: Sequence[Literal["linear", "mlp"]] = ("linear", "mlp"),
    random_state: int | None = None,
) -> dict[str, dict[str, float]]:
    """Leakage of each part, by each probe.

    Parameters
    ----------
    train, test : mapping of str to array-like of shape (n, d_model)
        The same parts of training and of test texts, from `pooled_parts`. Both sets should be balanced over
        (label, attribute) groups, see `ssae_debias.metrics.leakage`.
    a_train, a_test : array-like of shape (n,)
        The attribute.
    probes : sequence of {"linear", "mlp"}, default both
        What a linear probe cannot read, a network may.
    random_state : int or None, default None
        Seed of the network.

    Returns
    -------
    dict of str to dict of str to float
        By part and probe: balanced accuracy; chance is 1 / (number of attribute values).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a = np.repeat([0, 1], 100)
    >>> parts = {"error term": rng.normal(size=(200, 3)) + 4 * a[:, None]}
    >>> leakage_of_parts(parts, a, parts, a, probes=["linear"])["error term"]["linear"] > 0.95
    True
    """
    if set(train) != set(test):
        raise ValueError(f"train holds the parts {sorted(train)}, test {sorted(test)}: give the same.")
    return {
        part: {
            probe: leakage(x, a_train, test[part], a_test, probe=probe, random_state=random_state)
            for probe in probes
        }
        for part, x in train.items()
    }
