"""How well each group is served, and how much of the attribute is left.

Every figure comes with its group's size and an interval: the worst group is often the smallest one. Nothing
here imports torch: predictions and pooled activations are numpy arrays by the time they get here.
"""

from ssae_debias.metrics.codes import group_codes
from ssae_debias.metrics.counterfactual_flips import FlipReport, flip_rate
from ssae_debias.metrics.groups import GroupReport, attribute_accuracy, group_report
from ssae_debias.metrics.intervals import Interval, bootstrap, seeds_interval, wilson
from ssae_debias.metrics.leakage import leakage
from ssae_debias.metrics.probes import linear_probe, mlp_probe

__all__ = [
    "FlipReport",
    "GroupReport",
    "Interval",
    "attribute_accuracy",
    "bootstrap",
    "flip_rate",
    "group_codes",
    "group_report",
    "leakage",
    "linear_probe",
    "mlp_probe",
    "seeds_interval",
    "wilson",
]
