"""What a model loses with an SAE's reconstruction in place of its activations, against the latents that it may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from ssae_debias.report.evaluation.panels import doublings, heading, level_line, line, panels, percents, room
from ssae_debias.report.evaluation.seeds import over_seeds
from ssae_debias.report.evaluation.styles import Style, handle, key, shown
from ssae_debias.report.svg import page_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINT = ["corpus", "variant", "k"]
CORPORA = {"subdomain": "subdomain text", "general": "general text"}


class Measure(NamedTuple):
    """A column, what it is called, whether it is a share, and a level that it is read against."""

    column: str
    name: str
    share: bool = False
    level: tuple[float | str, str] | None = None


PREDICTIONS = {
    "causal": "Perplexity",
    "masked": "Pseudo-perplexity",
    "probe": "Log loss of the probe, nats",
}
QUALITIES = (
    Measure("fvu", "Variance unexplained", share=True),
    Measure("loss_recovered_mean", "Loss recovered", share=True),
    Measure("kl", "KL from clean, nats"),
    Measure("dead_fraction", "Dead latents", share=True),
)


def objective(table: pd.DataFrame) -> str:
    """What the model predicts; the first where a table has several."""
    return str(table["objective"].dropna().iloc[0]) if table["objective"].notna().any() else "causal"


def pareto_measures(table: pd.DataFrame) -> list[Measure]:
    """The absolute figure and the relative one that a model's kind of prediction has."""
    kind = objective(table)
    if kind == "probe":
        measures = [
            Measure("cross_entropy", PREDICTIONS["probe"], level=("clean_cross_entropy", "clean model")),
            Measure("agreement", "Agreement with the clean model", share=True),
        ]
    else:
        name = PREDICTIONS.get(kind, PREDICTIONS["causal"])
        measures = [
            Measure("perplexity", name, level=("clean_perplexity", "clean model")),
            Measure("relative_perplexity", f"{name} over the base's", level=(1.0, "base")),
        ]
    return [each for each in measures if each.column in table and table[each.column].notna().any()]


def quality_measures(table: pd.DataFrame) -> list[Measure]:
    """The other figures of fidelity that the table has."""
    return [each for each in QUALITIES if each.column in table and table[each.column].notna().any()]


def corpora(table: pd.DataFrame) -> list[str]:
    """What was measured on, the subdomain first."""
    there = [str(name) for name in table["corpus"].dropna().unique()]
    return sorted(there, key=lambda name: (name not in CORPORA, name != "subdomain", name))


def points(table: pd.DataFrame, corpus: str, column: str) -> pd.DataFrame:
    """Mean, interval and L0 of each variant and k, by rising L0."""
    own = table[table["corpus"] == corpus]
    l0 = over_seeds(own, POINT, "l0")[[*POINT, "mean"]].rename(columns={"mean": "l0"})
    return over_seeds(own, POINT, column).merge(l0, on=POINT).sort_values("l0", kind="stable")


def fidelity_figure(
    table: pd.DataFrame, measures: list[Measure], looks: Mapping[str, Style], width: float
) -> Figure:
    """A panel for each corpus and measure, one line a variant."""
    names = corpora(table)
    with page_style():
        columns = len(measures) if len(measures) <= 2 else 2
        figure, axes = panels(len(names) * len(measures), width, columns=columns, height=2.75)
        used: set[str] = set()
        for place, panel in enumerate(axes):
            corpus, measure = names[place // len(measures)], measures[place % len(measures)]
            used |= _panel(panel, table, corpus, measure, looks)
            on = f", {CORPORA.get(corpus, corpus)}" if len(names) > 1 else ""
            heading(panel, f"{measure.name}{on}")
        for panel in axes if width < 6.5 else axes[-columns:]:
            panel.set_xlabel("L0: active latents per token")
        key(figure, [handle(style) for style in shown(looks, used)])
    return figure


def _panel(
    axes: Axes, table: pd.DataFrame, corpus: str, measure: Measure, looks: Mapping[str, Style]
) -> set[str]:
    found = points(table, corpus, measure.column)
    parts = []
    for style in shown(looks, found["variant"]):
        own = found[found["variant"] == style.name]
        line(axes, own["l0"], own, style)
        parts.append(own)
    room(axes, parts, least=0.0)
    if measure.level is not None:
        at, name = measure.level
        if isinstance(at, str):
            own = table[table["corpus"] == corpus]
            known = own[at].dropna() if at in own else own["l0"].iloc[:0]
            at = float(known.mean()) if len(known) else float("nan")
        if at == at:
            low, high = axes.get_ylim()
            # A clean model far below all others would press their lines together: it stands in the caption's numbers.
            reach = 1.5 * (high - low)
            if low - reach <= at <= high + reach:
                axes.set_ylim(min(low, at - 0.06 * (high - low)), max(high, at + 0.1 * (high - low)))
                level_line(axes, at, name)
    if measure.share:
        percents(axes, digits=0 if axes.get_ylim()[1] - axes.get_ylim()[0] > 0.04 else 1)
    axes.locator_params(axis="y", nbins=5)
    doublings(axes, found["l0"].tolist())
    return set(found["variant"])
