"""A scikit-learn pipeline, audited, and mended by putting `SSAEDebiaser` where its embedding was.

The pipeline embeds a biography with MiniLM and tells surgeons from nurses by logistic regression. It was trained on male
surgeons and female nurses only, so it leans on gender. Two things are tried, neither with a gender label to learn from:

    audit       latents are looked for in the embedding (one vector a text), flagged by swapping the words for gender
    drop-in     make_pipeline(SSAEDebiaser(…), LogisticRegression()), trained on the same skewed texts: latents are looked
                for inside MiniLM, token by token and before attention has spread gender over the text

    python examples/audit_pipeline.py --data bios_surgeon_nurse.parquet

The file has the columns `split`, `profession`, `gender` and `text`. Gender draws the skewed training set and judges.
"""

from __future__ import annotations

import argparse
import time
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
from ssae_debias.data import Task, ambiguous, at_most, load_table
from ssae_debias.metrics import seeds_interval

SITE = "resid.3"
"""Where the embedding is read: as in the README's benchmark."""
EDITED = ("embed", "resid.0", "resid.1")
"""Where the debiaser edits: as in the README's benchmark, chosen there on training texts."""
SETTINGS = LatentSettings(d_sae=1024, k=24, train_tokens=100_000)
"""A smaller dictionary than the default: there is one vector a text, not one a token."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/audit-pipeline"))
    parser.add_argument(
        "--per-group", type=int, help="at most so many texts of each group and split: a quick look"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    task = load_table(
        options.data, text="text", label="profession", attribute="gender", split="split",
        labels=["surgeon", "nurse"], attributes=["M", "F"],
    )  # fmt: skip
    if options.per_group:
        task = task.select(at_most(task, options.per_group, random_state=0))
    part = np.where(np.isin(task.split, ["dev", "test"]), "evaluation", "fit").astype(object)
    tables = []
    for seed in options.seeds:
        start = time.perf_counter()
        skewed = ambiguous(task, random_state=seed, draw="random")
        texts, y = [task.texts[row] for row in skewed], np.array(task.label_names)[task.y[skewed]]
        pipeline = make_pipeline(Embed(), head()).fit(texts, y)
        report = audited(
            pipeline,
            task,
            part,
            seed,
            settings=SETTINGS,
            out=options.out / f"seed-{seed}",
            title="The pipeline",
        )
        print(report)
        tables.append(report.to_frame().assign(seed=seed))

        debiaser = SSAEDebiaser(
            "demo", sites=EDITED, output_site=SITE, train_tokens=300_000, random_state=seed
        )  # fmt: skip
        mended = make_pipeline(debiaser, head()).fit(texts, y)
        # what can still be found in the mended pipeline is of less interest: few rows are looked at, no rivals judged
        few = part.copy()
        few[np.random.default_rng(seed).permutation(task.rows("train"))[400:]] = ""
        again = audited(
            mended, task, few, seed, settings=SETTINGS, out=options.out / f"seed-{seed}-mended", rivals=False,
            title="The pipeline with SSAEDebiaser",
        )  # fmt: skip
        tables.append(again.to_frame().iloc[:1].set_axis([DROP_IN]).assign(seed=seed))
        print(f"seed {seed}: {DROP_IN}: worst group {again.original.worst_group_accuracy.mean:.3f}")
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s")
    print(summary(pd.concat(tables)))


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with half of the 95 % interval of the mean."""
    rows = {}
    for variant, table in frame.groupby(level=0, sort=False):
        cells = {}
        for column in ("worst_group_accuracy", "balanced_accuracy", "accuracy", "flip_rate"):
            interval = seeds_interval(table[column].to_numpy())
            cells[column] = f"{interval.mean:.3f} ± {(interval.high - interval.low) / 2:.3f}"
        rows[variant] = cells
    return pd.DataFrame.from_dict(rows, orient="index")


if __name__ == "__main__":
    pd.set_option("display.width", 200, "display.max_columns", 20, "display.max_colwidth", 60)
    main()
