"""The simple methods that every table shows beside ours.

Erasers take pooled activations and give them back without the attribute; weights and DFR train the classifier
differently instead. They share one face: ``fit(X, y, sensitive_features=…)``, and the attribute is not needed
afterwards. Averaged pairs change the words that the model reads, and need no fitting. Each file holds one
method, its maths and its paper.
"""

from ssae_debias.rivals.averaged_pairs import AveragedPairs
from ssae_debias.rivals.correlation_remover import CorrelationRemover
from ssae_debias.rivals.dfr import DFR
from ssae_debias.rivals.eraser import AffineEraser
from ssae_debias.rivals.group_weights import group_weights
from ssae_debias.rivals.inlp import INLP
from ssae_debias.rivals.leace import LEACE
from ssae_debias.rivals.leace_given_y import LEACEGivenY
from ssae_debias.rivals.mean_projection import MeanProjection
from ssae_debias.rivals.swap_projection import SwapProjection

__all__ = [
    "DFR",
    "INLP",
    "LEACE",
    "AffineEraser",
    "AveragedPairs",
    "CorrelationRemover",
    "LEACEGivenY",
    "MeanProjection",
    "SwapProjection",
    "group_weights",
]
