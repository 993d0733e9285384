"""A scikit-learn pipeline, audited, and mended by putting `SSAEDebiaser` where its embedding was.

The pipeline embeds a biography with MiniLM and tells surgeons from nurses by logistic regression. It was trained on male
surgeons and female nurses only, so it leans on gender. Two things are tried, neither with a gender label to learn from:

    audit       latents are looked for in the embedding (one vector a text), flagged by swapping the words for gender; what
                still tells texts with more he-words from texts with more she-words is erased, and the head fitted again
    drop-in     make_pipeline(SSAEDebiaser(…), LogisticRegression()), trained on the same skewed texts: latents are looked
                for inside MiniLM, token by token and before attention has spread gender over the text

    python examples/audit_pipeline.py --data bios_surgeon_nurse.parquet

The file has the columns `split`, `profession`, `gender` and `text`. Gender draws the skewed training set and judges.
`--validate` shows how the audit's settings were chosen: on five folds of the training texts; the evaluation texts chose nothing.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from ssae_debias import SSAEDebiaser
from ssae_debias.activations import load_model, read_pooled
from ssae_debias.audit import AuditReport, LatentSettings, audit
from ssae_debias.data import Task, WordPairs, ambiguous, at_most, held_out, load_table
from ssae_debias.metrics import seeds_interval

SITE = "resid.3"
"""Where the embedding is read: as in the README's benchmark."""
EDITED = ("embed", "resid.0", "resid.1")
"""Where the debiaser edits: as in the README's benchmark, chosen there on training texts."""
CHOSEN = "moved apart by 2"
"""By the worst group on the held-out folds, its own head fitted again."""
ALONE = LatentSettings(d_sae=1024, k=24, train_tokens=100_000)
"""A smaller dictionary than the default: there is one vector a text, not one a token."""
CANDIDATES = {
    "texts alone": ALONE,
    "texts alone, weak latents too": replace(ALONE, min_effect=0.4),
    "moved apart by 1, weaker latents too": replace(ALONE, apart=1.0, min_effect=0.5),
    CHOSEN: replace(ALONE, apart=2.0),
    "moved apart by 2, projected out": replace(ALONE, apart=2.0, edit="project"),
    "moved apart by 3": replace(ALONE, apart=3.0),
}
SETTINGS = CANDIDATES[CHOSEN]
FOLDS = 5
FLIPPED = 500
"""Texts that flips are counted over, as many as in an audit."""
DROP_IN = "SSAEDebiaser as the first step"

model = cache(load_model)
read_already: dict[str, np.ndarray] = {}


class Embed(TransformerMixin, BaseEstimator):
    """Mean activation of a text; each text is read once, however many pipelines and seeds ask for it."""

    def fit(self, texts: list[str], y: Any = None) -> Self:
        """There is nothing to learn."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, texts: list[str]) -> np.ndarray:
        """Rows of shape (n, 384)."""
        new = [text for text in dict.fromkeys(texts) if text not in read_already]
        if new:
            rows = read_pooled(model("demo"), new, SITE, include_special=True)[SITE]
            read_already.update(zip(new, rows, strict=True))
        return np.array([read_already[text] for text in texts])


def head() -> LogisticRegression:
    """The pipeline's last step."""
    return LogisticRegression(max_iter=2000)


def audited(pipeline: Pipeline, task: Task, part: np.ndarray, seed: int, **options: Any) -> AuditReport:
    """The audit with pairs only: gender is given for the rows that judge, and for no other."""
    gender = np.array(task.attribute_names, dtype=object)[task.sensitive_features]
    gender[part != "evaluation"] = None
    rows = np.flatnonzero(part != "")
    return audit(
        pipeline,
        [task.texts[row] for row in rows],
        np.array(task.label_names)[task.y[rows]],
        sensitive_features=gender[rows],
        part=part[rows],
        random_state=seed,
        **options,
    )


def trained(task: Task, seed: int) -> tuple[Pipeline, list[str], np.ndarray]:
    """The pipeline, and the skewed texts and labels that it was trained on."""
    skewed = ambiguous(task, random_state=seed, draw="random")
    texts, y = [task.texts[row] for row in skewed], np.array(task.label_names)[task.y[skewed]]
    return make_pipeline(Embed(), head()).fit(texts, y), texts, y


def validate(task: Task) -> None:
    """Every candidate's settings, judged on folds of the training texts."""
    for name, settings in CANDIDATES.items():
        tables, latents = [], []
        for fold in range(FOLDS):
            rows = held_out(task, fold, n_folds=FOLDS)
            part = np.where(rows.split == "dev", "evaluation", "fit").astype(object)
            pipeline, _, _ = trained(rows, fold)
            report = audited(pipeline, rows, part, fold, settings=settings, rivals=False, verbose=0)
            tables.append(report.to_frame())
            latents.append(report.found.n_ablated)
        print(f"{name}: latents ablated {latents}\n{summary(pd.concat(tables))}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/audit-pipeline"))
    parser.add_argument(
        "--per-group", type=int, help="at most so many texts of each group and split: a quick look"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--validate", action="store_true", help="judge every candidate setting on training texts"
    )
    options = parser.parse_args()
    task = load_table(
        options.data, text="text", label="profession", attribute="gender", split="split",
        labels=["surgeon", "nurse"], attributes=["M", "F"],
    )  # fmt: skip
    if options.per_group:
        task = task.select(at_most(task, options.per_group, random_state=0))
    if options.validate:
        validate(task)
    else:
        compare(task, options.seeds, options.out)


def compare(task: Task, seeds: list[int], out: Path) -> None:
    """The audit and the drop-in on the evaluation texts; what is done lies in `out` as it is done."""
    part = np.where(np.isin(task.split, ["dev", "test"]), "evaluation", "fit").astype(object)
    tables = []

    def done(table: pd.DataFrame, seed: int, start: float) -> None:
        tables.append(table.assign(seed=seed))
        pd.concat(tables).to_csv(out / "rows.csv")
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)

    # every audit before the first drop-in: they read the same vectors, and are read off first
    for seed in seeds:
        start = time.perf_counter()
        pipeline, _, _ = trained(task, seed)
        report = audited(
            pipeline, task, part, seed, settings=SETTINGS, out=out / f"seed-{seed}", title="The pipeline"
        )
        print(report)
        done(report.to_frame().assign(latents=report.found.n_ablated), seed, start)
    for seed in seeds:
        start = time.perf_counter()
        _, texts, y = trained(task, seed)
        debiaser = SSAEDebiaser(
            "demo", sites=EDITED, output_site=SITE, train_tokens=300_000, random_state=seed
        )  # fmt: skip
        mended = make_pipeline(debiaser, head()).fit(texts, y)
        done(judged(mended, task.select(np.flatnonzero(part == "evaluation")), seed), seed, start)
    print(summary(pd.concat(tables)))


def judged(pipeline: Pipeline, task: Task, seed: int) -> pd.DataFrame:
    """The figures of the audit's table for another pipeline; a second audit would take as long as the first."""
    right = pipeline.predict(list(task.texts)) == np.array(task.label_names)[task.y]
    groups = pd.Series(right).groupby([task.y, task.sensitive_features]).mean()
    swapped = [WordPairs.gender().swap(text) for text in task.texts]
    changed = np.flatnonzero([one != other for one, other in zip(task.texts, swapped, strict=True)])
    rows = np.random.default_rng(seed).permutation(changed)[:FLIPPED]
    decided, other = (pipeline.predict([texts[row] for row in rows]) for texts in (list(task.texts), swapped))
    figures = {
        "worst_group_accuracy": groups.min(),
        "balanced_accuracy": groups.mean(),
        "accuracy": right.mean(),
        "flip_rate": (decided != other).mean(),
    }
    return pd.DataFrame(figures, index=[DROP_IN])


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with half of the 95 % interval of the mean."""
    rows = {}
    for variant, table in frame.groupby(level=0, sort=False):
        cells = {"seeds": len(table)}
        for column in ("worst_group_accuracy", "balanced_accuracy", "accuracy", "flip_rate"):
            interval = seeds_interval(table[column].to_numpy())
            cells[column] = f"{interval.mean:.3f} ± {(interval.high - interval.low) / 2:.3f}"
        rows[variant] = cells
    return pd.DataFrame.from_dict(rows, orient="index")


if __name__ == "__main__":
    pd.set_option("display.width", 200, "display.max_columns", 20, "display.max_colwidth", 60)
    main()
