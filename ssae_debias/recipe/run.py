"""Running a recipe: every method over every seed, then the table, `results.json` and `report.html`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from ssae_debias.decisions import BY_A_PERSON, Decisions
from ssae_debias.estimators import SSAEDebiaser
from ssae_debias.files import write_json
from ssae_debias.latents.decisions import fingerprints
from ssae_debias.recipe.bench import Bench
from ssae_debias.recipe.methods import METHODS
from ssae_debias.recipe.overruling import Overruling
from ssae_debias.recipe.results import score, summarise
from ssae_debias.recipe.schema import Recipe
from ssae_debias.report import MethodRow, ReportContent, format_table, write_report
from ssae_debias.report.facts import subdomain_facts, training_facts, versions
from ssae_debias.report.flagged import EVIDENCE

CACHE = "cache"


@dataclass(frozen=True)
class RunResult:
    """A finished run: its rows, where they were written, and what a reader of them must know."""

    rows: tuple[MethodRow, ...]
    results: Path
    report: Path
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = "".join(f"\n{note}" for note in self.notes)
        return f"{format_table(self.rows)}\n{said}\nresults  {self.results}\nreport   {self.report}"


def run_recipe(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    decisions: str | os.PathLike[str] | Decisions | None = None,
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
    decisions : path or Decisions, optional
        A person's, on latents of this recipe's SAEs. Every seed's debiaser gets those that are about its SAEs; of the
        others `say` is told, and the page.
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
    ValueError
        The decisions are about no SAE of any seed, or no method of the recipe ablates flagged latents.
    """
    overruling = None if decisions is None else Overruling(decisions, recipe, say)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recipe.json", recipe.model_dump(mode="json"))
    home = Path(recipe.cache_dir) if recipe.cache_dir is not None else out / CACHE
    bench = Bench(recipe, home, verbose=max(verbose - 1, 0), overruling=overruling)
    say(f"{len(bench.task)} texts, model {bench.model.name}, {len(recipe.seeds)} seeds")
    for check in dict.fromkeys(METHODS[name].check for name in recipe.methods):
        if check is not None:
            check(bench)
    benches = {seed: bench.for_seed(seed) for seed in recipe.seeds}
    sets = {seed: benches[seed].sets(seed) for seed in recipe.seeds}
    if overruling is not None:  # before the methods: decisions about other SAEs shall not cost a whole run
        for seed in recipe.seeds:
            benches[seed].debiaser(seed)
        overruling.check()
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
            **({} if overruling is None else {"decisions": overruling.summary()}),
        },
    )
    report = write_report(out / "report.html", _content(first, recipe, rows, sizes))
    notes = () if overruling is None else tuple(overruling.notes)
    return RunResult(tuple(rows), out / "results.json", report, notes)


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
    notes: tuple[str, ...] = ()
    if bench.overruling is not None:
        summary.append(bench.overruling.said())
        notes = tuple(bench.overruling.notes)
    return ReportContent(
        title=recipe.title,
        summary=summary,
        rows=rows,
        sets=sizes,
        seeds=recipe.seeds,
        versions=versions(),
        recipe=recipe.model_dump(mode="json", exclude={"quick"}),
        flagged=None if fitted is None else _flagged(fitted, bench),
        training=None
        if fitted is None
        else training_facts({site: sae.history_ for site, sae in fitted.saes_.items()}),
        subdomain=None if fitted is None else subdomain_facts(fitted.subdomain_),
        notes=notes,
        saes=None if fitted is None else fingerprints(fitted.saes_),
    )


def _flagged(debiaser: SSAEDebiaser, bench: Bench) -> pd.DataFrame:
    """The latents that the page lists: flagged, described, or decided on by a person, with tokens and texts."""
    table, described = debiaser.flagged_, debiaser.descriptions_
    keys = list(zip(table["site"], table["latent"], strict=True))
    persons = table["reason"].str.startswith(BY_A_PERSON).to_numpy()
    if "note" in table:
        persons = persons | (table["note"] != "").to_numpy()
    listed = (table["decision"] == "ablate").to_numpy() | persons | [key in described for key in keys]
    table = table[listed].copy()
    rows = bench.task.rows(*bench.recipe.protocol.train_splits)
    table["top_texts"] = [
        [(bench.task.texts[rows[text]], tokens) for text, tokens in described[key].top_texts]
        if key in described
        else []
        for key in zip(table["site"], table["latent"], strict=True)
    ]
    evidence = [name for name, _, _ in EVIDENCE]
    columns = ("site", "latent", "name", "decision", "reason", "note", *evidence)
    columns = (*columns, "top_tokens", "top_texts", "nearest")
    return table[[column for column in columns if column in table]].reset_index(drop=True)
