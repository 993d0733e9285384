"""Latents of a classifier that reads no tokens: SAEs on the vectors of each site, and who carries the attribute.

The same steps as `SSAEDebiaser` takes for texts (train, gather evidence, flag, realign, erase), on whatever vectors a
pipeline's step or a module's layer returns. Vectors stream through: an image gives thousands of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ssae_debias.audit.classifiers import Classifier, pooled, rows_of
from ssae_debias.audit.found import Found
from ssae_debias.audit.residues import residue_after
from ssae_debias.audit.settings import LatentSettings
from ssae_debias.audit.training_vectors import training_vectors
from ssae_debias.edit import edit_flagged
from ssae_debias.latents import FlagRule, evidence_table, pool_latents
from ssae_debias.sae import SAEConfig, SparseAutoencoder, train_sae

N_EXAMPLES = 5
SHOWN = 40
"""Latents of a site that examples are gathered for: those that a page shows, and some more."""
MAX_ROWS = 8192
"""Inputs that the evidence is taken from, as in `SSAEDebiaser`: bounds the memory to 4·8192·d_sae bytes a site."""
ONE_WAY = 0.9
"""Part of the counterfactuals that must move activations to the same side to be taken to go one way."""


def find_array_latents(
    classifier: Classifier,
    inputs: Any,
    y: NDArray[np.int64],
    *,
    sites: Sequence[str],
    settings: LatentSettings,
    attribute: NDArray[Any] | None,
    known: NDArray[np.bool_],
    counterfactual: Any = None,
    side: NDArray[np.int64] | None = None,
    numbers: NDArray[np.int64] | None = None,
    home: Path | None = None,
    random_state: int = 0,
    verbose: int = 0,
) -> Found:
    """Train SAEs at the sites of a classifier and flag the latents that carry the attribute.

    Parameters
    ----------
    classifier : Classifier
    inputs : array, DataFrame or list of length n
    y : ndarray of int64, shape (n,)
    sites : sequence of str
        In forward order.
    settings : LatentSettings
    attribute : ndarray of shape (n,) or None
        Its values, or the side of its words (`Groups.told`): evidence that the rules `"association"` and `"both"` and
        `protect` flag by, and what erasure erases. The rule `"counterfactual"` flags the same latents without it.
    known : ndarray of bool, shape (n,)
        Rows whose attribute is known.
    counterfactual : inputs of length n, optional
        The same rows with only the attribute changed.
    side : ndarray of int64, shape (n,), optional
        Which way each counterfactual goes: 1 from side 1 to side 0, -1 the other way, 0 unchanged. Default: all the
        same way, with a warning where they do not.
    numbers : ndarray of int64, shape (n,), optional
        What the rows are called in examples; default: 0 to n - 1.
    home : Path or None
        Folder that keeps training, for a stopped run to go on from.
    random_state : int
    verbose : int

    Returns
    -------
    Found
        Nothing in it is to be ablated where labels and attribute go together everywhere and there is no
        counterfactual: then nothing tells the attribute's latents from the task's.

    Raises
    ------
    ValueError
        A residue site that there is not, a site wider than 16 384, NaN among activations, or a rule that needs evidence that there
        is not; `settings.apart` without counterfactuals.

    Examples
    --------
    >>> from torch import nn
    >>> from ssae_debias.audit import ModuleClassifier
    >>> model = ModuleClassifier(nn.Sequential(nn.Identity(), nn.Linear(4, 2)), "0", classes=["no", "yes"])
    >>> random = np.random.default_rng(0)
    >>> y, a = random.integers(2, size=(2, 600))
    >>> x = random.normal(0, 0.1, (600, 4)) + np.outer(y, np.eye(4)[0]) + np.outer(a, np.eye(4)[1])
    >>> found = find_array_latents(
    ...     model, x, y, sites=["module:0"], settings=LatentSettings(flag="association", train_tokens=30_000),
    ...     attribute=a, known=np.ones(600, dtype=bool),
    ... )
    >>> found.n_ablated > 0
    True
    """
    last = settings.residue_site or sites[-1]
    if last not in classifier.sites:
        raise ValueError(
            f"residue_site is {last!r}; the classifier {classifier.name} has {', '.join(classifier.sites)}."
        )
    centers: dict[str, NDArray[np.float32]] = {}
    saes: dict[str, SparseAutoencoder] = {}
    for place, site in enumerate(sites):
        seed = random_state + place
        vectors, centers[site] = training_vectors(
            classifier,
            inputs,
            site,
            settings.train_tokens,
            counterfactual=counterfactual,
            apart=settings.apart,
            random_state=seed,
            verbose=verbose,
        )
        saes[site] = _sae(vectors, settings, home, seed, verbose)
    rows = np.sort(np.random.default_rng(random_state).permutation(len(y))[:MAX_ROWS])
    part = rows_of(inputs, rows)
    latents, swapped, sides = _latents(classifier, part, saes, verbose), None, None
    if counterfactual is not None:
        other = rows_of(counterfactual, rows)
        swapped = _latents(classifier, other, saes, verbose)
        sides = np.ones(len(rows), dtype=np.int64) if side is None else side[rows]
        if side is None:
            _warn_of_both_ways(classifier, part, other, last)
    evidence = evidence_table(
        latents,
        swapped=swapped,
        side=sides,
        y=y[rows],
        sensitive_features=None if attribute is None else attribute[rows],
        known=known[rows],
    )
    table = _decided(evidence, settings)
    residue = residue_after(
        classifier,
        inputs,
        y,
        edit_flagged(table, saes, settings.edit, centers),
        site=last,
        attribute=attribute,
        known=known,
        realign=bool(settings.realign),
        erase=bool(settings.erase),
    )
    called = rows if numbers is None else numbers[rows]
    return Found(
        table=table,
        saes=saes,
        centers=centers,
        mode=settings.edit,
        residue=residue,
        residue_site=last,
        pooled={sites[-1]: latents[sites[-1]]},
        examples=_examples(classifier, part, called, latents, table),
        rows=rows,
    )


def _sae(
    vectors: torch.Tensor, settings: LatentSettings, home: Path | None, seed: int, verbose: int
) -> SparseAutoencoder:
    width = vectors.shape[1]
    d_sae = settings.d_sae or 8 * width
    config = SAEConfig(
        d_sae=d_sae,
        k=settings.k or min(max(4, width // 16), d_sae),
        architecture=settings.architecture,
        tilt=settings.tilt,
        n_tokens=settings.train_tokens,
        batch_size=512,
    )
    return train_sae(
        vectors.numpy(),
        config,
        checkpoint_dir=None if home is None else home / "saes",
        random_state=seed,
        device=settings.device,
        verbose=verbose,
    ).cpu()


def _latents(
    classifier: Classifier, inputs: Any, saes: Mapping[str, SparseAutoencoder], verbose: int
) -> dict[str, Any]:
    # site by site: layers of different sizes give different numbers of vectors
    found: dict[str, Any] = {}
    for site, sae in saes.items():
        batches = classifier.tokens(inputs, [site], verbose=verbose)
        found |= pool_latents(batches, {site: sae}, len(inputs))
    return found


def _warn_of_both_ways(classifier: Classifier, inputs: Any, other: Any, site: str) -> None:
    change = pooled(classifier, inputs, [site])[site] - pooled(classifier, other, [site])[site]
    change = change[np.abs(change).sum(axis=1) > 0].astype(np.float64)
    if not len(change):
        return
    # the direction along which the counterfactuals move most, without centring: their sign is the question
    along = change @ np.linalg.eigh(change.T @ change)[1][:, -1]
    share = max((along > 0).mean(), (along < 0).mean())
    if share < ONE_WAY:
        warnings.warn(
            f"The counterfactuals move activations both ways ({share:.0%} one way), and nothing says which row goes "
            "which: responses cancel out, and few latents or none are flagged. Give sensitive_features with two values, "
            "or counterfactuals that all set the attribute to the same value.",
            stacklevel=3,
        )


def _decided(evidence: pd.DataFrame, settings: LatentSettings) -> pd.DataFrame:
    rule = FlagRule(
        rule=settings.flag,
        min_effect=settings.min_effect,
        max_q=settings.max_q,
        max_latents=settings.max_latents,
        protect=settings.protect,
    )
    if "attribute_effect" in evidence or settings.flag == "counterfactual":
        return rule.decide(evidence)
    if "response_effect" in evidence:
        return replace(rule, rule="counterfactual").decide(evidence)
    why = "no label holds two values of the attribute, so nothing tells it from the task"
    return evidence.assign(score=0.0, decision="keep", reason=why)


def _examples(
    classifier: Classifier,
    inputs: Any,
    numbers: NDArray[np.int64],
    latents: Mapping[str, Any],
    table: pd.DataFrame,
) -> dict[tuple[str, int], list[tuple[str, list[tuple[str, float]]]]]:
    found = {}
    for site, latent, rows in _strongest(latents, table):
        values = latents[site].pooled[rows, latent]
        written = classifier.written(rows_of(inputs, rows), numbers[rows].tolist())
        # one mark over the whole row: its strength is the row's
        found[site, latent] = [
            (text, [(text, float(value))]) for text, value in zip(written, values, strict=True)
        ]
    return found


def _strongest(
    latents: Mapping[str, Any], table: pd.DataFrame
) -> Iterator[tuple[str, int, NDArray[np.int64]]]:
    shown = table.groupby("site", sort=False).head(SHOWN)
    for site, latent in zip(shown["site"], shown["latent"].astype(int), strict=True):
        values = latents[site].pooled[:, latent]
        rows = np.argsort(-values, kind="stable")[:N_EXAMPLES]
        yield site, latent, rows[values[rows] > 0]
