"""Single latents: how well they are explained, and of how many token types they speak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.report.evaluation.panels import (
    BESIDE,
    dots,
    heading,
    level_line,
    line,
    panels,
    powers,
    rows,
    sparsity_name,
    steps,
)
from ssae_debias.report.evaluation.seeds import densities, equal_parts, over_seeds, sparsities
from ssae_debias.report.evaluation.styles import Style, handle, key, shown
from ssae_debias.report.svg import PALETTE, page_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES = {
    "token_f1": ("F1 over tokens", None),
    "detection_accuracy": ("Detection accuracy", 0.5),
    "fuzzing_accuracy": ("Fuzzing accuracy", 0.5),
}
MOST_POINTS = 220  # of a row: a cloud of more looks the same
DIVERSITY_BINS = 30


def scores(table: pd.DataFrame) -> list[str]:
    """The scores that were taken."""
    return [name for name in SCORES if name in table and table[name].notna().any()]


def score_points(table: pd.DataFrame, score: str) -> pd.DataFrame:
    """Quartiles over all latents of a variant's seeds, and the mean of the seeds' means with its interval."""
    own = table[table[score].notna()]
    quartiles = (
        own.groupby(["variant", "k"], sort=False, dropna=False)[score].quantile([0.25, 0.5, 0.75]).unstack()
    )
    quartiles.columns = ["quarter", "median", "three_quarters"]
    sizes = own.groupby(["variant", "k"], sort=False, dropna=False).size().rename("n_latents")
    facts = quartiles.join(sizes).reset_index()
    # The ends of one seed's mean are not known here: a latent's score has no interval of its own.
    return over_seeds(own, ["variant", "k"], score).merge(facts, on=["variant", "k"])


def interpretability_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """Scores of the latents' explanations: a row a variant, points are latents, bars the middle half."""
    ((k, part),) = sparsities(table)
    measured = scores(part)
    styles = shown(looks, part["variant"])
    with page_style():
        figure, axes = panels(len(measured), width, height=0.5 * len(styles) + 0.8)
        for place, (panel, score) in enumerate(zip(axes, measured, strict=True)):
            name, chance = SCORES[score]
            rows(panel, styles, width, named=place == 0 or width < BESIDE)
            for y, style in enumerate(styles):
                _cloud(panel, part.loc[part["variant"] == style.name, score], y, style)
            if chance is not None:
                level_line(panel, chance, "chance", axis="x")
            panel.set_xlim(-0.02, 1.02)
            panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            panel.set_title(
                f"{name}{f' ({sparsity_name(k)})' if k is not None and width < BESIDE else ''}",
                color=PALETTE["ink"], fontweight="bold", pad=14,
            )  # fmt: skip
    return figure


def _cloud(axes: Axes, values: pd.Series, y: float, style: Style) -> None:
    known = np.sort(values.dropna().to_numpy(np.float64))
    if not len(known):
        return
    some = known[:: max(1, -(-len(known) // MOST_POINTS))]
    # A fixed sequence that looks random: the same table draws the same picture.
    jitter = ((np.arange(len(some)) * 0.6180339887) % 1 - 0.5) * 0.52
    dots(axes, some, y + jitter, style.colour, 2.1, alpha=0.45)
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    axes.plot([low, high], [y, y], color=style.colour, linewidth=4.5, alpha=0.55, solid_capstyle="butt")
    axes.plot([middle], [y], marker="|", markersize=15, markeredgewidth=2.4, color=PALETTE["ink"])


def diversity_bins(table: pd.DataFrame) -> pd.DataFrame:
    """Densities of diversity scores, by variant."""
    edges = np.linspace(0, 1, DIVERSITY_BINS + 1)
    parts = []
    for (variant, seed), own in table[table["diversity"].notna()].groupby(
        ["variant", "seed"], dropna=False, sort=False
    ):
        counts = np.histogram(own["diversity"], edges)[0]
        bins = {"variant": variant, "seed": seed, "low": edges[:-1], "high": edges[1:], "count": counts}
        parts.append(pd.DataFrame(bins))
    return (
        densities(pd.concat(parts, ignore_index=True))
        if parts
        else densities(pd.DataFrame(columns=["variant", "seed", "low", "high", "count"]))
    )


def diversity_by_activity(table: pd.DataFrame) -> pd.DataFrame:
    """Median diversity of latents that fire alike often, over seeds; ranges are shared by all variants."""
    own = table[table["diversity"].notna() & (table["n_active"] > 0)]
    if own.empty:
        return pd.DataFrame(columns=["variant", "n_active", "mean", "low", "high", "n_seeds"])
    edges = equal_parts(own["n_active"].to_numpy(np.float64), at_least=20, most=10)
    place = np.searchsorted(edges, own["n_active"].to_numpy(), side="right") - 1
    own = own.assign(part=place.clip(0, max(len(edges) - 2, 0)))
    middle = np.exp(np.log(own["n_active"]).groupby(own["part"]).mean()).rename("n_active")
    medians = own.groupby(["variant", "seed", "part"], sort=False, dropna=False, as_index=False)[
        "diversity"
    ].median()
    found = over_seeds(medians, ["variant", "part"], "diversity").join(middle, on="part")
    return found.sort_values("part", kind="stable").drop(columns="part")


def diversity_figure(table: pd.DataFrame, looks: Mapping[str, Style], width: float) -> Figure:
    """Distribution of diversity scores, and their median among latents that fire alike often."""
    ((k, part),) = sparsities(table)
    bins, medians = diversity_bins(part), diversity_by_activity(part)
    said = f" ({sparsity_name(k)})" if k is not None else ""
    with page_style():
        figure, (left, right) = panels(2, width, height=3.1)
        for style in shown(looks, bins["variant"]):
            steps(left, bins[bins["variant"] == style.name], style)
        left.set_xlim(0, 1)
        left.set_ylim(bottom=0)
        left.locator_params(axis="y", nbins=4)
        left.set_xlabel("Diversity score")
        heading(left, f"Density of latents{said}")
        for style in shown(looks, medians["variant"]):
            own = medians[medians["variant"] == style.name]
            line(right, own["n_active"], own, style, shares=True)
        powers(right)
        right.set_ylim(0, 1)
        right.set_xlabel("Tokens on which the latent fires")
        heading(right, f"Median score{said}")
        key(figure, [handle(style) for style in shown(looks, bins["variant"])])
    return figure


def explanations(
    table: pd.DataFrame, looks: Mapping[str, Style], *, each: int = 4
) -> list[dict[str, object]]:
    """A few explanations of each variant, from the best scored to the worst, evenly spaced between.

    Picked by score alone, so that a reader sees what poor explanations look like too.
    """
    measured = scores(table)
    if not measured:
        return []
    score = measured[0]
    ((_, part),) = sparsities(table)
    found: list[dict[str, object]] = []
    for style in shown(looks, part["variant"]):
        own = part[
            (part["variant"] == style.name) & part[score].notna() & (part["explanation"].astype(str) != "")
        ]
        own = own.sort_values(score, ascending=False, kind="stable")
        chosen: NDArray[np.int64] = np.unique(
            np.linspace(0, len(own) - 1, min(each, len(own))).astype(np.int64)
        )
        for row in own.iloc[chosen].to_dict("records"):
            found.append({**row, "style": style, "scores": {name: row[name] for name in measured}})
    return found
