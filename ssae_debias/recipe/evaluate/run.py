"""Running an evaluation: every seed, every analysis, then tables, claims, plots, `results.json` and the page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ssae_debias.files import write_json
from ssae_debias.metrics.tail import at_equal_l0
from ssae_debias.recipe.evaluate.circuits import measure_circuits
from ssae_debias.recipe.evaluate.claims import check_claims
from ssae_debias.recipe.evaluate.corpus_analyses import (
    Saes,
    Tables,
    measure_error,
    measure_shape,
    measure_tail,
)
from ssae_debias.recipe.evaluate.fidelity import measure_fidelity
from ssae_debias.recipe.evaluate.kept_tables import KeptTables, fingerprint
from ssae_debias.recipe.evaluate.latent_analyses import Interpreter, measure_interpretability, measure_recall
from ssae_debias.recipe.evaluate.schema import GSAE, EvaluateRecipe
from ssae_debias.recipe.evaluate.table import format_claims, format_variants
from ssae_debias.recipe.evaluate.training import EvaluateBench
from ssae_debias.recipe.run import CACHE
from ssae_debias.report.evaluation import Claim, EvaluationContent, write_evaluation
from ssae_debias.report.facts import versions


@dataclass(frozen=True)
class EvaluateResult:
    """A finished evaluation.

    Attributes
    ----------
    tables : dict of str to DataFrame
        By analysis, a row for each SAE and what is told of it; see `EvaluationContent`.
    claims : list of Claim
    circuits : dict of str to dict
    notes : list of str
    seconds : dict of str to float
        Wall time by part.
    compared_k : int or None
    results, report : Path
        `results.json`, and the page, beside which `plots/` holds each plot as SVG and PNG.
    """

    tables: dict[str, pd.DataFrame]
    claims: list[Claim]
    circuits: dict[str, dict[str, Any]]
    notes: list[str]
    seconds: dict[str, float]
    compared_k: int | None
    results: Path
    report: Path

    def __str__(self) -> str:
        parts = [format_variants(self.tables, self.compared_k), format_claims(self.claims), *self.notes]
        took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        ends = f"time     {took}\nresults  {self.results}\nplots    {self.report.parent / 'plots'}\nreport   {self.report}"
        return "\n\n".join(part for part in [*parts, ends] if part)


def run_evaluate(
    recipe: EvaluateRecipe,
    out: str | os.PathLike[str],
    *,
    interpreter: Interpreter | None = None,
    verbose: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> EvaluateResult:
    """Run a recipe of `kind: evaluate`.

    Parameters
    ----------
    recipe : EvaluateRecipe
    out : path-like
        Folder for `results.json`, `report.html` and `plots/`, and, unless the recipe has a `cache_dir`, for what a
        later or a killed run goes on with: activations, SAEs, tables of finished analyses.
    interpreter : Interpreter, optional
        Any explainer and judge, in place of the one that the recipe names.
    verbose : int, default=0
        1 shows a bar over seeds and analyses, 2 also those of each step.
    say : callable, optional
        Told in a sentence what begins.

    Returns
    -------
    EvaluateResult

    Raises
    ------
    ValueError
        Texts, model, site or SAEs that do not fit the recipe; found before anything is trained.
    OSError
        `out` cannot be written to; found before any work begins.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recipe.json", recipe.model_dump(mode="json"))
    home = Path(recipe.cache_dir) if recipe.cache_dir is not None else out / CACHE
    bench = EvaluateBench(recipe, home, verbose=max(verbose - 1, 0))
    corpora = bench.corpora
    say(
        f"{len(corpora.general)} general texts ({len(corpora.carriers)} known to be of the subdomain), "
        f"{len(corpora.seeds)} seeds, {len(corpora.test)} test texts; model {bench.model.name} at {recipe.site}; "
        f"{len(bench.variants())} SAEs a seed, {len(recipe.seeds)} seeds"
    )
    run = _Run(bench, interpreter, home)
    with tqdm(total=len(recipe.seeds) * (1 + len(run.analyses)), unit="step", disable=not verbose) as bar:
        for seed in recipe.seeds:
            run.seed(seed, bar)
    circuits: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    if "circuit" in recipe.analyses and recipe.train.ks:
        with run.timed("circuit"):
            circuits, notes = measure_circuits(bench, recipe.seeds[0])
    elif "circuit" in recipe.analyses:
        notes = ["No circuit: it needs SAEs of one kind at several sites, and nothing is trained."]
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in run.tables.items()}
    claims = check_claims(tables, general="general" in recipe.train.strategies)
    facts = _facts(bench)
    results = out / "results.json"
    write_json(
        results,
        {
            "recipe": recipe.model_dump(mode="json"),
            "versions": versions(),
            "seeds": list(recipe.seeds),
            "facts": facts,
            "seconds": run.seconds,
            "claims": [asdict(claim) for claim in claims],
            "notes": notes,
            "tables": {name: _records(table) for name, table in tables.items()},
            "circuits": circuits,
        },
    )
    say("Drawing.")
    report = write_evaluation(_content(bench, tables, claims, circuits, notes, facts, run.seconds), out)
    return EvaluateResult(tables, claims, circuits, notes, run.seconds, recipe.compared_k, results, report)


class _Run:
    """Tables as they come, seed by seed, and how long each part took."""

    def __init__(self, bench: EvaluateBench, interpreter: Interpreter | None, home: Path) -> None:
        self.bench, recipe = bench, bench.recipe
        self.interpreter = interpreter
        self.analyses = [name for name in recipe.analyses if name != "circuit"]
        self.tables: dict[str, list[pd.DataFrame]] = {}
        self.seconds: dict[str, float] = {}
        texts = bench.corpora
        self.kept = KeptTables(
            home, recipe, fingerprint(texts.general, texts.general_test, texts.seeds.texts, texts.test.texts)
        )

    def timed(self, part: str) -> _Timed:
        return _Timed(self.seconds, part)

    def seed(self, seed: int, bar: Any) -> None:
        bar.set_description(f"SAEs, seed {seed}")
        with self.timed("SAEs"):
            saes = {variant: self.bench.sae(variant, seed) for variant in self.bench.variants()}
        with self.timed("equal L0"):
            equal = self._equal(saes)
        bar.update()
        for name in self.analyses:
            bar.set_description(f"{name}, seed {seed}")
            with self.timed(name):
                measured = self._measured(name, seed, saes, equal)
            for table, rows in measured.items():
                self.tables.setdefault(table, []).append(rows)
            bar.update()

    def _equal(self, saes: Saes) -> Saes:
        """Those of the sparsity level that is compared, and the loaded ones, at one L0 on the test texts."""
        k, read = self.bench.recipe.compared_k, self.bench.test.token_batches
        chosen = {str(i): v for i, v in enumerate(saes) if v.k is None or v.k == k}
        equal = at_equal_l0(read, {i: saes[v] for i, v in chosen.items()}, site=self.bench.recipe.site)
        return {chosen[i]: sae for i, sae in equal.items()}

    def _measured(self, name: str, seed: int, saes: Saes, equal: Saes) -> Tables:
        bench = self.bench
        # a callable has no fingerprint: what it says is not kept
        if name == "interpretability" and self.interpreter is not None:
            return measure_interpretability(bench, equal, seed, self.interpreter)
        recipe = bench.recipe
        level = {v: sae for v, sae in saes.items() if v.k is None or v.k == recipe.compared_k}
        measures: dict[str, Callable[[], Tables]] = {
            "fidelity": lambda: {"fidelity": measure_fidelity(bench, saes, seed)},
            "tail": lambda: measure_tail(bench, equal, seed),
            "shape": lambda: measure_shape(bench, equal, seed),
            "recall": lambda: measure_recall(bench, equal, seed),
            "interpretability": lambda: measure_interpretability(
                bench, equal, seed, Interpreter.named(recipe.interpretability.explainer, device=recipe.device)
            ),
            "error": lambda: measure_error(bench, level, seed),
        }
        return self.kept.get(name, seed, measures[name])


class _Timed:
    def __init__(self, seconds: dict[str, float], part: str) -> None:
        self.seconds, self.part = seconds, part

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.part] = self.seconds.get(self.part, 0.0) + time.perf_counter() - self.start


def _facts(bench: EvaluateBench) -> dict[str, Any]:
    corpora, recipe = bench.corpora, bench.recipe
    return {
        "model": bench.model.name,
        "site": recipe.site,
        "fidelity by": bench.objective,
        "general texts": len(corpora.general),
        "of the subdomain among them": len(corpora.carriers),
        "seeds to retrieve from": len(corpora.seeds),
        "test texts": len(corpora.test),
        "test tokens": bench.test.n_tokens,
        "general test texts": len(corpora.general_test),
        "retrieval": bench.retrieval_facts(),
        "planted": dict(corpora.planted),
        "compared at k": recipe.compared_k,
    }


def _content(
    bench: EvaluateBench,
    tables: Mapping[str, pd.DataFrame],
    claims: list[Claim],
    circuits: dict[str, dict[str, Any]],
    notes: list[str],
    facts: dict[str, Any],
    seconds: dict[str, float],
) -> EvaluationContent:
    recipe = bench.recipe
    names = list(dict.fromkeys(variant.name for variant in bench.variants()))
    summary = [
        f"{len(names)} ways of making an SAE of {bench.model.name} at {recipe.site}, {len(recipe.seeds)} seeds each, "
        f"measured on {len(bench.corpora.test)} texts of the subdomain that none was trained on."
    ]
    if recipe.train.ks:
        summary.append(
            f"Fidelity at k = {', '.join(map(str, recipe.train.ks))}; all else at k = {recipe.compared_k}, thresholds "
            "scaled so that all have the same L0 on the test texts."
        )
    return EvaluationContent(
        title=recipe.title,
        summary=summary,
        facts=facts,
        seeds=recipe.seeds,
        versions=versions(),
        recipe=recipe.model_dump(mode="json", exclude={"quick"}),
        notes=notes,
        seconds=seconds,
        claims=claims,
        variants=names,
        base=GSAE if GSAE in names else None,
        tables=tables,
        circuits=circuits,
    )


def _records(table: pd.DataFrame) -> dict[str, Any]:
    """Column by column, which is half as long as row by row; NaN and infinity as null."""
    clean = table.astype(object).where(table.notna(), None)
    return {str(column): [_plain(value) for value in clean[column]] for column in clean}


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and abs(value) == float("inf") else value
