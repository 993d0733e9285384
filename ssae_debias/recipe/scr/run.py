"""Running SCR and TPP: every seed, task and SAE, then the tables, `results.json` and `scores.svg`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from ssae_debias.data import Task, cells
from ssae_debias.files import file_aside, write_json
from ssae_debias.metrics import Interval, seeds_interval
from ssae_debias.recipe.run import CACHE
from ssae_debias.recipe.scr.bench import FIDELITY_TEXTS, ScrBench
from ssae_debias.recipe.scr.measuring import measure_scr, measure_tpp
from ssae_debias.recipe.scr.plot import score_plot
from ssae_debias.recipe.scr.results import Found, ScoreRow, by_direction, probe_accuracies, score_rows
from ssae_debias.recipe.scr.schema import ScrRecipe
from ssae_debias.recipe.scr.table import format_fidelity, format_scores
from ssae_debias.report.facts import versions
from ssae_debias.sae import SparseAutoencoder

TITLES = {
    "scr": "SCR",
    "scr_attribute": "SCR, attribute zeroed",
    "scr_label": "SCR, label zeroed",
    "tpp": "TPP",
}
NOTE = """\
SCR: 1 is as good as never biased, 0 no change, of the direction in which the biased probe starts lower
TPP: own drop in accuracy less that of other classes; mean ± half of the interval over seeds"""


@dataclass(frozen=True)
class ScrRunResult:
    """A finished run: its rows, and where they were written.

    Attributes
    ----------
    scores : dict of str to tuple of ScoreRow
        ``scr``, as published: for each task and seed the direction in which the biased probe starts lower.
        ``scr_attribute`` and ``scr_label``: what is zeroed always the same. ``tpp``, unless turned off.
    fidelity : dict of str to dict of str to Interval
        `reconstruction_metrics` of each SAE, over seeds.
    results, plot : Path
    """

    scores: dict[str, tuple[ScoreRow, ...]]
    fidelity: dict[str, dict[str, Interval]]
    results: Path
    plot: Path

    def __str__(self) -> str:
        tables = [format_scores(TITLES[metric], rows) for metric, rows in self.scores.items()]
        return "\n\n".join(
            [
                format_fidelity(self.fidelity),
                *tables,
                NOTE,
                f"results  {self.results}\nplot     {self.plot}",
            ]
        )


def run_scr(
    recipe: ScrRecipe,
    out: str | os.PathLike[str],
    *,
    verbose: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> ScrRunResult:
    """Run a recipe of `kind: scr`.

    Parameters
    ----------
    recipe : ScrRecipe
    out : path-like
        Folder for `results.json` and `scores.svg`, and, unless the recipe has a `cache_dir`, for the activations
        and SAE checkpoints with which a later or a killed run goes on.
    verbose : int, default=0
        1 shows a bar over seeds and tasks, 2 also those of each step.
    say : callable, optional
        Told in a sentence what begins.

    Returns
    -------
    ScrRunResult

    Raises
    ------
    ValueError
        Data, classes, site or SAEs that do not fit the recipe.
    OSError
        `out` cannot be written to; found before any work begins.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recipe.json", recipe.model_dump(mode="json"))
    home = Path(recipe.cache_dir) if recipe.cache_dir is not None else out / CACHE
    bench = ScrBench(recipe, home, verbose=max(verbose - 1, 0))
    say(
        f"{', '.join(bench.tasks)}; model {bench.model.name} at {recipe.protocol.site}, "
        f"{len(recipe.saes)} SAEs, {len(recipe.seeds)} seeds"
    )
    found: dict[str, list[Found]] = {"scr": [], "tpp": []}
    fidelity: list[dict[str, dict[str, float]]] = []
    tasks = list(bench.tasks.items()) + ([(bench.classes.name, bench.classes)] if bench.classes else [])
    with tqdm(total=len(recipe.seeds) * (len(tasks) + 1), unit="step", disable=not verbose) as bar:
        for seed in recipe.seeds:
            bar.set_description(f"SAEs, seed {seed}")
            saes = bench.saes(seed)
            fidelity.append(_fidelity(bench, saes, seed))
            bar.update()
            for name, task in tasks:
                bar.set_description(f"{name}, seed {seed}")
                train, test = bench.pooled(task, bench.draw(task, seed), saes)
                if task is not bench.classes:
                    found["scr"] += measure_scr(recipe, name, task, train, test, saes, seed)
                if task is bench.classes or recipe.tpp.source == "concepts":
                    found["tpp"] += measure_tpp(recipe, name, task, train, test, saes, seed)
                bar.update()
    metrics = {"scr": found["scr"]}
    metrics |= {f"scr_{removed}": part for removed, part in by_direction(found["scr"]).items()}
    metrics |= {"tpp": found["tpp"]} if found["tpp"] else {}
    rows = {metric: tuple(score_rows(results)) for metric, results in metrics.items()}
    faithful = {
        name: {key: seeds_interval([one[name][key] for one in fidelity]) for key in fidelity[0][name]}
        for name in recipe.saes
    }
    results, plot = out / "results.json", out / "scores.svg"
    write_json(
        results,
        {
            "recipe": recipe.model_dump(mode="json"),
            "versions": versions(),
            "seeds": list(recipe.seeds),
            "sets": {name: _sizes(bench, task, recipe.seeds[0]) for name, task in tasks},
            "saes": {
                name: {
                    "d_sae": bench.saes(recipe.seeds[-1])[name].d_sae,
                    **{key: value.to_dict() for key, value in figures.items()},
                }
                for name, figures in faithful.items()
            },
            "probes": {metric: probe_accuracies(results) for metric, results in found.items() if results},
            **{metric: [row.to_dict() for row in of_metric] for metric, of_metric in rows.items()},
        },
    )
    picture = score_plot({TITLES[metric]: of_metric for metric, of_metric in rows.items()})
    with file_aside(plot) as aside:
        aside.write_text(picture, encoding="utf-8")
    return ScrRunResult(rows, faithful, results, plot)


def _fidelity(
    bench: ScrBench, saes: Mapping[str, SparseAutoencoder], seed: int
) -> dict[str, dict[str, float]]:
    """Of some test texts of every pair, which no SAE of this run has been trained on."""
    each = max(1, FIDELITY_TEXTS // len(bench.tasks))
    texts = [
        task.texts[row] for task in bench.tasks.values() for row in bench.draw(task, seed)[1][:each].tolist()
    ]
    return bench.fidelity(texts, saes)


def _sizes(bench: ScrBench, task: Task, seed: int) -> dict[str, int]:
    protocol = bench.recipe.protocol
    train, test = bench.draw(task, seed)
    n_cells = len(task.group_names())
    return {
        "train": len(train),
        "train per cell": len(train) // n_cells,
        "test": len(test),
        "test per cell": len(test) // n_cells,
        **{
            f"{part} {task.label_names[y]}/{task.attribute_names[a]}": len(rows)
            for part, splits in (
                ("available train", protocol.train_splits),
                ("available test", protocol.evaluation_splits),
            )
            for (y, a), rows in cells(task, splits=splits).items()
        },
    }
