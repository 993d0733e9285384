"""Audit of a torch network on a table whose truth is known: who was hired, and who should have been.

The table is made up and its mechanism planted (see `applicants`): sex is no column, but it drives two columns that are,
part time and career pause; and those who hired in the past turned down many good women and waved through many men who were
not. A network learns that history. It is audited on a panel of applicants whose merit is known. Each is also given with the
other sex: part time and pause as the mechanism would have made them, all else the same. Latents are flagged twice,

    association      by sex, within each label: what can be done where only sensitive_features are known
    counterfactual   by their response to the other sex

and ablated at a hidden layer, the network's own head kept. Settings were chosen on the panel's validation rows
(`--validate` shows that choice); the evaluation rows chose nothing.

    python examples/audit_tabular.py

`--one-sided` shows what no such edit mends: history turned down women and waved nobody through, so the bar that the network
learned is too high for everybody once sex is gone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import nn

from ssae_debias.audit import AuditReport, LatentSettings, ModuleClassifier, audit
from ssae_debias.metrics import seeds_interval

CLASSES = ("turn down", "hire")
SEXES = ("man", "woman")
PANEL = {"fit": 1500, "validation": 1500, "evaluation": 1500}
"""Rows of the panel: latents are found on the first, settings chosen on the second, figures read on the third."""


def narrow(**settings: Any) -> LatentSettings:
    """A small dictionary: a table of 21 columns has a few dozen concepts, not hundreds."""
    return LatentSettings(d_sae=64, k=8, min_effect=0.5, realign=False, **settings)


CHOSEN = "hidden layer, small, mean"
CANDIDATES = {
    "hidden layer, defaults": ("2", LatentSettings()),
    "hidden layer, small, mean": ("2", narrow(edit="mean")),
    "hidden layer, small, mean, nothing erased": ("2", narrow(edit="mean", erase=False)),
    "hidden layer, small, project": ("2", narrow(edit="project")),
    "columns, small, mean": ("0", narrow(edit="mean")),
    "columns, small, project": ("0", narrow(edit="project")),
}
"""Settings by name: the module, and how latents are looked for and edited there."""


class Applicants(NamedTuple):
    """A table, the same people with the other sex, and what is true of them."""

    table: pd.DataFrame
    other_sex: pd.DataFrame
    sex: np.ndarray
    good: np.ndarray
    hired: np.ndarray


def applicants(n: int, seed: int, *, waved_through: float = 0.4) -> Applicants:
    """People as the planted mechanism makes them.

    Merit is test score, experience, education and references, and some luck. Sex moves two columns and nothing else:
    six in ten women and one in ten men last worked part time; five in ten women and one in ten men paused their career. History
    hires the good, but turns down 40 % of the good women, hires 40 % of the men who are not (`waved_through`), and errs on 4 % of all.
    """
    random = np.random.default_rng(seed)
    sex = random.integers(2, size=n)
    test, experience, references = random.normal(size=(3, n))
    education, field, region = (random.integers(k, size=n) for k in (4, 5, 6))
    merit = test + 0.7 * experience + 0.5 * (education - 1.5) + 0.5 * references + random.normal(0, 0.6, n)
    good = (merit > 0).astype(int)
    hired = np.where((good == 1) & (sex == 1) & (random.random(n) < 0.4), 0, good)
    hired = np.where((good == 0) & (sex == 0) & (random.random(n) < waved_through), 1, hired)
    hired = np.where(random.random(n) < 0.04, 1 - hired, hired)
    chance_part_time, chance_pause = random.random((2, n))
    age = random.normal(40, 9, n)

    def table(sex: np.ndarray) -> pd.DataFrame:
        columns = {
            "test score": 60 + 12 * test,
            "years of experience": np.maximum(0, 9 + 4 * experience),
            "references": 3 + 0.8 * references,
            "age": age,
            "part time": chance_part_time < np.where(sex == 1, 0.6, 0.1),
            "career pause": chance_pause < np.where(sex == 1, 0.5, 0.1),
        }
        columns |= {f"degree {i}": education == i for i in range(4)}
        columns |= {f"field {i}": field == i for i in range(5)}
        columns |= {f"region {i}": region == i for i in range(6)}
        return pd.DataFrame(columns).astype("float32")

    return Applicants(table(sex), table(1 - sex), sex, good, hired)


def trained(rows: Applicants, seed: int, *, epochs: int = 8) -> nn.Sequential:
    """A network that has learned whom history hired."""
    torch.manual_seed(seed)
    x, y = torch.tensor(rows.table.to_numpy()), torch.from_numpy(rows.hired)
    network = nn.Sequential(
        nn.BatchNorm1d(x.shape[1], affine=False),  # columns in units of their spread
        nn.Linear(x.shape[1], 64),
        nn.ReLU(),  # "2"
        nn.Linear(64, 32),
        nn.ReLU(),  # "4"
        nn.Linear(32, 2),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(256):
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def audited(
    network: nn.Sequential,
    panel: Applicants,
    part: np.ndarray,
    seed: int,
    *,
    site: str,
    settings: LatentSettings,
    rivals: bool = True,
) -> AuditReport:
    """The network's audit on a panel; `site` is a module of it."""
    return audit(
        ModuleClassifier(network, site, classes=CLASSES, name="hiring network"),
        panel.table,
        panel.good,
        sensitive_features=np.array(SEXES)[panel.sex],
        counterfactual=panel.other_sex,
        part=part,
        settings=settings,
        rivals=rivals,
        random_state=seed,
        verbose=0,
    )


def one_seed(seed: int, one_sided: bool, validate: bool) -> list[pd.DataFrame]:
    """A network and its audits; with `validate` every candidate's, judged on the validation rows."""
    torch.set_num_threads(1)
    waved_through = 0.0 if one_sided else 0.4
    network = trained(applicants(20_000, 2 * seed, waved_through=waved_through), seed)
    panel = applicants(sum(PANEL.values()), 2 * seed + 1, waved_through=waved_through)
    part = np.repeat(list(PANEL), list(PANEL.values()))
    if validate:
        part = np.where(part == "validation", "evaluation", np.where(part == "evaluation", "", part))
    tables = []
    for name in CANDIDATES if validate else [CHOSEN]:
        site, settings = CANDIDATES[name]
        for flag in ("association", "counterfactual"):
            report = audited(
                network, panel, part, seed,
                site=site, settings=replace(settings, flag=flag), rivals=not validate and flag == "association",
            )  # fmt: skip
            tables.append(
                report.to_frame().assign(audit=f"{name}, flagged by {flag}", latents=report.found.n_ablated)
            )
            if seed == 0 and not validate:
                print(f"Latents ablated in seed 0, flagged by {flag}:\n{ablated(report)}\n", flush=True)
    return tables


def ablated(report: AuditReport) -> str:
    """Each ablated latent with the row it fires on most."""
    lines = []
    for row in report.content.latents.query("decision == 'ablate'").to_dict("records"):
        texts = [text for text, _ in row["top_texts"][:1]]
        lines.append(
            f"  {row['site']} {row['latent']}: {row['reason']}; {texts[0][:110] if texts else ''}, …"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--one-sided", action="store_true", help="history turned down good women, but waved no man through"
    )
    parser.add_argument(
        "--validate", action="store_true", help="judge every candidate setting on the validation rows"
    )
    options = parser.parse_args()
    start = time.perf_counter()
    found = Parallel(n_jobs=2)(
        delayed(one_seed)(seed, options.one_sided, options.validate) for seed in options.seeds
    )
    frame = pd.concat([table for tables in found for table in tables])
    for about, tables in frame.groupby("audit", sort=False):
        print(f"{about}: {tables.loc['as it is', 'latents'].mean():.1f} latents ablated\n{summary(tables)}\n")
    print(f"{time.perf_counter() - start:.0f} s")


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with half of the 95 % interval of the mean."""
    rows = {}
    for variant, table in frame.groupby(level=0, sort=False):
        cells = {}
        for column in ("worst_group_accuracy", "balanced_accuracy", "accuracy", "flip_rate"):
            values = table[column].dropna().to_numpy()
            if len(values):
                interval = seeds_interval(values)
                cells[column] = f"{interval.mean:.3f} ± {(interval.high - interval.low) / 2:.3f}"
        rows[variant] = cells
    return pd.DataFrame.from_dict(rows, orient="index")


if __name__ == "__main__":
    pd.set_option("display.width", 200, "display.max_columns", 20)
    main()
