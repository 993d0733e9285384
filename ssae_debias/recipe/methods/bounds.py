"""Where every comparison starts, and the ceiling: probes on unedited activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssae_debias.recipe.methods.method import Method, Outcome, fit_probe, kept

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench


def original(bench: Bench, seed: int) -> Outcome:
    """A probe on unedited activations of the ambiguous set."""
    return kept(bench, seed, bench.original)


def oracle(bench: Bench, seed: int) -> Outcome:
    """A probe on unedited activations of the balanced set: what group labels could buy at best."""
    return Outcome(fit_probe(bench, bench.original, bench.sets(seed).balanced), bench.original)


START = {"original": Method(original, needs_group_labels=False)}
CEILING = {"oracle": Method(oracle, needs_group_labels=True)}
