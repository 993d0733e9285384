"""Running a recipe: every method over every seed, then the table, `results.json` and `report.html`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ssae_debias.estimators import SSAEDebiaser
from ssae_debias.files import write_json
from ssae_debias.recipe.bench import Bench
from ssae_debias.recipe.methods import METHODS
from ssae_debias.recipe.results import score, summarise, versions
from ssae_debias.recipe.schema import Recipe
from ssae_debias.report import MethodRow, ReportContent, Subdomain, format_table, write_report

CACHE = "cache"


@dataclass(frozen=True)
class RunResult:
    """A finished run: its rows, and where they were written."""

    rows: tuple[MethodRow, ...]
    results: Path
    report: Path

    def __str__(self) -> str:
        return f"{format_table(self.rows)}\n\nresults  {self.results}\nreport   {self.report}"


def run_recipe(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    verbose: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> RunResult:
    """Run a recipe.

    Parameters
    ----------
    recipe : Recipe
    out : path-like
        Folder for `results.json` and `report.html`, and, unless the recipe has a `cache_dir`, for the cache
        that lets a later or a killed run go on.
    verbose : int, default=0
        1 shows a bar over methods and seeds, 2 also those of each step.
    say : callable, optional
        Told in a sentence what begins.

    Returns
    -------
    RunResult

    Raises
    ------
    OSError
        `out` cannot be written to; found before any work begins.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recipe.json", recipe.model_dump(mode="json"))
    home = Path(recipe.cache_dir) if recipe.cache_dir is not None else out / CACHE
    bench = Bench(recipe, home, verbose=max(verbose - 1, 0))
    say(f"{len(bench.task)} texts, model {bench.model.name}, {len(recipe.seeds)} seeds")
    for check in dict.fromkeys(METHODS[name].check for name in recipe.methods):
        if check is not None:
            check(bench)
    benches = {seed: bench.for_seed(seed) for seed in recipe.seeds}
    sets = {seed: benches[seed].sets(seed) for seed in recipe.seeds}
    rows = []
    with tqdm(total=len(recipe.methods) * len(recipe.seeds), unit="run", disable=not verbose) as bar:
        for name in recipe.methods:
            start, scores = time.perf_counter(), []
            for seed in recipe.seeds:
                bar.set_description(f"{name}, seed {seed}")
                outcome = METHODS[name].run(benches[seed], seed)
                scores.append(score(benches[seed], sets[seed], outcome, seed))
                bar.update()
            row = summarise(name, scores, list(sets.values()), time.perf_counter() - start)
            rows.append(row)
            if verbose:  # a long run shows what it has found so far
                found = row.worst_group_accuracy
                bar.write(
                    f"{name}: worst group {found.mean:.3f} ± {found.half_width:.3f}, {row.seconds:.0f} s"
                )
    first = benches[recipe.seeds[0]]
    sizes = _sizes(first, recipe.seeds[0])
    write_json(
        out / "results.json",
        {
            "recipe": recipe.model_dump(mode="json"),
            "versions": versions(),
            "seeds": list(recipe.seeds),
            "sets": sizes,
            "rows": [dataclasses.asdict(row) for row in rows],
        },
    )
    report = write_report(out / "report.html", _content(first, recipe, rows, sizes))
    return RunResult(tuple(rows), out / "results.json", report)


def _sizes(bench: Bench, seed: int) -> dict[str, int]:
    sets = bench.sets(seed)
    return {
        "texts": len(bench.task),
        "train": len(sets.train),
        "ambiguous train": len(sets.ambiguous),
        "balanced train": len(sets.balanced),
        "balanced evaluation": len(sets.balanced_evaluation),
        **{f"evaluation {name}": len(rows) for name, rows in sets.cells.items()},
    }


def _content(bench: Bench, recipe: Recipe, rows: list[MethodRow], sizes: dict[str, int]) -> ReportContent:
    fitted = bench.fitted(recipe.seeds[0])
    task = bench.task
    summary = [
        f"Task: {task.label_names[0]} or {task.label_names[1]}; attribute: {task.attribute_names[0]} or "
        f"{task.attribute_names[1]}, described by {len(bench.pairs.pairs)} word pairs.",
        f"Model: {bench.model.name}, read at {recipe.protocol.site}.",
    ]
    if (folds := recipe.protocol.validation_folds) is not None:
        summary.append(f"Validation: each seed holds out one of {folds} folds of the training texts.")
    if fitted is not None:
        n = int((fitted.flagged_["decision"] == "ablate").sum())
        after = (
            f" After them, {' and '.join(fitted.residue_)} at {fitted.output_site_}."
            if fitted.residue_
            else ""
        )
        summary.append(
            f"{n} latents at {len(fitted.latent_edits())} sites were flagged by {recipe.ssae.flag} evidence.{after}"
        )
    return ReportContent(
        title=recipe.title,
        summary=summary,
        rows=rows,
        sets=sizes,
        seeds=recipe.seeds,
        versions=versions(),
        recipe=recipe.model_dump(mode="json", exclude={"quick"}),
        flagged=None if fitted is None else _flagged(fitted, bench),
        training=None if fitted is None else _training(fitted),
        subdomain=None if fitted is None else _subdomain(fitted),
    )


def _flagged(debiaser: SSAEDebiaser, bench: Bench) -> pd.DataFrame:
    """The flagged latents as the page shows them: evidence, tokens and texts."""
    table = debiaser.flagged_[debiaser.flagged_["decision"] == "ablate"].copy()
    rows = bench.task.rows(*bench.recipe.protocol.train_splits)
    prefix = "attribute" if bench.recipe.ssae.flag == "association" else "response"
    table = table.rename(columns={f"{prefix}_effect": "effect", f"{prefix}_q": "q"})
    table["top_texts"] = [
        [(bench.task.texts[rows[text]], tokens) for text, tokens in debiaser.descriptions_[key].top_texts]
        for key in zip(table["site"], table["latent"], strict=True)
    ]
    columns = (
        "site",
        "latent",
        "decision",
        "reason",
        "response",
        "effect",
        "q",
        "frequency",
        "top_tokens",
        "top_texts",
    )
    return table[[column for column in columns if column in table]].reset_index(drop=True)


def _training(debiaser: SSAEDebiaser) -> dict[str, Any]:
    return {
        site: {
            **{key: sae.history_[-1][key] for key in ("fvu", "l0", "dead_fraction")},
            "history": sae.history_,
        }
        for site, sae in debiaser.saes_.items()
        if sae.history_
    }


def _subdomain(debiaser: SSAEDebiaser) -> Subdomain | None:
    found = debiaser.subdomain_
    if found is None or not len(found.texts):
        return None
    return {
        "documents": [text[:400] for text in found.texts[:5]],
        "stats": {
            "documents": len(found.texts),
            "best score": float(found.scores[0]),
            "last score": float(found.scores[-1]),
        },
    }
