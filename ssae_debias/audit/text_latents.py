"""Latents of a text classifier: `SSAEDebiaser` inside the model that has the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.activations import read_tokens, resolve_sites
from ssae_debias.audit.classifiers import TextClassifier
from ssae_debias.audit.found import Found
from ssae_debias.audit.settings import LatentSettings
from ssae_debias.data import WordPairs
from ssae_debias.estimators import SSAEDebiaser
from ssae_debias.estimators.describing import TEXTS_KEPT, TEXTS_NAMED_BY
from ssae_debias.latents import describe_latents, name_latents, pool_latents


def audit_sites(classifier: TextClassifier, settings: LatentSettings) -> tuple[str, ...]:
    """The sites that an audit of a text model edits; see `LatentSettings.sites`."""
    if not (isinstance(settings.sites, str) and settings.sites == "auto"):
        found = resolve_sites(classifier.model, settings.sites)
        return tuple(site.name for site in sorted(found, key=lambda site: site.order))
    return classifier.sites[:1]


def find_text_latents(
    classifier: TextClassifier,
    texts: list[str],
    y: NDArray[np.int64],
    *,
    settings: LatentSettings,
    pairs: WordPairs | None,
    attribute: NDArray[Any] | None,
    home: Path | None,
    random_state: int = 0,
    verbose: int = 0,
) -> tuple[Found, SSAEDebiaser]:
    """Fit an `SSAEDebiaser` inside a classifier and gather what the report shows.

    Parameters
    ----------
    classifier : TextClassifier
    texts : list of str
    y : ndarray of int64, shape (n_texts,)
    settings : LatentSettings
    pairs : WordPairs or None
    attribute : ndarray of shape (n_texts,) or None
        Attribute values, None where not known.
    home : Path or None
        Where activations and SAEs are kept.
    random_state, verbose : int
    """
    sites = audit_sites(classifier, settings)
    debiaser = SSAEDebiaser(
        classifier.model.module,
        tokenizer=classifier.model.tokenizer,
        sites=sites,
        output_site=settings.residue_site or sites[-1],
        attribute=pairs,
        sae=settings.sae,
        corpus=settings.corpus,
        retriever=settings.retriever,
        n_retrieved=settings.n_retrieved,
        d_sae=settings.d_sae or 2048,
        k=settings.k or 32,
        architecture=settings.architecture,
        tilt=settings.tilt,
        train_tokens=settings.train_tokens,
        flag=settings.flag,
        min_effect=settings.min_effect,
        max_q=settings.max_q,
        max_latents=settings.max_latents,
        protect=settings.protect,
        edit=settings.edit,
        realign=bool(settings.realign),
        erase=bool(settings.erase),
        missing="drop",
        max_length=classifier.max_length,
        cache_dir=home,
        device=str(classifier.model.device),
        random_state=random_state,
        verbose=verbose,
    ).fit(texts, y, sensitive_features=attribute)
    return found_by(debiaser, texts), debiaser


def found_by(debiaser: SSAEDebiaser, texts: list[str]) -> Found:
    """What a fitted debiaser holds, in the form that all kinds of classifiers share."""
    last = debiaser.sites_[-1]
    # a text's latents take 4·d_sae bytes: of many texts some are taken, as for the evidence
    rows = np.sort(np.random.default_rng(0).permutation(len(texts))[: debiaser.max_texts])
    chosen = [texts[row] for row in rows]
    tokens = read_tokens(
        debiaser.model_, chosen, [last], max_length=debiaser.max_length, include_special=True
    )
    return Found(
        table=debiaser.flagged_,
        saes=debiaser.saes_,
        centers=debiaser.centers_,
        mode=debiaser.edit,
        residue=debiaser.residue_,
        residue_site=debiaser.output_site_,
        pooled=pool_latents(tokens, {last: debiaser.saes_[last]}, len(chosen)),
        examples={
            key: [(texts[row], tokens) for row, tokens in description.top_texts]
            for key, description in debiaser.descriptions_.items()
        },
        rows=rows,
    )


def described(debiaser: SSAEDebiaser, texts: list[str], concepts: pd.DataFrame) -> pd.DataFrame:
    """Concepts with names and strongest texts, for those that the debiaser has not described itself."""
    missing: dict[str, list[int]] = {}
    for site, latent, examples in zip(
        concepts["site"], concepts["latent"], concepts["top_texts"], strict=True
    ):
        if not examples and latent not in missing.setdefault(site, []):
            missing[site].append(int(latent))
    missing = {site: latents for site, latents in missing.items() if latents}
    if not missing:
        return concepts
    saes = {site: debiaser.saes_[site] for site in missing}
    tokens = read_tokens(
        debiaser.model_, texts, list(missing), max_length=debiaser.max_length, include_special=True
    )
    found = describe_latents(tokens, saes, missing, debiaser.model_.tokenizer, n_texts=TEXTS_NAMED_BY)
    names = name_latents(found, texts)
    concepts = concepts.copy()
    keys = list(zip(concepts["site"], concepts["latent"], strict=True))
    concepts["name"] = [
        names.get(key, name) for key, name in zip(keys, concepts.get("name", [""] * len(keys)), strict=True)
    ]
    concepts["top_texts"] = [
        [(texts[row], marks) for row, marks in found[key].top_texts[:TEXTS_KEPT]]
        if key in found
        else examples
        for key, examples in zip(keys, concepts["top_texts"], strict=True)
    ]
    return concepts
