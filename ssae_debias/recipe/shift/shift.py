"""SHIFT on the bench: what all its rows and all seeds share, each part made when a row first asks for it.

    general text → GSAE at each site ─┬→ attribution → decisions → edits
    training texts (+ retrieved) → SSAE ┘       ↑ a person's veto

SAEs, attribution and decisions belong to the run, not to a seed: they are made with the first of its seeds, as
in the published experiment, where a person decides once. Seeds then redraw the rows that probes are trained on.
"""

from __future__ import annotations

import warnings
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.activations import ActivationStore, resolve_sites, site_widths
from ssae_debias.edit import Edit, Projection, edit_latents
from ssae_debias.estimators.fitting import given_saes
from ssae_debias.latents import (
    Neurons,
    activation_mass,
    describe_latents,
    largest,
    overrule,
    slice_latents,
)
from ssae_debias.recipe.shift.effects import measured_effects
from ssae_debias.recipe.shift.tables import KINDS, propose, read_decisions, write_table
from ssae_debias.recipe.shift.texts import corpus_of, general_texts, subdomain_texts
from ssae_debias.recipe.shift.training import build_store, neuron_means, sae_config, trained
from ssae_debias.retrieval import as_corpus
from ssae_debias.sae import SparseAutoencoder

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench

# top tokens are found for this many latents of a table, the strongest: nobody reads more
DESCRIBED = 500

SLICE = "_slice"

# how the rows are called that ablate latents of the GSAEs as they are
EDIT_GSAE = ("gsae", "latent_skyline")


class Shift:
    """Dictionaries, effects, decisions and edits of a run.

    Rows are named `gsae`, `ssae`, `gsae_slice`, `ssae_slice`, `latent_skyline` and `neuron_skyline`.

    Parameters
    ----------
    bench : Bench
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.spec = bench.recipe.shift
        self.seed = bench.recipe.seeds[0]
        self.table = cache(self._table)
        self.effects = cache(self._effects)
        self.edits = cache(self._edits)

    def check(self) -> None:
        """Look at all that the recipe names before any work begins.

        Raises
        ------
        FileNotFoundError
            The corpus, the general SAEs or the decisions are not there.
        ValueError
            A site that the model lacks or that the probe does not see, SAEs that do not fit the model, decisions
            on latents that there are not, or a pooling that attribution does not know.
        """
        protocol, widths = self.bench.recipe.protocol, self._site_widths
        if protocol.pool != "mean":
            raise ValueError(
                f"SHIFT attributes probes on mean-pooled activations; got pool: {protocol.pool}."
            )
        if self.spec.corpus is not None:
            as_corpus(corpus_of(self.bench))
        if self.spec.gsae is None:
            sae_config(self.spec, None)
        else:
            for site, sae in self.gsae.items():
                if sae.d_in != widths[site]:
                    raise ValueError(
                        f"The SAE that shift.gsae={self.spec.gsae} holds for {site} is {sae.d_in} wide, and the "
                        f"model {self.bench.model.name} {widths[site]} there: it belongs to another model."
                    )
                if sae.top_k is not None and any(m.startswith(EDIT_GSAE) for m in self.bench.recipe.methods):
                    raise ValueError(
                        f"The SAE that shift.gsae={self.spec.gsae} holds for {site} ranks its latents against each "
                        "other (TopK without thresholds), so none can be ablated alone. Run the ssae rows, which "
                        "fine-tune it into one with thresholds."
                    )
        for site, latent in zip(self._decisions["site"], self._decisions["latent"], strict=True):
            d_sae = 0 if site not in widths else self._width(site)
            if not 0 <= latent < d_sae:
                raise ValueError(
                    f"{self.spec.decisions}: there is no latent {latent} at site {site!r}; the run has latents "
                    f"0 to {max(map(self._width, widths)) - 1} at {', '.join(widths)}."
                )

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Where latents are ablated, in forward order."""
        model, read = self.bench.model, self.bench.recipe.protocol.site
        last = resolve_sites(model, read)[0].order
        names = model.sites if self.spec.sites == "auto" else self.spec.sites
        found = sorted(resolve_sites(model, names), key=lambda site: site.order)
        beyond = [site.name for site in found if site.order > last]
        if beyond and self.spec.sites != "auto":
            raise ValueError(f"shift.sites: {', '.join(beyond)} come after {read}, where the probe reads.")
        return tuple(site.name for site in found if site.order <= last)

    @cached_property
    def gsae(self) -> dict[str, SparseAutoencoder]:
        """General SAEs by site: brought, or trained on general text under the plain mean."""
        if self.spec.gsae is not None:
            return {site: sae.float() for site, sae in given_saes(self.spec.gsae, self.sites).items()}
        store = build_store(self.bench, general_texts(self.bench, self.seed), self.sites)
        return {site: trained(self.bench, store, site, None, self.seed) for site in self.sites}

    @cached_property
    def ssae(self) -> dict[str, SparseAutoencoder]:
        """SAEs fine-tuned from the general ones on the subdomain, under the tilted risk."""
        return {
            site: trained(self.bench, self._subdomain, site, self.gsae[site], self.seed)
            for site in self.sites
        }

    def _edits(self, row: str) -> dict[str, Edit]:
        """What a row does at each site; sites without an ablated latent are not in it."""
        table = self.table(row)
        chosen = {
            site: np.sort(latents.to_numpy())
            for site, latents in table[table["decision"] == "ablate"].groupby("site")["latent"]
        }
        if row == "neuron_skyline":
            return {
                site: Projection.onto_complement_of(
                    Neurons(len(self._neuron_means[site])).rows(chosen[site]), center=self._neuron_means[site]
                )
                for site in self.sites
                if site in chosen
            }
        numbers = self._numbers(row)
        return {
            site: edit_latents(
                self._saes(row)[site], np.searchsorted(numbers[site], chosen[site]), mode="zero"
            )
            for site in self.sites
            if site in chosen
        }

    # what a row is made of, in its order

    def _saes(self, row: str) -> dict[str, SparseAutoencoder]:
        """The SAEs whose latents a row ablates."""
        whole = self.ssae if row.startswith("ssae") else self.gsae
        if not row.endswith(SLICE):
            return whole
        return {site: slice_latents(whole[site], kept) for site, kept in self._numbers(row).items()}

    def _numbers(self, row: str) -> dict[str, NDArray[np.int64]]:
        """Which latents a row chooses among, as numbered in the SAE of full width, ascending."""
        if row == "neuron_skyline":
            return {site: np.arange(width) for site, width in self._site_widths.items()}
        if row.endswith(SLICE):
            mass = self._gsae_mass if row.startswith("gsae") else self._ssae_mass
            return {site: largest(mass[site], self.spec.slice_width) for site in self.sites}
        return {site: np.arange(sae.d_sae) for site, sae in self._saes(row).items()}

    def _effects(self, row: str) -> dict[str, NDArray[np.float64]]:
        """Effects of all latents that a row's are taken from; a slice's latents act as they do in the whole."""
        bench, sets, n = self.bench, self.bench.sets(self.seed), self.spec.n_texts
        if row in KINDS:
            rows = sets.ambiguous[:n]
            return measured_effects(bench, self._saes(row), rows, bench.task.y[rows], self.seed)
        # the skylines: how far the decision can be told from the attribute, on texts where the label cannot
        rows = sets.balanced[:n]
        answers = bench.task.sensitive_features[rows]
        if row == "neuron_skyline":
            neurons = {site: Neurons(width) for site, width in self._site_widths.items()}
            return measured_effects(bench, neurons, rows, answers, self.seed)
        return measured_effects(bench, self.gsae, rows, answers, self.seed)

    def _table(self, row: str) -> pd.DataFrame:
        """Latents of a row with effect and decision, overruled by a person; also written as CSV.

        The skylines, which no person judges, take as many as the GSAE row ablates in the end: they differ from
        it in which, not in how many (Marks et al. 2025 take the 55 strongest for both).
        """
        kind, numbers = row.removesuffix(SLICE), self._numbers(row)
        if kind in KINDS:
            table = propose(
                self.effects(kind), numbers, threshold=self.spec.threshold, n_latents=self.spec.n_latents
            )
            mine = self._decisions[self._decisions["sae"] == kind]
            if row.endswith(SLICE):  # of latents that the slice lacks there is nothing left to decide
                inside = [
                    latent in numbers.get(site, ())
                    for site, latent in zip(mine["site"], mine["latent"], strict=True)
                ]
                mine = mine[np.array(inside, dtype=bool)]
            table = overrule(table, mine)
        else:
            n = int((self.table("gsae")["decision"] == "ablate").sum())
            table = propose(self.effects(row), numbers, n_latents=n)
        if not (table["decision"] == "ablate").any():
            warnings.warn(f"{row} ablates no latent: its activations are the original ones.", stacklevel=2)
        write_table(self._folder / f"{row}.csv", table, kind, self._top_tokens(row, table))
        return table

    def _top_tokens(self, row: str, table: pd.DataFrame) -> dict[tuple[str, int], str]:
        """Tokens of the subdomain on which the ablated latents are strongest; neurons are active on all."""
        if row == "neuron_skyline":
            return {}
        ablated = table[table["decision"] == "ablate"].nlargest(DESCRIBED, "attribution")
        whole = self.ssae if row.startswith("ssae") else self.gsae
        chosen = {site: latents.tolist() for site, latents in ablated.groupby("site")["latent"]}
        found = describe_latents(
            self._subdomain.token_batches(), whole, chosen, self.bench.model.tokenizer, n_texts=1
        )
        return {
            key: ", ".join(token.strip() for token, _ in description.top_tokens)
            for key, description in found.items()
        }

    @cached_property
    def _decisions(self) -> pd.DataFrame:
        if self.spec.decisions is None:
            return pd.DataFrame({"sae": [], "site": [], "latent": [], "decision": []})
        file = Path(self.spec.decisions)
        if file.resolve().parent == self._folder.resolve():
            raise ValueError(
                f"shift.decisions={file} is a table that a run writes itself, and would write over: copy it to "
                "another folder."
            )
        asked = [
            kind for kind in KINDS if any(method.startswith(kind) for method in self.bench.recipe.methods)
        ]
        return read_decisions(file, tuple(asked) or KINDS[:1])

    @cached_property
    def _gsae_mass(self) -> dict[str, NDArray[np.float64]]:
        return self._mass(self.gsae)

    @cached_property
    def _ssae_mass(self) -> dict[str, NDArray[np.float64]]:
        return self._mass(self.ssae)

    def _mass(self, saes: dict[str, SparseAutoencoder]) -> dict[str, NDArray[np.float64]]:
        for sae in saes.values():
            sae.to(self.bench.model.device)
        mass = activation_mass(self._subdomain.token_batches(), saes)
        for sae in saes.values():
            sae.cpu()
        return mass

    @cached_property
    def _neuron_means(self) -> dict[str, NDArray[np.float32]]:
        """Means over the balanced texts that the neurons are chosen on."""
        return neuron_means(self.bench, self.bench.sets(self.seed).balanced[: self.spec.n_texts], self.sites)

    @cached_property
    def _site_widths(self) -> dict[str, int]:
        widths = site_widths(self.bench.model, resolve_sites(self.bench.model, self.sites))
        return {site: widths[site] for site in self.sites}

    def _width(self, site: str) -> int:
        return self.spec.d_sae if self.spec.gsae is None else self.gsae[site].d_sae

    @property
    def _folder(self) -> Path:
        return self.bench.home / "shift"

    @cached_property
    def _subdomain(self) -> ActivationStore:
        last = self.sites[-1]
        texts = subdomain_texts(self.bench, self.seed, self.gsae[last], last)
        return build_store(self.bench, texts, self.sites)
