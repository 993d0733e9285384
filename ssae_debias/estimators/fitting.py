"""The steps that fitting a debiaser is made of, between a model and its flagged latents."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.activations import ActivationStore, TextModel, TokenBatch, resolve_sites
from ssae_debias.data import WordPairs
from ssae_debias.latents import evidence_table, pool_latents
from ssae_debias.sae import SparseAutoencoder
from ssae_debias.sae.formats import is_sae, local_path, release_folder, release_sites


def debias_sites(model: TextModel, sites: str | Sequence[str], output_site: str) -> tuple[str, ...]:
    """The sites to edit, in forward order.

    `"auto"` is `embed` and every residual site up to `output_site`: attention spreads an attribute early, so
    it is met where it enters and again wherever it has gone.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> debias_sites(load_model("demo"), "auto", "resid.1")
    ('embed', 'resid.0', 'resid.1')
    """
    if isinstance(sites, str) and sites == "auto":
        stream = [name for name in model.sites if name == "embed" or name.startswith("resid.")]
        last = resolve_sites(model, output_site)[0].order
        return tuple(site.name for site in resolve_sites(model, stream) if site.order <= last)
    return tuple(site.name for site in sorted(resolve_sites(model, sites), key=lambda site: site.order))


def given_saes(sae: Any, sites: Sequence[str]) -> dict[str, SparseAutoencoder]:
    """The SAEs that a user brings, by site.

    Parameters
    ----------
    sae : mapping or path-like
        Paths or SAEs by site; or a folder with one folder a site, named as the site; or the root of a Sparse
        Feature Circuits release (`load_release`); or, for a single site, one SAE. In every released format
        (`load_sae`), and from the Hugging Face hub as ``hub:owner/name[@revision][/folder]``.
    sites : sequence of str

    Raises
    ------
    TypeError
        `sae` is something else.
    ValueError
        A site has none, or one SAE is given for several sites.
    FileNotFoundError, DamagedFileError
        See `load_sae`.
    """
    if isinstance(sae, Mapping):
        by_site = dict(sae)
    elif isinstance(sae, str | os.PathLike):
        by_site = _places(local_path(sae), sites)
    else:
        raise TypeError(
            f'sae is "train", a folder, or a mapping of site to folder or SAE; got {type(sae).__name__}.'
        )
    missing = [site for site in sites if site not in by_site]
    if missing:
        raise ValueError(
            f"sae holds none for {', '.join(missing)}; it has {', '.join(by_site) or 'no site'}."
        )
    return {
        site: found if isinstance(found, SparseAutoencoder) else SparseAutoencoder.from_pretrained(found)
        for site, found in by_site.items()
        if site in sites
    }


def _places(folder: Path, sites: Sequence[str]) -> dict[str, Path]:
    """Where a folder holds each site's SAE."""
    if not folder.exists():
        raise FileNotFoundError(f"sae: there is no {folder}.")
    if is_sae(folder):
        if len(sites) != 1:
            raise ValueError(
                f"{folder} holds one SAE and there are {len(sites)} sites ({', '.join(sites)}): give a mapping of "
                "site to path, or a folder with one folder a site."
            )
        return {sites[0]: folder}
    places = release_sites(folder)
    for site in sites:
        # a release has a folder `embed` too, with the SAE one folder deeper
        if is_sae(folder / site) or (site not in places and (folder / site).is_dir()):
            places[site] = folder / site
        elif site in places:
            places[site] = release_folder(folder, site)
    return places


def gather_evidence(
    store: ActivationStore,
    build_store: Callable[[list[str]], ActivationStore],
    saes: Mapping[str, SparseAutoencoder],
    texts: Sequence[str],
    rows: NDArray[np.int64],
    *,
    pairs: WordPairs | None,
    swap: bool,
    y: NDArray[Any] | None,
    sensitive_features: NDArray[Any] | None,
    known: NDArray[np.bool_],
) -> pd.DataFrame:
    """The evidence table of all latents, from stored activations.

    Parameters
    ----------
    store : ActivationStore
        Activations of the training texts; the first of them are `texts`.
    build_store : callable
        Makes the store of the counterfactual texts.
    saes : mapping of str to SparseAutoencoder
    texts : sequence of str
    rows : ndarray of int64
        Texts that the evidence is taken from.
    pairs : WordPairs or None
    swap : bool
        Whether to read the counterfactual texts; needs `pairs`.
    y, sensitive_features : ndarray of shape (len(texts),) or None
        Where there is no attribute but pairs, the side whose words a text holds more of stands in for it.
    known : ndarray of bool, shape (len(texts),)
        Texts whose attribute is known.
    """
    pooled = pool_latents(of_texts(store, rows), saes, len(rows))
    chosen = [texts[row] for row in rows]
    attribute = None if sensitive_features is None else sensitive_features[rows]
    known, side, swapped = known[rows], None, None
    if pairs is not None:
        side = sides_of(chosen, pairs)
        if attribute is None:
            attribute, known = side, side != 0
        if swap:
            other = build_store([pairs.swap(text) for text in chosen])
            swapped = pool_latents(of_texts(other, np.arange(len(rows))), saes, len(rows))
    return evidence_table(
        pooled,
        swapped=swapped,
        side=None if swapped is None else side,
        y=None if y is None else y[rows],
        sensitive_features=attribute,
        known=known,
    )


def sides_of(texts: Sequence[str], pairs: WordPairs | None) -> NDArray[np.int64]:
    """Whose words each text holds more of: -1 side 0, 1 side 1, 0 neither (or no pairs at all).

    Examples
    --------
    >>> sides_of(["His ward.", "She said.", "A ward."], WordPairs.gender()).tolist()
    [-1, 1, 0]
    """
    if pairs is None:
        return np.zeros(len(texts), dtype=np.int64)
    counts = np.array([pairs.sides(text) for text in texts]).reshape(-1, 2)
    return np.sign(counts[:, 1] - counts[:, 0])


def of_texts(
    store: ActivationStore, rows: NDArray[np.int64], *, renumber: bool = True
) -> Iterator[TokenBatch]:
    """The tokens of some texts of a store, numbered by their place among `rows` (or as in the store)."""
    place = np.full(store.n_texts, -1)
    place[rows] = np.arange(len(rows)) if renumber else rows
    for batch in store.token_batches():
        kept = place[batch.text_index] >= 0
        if kept.any():
            yield batch.select(kept, place)


def mean_activation(store: ActivationStore, site: str) -> NDArray[np.float32]:
    """Mean over all tokens of a site, shape (d_model,), read in batches."""
    total = np.zeros(store.width(site))
    for batch in store.batches(site, 65_536, shuffle=False):
        total += batch.double().sum(0).numpy()
    return (total / store.n_tokens).astype(np.float32)
