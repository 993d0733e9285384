"""Draw what `ablation.py` and `error_term.py` measured.

python benchmarks/draw.py --ablation ablation.json --error-term error_term.json --out docs
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BLUE, GREY, LIGHT = "#2563a8", "#8a8f98", "#c9cdd3"
PARTS = {
    "activation": ("activation", BLUE, "o"),
    "reconstruction": ("what the SAE explains", "#3d8b5f", "s"),
    "error term": ("error term", "#b8562c", "^"),
    "rest": ("all but the flagged latents", "#7b56a8", "D"),
    "rest, erased": ("the same, erased", GREY, "v"),
}


def draw_ablation(found: dict[str, Any], path: Path) -> None:
    """Worst group of each variant: latents alone (hollow) and the whole debiaser (filled), probe retrained."""
    rows = found["rows"]
    names = list(rows)
    figure, axes = plt.subplots(figsize=(8.4, 0.3 * len(names) + 1.3), layout="constrained")
    for place, name in enumerate(names):
        for row, hollow in (("latents_only_retrain", True), ("debiaser_retrain", False)):
            values = rows[name][row]["seeds"]
            axes.plot([min(values), max(values)], [place, place], color=LIGHT if hollow else BLUE, zorder=1)
            axes.plot(
                rows[name][row]["mean"], place, "o", color=BLUE, markerfacecolor="white" if hollow else BLUE
            )
    base = rows[names[0]]["debiaser_retrain"]["mean"]
    axes.axvline(base, color=LIGHT, linestyle=":", zorder=0)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("worst-group accuracy, probe retrained (line: lowest to highest seed)")
    axes.plot([], [], "o", color=BLUE, markerfacecolor="white", label="latents alone")
    axes.plot([], [], "o", color=BLUE, label="with realignment and erasure")
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.06), ncols=2, frameon=False, fontsize=8)
    _finish(figure, axes, path)


def draw_error_term(found: dict[str, Any], path: Path) -> None:
    """Leakage of each part of the activations by site, linear and MLP."""
    sites = list(found["sites"])
    figure, both = plt.subplots(1, 2, figsize=(8.4, 3.6), sharey=True, layout="constrained")
    for axes, probe in zip(both, ("linear", "mlp"), strict=True):
        for shift, (part, (label, color, marker)) in enumerate(PARTS.items()):
            cells = [found["sites"][site][part][probe] for site in sites]
            x = [place + 0.06 * (shift - 2) for place in range(len(sites))]
            means = [cell["mean"] for cell in cells]
            spans = [[m - c["low"] for m, c in zip(means, cells, strict=True)]]
            spans.append([c["high"] - m for m, c in zip(means, cells, strict=True)])
            axes.errorbar(x, means, spans, color=color, marker=marker, markersize=5, linewidth=1, label=label)
        axes.axhline(0.5, color=LIGHT, linestyle=":", zorder=0)
        axes.set_xticks(range(len(sites)), sites, fontsize=8)
        axes.set_title({"linear": "linear probe", "mlp": "MLP probe"}[probe], fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_ylabel("gender read with balanced accuracy")
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ablation", type=Path)
    parser.add_argument("--error-term", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    if options.ablation:
        draw_ablation(json.loads(options.ablation.read_text()), options.out / "ablation.png")
    if options.error_term:
        draw_error_term(json.loads(options.error_term.read_text()), options.out / "error_term.png")


if __name__ == "__main__":
    main()
