"""What the page of an evaluation is made of: tables of figures by way of training, as plain frozen data.

A *variant* is a way in which an SAE was made, such as "general", "bm25" or "dense, tilt 3". Each was trained with
several seeds and sparsity levels; an SAE that was loaded is a variant of one seed whose `k` is missing. Every table says
in the columns of `KEYS` which SAE a row is about; the rest is what the analyses of `ssae_debias.metrics` and
`ssae_debias.latents` return. Nothing is measured here: the plots take means and intervals over seeds, no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pandas as pd

Judgement = Literal["holds", "does not hold", "unclear"]

KEYS = ("variant", "strategy", "tilt", "k", "seed")
"""Columns of every table. `tilt` is 0 or missing for plain risk, `k` is missing for SAEs that were loaded."""

TABLES: dict[str, tuple[str, ...]] = {
    "fidelity": ("corpus", "objective", "l0", "cross_entropy"),
    "coverage": ("frequency_from", "frequency_below", "n_types", "n_covered", "proportion", "low", "high"),
    "cumulative": ("count", "token_share", "covered", "covered_share"),
    "tail": ("n_types", "n_covered", "proportion", "low", "high"),
    "rank_error": ("rank_from", "rank_to", "relative", "relative_variance", "relative_maximum"),
    "entropy": ("low", "high", "count", "share"),
    "maximum": ("low", "high", "count", "share"),
    "shape": ("entropy_mean", "entropy_std", "maximum_mean", "maximum_std", "silent_share", "l0"),
    "counts": ("rank", "count", "frequency"),
    "log_ratio": ("low", "high", "count", "share"),
    "cosines": ("low", "high", "count"),
    "largest": ("low", "high", "count"),
    "umap": ("x", "y", "latent"),
    "recall": ("concept", "kind", "frequency", "f1", "planted"),
    "recall_by_frequency": ("kind", "frequency_above", "frequency_to", "n_concepts", "found", "f1"),
    "interpretability": ("latent", "explanation"),
    "diversity": ("latent", "diversity", "n_active"),
    "error_term": (),
}
"""Tables that the page knows, and the columns without which it cannot draw them; `EvaluationContent` says what they are."""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper (or of anyone), and what the figures say of it.

    Parameters
    ----------
    statement : str
        "SAEs of retrieved text cover more of the tail than general ones."
    verdict : {"holds", "does not hold", "unclear"}
        Drawn by whoever measured; the page does not judge.
    figures : str
        The numbers, in words.
    source : str
        Where the claim is made, such as "figure 2".

    Raises
    ------
    ValueError
        Another verdict.

    Examples
    --------
    >>> Claim("Tilted SAEs cover more of the tail.", "unclear", "41 % against 39 % of types.", "figure 2").verdict
    'unclear'
    """

    statement: str
    verdict: Judgement
    figures: str
    source: str

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Judgement):
            raise ValueError(
                f"a claim's verdict is one of {', '.join(get_args(Judgement))}; got {self.verdict!r}."
            )


@dataclass(frozen=True)
class EvaluationContent:
    """Everything that the page of an evaluation shows.

    Parameters
    ----------
    title : str
    summary : sequence of str
        What was done, in short sentences.
    facts : mapping of str to any
        Model, site, sizes of corpora, runtime. A value that is a mapping is a list of facts of its own.
    seeds : sequence of int
    versions : mapping of str to str
    recipe : mapping
        As run; nested values are shown as YAML.
    notes : sequence of str
        What cannot be concluded.
    seconds : mapping of str to float
        Wall time by part.
    claims : sequence of Claim
    variants : sequence of str
        In the order in which they are shown, each once.
    base : str or None
        The variant that the others are compared with; drawn grey.
    tables : mapping of str to DataFrame or None
        By the names of `TABLES`; None, or no such key, where the analysis was not run. Each has the columns of `KEYS`
        and

        ``fidelity``
            `corpus` ("subdomain" or "general"), `objective` ("causal", "masked" or "probe"), and of `ssae_debias.metrics.fidelity`
            `l0`, `cross_entropy`, `clean_cross_entropy`, `perplexity`, `clean_perplexity`, `relative_perplexity` (to
            the base of the same k and seed), `loss_recovered_zero`, `loss_recovered_mean`, `kl`, `kl_recovered_zero`,
            `fvu`, `dead_fraction`, `accuracy`, `agreement`; each but `dead_fraction` also with ``_low`` and ``_high``.
        ``coverage``, ``cumulative``, ``tail``
            What the methods of `TailCoverage` return, of SAEs brought to one L0; in ``tail`` also `max_frequency`, if
            known.
        ``rank_error``
            What `reconstruction_by_rank` returns.
        ``entropy``, ``maximum``
            `Histogram.to_frame()`.
        ``shape``
            `entropy_mean`, `entropy_std`, `maximum_mean`, `maximum_std`, `silent_share`, `l0`.
        ``counts``
            `rank`, `count`, `frequency` of `counts_by_rank`, thinned to some 200 ranks.
        ``log_ratio``
            `low`, `high`, `count`, `share`: a histogram of `count_log_ratio` to the base.
        ``cosines``, ``largest``
            `low`, `high`, `count`: of the pairs of decoder rows, and of each row's largest cosine.
        ``umap``
            `x`, `y`, `latent` of `decoder_map`.
        ``recall``, ``recall_by_frequency``
            What `concept_recall` and `recall_by_frequency` return, with `variant` and `seed` for the dictionary, and in
            the former `planted` (in the latter too, where planted words and others have rows of their own). Rows of the
            kind "neurons" may stand under any variant.
        ``interpretability``, ``diversity``
            What `interpretability_scores` and `diversity_scores` return.
        ``error_term``
            Any of `r2`, `norm_r2`, `share`, ``cross_entropy_<part>``, ``loss_recovered_<part>`` of `ErrorTerm`
            (flattened, with ``_low`` and ``_high``), and ``leakage_activation``, ``leakage_reconstruction``,
            ``leakage_error``: balanced accuracy of reading the attribute from each pooled part, with `leakage_chance`.
    circuits : mapping of str to mapping, optional
        By variant: `Circuit.to_dict()`, under "names" what nodes are called, and under "labels" the two that the probe
        tells apart, where these are known.

    Raises
    ------
    TypeError
        A table is no DataFrame.
    ValueError
        A variant comes twice, the base is none of them, a table is not known, lacks columns, or is about a variant that
        is not listed.

    Examples
    --------
    >>> from ssae_debias.report.evaluation import example_evaluation
    >>> content = example_evaluation()
    >>> content.base, content.table("fidelity").columns[:3].tolist(), content.table("nothing of the kind") is None
    ('general', ['variant', 'strategy', 'tilt'], True)
    """

    title: str
    summary: Sequence[str]
    facts: Mapping[str, Any]
    seeds: Sequence[int]
    versions: Mapping[str, str]
    recipe: Mapping[str, Any]
    notes: Sequence[str]
    seconds: Mapping[str, float]
    claims: Sequence[Claim]
    variants: Sequence[str]
    base: str | None
    tables: Mapping[str, pd.DataFrame | None]
    circuits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("summary", "notes", "variants"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} takes a list of str, got one str; put it into a list.")
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"an evaluation takes each variant once, got {list(self.variants)}.")
        if self.base is not None and self.base not in self.variants:
            raise ValueError(f"base must be one of {', '.join(self.variants)}, or None; got {self.base!r}.")
        if unknown := sorted(set(self.tables) - set(TABLES)):
            raise ValueError(f"no table is called {', '.join(unknown)}; known are {', '.join(TABLES)}.")
        if strange := sorted(set(self.circuits) - set(self.variants)):
            raise ValueError(
                f"circuits has {', '.join(strange)}, which is no variant; variants has {list(self.variants)}."
            )
        for name, table in self.tables.items():
            if table is not None:
                _check(name, table, self.variants)

    def table(self, name: str) -> pd.DataFrame | None:
        """A table that has rows; None where the analysis was not run or found nothing."""
        table = self.tables.get(name)
        return None if table is None or table.empty else table


def _check(name: str, table: pd.DataFrame, variants: Sequence[str]) -> None:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table {name} must be a pandas DataFrame or None, got {type(table).__name__}.")
    if table.empty:
        return
    missing = [column for column in (*KEYS, *TABLES[name]) if column not in table]
    if missing:
        raise ValueError(f"table {name} lacks {', '.join(missing)}; it has {list(table.columns)}.")
    if strange := sorted(map(str, set(table["variant"]) - set(variants))):
        raise ValueError(
            f"table {name} is about {', '.join(strange)}, which is no variant; variants has {list(variants)}."
        )
