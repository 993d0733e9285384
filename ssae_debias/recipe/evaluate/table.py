"""What a finished evaluation prints: a line for each variant, and a line for each claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ssae_debias.metrics.intervals import seeds_interval
from ssae_debias.report.evaluation import Claim

MARKS = {"holds": "+", "does not hold": "-", "unclear": "?"}


def format_variants(tables: Mapping[str, pd.DataFrame], compared: int | None) -> str:
    """Mean over seeds ± half of the interval, of the SAEs that all analyses compare.

    Loss and FVU are those of the SAEs as trained; tail, recall and interpretability those at equal L0.
    """
    columns: dict[str, pd.Series] = {}
    if (fidelity := tables.get("fidelity")) is not None:
        here = fidelity[(fidelity["k"] == compared) | fidelity["k"].isna()]
        inside, outside = (here[here["corpus"] == name] for name in ("subdomain", "general"))
        columns["L0"] = _cells(inside, "l0", 1)
        columns["loss"] = _cells(inside, "cross_entropy")
        if len(outside):
            columns["loss, general text"] = _cells(outside, "cross_entropy")
        else:
            columns["agreement"] = _cells(inside, "agreement")
        columns["FVU"] = _cells(inside, "fvu")
    if (tail := tables.get("tail")) is not None:
        columns["tail covered"] = _cells(tail, "proportion")
    if (recall := tables.get("recall")) is not None:
        saes = recall[recall["kind"] == "sae"]
        columns["F1, words"] = _cells(_mean_by_seed(saes[~saes["planted"]], "f1"), "f1")
        if saes["planted"].any():
            columns["F1, planted"] = _cells(_mean_by_seed(saes[saes["planted"]], "f1"), "f1")
    if (scores := tables.get("interpretability")) is not None:
        columns["detection"] = _cells(_mean_by_seed(scores, "detection_accuracy"), "detection_accuracy")
    if (error := tables.get("error_term")) is not None:
        columns["error predicted"] = _cells(error, "r2")
    frame = pd.DataFrame(columns)
    order = list(dict.fromkeys(name for table in tables.values() for name in table["variant"]))
    return frame.loc[[name for name in order if name in frame.index]].to_string()


def format_claims(claims: Sequence[Claim]) -> str:
    """A line a claim, its figures below."""
    return "\n".join(
        f"{MARKS[c.verdict]} {c.statement} {c.verdict.upper()}\n    {c.figures} ({c.source})" for c in claims
    )


def _mean_by_seed(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.groupby(["variant", "seed"], sort=False)[column].mean().reset_index()


def _cells(table: pd.DataFrame, column: str, digits: int = 3) -> pd.Series:
    cells = {}
    for name, part in table.groupby("variant", sort=False):
        values = part[column].dropna().to_numpy()
        if not len(values):
            cells[name] = "-"
            continue
        if len(values) == 1:
            cells[name] = f"{values[0]:.{digits}f}"
            continue
        interval = seeds_interval(np.asarray(values))
        cells[name] = f"{interval.mean:.{digits}f} ± {(interval.high - interval.low) / 2:.{digits}f}"
    return pd.Series(cells, dtype=object)
