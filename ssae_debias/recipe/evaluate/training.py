"""The SAEs of an evaluation: which there are, and how each comes to be.

Every seed has a GSAE at each sparsity level. A specialised SAE starts from the GSAE of its seed and level (or anew) and
is trained on the texts that its strategy chooses, under its tilt. The strategy `general` goes on with general text for
as many tokens: without it, what more training brings would be counted as what specialising brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig

from ssae_debias.activations import ActivationStore, TextModel, load_model, resolve_sites, site_widths
from ssae_debias.metrics.language_head import language_objective, load_language_model, objective_of
from ssae_debias.recipe.evaluate.corpora import Corpora, load_corpora
from ssae_debias.recipe.evaluate.kept_tables import fingerprint
from ssae_debias.recipe.evaluate.schema import GSAE, EvaluateRecipe
from ssae_debias.retrieval import RETRIEVERS, Retrieved, retrieve_subdomain
from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae, train_sae


@dataclass(frozen=True)
class Variant:
    """A way of making an SAE, and a sparsity level.

    Attributes
    ----------
    strategy : str
        `gsae`, a strategy of the recipe, or the name of a loaded SAE.
    tilt : float
    k : int or None
        None for loaded ones.
    """

    strategy: str
    tilt: float = 0.0
    k: int | None = None

    @property
    def name(self) -> str:
        """What tables and plots call it, whatever its sparsity level.

        Examples
        --------
        >>> Variant("dense", 3.0, 16).name
        'dense, tilt 3'
        """
        return self.strategy if not self.tilt else f"{self.strategy}, tilt {self.tilt:g}"


class EvaluateBench:
    """Model, texts, stored activations and SAEs of a run.

    Parameters
    ----------
    recipe : EvaluateRecipe
    home : Path
        Where activations and SAE checkpoints are kept.
    verbose : int, default=0

    Raises
    ------
    ValueError, OSError
        Texts, model, site or SAEs that do not fit the recipe; found before anything is trained.
    """

    def __init__(self, recipe: EvaluateRecipe, home: Path, *, verbose: int = 0) -> None:
        self.recipe, self.home, self.verbose = recipe, home, verbose
        self.corpora: Corpora = load_corpora(recipe)
        self.model: TextModel = _load_model(recipe)
        self.objective = recipe.objective or language_objective(self.model) or "probe"
        self.width = site_widths(self.model, resolve_sites(self.model, recipe.site))[recipe.site]
        labelled = self.corpora.test.labels is not None
        if self.objective == "probe" and not labelled and "fidelity" in recipe.analyses:
            raise ValueError(
                f"{self.model.name} has no language head, so fidelity is measured by a probe of the subdomain's labels, "
                "and there are none: set subdomain.label=COLUMN or subdomain.labels_in, or leave fidelity out of "
                "analyses."
            )
        self.loaded = {name: self._loaded(name, path) for name, path in recipe.saes.items()}
        self._retrieved: dict[str, Retrieved] = {}

    def variants(self) -> list[Variant]:
        """All that a seed trains, the GSAEs first, and then those that are loaded."""
        train = self.recipe.train
        found = [Variant(GSAE, 0.0, k) for k in train.ks]
        found += [Variant(s, t, k) for s in train.strategies for t in train.tilts for k in train.ks]
        return found + [Variant(name) for name in self.loaded]

    def sae(self, variant: Variant, seed: int) -> SparseAutoencoder:
        """The SAE of a variant and a seed: trained, or read from its checkpoint."""
        if variant.strategy in self.loaded:
            return self.loaded[variant.strategy]
        assert variant.k is not None
        return self._trained(variant, seed, self.recipe.site, self.texts_of(variant.strategy))

    def texts_of(self, strategy: str) -> list[str]:
        """What a strategy trains on."""
        if strategy in (GSAE, "general"):
            return self.corpora.general
        if strategy == "seeds":
            return self.corpora.seeds.texts
        return self.retrieved(strategy).texts

    def retrieved(self, strategy: str) -> Retrieved:
        """A retrieved subdomain, the same for all seeds; TracIn asks the GSAE of the first seed."""
        if strategy not in self._retrieved:
            recipe = self.recipe
            with_sae: dict[str, Any] = {}
            if strategy.endswith("+tracin"):
                gsae = self.sae(Variant(GSAE, 0.0, recipe.compared_k), recipe.seeds[0])
                with_sae = {"model": self.model, "site": recipe.site, "sae": gsae}
            self._retrieved[strategy] = retrieve_subdomain(
                self.corpora.general,
                self.corpora.seeds.texts,
                n=min(recipe.train.n_retrieved, len(self.corpora.general)),
                retriever=strategy,
                encoder=recipe.train.encoder,
                max_length=recipe.max_length,
                cache_dir=self.home / "vectors" / fingerprint(self.corpora.general)[:16],
                verbose=self.verbose,
                **with_sae,
            )
        return self._retrieved[strategy]

    def retrieval_facts(self) -> dict[str, dict[str, float | int]]:
        """Of each retrieving strategy: documents, and the share of them that is known to be of the subdomain."""
        carriers = self.corpora.carriers
        facts: dict[str, dict[str, float | int]] = {}
        for strategy in self.recipe.train.strategies:
            if strategy not in RETRIEVERS:
                continue
            ids = self.retrieved(strategy).ids
            facts[strategy] = {"n_texts": len(ids)}
            if len(carriers):
                facts[strategy] |= {
                    "of the subdomain": round(float(np.isin(ids, carriers).mean()), 4),
                    "of the subdomain found": round(float(np.isin(carriers, ids).mean()), 4),
                }
        return facts

    @cached_property
    def test(self) -> ActivationStore:
        """Activations of the subdomain's test texts."""
        return self.store(self.corpora.test.texts, [self.recipe.site])

    def store(self, texts: Sequence[str], sites: Sequence[str]) -> ActivationStore:
        """Activations of some texts, computed once."""
        return ActivationStore.build(
            self.home / "activations",
            self.model,
            list(texts),
            list(sites),
            max_length=self.recipe.max_length,
            include_special=self.recipe.include_special,
            verbose=self.verbose,
        )

    def site_saes(self, variant: Variant, seed: int, sites: Sequence[str]) -> dict[str, SparseAutoencoder]:
        """The same variant at several sites, for a circuit."""
        texts = self.texts_of(variant.strategy)
        return {site: self._trained(variant, seed, site, texts) for site in sites}

    def _trained(self, variant: Variant, seed: int, site: str, texts: Sequence[str]) -> SparseAutoencoder:
        train = self.recipe.train
        general = variant.strategy == GSAE
        init = None
        if not general and train.start == "gsae":
            init = self._trained(Variant(GSAE, 0.0, variant.k), seed, site, self.corpora.general)
        assert variant.k is not None
        config = SAEConfig(
            d_sae=train.d_sae,
            k=variant.k,
            architecture=train.architecture,
            tilt=variant.tilt,
            tilt_scale=train.tilt_scale,
            n_tokens=train.general_tokens if general else train.tokens,
        )
        # the tokens of `general` shall not be those that the GSAE began with, in the same order
        return train_sae(
            self.store(texts, [site]).at(site),
            config,
            init=init,
            checkpoint_dir=self.home / "saes",
            random_state=seed if general else seed + 1000,
            device=self.model.device,
            verbose=self.verbose,
        ).eval()

    def _loaded(self, name: str, path: str) -> SparseAutoencoder:
        sae = load_sae(path)
        if sae.d_in != self.width:
            raise ValueError(
                f"saes.{name} reads activations of width {sae.d_in}; {self.model.name} has {self.width} at "
                f"{self.recipe.site}. Choose another site or SAE."
            )
        return sae.to(self.model.device).eval()


def _load_model(recipe: EvaluateRecipe) -> TextModel:
    """With its language head where the recipe's objective needs one, or the checkpoint names one."""
    options: dict[str, Any] = {"device": recipe.device, "dtype": recipe.dtype}
    if recipe.model == "demo":
        if recipe.objective in ("causal", "masked"):
            raise ValueError(
                f"objective={recipe.objective} needs a language head, and the demo's encoder has none."
            )
        return load_model(recipe.model, **options)
    if recipe.objective == "probe":
        return load_model(recipe.model, **options)
    if recipe.objective is not None:
        return load_language_model(recipe.model, objective=recipe.objective, **options)
    try:
        named = list(getattr(AutoConfig.from_pretrained(recipe.model), "architectures", None) or [])
    except (OSError, ValueError):
        named = []  # load_model says what is wrong
    if any(objective_of(name) for name in named):
        return load_language_model(recipe.model, **options)
    return load_model(recipe.model, **options)
