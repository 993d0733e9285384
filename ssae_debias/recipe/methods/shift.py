"""The published rows of SHIFT: latents that the original probe uses are ablated inside the model.

Marks et al. 2025 (GSAEs, the skylines) and Muhamed et al. 2025, table 1 (SSAEs and slices of 1/8 of the width).
What rows and seeds share is on the bench; see `ssae_debias.recipe.shift` and, for settings and how to veto,
`ShiftSpec`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssae_debias.recipe.methods.method import Method, Outcome, kept, retrained

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


def check(bench: Bench) -> None:
    """Whether what the recipe's shift section names is there and fits."""
    bench.shift.check()


def _probe_kept(row: str, *, needs_group_labels: bool = False) -> Method:
    def run(bench: Bench, seed: int) -> Outcome:
        return kept(bench, seed, bench.pooled(bench.task.texts, bench.shift.edits(row)))

    return Method(run, needs_group_labels=needs_group_labels, check=check)


def _probe_retrained(row: str) -> Method:
    def run(bench: Bench, seed: int) -> Outcome:
        return retrained(bench, seed, bench.pooled(bench.task.texts, bench.shift.edits(row)))

    return Method(run, needs_group_labels=False, check=check)


SHIFT = {
    "neuron_skyline": _probe_kept("neuron_skyline", needs_group_labels=True),
    "latent_skyline": _probe_kept("latent_skyline", needs_group_labels=True),
    "gsae": _probe_kept("gsae"),
    "gsae_retrain": _probe_retrained("gsae"),
    "ssae": _probe_kept("ssae"),
    "ssae_retrain": _probe_retrained("ssae"),
    "gsae_slice": _probe_kept("gsae_slice"),
    "gsae_slice_retrain": _probe_retrained("gsae_slice"),
    "ssae_slice": _probe_kept("ssae_slice"),
    "ssae_slice_retrain": _probe_retrained("ssae_slice"),
}
