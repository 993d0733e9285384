"""How well each group is served, and how much of the attribute is left.

Every figure comes with its group's size and an interval: the worst group is often the smallest one. Nothing
here imports torch: predictions and pooled activations are numpy arrays by the time they get here.
"""

from ssae_debias.metrics.codes import group_codes
from ssae_debias.metrics.counterfactual_flips import FlipReport, flip_rate
from ssae_debias.metrics.groups import GroupReport, attribute_accuracy, group_report
from ssae_debias.metrics.intervals import Interval, bootstrap, seeds_interval, wilson
from ssae_debias.metrics.leakage import leakage
from ssae_debias.metrics.pooled_ablation import (
    N_LATENTS,
    ablate_pooled,
    latent_effects,
    probe_direction,
    random_ranking,
)
from ssae_debias.metrics.probes import linear_probe, mlp_probe
from ssae_debias.metrics.scr import SCRDirection, SCRProbes, SCRResult, fit_scr_probes, scr, scr_rankings
from ssae_debias.metrics.tpp import TPPResult, fit_tpp_probes, tpp, tpp_rankings

__all__ = [
    "N_LATENTS",
    "FlipReport",
    "GroupReport",
    "Interval",
    "SCRDirection",
    "SCRProbes",
    "SCRResult",
    "TPPResult",
    "ablate_pooled",
    "attribute_accuracy",
    "bootstrap",
    "fit_scr_probes",
    "fit_tpp_probes",
    "flip_rate",
    "group_codes",
    "group_report",
    "latent_effects",
    "leakage",
    "linear_probe",
    "mlp_probe",
    "probe_direction",
    "random_ranking",
    "scr",
    "scr_rankings",
    "seeds_interval",
    "tpp",
    "tpp_rankings",
    "wilson",
]
