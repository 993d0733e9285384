"""Facts of a run that every page shows: versions, how the SAEs came out, the text they were specialised on."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from ssae_debias import __version__
from ssae_debias.report.content import SiteTraining, Subdomain

LIBRARIES = ("torch", "transformers", "scikit-learn", "fairlearn", "numpy", "concept-erasure")
DOCUMENTS = 5
CHARACTERS = 400


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the figures depend on.

    Examples
    --------
    >>> list(versions())[:2]
    ['python', 'ssae-debias']
    """
    return {
        "python": platform.python_version(),
        "ssae-debias": __version__,
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def training_facts(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, SiteTraining]:
    """How each site's SAE came out, and the curve that led there; sites that were not trained are left out.

    Parameters
    ----------
    histories : mapping of str to sequence of mapping
        `SparseAutoencoder.history_` by site.

    Examples
    --------
    >>> training_facts({"embed": [{"step": 1, "fvu": 0.5, "l0": 4.0, "dead_fraction": 0.0}], "resid.0": []})
    {'embed': {'fvu': 0.5, 'l0': 4.0, 'dead_fraction': 0.0, 'history': [{'step': 1, 'fvu': 0.5, 'l0': 4.0, \
'dead_fraction': 0.0}]}}
    """
    return {
        site: SiteTraining(
            fvu=history[-1]["fvu"],
            l0=history[-1]["l0"],
            dead_fraction=history[-1]["dead_fraction"],
            history=history,
        )
        for site, history in histories.items()
        if history
    }


def subdomain_facts(retrieved: Any) -> Subdomain | None:
    """A few retrieved documents to look at, and counts; None where nothing was retrieved.

    Parameters
    ----------
    retrieved : Retrieved or None
        `SSAEDebiaser.subdomain_`.

    Examples
    --------
    >>> subdomain_facts(None) is None
    True
    """
    if retrieved is None or not len(retrieved.texts):
        return None
    return Subdomain(
        documents=[text[:CHARACTERS] for text in retrieved.texts[:DOCUMENTS]],
        stats={
            "documents": len(retrieved.texts),
            "best score": float(retrieved.scores[0]),
            "last score": float(retrieved.scores[-1]),
        },
    )
